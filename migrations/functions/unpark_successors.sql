create or replace function outbox.unpark_successors(p_outbox_ids uuid[]) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
-- Purpose: takes ended payments out of the order and brings back who follows them. Internal to what ends payments.
-- Parameters: payments that may have ended: those without a row in the queue have.
-- Hazard: waiting for the key's lock would wait for a producer's transaction. It is tried; where it cannot be had,
--   the key is noted for unpark_outbox_rows.
declare
    v_key record;
begin
    for v_key in
        delete from outbox.payment_outbox_order o
         where o.outbox_id = any (p_outbox_ids) and not exists (select from outbox.payment_outbox_pending p where p.outbox_id = o.outbox_id)
        returning o.rail, o.ordering_key
    loop
        if not outbox.unpark_first(v_key.rail, v_key.ordering_key) then
            insert into outbox.payment_outbox_unparking (rail, ordering_key) values (v_key.rail, v_key.ordering_key);
        end if;
    end loop;
end
$$;
