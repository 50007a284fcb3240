create or replace function outbox.read_outbox_status(p_since timestamptz default null) returns table (
    rail text, paused boolean, due bigint, waiting bigint, in_flight bigint, in_doubt bigint, held bigint, parked bigint, late_successes bigint,
    dispatched bigint, failed bigint, failed_but_accepted bigint, accepted_twice bigint, oldest_due_ms bigint, oldest_in_doubt_ms bigint, partition_headroom_months integer)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
-- Purpose: where the payments of each rail are, for operators and monitors.
-- Parameters: p_since, counts dispatched and failed payments enqueued from then on; null: all.
-- Results: a row a rail. due: could be claimed now. waiting: not before a later time. parked: behind another of
--   its ordering key. in_doubt: may have been executed and is not held, lost leases that are not settled yet included.
--   failed_but_accepted, accepted_twice: as contradicted_payments says, of all time. Ages in milliseconds.
-- Locks taken: none beyond reading. Reads the whole queue, and the ledger from p_since on.
declare
    v_now timestamptz := clock_timestamp();
    v_lo uuid := outbox.outbox_id_floor(coalesce(p_since, 'epoch'));
begin
    return query
    with queue as (
        select p.rail,
               count(*) filter (where p.disposition = 'READY' and p.lease_token is null and p.next_attempt_at <= v_now) as due,
               count(*) filter (where p.disposition = 'READY' and p.lease_token is null and p.next_attempt_at > v_now) as waiting,
               count(*) filter (where p.lease_expires_at > v_now) as in_flight,
               count(*) filter (where p.lease_expires_at <= v_now or (p.lease_token is null and p.in_doubt_since is not null and p.disposition <> 'HELD')) as in_doubt,
               count(*) filter (where p.disposition = 'HELD') as held,
               count(*) filter (where p.disposition = 'PARKED') as parked,
               count(*) filter (where p.late_success) as late_successes,
               min(p.next_attempt_at) filter (where p.disposition = 'READY' and p.lease_token is null and p.next_attempt_at <= v_now) as oldest_due_at,
               min(coalesce(p.in_doubt_since, p.lease_expires_at)) filter (where p.lease_expires_at <= v_now
                   or (p.lease_token is null and p.in_doubt_since is not null and p.disposition <> 'HELD')) as oldest_in_doubt_at
          from outbox.payment_outbox_pending p
         group by p.rail
    ), ledger as (
        select a.rail, count(*) filter (where a.state = 'DISPATCHED') as dispatched, count(*) filter (where a.state = 'FAILED') as failed
          from outbox.payment_outbox_attempts a
         where a.outbox_id >= v_lo and a.state in ('DISPATCHED', 'FAILED', 'CANCELLED')
         group by a.rail
    ), contradicted as (
        select c.rail, count(*) filter (where c.kind = 'FAILED_BUT_ACCEPTED') as failed_but_accepted,
               count(*) filter (where c.kind = 'ACCEPTED_TWICE') as accepted_twice
          from outbox.contradicted_payments() c
         group by c.rail
    )
    select r.rail, r.paused, coalesce(q.due, 0), coalesce(q.waiting, 0), coalesce(q.in_flight, 0), coalesce(q.in_doubt, 0), coalesce(q.held, 0), coalesce(q.parked, 0),
           coalesce(q.late_successes, 0), coalesce(l.dispatched, 0), coalesce(l.failed, 0), coalesce(c.failed_but_accepted, 0),
           coalesce(c.accepted_twice, 0),
           (extract(epoch from v_now - q.oldest_due_at) * 1000)::bigint, (extract(epoch from v_now - q.oldest_in_doubt_at) * 1000)::bigint,
           outbox.partition_headroom_months()
      from outbox.payment_rails r
      left join queue q on q.rail = r.rail
      left join ledger l on l.rail = r.rail
      left join contradicted c on c.rail = r.rail
     order by r.rail;
end
$$;
