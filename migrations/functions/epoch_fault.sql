create or replace function outbox.epoch_fault(p_environment text, p_seen_epoch_us bigint, p_seen_log_position bigint, p_memory_id uuid, p_seen_beat bigint)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: why this is not the database that a dispatcher knows. Internal to claim and heartbeat.
-- Parameters: p_environment, what the dispatcher is configured for; null counts as ''; the rest, what it remembers: when
--   the epoch then in force was recorded, in microseconds since 1970 (0: none), how many bytes of log were on disk, its
--   memory, and how many heartbeats of that memory were on record.
-- Results: null, it may be; ENVIRONMENT, it is for another one; CLUSTER, not the cluster or timeline on record; or it is
--   older than what was seen: EPOCH, its epoch is, or does not follow the one that was; BEATS, heartbeats are missing; LOG, nothing else is, and its log is
--   shorter. All but the last stay true however much is written; a log grows. A newer epoch than was seen
--   counts only if two people acknowledged it: then what was seen before counts no more. A first epoch that is newer is another database's,
--   or was recorded by a dispatcher that had seen nothing, on one that was put back to before its first.
declare
    v_now record;
    v_known outbox.outbox_cluster;
    v_epoch_us bigint;
begin
    select * into v_now from outbox.cluster_now();
    select * into v_known from outbox.outbox_cluster c order by c.epoch_no desc limit 1;
    v_epoch_us := outbox.epoch_us(v_known);
    return case
        when v_known.environment <> coalesce(p_environment, '') then 'ENVIRONMENT'
        when v_known.system_identifier <> v_now.system_identifier or v_known.timeline <> v_now.timeline then 'CLUSTER'
        when v_epoch_us < p_seen_epoch_us then 'EPOCH'
        when v_epoch_us > p_seen_epoch_us and p_seen_epoch_us > 0 and v_known.action_id is null then 'EPOCH'
        when v_epoch_us > p_seen_epoch_us then null
        when coalesce((select m.beat from outbox.outbox_dispatcher_memories m where m.memory_id = p_memory_id), 0) < p_seen_beat then 'BEATS'
        when v_now.flush_lsn - '0/0' < p_seen_log_position then 'LOG' end;
end
$$;
