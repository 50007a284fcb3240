-- A dispatcher that takes an unknown outcome for a refusal.

\ir mutate.sql
select pg_temp.mutate('attempt_state_after', 'select case', $$select case when p_outcome = 'UNKNOWN' then 'FAILED'$$);
