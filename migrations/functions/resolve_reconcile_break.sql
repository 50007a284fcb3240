create or replace function outbox.resolve_reconcile_break(p_break_id uuid, p_reason text, p_action_id uuid default null) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: a person closes a break.
-- Parameters: p_reason, how it was cleared; p_action_id, the operator action that cleared it.
-- Results: OB003: a bad value, no such break or action, or one that is closed already.
begin
    if coalesce(btrim(p_reason), '') = '' then
        raise exception 'a resolution needs a reason' using errcode = 'OB003', column = 'reason';
    elsif not exists (select from outbox.reconcile_breaks b where b.break_id = p_break_id) then
        raise exception 'there is no break %', p_break_id using errcode = 'OB003', column = 'break_id';
    elsif p_action_id is not null and not exists (select from outbox.operator_actions a where a.action_id = p_action_id) then
        raise exception 'there is no action %', p_action_id using errcode = 'OB003', column = 'action_id';
    end if;
    insert into outbox.reconcile_resolutions values (p_break_id, p_reason, p_action_id, null, session_user, clock_timestamp()) on conflict do nothing;
    if not found then
        raise exception 'break % is closed already', p_break_id using errcode = 'OB003', column = 'break_id';
    end if;
end
$$;
