create or replace function outbox.unpark_outbox_rows(p_rail text, p_limit integer) returns table (outbox_id uuid, unparked integer)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
-- Purpose: the maintenance of parked payments: brings back what is owed, and holds what is past not_after.
-- Parameters: at most p_limit keys and p_limit payments.
-- Results: each payment that is held now; then one row without outbox_id: how many keys were settled.
-- Locks taken: the notes, skip locked, so that two dispatchers share the work; keys, tried; rows, skip locked.
declare
    v_owed record;
begin
    unparked := 0;
    for v_owed in select u.owed_no, u.rail, u.ordering_key from outbox.payment_outbox_unparking u
                   where u.rail = p_rail order by u.owed_no limit p_limit for update skip locked loop
        if outbox.unpark_first(v_owed.rail, v_owed.ordering_key) then
            delete from outbox.payment_outbox_unparking u where u.owed_no = v_owed.owed_no;
            unparked := unparked + 1;
        end if;
    end loop;
    return query
    update outbox.payment_outbox_pending p set disposition = 'HELD', hold_reason = 'MISSED_WINDOW', hold_requested = false
     where p.outbox_id = any (array(select q.outbox_id from outbox.payment_outbox_pending q
                                     where q.rail = p_rail and q.disposition = 'PARKED' and q.not_after < clock_timestamp()
                                     order by q.not_after limit p_limit for no key update skip locked))
    returning p.outbox_id, null::integer;
    outbox_id := null;
    return next;
end
$$;
