create or replace function outbox.approved_action(p_action_id uuid) returns outbox.operator_actions
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the action, if it may be carried out now. Internal to what carries actions out.
-- Results: or raises OB003 (no such action), OB014 (not approved, or turned down).
-- Locks taken: the action's, until the transaction ends: two who carry it out follow each other.
declare
    v_action outbox.operator_actions;
    v_decision text;
begin
    perform pg_advisory_xact_lock(hashtextextended(p_action_id::text, 1869968485));
    select * into v_action from outbox.operator_actions a where a.action_id = p_action_id;
    if not found then
        raise exception 'there is no action %', p_action_id using errcode = 'OB003';
    end if;
    select d.decision into v_decision from outbox.operator_action_decisions d where d.action_id = p_action_id;
    if coalesce(v_decision, '') <> 'APPROVED' and (v_action.needs_approval or v_decision is not null) then
        raise exception 'action % is %', p_action_id, coalesce(lower(v_decision), 'not approved yet') using errcode = 'OB014',
            hint = 'another login approves it: outboxd approve ID';
    end if;
    return v_action;
end
$$;
