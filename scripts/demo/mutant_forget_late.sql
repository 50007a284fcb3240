-- A dispatcher that throws away what a worker learned after its lease was lost.

\ir mutate.sql
select pg_temp.mutate('record_outcomes', $$l.verdict = 'late' and not l.already$$, 'false');
