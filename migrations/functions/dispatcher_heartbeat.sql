create or replace function outbox.dispatcher_heartbeat(
    p_worker_id text, p_version text, p_api_version integer, p_state text, p_lanes text[], p_in_flight integer, p_heartbeat_interval_ms bigint,
    p_environment text default null, p_settled bigint[] default '{}'
) returns table (worker_id text, heartbeat_at timestamptz, silent_ms bigint, heartbeat_interval_ms bigint, lanes text[])
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
-- Purpose: shows a dispatcher to operators and to the other dispatchers.
-- Parameters: p_state RUNNING, DRAINING or STOPPED; p_heartbeat_interval_ms, when the next one is due;
--   p_environment, what the dispatcher is configured for: the first one ever is the database's;
--   p_settled, for each of p_lanes how many payments this dispatcher saw end.
-- Results: the other dispatchers that missed three heartbeats and were not stopped: their leases run out
--   unrenewed, so the caller sweeps.
-- Locks taken: the caller's row. Rows silent for a week are pruned.
declare
    v_now timestamptz := clock_timestamp();
begin
    perform outbox.record_first_epoch(p_environment);
    insert into outbox.outbox_dispatchers as d
    values (p_worker_id, p_version, p_api_version, p_state, p_lanes, p_in_flight, p_heartbeat_interval_ms, v_now, v_now, p_settled)
        on conflict (worker_id) do update
       set version = excluded.version, api_version = excluded.api_version, state = excluded.state, lanes = excluded.lanes,
           in_flight = excluded.in_flight, heartbeat_interval_ms = excluded.heartbeat_interval_ms, heartbeat_at = excluded.heartbeat_at,
           settled = excluded.settled;
    delete from outbox.outbox_dispatchers d
     where d.worker_id in (select s.worker_id from outbox.outbox_dispatchers s where s.heartbeat_at < v_now - interval '7 days'
                            order by s.worker_id limit 100 for update skip locked);
    return query
    select d.worker_id, d.heartbeat_at, (extract(epoch from v_now - d.heartbeat_at) * 1000)::bigint, d.heartbeat_interval_ms, d.lanes
      from outbox.outbox_dispatchers d
     where d.worker_id <> p_worker_id and d.state <> 'STOPPED'
       and d.heartbeat_at < v_now - 3 * d.heartbeat_interval_ms * interval '1 ms'
       and d.heartbeat_at > v_now - interval '1 day';
end
$$;
