create or replace function outbox.read_blocked_keys(p_limit integer default 100) returns table (
    rail text, ordering_key text, first_outbox_id uuid, disposition text, hold_reason text, first_enqueued_at timestamptz,
    blocked bigint, amounts jsonb)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: who blocks whom: the ordering keys under which payments wait for an earlier one.
-- Results: a row a key: its first payment and how that stands; how many wait behind it, and their money, a sum in
--   minor units for each currency. Held ones first, then the most blocked; at most p_limit.
-- Locks taken: none beyond reading. Reads the whole order.
    select k.rail, k.ordering_key, k.ids[1], p.disposition, p.hold_reason, p.created_at, cardinality(k.ids) - 1,
           (select coalesce(jsonb_object_agg(m.currency, m.amount), '{}')
              from (select i.currency, sum(i.amount_minor) as amount from outbox.payment_outbox_instructions i
                     where i.outbox_id = any (k.ids[2:]) and i.currency is not null group by i.currency) as m)
      from (select o.rail, o.ordering_key, array_agg(o.outbox_id order by o.place) as ids from outbox.payment_outbox_order o
             group by o.rail, o.ordering_key having count(*) > 1) as k
      left join outbox.payment_outbox_pending p on p.outbox_id = k.ids[1]
     order by (p.disposition = 'HELD') desc nulls last, cardinality(k.ids) desc, k.rail, k.ordering_key
     limit p_limit
$$;
