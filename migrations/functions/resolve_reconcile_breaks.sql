create or replace function outbox.resolve_reconcile_breaks(p_break_ids uuid[], p_reason text, p_action_id uuid default null) returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: a person closes breaks, all or none.
-- Parameters: p_reason, how they were cleared; p_action_id, the operator action that cleared them, and was applied to each payment.
-- Results: how many. OB003: a bad value, no such break or action, one that is closed already, or whose payment the action was not
--   applied to. OB012: the login that ran the statement does not close what it found.
declare
    v_ids uuid[] := array(select distinct u.id from unnest(p_break_ids) as u (id) order by 1);
    v_id uuid;
    v_closed integer;
begin
    if coalesce(p_reason, '') !~ '\S' then
        raise exception 'a resolution needs a reason' using errcode = 'OB003', column = 'reason';
    elsif p_action_id is not null and not exists (select from outbox.operator_actions a where a.action_id = p_action_id) then
        raise exception 'there is no action %', p_action_id using errcode = 'OB003', column = 'action_id';
    end if;
    select u.id into v_id from unnest(v_ids) as u (id) where not exists (select from outbox.reconcile_breaks b where b.break_id = u.id) limit 1;
    if found then
        raise exception 'there is no break %', v_id using errcode = 'OB003', column = 'break_id';
    end if;
    select b.break_id into v_id from outbox.reconcile_breaks b
      join outbox.reconcile_statements s on s.statement_id = b.statement_id and s.run_by = session_user
     where b.break_id = any (v_ids) limit 1;
    if found then
        raise exception 'break % was found by a statement that % ran: another login closes it', v_id, session_user
            using errcode = 'OB012', column = 'break_id';
    end if;
    select b.break_id into v_id from outbox.reconcile_breaks b
     where b.break_id = any (v_ids) and p_action_id is not null
       and not exists (select from outbox.operator_action_results r
                        where r.action_id = p_action_id and r.outbox_id = b.outbox_id and r.result = 'APPLIED') limit 1;
    if found then
        raise exception 'action % was not applied to the payment of break %', p_action_id, v_id using errcode = 'OB003', column = 'action_id';
    end if;
    insert into outbox.reconcile_resolutions
    select u.id, p_reason, p_action_id, null, session_user, clock_timestamp(),
           (select count(*) + 1 from outbox.reconcile_resolutions r where r.break_id = u.id)
      from unnest(v_ids) as u (id)
     where not exists (select from outbox.reconcile_closed c where c.break_id = u.id)
    on conflict do nothing;
    get diagnostics v_closed = row_count;
    if v_closed <> cardinality(v_ids) then
        raise exception '% of % breaks are closed already', cardinality(v_ids) - v_closed, cardinality(v_ids) using errcode = 'OB003', column = 'break_id';
    end if;
    return v_closed;
end
$$;
