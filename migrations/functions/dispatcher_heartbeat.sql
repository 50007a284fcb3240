create or replace function outbox.dispatcher_heartbeat(
    p_worker_id text, p_version text, p_api_version integer, p_state text, p_lanes text[], p_in_flight integer, p_heartbeat_interval_ms bigint,
    p_environment text default null, p_settled bigint[] default '{}',
    p_seen_epoch_us bigint default 0, p_seen_log_position bigint default 0, p_memory_id uuid default null, p_seen_beat bigint default 0
) returns table (
    worker_id text, heartbeat_at timestamptz, silent_ms bigint, heartbeat_interval_ms bigint, lanes text[],
    epoch_us bigint, log_position bigint, beat bigint, fault text)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
-- Purpose: shows a dispatcher to operators and to the other dispatchers, and counts its heartbeats for its memory.
-- Parameters: p_state RUNNING, DRAINING or STOPPED; p_heartbeat_interval_ms, when the next one is due;
--   p_environment, what the dispatcher is configured for: the first one ever is the database's;
--   p_settled, for each of p_lanes how many payments this dispatcher saw end; p_seen_* and p_memory_id, what it remembers, as in
--   a claim: a memory_id of null counts nothing.
-- Results: the other dispatchers that missed three heartbeats and were not stopped: their leases run out
--   unrenewed, so the caller sweeps. Last, with a worker_id of null, how far the database is, what the caller has to
--   remember from now on; and fault, why a claim is refused, as epoch_fault says it: then nothing is to be remembered.
-- Locks taken: the caller's row, and its memory's. Rows of dispatchers silent for a week are pruned.
-- Hazard: a database that lacks heartbeats must not regain them by heartbeats, nor be given a first epoch that is newer
--   than the one that was seen. What would be refused is not counted.
declare
    v_now timestamptz := clock_timestamp();
begin
    if p_seen_epoch_us = 0 then
        perform outbox.record_first_epoch(p_environment);
    end if;
    fault := outbox.epoch_fault(p_environment, p_seen_epoch_us, p_seen_log_position, p_memory_id, p_seen_beat);
    if fault is null and p_memory_id is not null then
        insert into outbox.outbox_dispatcher_memories as m values (p_memory_id, 1, v_now)
            on conflict (memory_id) do update set beat = m.beat + 1, noted_at = excluded.noted_at;
    end if;
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
    select d.worker_id, d.heartbeat_at, (extract(epoch from v_now - d.heartbeat_at) * 1000)::bigint, d.heartbeat_interval_ms, d.lanes,
           null::bigint, null::bigint, null::bigint, null::text
      from outbox.outbox_dispatchers d
     where d.worker_id <> p_worker_id and d.state <> 'STOPPED'
       and d.heartbeat_at < v_now - 3 * d.heartbeat_interval_ms * interval '1 ms'
       and d.heartbeat_at > v_now - interval '1 day';
    epoch_us := coalesce((select outbox.epoch_us(c) from outbox.outbox_cluster c order by c.epoch_no desc limit 1), 0);
    log_position := pg_current_wal_flush_lsn() - '0/0';
    beat := coalesce((select m.beat from outbox.outbox_dispatcher_memories m where m.memory_id = p_memory_id), 0);
    return next;
end
$$;
