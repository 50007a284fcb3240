create or replace function outbox.decide_operator_action(
    p_action_id uuid, p_decision text, p_reason text, p_members_sha256 bytea, p_member_count integer, p_amounts jsonb
) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the second person's word on an action. Maker and checker are different database logins.
-- Parameters: p_decision, APPROVED or REJECTED; hash, count and money as the checker saw them: they bind the approval
--   to the list.
-- Results: nothing, or raises OB012 (the maker's own action), OB013 (decided already), OB003 (another list, no such action).
declare
    v_action outbox.operator_actions;
begin
    select * into v_action from outbox.operator_actions a where a.action_id = p_action_id;
    if not found then
        raise exception 'there is no action %', p_action_id using errcode = 'OB003';
    elsif v_action.proposed_by = session_user then
        raise exception 'action % was proposed by % and needs another person', p_action_id, session_user using errcode = 'OB012',
            hint = 'maker and checker are different database logins';
    elsif p_decision is null or p_decision not in ('APPROVED', 'REJECTED') then
        raise exception 'a decision is APPROVED or REJECTED' using errcode = 'OB003';
    elsif not v_action.needs_approval then
        raise exception 'action % needs no approval', p_action_id using errcode = 'OB003';
    elsif (p_members_sha256, p_member_count, p_amounts) is distinct from (v_action.members_sha256, v_action.member_count, v_action.amounts) then
        raise exception 'action % has % payments of % in sum, not what was to be decided on', p_action_id, v_action.member_count, v_action.amounts
            using errcode = 'OB003', hint = 'look at the action again: outboxd list --action ID';
    end if;
    insert into outbox.operator_action_decisions values (p_action_id, p_decision, p_reason, session_user, clock_timestamp())
        on conflict (action_id) do nothing;
    if not found then
        raise exception 'action % is decided already', p_action_id using errcode = 'OB013';
    end if;
end
$$;
