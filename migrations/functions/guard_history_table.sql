create or replace function outbox.guard_history_table(p_table regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: puts the append-only triggers on one history table, partitioned parent or partition.
--   Internal to migrations and ensure_outbox_partitions.
-- Parameters: p_table, the table. A partition gets its row trigger from the parent when attached.
-- Locks taken: share row exclusive on p_table.
-- Hazard: row triggers do not stop TRUNCATE, and TRUNCATE of a partition does not fire the parent's
--   trigger; without ENABLE ALWAYS, session_replication_role = replica goes round both.
begin
    execute format('create trigger history_is_never_truncated before truncate on %s '
                   'for each statement execute function outbox.refuse_history_change()', p_table);
    execute format('alter table %s enable always trigger history_is_never_truncated', p_table);
end
$$;
