-- A dispatcher that sends again after an unknown outcome and after a lost lease, whatever the contract says.

\ir mutate.sql
select pg_temp.mutate('hold_reason_after', $$p_in_doubt and p_on_unknown = 'hold'$$, 'false');
select pg_temp.mutate('settle_lost_leases', $$r.on_unknown = 'hold'$$, 'false');
select pg_temp.mutate('hold_reason_before', $$p_rail.on_unknown <> 'resend'$$, 'false');
