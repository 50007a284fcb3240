create or replace function outbox.record_first_epoch(p_environment text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: records where payments are dispatched for the first time. Internal to the heartbeat, which every
--   dispatcher calls before it claims.
-- Locks taken: if there is no epoch, one of its own until the transaction ends.
begin
    if exists (select from outbox.outbox_cluster) then
        return;
    end if;
    perform pg_advisory_xact_lock(1869968485::bigint << 32);
    insert into outbox.outbox_cluster (system_identifier, timeline, environment, recorded_by, recorded_at)
    select c.system_identifier, c.timeline, coalesce(p_environment, ''), session_user, clock_timestamp()
      from outbox.cluster_now() as c
     where not exists (select from outbox.outbox_cluster);
end
$$;
