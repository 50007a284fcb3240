create or replace function outbox.cluster_now() returns table (system_identifier bigint, timeline integer, flush_lsn pg_lsn)
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: which cluster this is, on which timeline, and how much of its log is on disk.
-- Hazard: the control file lags a promotion; the name of the log's present file does not.
    select c.system_identifier, ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer, pg_current_wal_flush_lsn()
      from pg_control_system() as c
$$;
