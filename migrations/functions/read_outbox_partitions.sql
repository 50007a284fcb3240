create or replace function outbox.read_outbox_partitions() returns table (
    holds text, month date, parent_name text, table_name text, state text, row_count bigint, payment_count bigint, rows_sha256 bytea,
    recorded_by text, recorded_at timestamptz)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the months of all month tables, and where each is on its way out.
-- Results: oldest first. state: ATTACHED; SEALED; COUNTED, it has a receipt; DETACHING, half-way; DETACHED, a table of its own;
--   GONE, only the receipt is here. Counts, hash, who and when are those of the receipt.
    with attached as (
        select t.name as parent_name, c.relname::text as table_name, to_date(right(c.relname, 8), '"y"YYYY"m"MM') as month, h.inhdetachpending as is_detaching
          from outbox.month_tables() as t
          join pg_inherits h on h.inhparent = to_regclass('outbox.' || t.name)
          join pg_class c on c.oid = h.inhrelid and c.relname ~ '_y[0-9]{4}m[0-9]{2}$'
    )
    select t.holds, coalesce(a.month, r.month), t.name, coalesce(a.table_name, r.table_name),
           case when a.is_detaching then 'DETACHING'
                when a.table_name is null and to_regclass(format('outbox.%I', r.table_name)) is null then 'GONE'
                when a.table_name is null then 'DETACHED'
                when r.table_name is not null then 'COUNTED'
                when exists (select from outbox.partition_seals s where s.holds = t.holds and s.month = a.month) then 'SEALED'
                else 'ATTACHED' end,
           r.row_count, r.payment_count, r.rows_sha256, r.recorded_by, r.recorded_at
      from attached a
      full join outbox.partition_receipts r on r.table_name = a.table_name and r.parent_name = a.parent_name
      join outbox.month_tables() as t on t.name = coalesce(a.parent_name, r.parent_name)
     order by 2, t.place
$$;
