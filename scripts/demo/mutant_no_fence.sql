-- A dispatcher whose completions count as long as somebody has a lease on the payment, whoever it is: what was learned under a lost
-- lease is recorded as if it had been learned under the present one, in a row that the ledger takes.

\ir mutate.sql
select pg_temp.mutate('record_outcomes',
                      'p.attempt_count = g.attempt_no and p.lease_token = g.lease_token and p.lease_expires_at > p_now',
                      'p.lease_expires_at > p_now');
select pg_temp.mutate('record_outcomes', 'select g.*, p.tid, p.rail', 'select g.*, p.pending, p.tid, p.rail');
select pg_temp.mutate('record_outcomes',
                      'select d.outbox_id, d.attempt_no, d.rail, d.kind, d.state, d.outcome, d.claimed_by, d.lease_token, d.claimed_at',
                      'select d.outbox_id, (d.pending).attempt_count, d.rail, d.kind, d.state, d.outcome, d.claimed_by, (d.pending).lease_token, d.claimed_at');
