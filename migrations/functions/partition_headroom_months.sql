create or replace function outbox.partition_headroom_months() returns integer
language sql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
-- Purpose: for how many months after this one all month tables have a partition, without a gap.
-- Results: 24 after `outboxd migrate`; below 12 is a warning; below 0 enqueue fails.
-- Hazard: a table with a month's name is no partition unless it is attached.
    with attached as materialized (
        select right(c.relname, 8) as suffix, count(distinct h.inhparent) as parents
          from pg_inherits h
          join pg_class c on c.oid = h.inhrelid
         where h.inhparent in (select to_regclass('outbox.' || t.name) from outbox.month_tables() as t)
         group by right(c.relname, 8)
    )
    select (count(*) filter (where m.whole) - 1)::integer
      from (select bool_and(coalesce(a.parents, 0) = (select count(*) from outbox.month_tables())) over (order by g.month) as whole
              from generate_series(date_trunc('month', clock_timestamp(), 'UTC'),
                                   date_trunc('month', clock_timestamp(), 'UTC') + interval '60 months', '1 month') as g (month)
              left join attached a on a.suffix = to_char(g.month, '"y"YYYY"m"MM')) as m
$$;
