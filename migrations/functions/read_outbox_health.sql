create or replace function outbox.read_outbox_health() returns table (running text[], lanes text[], silent text[], partition_headroom_months integer)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: who dispatches, and for how long payments can be enqueued, in one row; no payment is read.
-- Results: running, the dispatchers that claim and have missed no three heartbeats; lanes, their rails; silent, those that
--   missed three within a day and were not stopped.
    with shown as materialized (
        select d.worker_id, d.state, d.lanes, d.heartbeat_at,
               d.heartbeat_at < clock_timestamp() - 3 * d.heartbeat_interval_ms * interval '1 ms' as is_late
          from outbox.outbox_dispatchers d
    )
    select array(select s.worker_id from shown s where s.state = 'RUNNING' and not s.is_late order by 1),
           array(select distinct l.rail from shown s cross join unnest(s.lanes) as l (rail)
                  where s.state = 'RUNNING' and not s.is_late order by 1),
           array(select s.worker_id from shown s
                  where s.state <> 'STOPPED' and s.is_late and s.heartbeat_at > clock_timestamp() - interval '1 day' order by 1),
           outbox.partition_headroom_months()
$$;
