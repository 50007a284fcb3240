create or replace function outbox.unpark_first(p_rail text, p_ordering_key text) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
-- Purpose: brings the first payment of an ordering key back into the claim, if it is parked. If its participant is paused,
--   the claim parks it again, under the lock of the pauses: a look at them here might be older than a resume.
-- Results: whether that is settled; false: somebody has the key or the row, try again.
-- Locks taken: the key's, tried; the row, for no key update, skip locked.
declare
    v_first uuid;
    v_disposition text;
begin
    if not pg_try_advisory_xact_lock(outbox.ordering_lock_key(p_rail, p_ordering_key)) then
        return false;
    end if;
    -- A new statement: it sees who was there when the lock was had.
    select o.outbox_id into v_first from outbox.payment_outbox_order o
     where o.rail = p_rail and o.ordering_key = p_ordering_key order by o.place limit 1;
    if not found then
        return true;
    end if;
    select p.disposition into v_disposition from outbox.payment_outbox_pending p where p.outbox_id = v_first for no key update skip locked;
    if found and v_disposition = 'PARKED' then
        update outbox.payment_outbox_pending p
           set disposition = outbox.disposition_of(r.on_unknown, p.in_doubt_since is not null or p.late_success),
               next_attempt_at = greatest(p.next_attempt_at, clock_timestamp())
          from outbox.payment_rails r where p.outbox_id = v_first and r.rail = p.rail;
    end if;
    return v_disposition is not null;
end
$$;
