-- A dispatcher that drops a payment without a word as soon as its rail throttles it.

\ir mutate.sql
select pg_temp.mutate('record_outcomes', $$and d.verdict = 'applied' and d.state in ('DISPATCHED', 'FAILED')$$,
                      $$and d.verdict = 'applied' and (d.state in ('DISPATCHED', 'FAILED') or d.outcome = 'THROTTLED')$$);
select pg_temp.mutate('record_outcomes', $$and d.verdict = 'applied' and d.state not in ('DISPATCHED', 'FAILED')$$,
                      $$and d.verdict = 'applied' and d.state not in ('DISPATCHED', 'FAILED') and d.outcome <> 'THROTTLED'$$);
