-- A dispatcher that holds every payment, whatever its rail answered.

\ir mutate.sql
-- Acceptances go the long way, on which the outcome decides the state.
select pg_temp.mutate('record_acceptances', $$c.outcome = 'ACCEPTED' and c.rail_reference <> ''$$, 'false');
select pg_temp.mutate('attempt_state_after', 'select case', $$select case when p_outcome <> 'RELEASED' then 'IN_DOUBT'$$);
select pg_temp.mutate('hold_reason_after', 'select case', $$select case when p_outcome <> 'RELEASED' then 'UNKNOWN'$$);
