create or replace function outbox.set_outbox_pause(p_rail text, p_participant_id text, p_paused boolean, p_reason text) returns uuid
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the kill switch: nothing is claimed any more for a rail (null: all) and a participant (null: all), or it is
--   again. What is under way goes on to its end; what is leased and not begun is given back.
-- Parameters: p_reason, for the record.
-- Results: the action. Parked payments of a participant that goes on come back by unpark_outbox_rows.
-- Locks taken: to let a participant go on, the lock of the pauses, exclusive: it waits for claims under way.
declare
    v_action uuid := outbox.new_outbox_id();
begin
    if coalesce(p_reason, '') !~ '\S' then
        raise exception 'an action needs a reason' using errcode = 'OB003', column = 'reason';
    elsif p_rail is not null and not exists (select from outbox.payment_rails r where r.rail = p_rail) then
        raise exception 'rail % has no contract', p_rail using errcode = 'OB004', column = 'rail';
    end if;
    insert into outbox.operator_actions
    values (v_action, case when p_paused then 'PAUSE' else 'RESUME' end, p_rail, p_participant_id, '{}', p_reason, null, false, 0,
            outbox.members_sha256('{}'), '{}', session_user, clock_timestamp());
    if p_paused then
        insert into outbox.outbox_pauses values (v_action, p_rail, p_participant_id, session_user, clock_timestamp())
            on conflict on constraint one_pause_for_a_scope do nothing;
        return v_action;
    end if;
    perform pg_advisory_xact_lock(outbox.pauses_lock_key());
    delete from outbox.outbox_pauses u where u.rail is not distinct from p_rail and u.participant_id is not distinct from p_participant_id;
    if not found then
        raise exception 'there is no pause of rail % and participant %', coalesce(p_rail, '(all)'), coalesce(p_participant_id, '(all)')
            using errcode = 'OB003', hint = 'a wider or narrower pause is lifted by its own scope: see outboxd status';
    end if;
    if p_participant_id is not null then
        insert into outbox.payment_outbox_unparking (rail, participant_id)
        select r.rail, p_participant_id from outbox.payment_rails r where r.rail = coalesce(p_rail, r.rail);
    end if;
    return v_action;
end
$$;
