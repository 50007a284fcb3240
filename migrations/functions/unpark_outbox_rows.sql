create or replace function outbox.unpark_outbox_rows(p_rail text, p_limit integer) returns table (outbox_id uuid, unparked integer, is_full boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
-- Purpose: the maintenance of parked payments: brings back what is owed, and holds what is past not_after.
-- Parameters: at most p_limit keys, p_limit payments of participants that go on, each its share, and p_limit that
--   missed their window.
-- Results: each payment that is held now; then one row without outbox_id: how many keys and payments were looked
--   at; if any, a lane has something to claim; and is_full, whether the limit was reached: call again at once.
-- Locks taken: the notes, skip locked, so that two dispatchers share the work; keys, tried; rows, skip locked.
-- Hazard: a row that somebody has locked is still owed. Its participant's note stays, and begins again when it has come
--   to the end: from the locked row on, those behind others of their key would be looked at again and again.
declare
    v_owed record;
    v_seen uuid[];
    v_ids uuid[];
    v_skipped boolean;
    v_share integer;
    v_held integer;
begin
    unparked := 0; is_full := false;
    -- Rounded up, so that a share is never nothing.
    select ceil(p_limit::numeric / greatest(count(n.participant_id), 1)) into v_share
      from (select u.participant_id from outbox.payment_outbox_unparking u where u.rail = p_rail order by u.owed_no limit p_limit) as n;
    for v_owed in select u.* from outbox.payment_outbox_unparking u
                   where u.rail = p_rail order by u.owed_no limit p_limit for update skip locked loop
        if v_owed.participant_id is not null then
            -- In order of id, from where the last pass ended: those behind others of their key stay where they are.
            v_seen := array(select p.outbox_id from outbox.payment_outbox_pending p
                             where p.rail = p_rail and p.participant_id = v_owed.participant_id and p.disposition = 'PARKED'
                               and p.outbox_id > coalesce(v_owed.from_outbox_id, '00000000-0000-0000-0000-000000000000')
                             order by p.outbox_id limit v_share);
            v_ids := array(select p.outbox_id from outbox.payment_outbox_pending p
                            where p.outbox_id = any (v_seen) and p.disposition = 'PARKED' order by p.outbox_id for no key update skip locked);
            update outbox.payment_outbox_pending p set disposition = 'READY', next_attempt_at = greatest(p.next_attempt_at, clock_timestamp())
             where p.outbox_id = any (v_ids) and not outbox.is_behind_another(p.outbox_id)
               and not p.participant_id = any (outbox.paused_participants(p_rail));
            unparked := unparked + cardinality(v_ids);
            v_skipped := v_owed.has_skipped or cardinality(v_ids) < cardinality(v_seen);
            if cardinality(v_seen) = v_share then
                update outbox.payment_outbox_unparking u set from_outbox_id = v_seen[v_share], has_skipped = v_skipped where u.owed_no = v_owed.owed_no;
                is_full := true;
            elsif v_skipped then
                update outbox.payment_outbox_unparking u set from_outbox_id = null, has_skipped = false where u.owed_no = v_owed.owed_no;
            else
                delete from outbox.payment_outbox_unparking u where u.owed_no = v_owed.owed_no;
            end if;
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
    returning p.outbox_id, null::integer, null::boolean;
    get diagnostics v_held = row_count;
    is_full := is_full or unparked >= p_limit or v_held = p_limit;
    outbox_id := null;
    return next;
end
$$;
