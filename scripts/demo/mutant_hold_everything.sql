-- A dispatcher that holds every payment, whatever its rail answered.

\ir mutate.sql
select pg_temp.mutate('attempt_state_after', 'select case', $$select case when p_outcome <> 'RELEASED' then 'IN_DOUBT'$$);
select pg_temp.mutate('hold_reason_after', 'select case', $$select case when p_outcome <> 'RELEASED' then 'UNKNOWN'$$);
