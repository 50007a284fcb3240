create or replace function outbox.detached_as(p_outbox_id uuid) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: that the month of a payment was detached, and where it is told of, in words for people; null if it was not. Internal.
    select format('its month %s was detached: see its receipt, %s', to_char(r.month, 'YYYY-MM'), r.table_name)
      from outbox.partition_receipts r
      join outbox.detached_id_ranges() as g on p_outbox_id >= g.ids_from and p_outbox_id < g.ids_before
     where r.holds = 'PAYMENTS' and p_outbox_id >= r.ids_from and p_outbox_id < r.ids_before
     order by r.table_name desc limit 1
$$;
