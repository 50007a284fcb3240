create or replace function outbox.enqueue_in_order(p_outbox_ids uuid[], p_rails text[], p_ordering_keys text[]) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
-- Purpose: gives new payments their places, and parks those that are not the first of their key. Internal to
--   enqueue; the caller holds the locks of the keys.
-- Parameters: p_outbox_ids, null for what is recorded already: it has its place, or has ended.
-- Hazard: above read committed the snapshot may be older than the lock, and the first may have ended: nobody would
--   bring back what is parked then. So nothing is parked there; claim looks again in any case.
begin
    insert into outbox.payment_outbox_order (rail, ordering_key, outbox_id)
    select c.rail, c.ordering_key, c.outbox_id
      from unnest(p_outbox_ids, p_rails, p_ordering_keys) with ordinality as c (outbox_id, rail, ordering_key, ordinal)
     where c.outbox_id is not null and c.ordering_key is not null
     order by c.ordinal;
    if current_setting('transaction_isolation') = 'read committed' then
        update outbox.payment_outbox_pending p set disposition = 'PARKED'
         where p.outbox_id = any (array(select c.id from unnest(p_outbox_ids) as c (id) where outbox.is_behind_another(c.id)));
    end if;
end
$$;
