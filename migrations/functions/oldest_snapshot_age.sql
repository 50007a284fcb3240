create or replace function outbox.oldest_snapshot_age() returns bigint
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the age, in transactions, of the oldest snapshot that keeps dead rows of this database from being removed. Internal
--   to read_outbox_metrics.
-- Results: 0 if there is none. In transactions, for a snapshot's time shows to pg_read_all_stats alone.
    select coalesce(max(age(s.xmin)), 0)::bigint
      from (select a.backend_xmin as xmin from pg_stat_activity a
             where a.pid <> pg_backend_pid() and (a.datid is null or a.datid = (select b.oid from pg_database b where b.datname = current_database()))
             union all select l.xmin from pg_replication_slots l
             union all select x.transaction from pg_prepared_xacts x where x.database = current_database()) as s
$$;
