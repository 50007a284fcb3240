create or replace function outbox.withdraw_operator_action(p_action_id uuid, p_reason text) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the maker takes an action back that nobody has decided on.
-- Results: nothing, or raises OB012 (another maker's), OB013 (decided already).
begin
    if not exists (select from outbox.operator_actions a where a.action_id = p_action_id and a.proposed_by = session_user) then
        raise exception 'action % is not one that % proposed', p_action_id, session_user using errcode = 'OB012';
    end if;
    insert into outbox.operator_action_decisions values (p_action_id, 'WITHDRAWN', p_reason, session_user, clock_timestamp())
        on conflict (action_id) do nothing;
    if not found then
        raise exception 'action % is decided already', p_action_id using errcode = 'OB013';
    end if;
end
$$;
