create or replace function outbox.refuse_other_epoch(p_environment text, p_seen_epoch_us bigint, p_seen_log_position bigint, p_memory_id uuid, p_seen_beat bigint)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: refuses to claim on a cluster that is not the one on record: a promoted standby, a restore or a clone may
--   have lost attempts that were made. Internal to claim and refuse_untimely_action.
-- Parameters: those of epoch_fault, which judges.
-- Results: nothing, or raises OB011; OB015, the database is older than what the dispatcher has seen. As long as no
--   epoch is on record, nothing has been dispatched.
-- Hazards: an asynchronous standby granted attempt 1 a second time, with an empty ledger. A disk snapshot that is put
--   back has the same identifier and timeline, and its log grows past what was seen: only the dispatcher's heartbeats
--   tell for good.
declare
    v_fault text := outbox.epoch_fault(p_environment, p_seen_epoch_us, p_seen_log_position, p_memory_id, p_seen_beat);
    v_known outbox.outbox_cluster;
    v_now record;
begin
    if v_fault is null then
        return;
    end if;
    select * into v_now from outbox.cluster_now();
    select * into v_known from outbox.outbox_cluster c order by c.epoch_no desc limit 1;
    if v_fault = 'ENVIRONMENT' then
        raise exception 'this database is of the environment %, the dispatcher of %', quote_literal(v_known.environment),
            quote_literal(coalesce(p_environment, '')) using errcode = 'OB011',
            hint = 'a copy of a database must not be dispatched; where it is meant to be, acknowledge it: outboxd failover acknowledge';
    elsif v_fault = 'CLUSTER' then
        raise exception 'this is cluster % on timeline %, on record is % on %: what was sent may be missing here', v_now.system_identifier,
            v_now.timeline, v_known.system_identifier, v_known.timeline using errcode = 'OB011',
            hint = 'find out from when on commits may be lost, then: outboxd failover acknowledge --lost-from TIME';
    elsif v_fault = 'BEATS' and v_now.flush_lsn - '0/0' >= p_seen_log_position then
        raise exception 'the database is older than it was: it has not the heartbeats that this dispatcher has seen' using errcode = 'OB015',
            hint = 'find out from when on commits are lost, then: outboxd failover acknowledge --lost-from TIME';
    end if;
    raise exception 'the database is older than it was: its log ends at % in the epoch of %, seen was % in that of %', v_now.flush_lsn,
        to_timestamp(outbox.epoch_us(v_known) / 1000000.0), pg_lsn '0/0' + p_seen_log_position::numeric, to_timestamp(p_seen_epoch_us / 1000000.0)
        using errcode = 'OB015', hint = 'find out from when on commits are lost, then: outboxd failover acknowledge --lost-from TIME';
end
$$;
