-- A dispatcher whose completions count as long as the payment is there, whoever has it by now and whether anybody has: what was
-- learned late ends the payment, under the number that comes next, instead of being kept as late.

\ir mutate.sql
select pg_temp.mutate('record_outcomes',
                      'p.attempt_count = g.attempt_no and p.lease_token = g.lease_token and p.lease_expires_at > p_now',
                      'p.outbox_id is not null');
select pg_temp.mutate('record_outcomes', 'select g.*, p.tid, p.rail', 'select g.*, p.pending, p.tid, p.rail');
select pg_temp.mutate('record_outcomes',
                      'select d.outbox_id, d.attempt_no, d.rail, d.kind, d.state, d.outcome, d.claimed_by, d.lease_token, d.claimed_at',
                      'select d.outbox_id, (d.pending).attempt_count + ((d.pending).lease_token is null)::integer, d.rail, d.kind, d.state, d.outcome,
                              coalesce(d.claimed_by, p_worker_id), coalesce((d.pending).lease_token, d.lease_token), coalesce(d.claimed_at, p_now)');
