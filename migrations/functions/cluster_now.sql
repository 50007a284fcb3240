create or replace function outbox.cluster_now(out system_identifier bigint, out timeline integer, out flush_lsn pg_lsn)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: which cluster this is, on which timeline, and how much of its log is on disk.
-- Hazards: the control file lags a promotion; the name of the log's present file does not. In SQL it would be planned in each call,
--   and every claim makes one.
begin
    system_identifier := (select c.system_identifier from pg_control_system() as c);
    timeline := ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer;
    flush_lsn := pg_current_wal_flush_lsn();
end
$$;
