create or replace function outbox.oldest_retrying() returns table (rail text, since timestamptz)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: since when the oldest payment of each rail that was tried, is not in doubt and has not ended could have been sent: what backs off
--   again and again is due only for moments. Internal to read_outbox_metrics. One that people released could be sent since then.
-- Hazard: not_before stands in the instruction, which is looked up: for the thousand of each rail that were enqueued first.
    select c.rail, min(greatest(c.created_at, i.not_before, r.released_at))
      from (select p.rail, p.outbox_id, p.created_at, row_number() over (partition by p.rail order by p.outbox_id) as place
              from outbox.payment_outbox_pending p
             where p.disposition = 'READY' and p.attempt_count > 0 and p.in_doubt_since is null) as c
     cross join lateral (select n.not_before from outbox.payment_outbox_instructions n where n.outbox_id = c.outbox_id limit 1) as i
     cross join lateral (select max(x.applied_at) as released_at from outbox.operator_action_results x
                           join outbox.operator_actions a on a.action_id = x.action_id and a.kind in ('RELEASE', 'RELEASE_AS_RESEND')
                          where x.outbox_id = c.outbox_id and x.result = 'APPLIED') as r
     where c.place <= 1000
     group by c.rail
$$;
