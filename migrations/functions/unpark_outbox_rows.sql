create or replace function outbox.unpark_outbox_rows(p_rail text, p_limit integer) returns table (outbox_id uuid, unparked integer)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
-- Purpose: the maintenance of parked payments: brings back what is owed, and holds what is past not_after.
-- Parameters: at most p_limit keys and p_limit payments.
-- Results: each payment that is held now; then one row without outbox_id: how many keys and payments were looked
--   at; if any, a lane has something to claim.
-- Locks taken: the notes, skip locked, so that two dispatchers share the work; keys, tried; rows, skip locked.
declare
    v_owed record;
    v_ids uuid[];
begin
    unparked := 0;
    for v_owed in select u.* from outbox.payment_outbox_unparking u
                   where u.rail = p_rail order by u.owed_no limit p_limit for update skip locked loop
        if v_owed.participant_id is not null then
            -- In order of id, from where the last pass ended: those behind others of their key stay where they are.
            v_ids := array(select p.outbox_id from outbox.payment_outbox_pending p
                            where p.rail = p_rail and p.participant_id = v_owed.participant_id and p.disposition = 'PARKED'
                              and p.outbox_id > coalesce(v_owed.from_outbox_id, '00000000-0000-0000-0000-000000000000')
                            order by p.outbox_id limit p_limit for no key update);
            update outbox.payment_outbox_pending p set disposition = 'READY', next_attempt_at = greatest(p.next_attempt_at, clock_timestamp())
             where p.outbox_id = any (v_ids) and not outbox.is_behind_another(p.outbox_id)
               and not p.participant_id = any (outbox.paused_participants(p_rail));
            unparked := unparked + cardinality(v_ids);
            if cardinality(v_ids) = p_limit then
                update outbox.payment_outbox_unparking u set from_outbox_id = v_ids[p_limit] where u.owed_no = v_owed.owed_no;
                exit;
            end if;
            delete from outbox.payment_outbox_unparking u where u.owed_no = v_owed.owed_no;
        elsif outbox.unpark_first(v_owed.rail, v_owed.ordering_key) then
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
