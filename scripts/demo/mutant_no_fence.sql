-- A dispatcher whose completions count whoever holds the lease by now.

\ir mutate.sql
select pg_temp.mutate('complete_outbox_batch',
                      'p.attempt_count = g.attempt_no and p.lease_token = g.lease_token and p.lease_expires_at > v_now', 'true');
