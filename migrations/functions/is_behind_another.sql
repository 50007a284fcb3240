create or replace function outbox.is_behind_another(p_outbox_id uuid) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
-- Purpose: whether another payment that has not ended comes before this one under the same ordering key.
    select exists (select from outbox.payment_outbox_order o
                    cross join lateral (select 1 from outbox.payment_outbox_order e
                                         where e.rail = o.rail and e.ordering_key = o.ordering_key and e.place < o.place limit 1) as before
                    where o.outbox_id = p_outbox_id)
$$;
