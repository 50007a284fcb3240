create or replace function outbox.read_outbox_metrics(p_rails text[] default '{}', p_horizons_ms bigint[] default '{}') returns table (
    figure text, labels text[], value double precision)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set jit = off
as $$
-- Purpose: what operators watch: figures of rails, money, dispatchers and the database, for a page of metrics.
-- Parameters: p_horizons_ms, for each of p_rails how far ahead a due payment counts as at risk of missing its not_after. At
--   risk are also those whose next attempt comes after it, and parked ones that have waited for longer than is left.
-- Results: a row a figure: its name, the values of its labels in the order of docs/METRICS.md, and the value: seconds,
--   minor units of money, or a count. What does not exist has no row. Sums of money are those of the first 50000 payments
--   looked at: amounts_complete is then 0, and the sums are too small. settled: ended or refused, of all dispatchers, still on record.
-- Locks taken: none beyond reading. Reads the whole queue, twice where money is to be summed.
-- Hazard: the ids' range is a constant for the planner, which leaves out the other months. Look-ups are lateral.
declare
    v_now timestamptz := clock_timestamp();
    v_looked_at_max constant integer := 50000;
    v_ids uuid[]; v_rails text[]; v_kinds text[]; v_reasons text[]; v_lo uuid; v_hi uuid;
begin
    select array_agg(s.outbox_id), array_agg(s.rail), array_agg(s.kind), array_agg(s.hold_reason), (array_agg(s.outbox_id order by s.outbox_id))[1],
           (array_agg(s.outbox_id order by s.outbox_id desc))[1]
      into v_ids, v_rails, v_kinds, v_reasons, v_lo, v_hi
      from (select p.outbox_id, p.rail, p.hold_reason, case p.disposition when 'HELD' then 'held' else 'in_doubt' end as kind
              from outbox.payment_outbox_pending p
             where p.disposition = 'HELD' or p.lease_expires_at <= v_now or (p.lease_token is null and p.in_doubt_since is not null)
             union all
            select p.outbox_id, p.rail, null, 'not_after_at_risk'
              from unnest(p_rails, p_horizons_ms) as h (rail, ahead_ms)
              join outbox.payment_outbox_pending p on p.rail = h.rail
             where p.disposition in ('READY', 'PARKED') and p.lease_token is null
               and (p.not_after < p.next_attempt_at or (p.next_attempt_at <= v_now and (p.not_after <= v_now + h.ahead_ms * interval '1 ms'
                    or (p.disposition = 'PARKED' and p.not_after - v_now < v_now - p.next_attempt_at))))
             limit v_looked_at_max + 1) as s;
    return query
    with parts as materialized (
        select p.rail, p.disposition, p.hold_reason, p.lease_expires_at > v_now as is_leased, p.next_attempt_at <= v_now as is_due, p.in_doubt_since is not null as is_doubted,
               count(*) as payments, min(p.next_attempt_at) as due_at, min(coalesce(p.in_doubt_since, p.lease_expires_at)) as doubted_at,
               min(p.not_after) as not_after, min(p.created_at) as created_at,
               count(*) filter (where p.not_after < p.next_attempt_at or (p.next_attempt_at <= v_now and (p.not_after <= h.until
                    or (p.disposition = 'PARKED' and p.not_after - v_now < v_now - p.next_attempt_at)))) as at_risk
          from outbox.payment_outbox_pending p
          left join (select g.rail, v_now + g.ahead_ms * interval '1 ms' as until from unnest(p_rails, p_horizons_ms) as g (rail, ahead_ms) offset 0) as h
            on h.rail = p.rail
         group by 1, 2, 3, 4, 5, 6
    ), queue as materialized (
        select p.rail,
               sum(p.payments) filter (where p.disposition = 'READY' and p.is_leased is null and p.is_due) as due,
               sum(p.payments) filter (where p.disposition = 'READY' and p.is_leased is null and not p.is_due) as waiting,
               sum(p.payments) filter (where p.is_leased) as leased,
               sum(p.payments) filter (where not p.is_leased or (p.is_leased is null and p.is_doubted and p.disposition <> 'HELD')) as in_doubt,
               sum(p.payments) filter (where p.disposition = 'PARKED') as parked,
               min(p.due_at) filter (where p.disposition = 'READY' and p.is_leased is null and p.is_due) as oldest_due_at,
               min(p.doubted_at) filter (where not p.is_leased or (p.is_leased is null and p.is_doubted and p.disposition <> 'HELD')) as oldest_in_doubt_at,
               min(p.not_after) filter (where p.disposition in ('READY', 'PARKED') and p.is_leased is null) as earliest_not_after,
               sum(p.at_risk) filter (where p.disposition in ('READY', 'PARKED') and p.is_leased is null) as at_risk
          from parts p
         group by p.rail
    ), held as (
        select p.rail, p.hold_reason, sum(p.payments) as payments, min(p.created_at) as oldest_at
          from parts p
         where p.disposition = 'HELD'
         group by p.rail, p.hold_reason
    ), contradicted as materialized (
        select c.rail, count(*) filter (where c.kind = 'FAILED_BUT_ACCEPTED') as failed_but_accepted, count(*) filter (where c.kind = 'ACCEPTED_TWICE') as accepted_twice
          from outbox.contradicted_payments() c
         group by c.rail
    ), retrying as materialized (select * from outbox.oldest_retrying()), money as materialized (
        select c.rail, c.kind, c.reason, i.currency, sum(i.amount_minor) as amount
          from unnest(v_ids, v_rails, v_kinds, v_reasons) as c (id, rail, kind, reason)
         cross join lateral (select n.currency, n.amount_minor from outbox.payment_outbox_instructions n
                              where n.outbox_id = c.id and n.outbox_id between v_lo and v_hi limit 1) as i
         where i.currency is not null
         group by c.rail, c.kind, c.reason, i.currency
    ), dispatcher as materialized (
        select distinct on (split_part(d.worker_id, '/', 1)) split_part(d.worker_id, '/', 1) as name, d.version, d.state, d.lanes, d.heartbeat_at
          from outbox.outbox_dispatchers d
         where d.heartbeat_at > v_now - interval '1 day'
         order by split_part(d.worker_id, '/', 1), d.heartbeat_at desc
    )
    select f.figure, array[r.rail], f.value::double precision
      from outbox.payment_rails r
      left join queue q on q.rail = r.rail
      left join contradicted c on c.rail = r.rail
     cross join lateral (values
           ('payments_due', coalesce(q.due, 0)), ('payments_waiting', coalesce(q.waiting, 0)), ('payments_leased', coalesce(q.leased, 0)),
           ('payments_in_doubt', coalesce(q.in_doubt, 0)), ('payments_parked', coalesce(q.parked, 0)),
           ('payments_failed_but_accepted', coalesce(c.failed_but_accepted, 0)), ('payments_accepted_twice', coalesce(c.accepted_twice, 0)),
           ('oldest_due_age_seconds', coalesce(extract(epoch from v_now - q.oldest_due_at), 0)),
           ('oldest_retrying_age_seconds', coalesce(extract(epoch from v_now - (select o.since from retrying o where o.rail = r.rail)), 0)),
           ('oldest_in_doubt_age_seconds', coalesce(extract(epoch from v_now - q.oldest_in_doubt_at), 0)),
           ('earliest_not_after_timestamp_seconds', extract(epoch from q.earliest_not_after)),
           ('payments_not_after_at_risk', case when r.rail = any (p_rails) then coalesce(q.at_risk, 0) end),
           ('rail_paused', (r.paused or exists (select from outbox.outbox_pauses u where u.participant_id is null and coalesce(u.rail, r.rail) = r.rail))::integer),
           ('settled', (select coalesce(sum(l.settled), 0) from outbox.outbox_dispatchers d cross join unnest(d.lanes, d.settled) as l (rail, settled)
                         where l.rail = r.rail))) as f (figure, value)
     where f.value is not null
    union all
    select f.figure, array[h.rail, h.hold_reason], f.value::double precision
      from held h
     cross join lateral (values ('payments_held', h.payments), ('oldest_held_enqueued_age_seconds', extract(epoch from v_now - h.oldest_at))) as f (figure, value)
    union all
    select m.kind || '_amount_minor', array_remove(array[m.rail, m.reason, m.currency], null), m.amount::double precision from money m
    union all
    select f.figure, array[d.name] || f.more, f.value
      from dispatcher d
     cross join lateral (values ('dispatcher_heartbeat_age_seconds', '{}'::text[], extract(epoch from v_now - d.heartbeat_at)::double precision),
           ('dispatcher_lanes', '{}', cardinality(d.lanes)), ('dispatcher_info', array[d.version, d.state], 1)) as f (figure, more, value)
     where d.state <> 'STOPPED'
    union all
    select f.figure, '{}', f.value::double precision
      from (values ('participants_paused', (select count(distinct u.participant_id) from outbox.outbox_pauses u)),
           ('amounts_complete', (coalesce(cardinality(v_ids), 0) <= v_looked_at_max)::integer),
           ('queue_dead_rows', pg_stat_get_dead_tuples('outbox.payment_outbox_pending'::regclass)),
           ('oldest_snapshot_age_transactions', outbox.oldest_snapshot_age()),
           ('notification_queue_usage_ratio', pg_notification_queue_usage()),
           ('partition_headroom_months', outbox.partition_headroom_months()), ('policy_version', coalesce(outbox.active_policy_version(), 0))) as f (figure, value);
end
$$;
