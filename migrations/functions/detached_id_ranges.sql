create or replace function outbox.detached_id_ranges() returns table (ids_from uuid, ids_before uuid)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the ids of payments whose month has left by receipt, whole or half-way; months that follow each other are one range, so that
--   there are few. Internal.
-- Hazard: a month that was detached without a receipt is not in it: its payments are lost to every audit.
    select outbox.outbox_id_floor(lower(d.months)::timestamp at time zone 'UTC'), outbox.outbox_id_floor(upper(d.months)::timestamp at time zone 'UTC')
      from (select unnest(range_agg(daterange(r.month, (r.month + interval '1 month')::date))) as months
              from outbox.partition_receipts r
             where r.holds = 'PAYMENTS'
               and not exists (select from pg_inherits h where h.inhrelid = to_regclass(format('outbox.%I', r.table_name))
                                                           and h.inhparent = to_regclass(format('outbox.%I', r.parent_name)) and not h.inhdetachpending)) as d
$$;
