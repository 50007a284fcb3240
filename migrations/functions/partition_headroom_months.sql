create or replace function outbox.partition_headroom_months() returns integer
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: for how many months after this one both partitioned tables have a partition, without a gap.
-- Results: 24 after `outboxd migrate`; below 12 is a warning; below 0 enqueue fails.
    select (count(*) filter (where m.whole) - 1)::integer
      from (select bool_and(to_regclass('outbox.payment_outbox_instructions' || n.suffix) is not null
                            and to_regclass('outbox.payment_outbox_attempts' || n.suffix) is not null)
                   over (order by n.month) as whole
              from (select g.month, to_char(g.month at time zone 'UTC', '"_y"YYYY"m"MM') as suffix
                      from generate_series(date_trunc('month', clock_timestamp(), 'UTC'),
                                           date_trunc('month', clock_timestamp(), 'UTC') + interval '60 months', '1 month') as g (month)) as n) as m
$$;
