create or replace function outbox.apply_operator_action(p_action_id uuid, p_limit integer default 1000)
returns table (outbox_id uuid, result text, detail text, new_outbox_id uuid, remaining bigint)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
-- Purpose: carries an action out on at most p_limit of its payments that it has not reached yet.
-- Results: what became of each: APPLIED, or SKIPPED with why. Then one row without outbox_id: how many remain. A
--   payment that somebody else has locked remains; call again. OB011: see refuse_untimely_action.
-- Locks taken: the action's; each payment's row, for no key update, skip locked, in order of id.
declare
    v_action outbox.operator_actions := outbox.approved_action(p_action_id);
    v_id uuid;
    v_attempts integer;
    v_outcome record;
begin
    perform outbox.refuse_untimely_action(v_action);
    for v_id, v_attempts in
        select m.outbox_id, m.attempt_count from outbox.operator_action_members m
         where m.action_id = p_action_id
           and not exists (select from outbox.operator_action_results r where r.action_id = p_action_id and r.outbox_id = m.outbox_id)
         order by m.outbox_id limit p_limit
    loop
        select * into v_outcome from outbox.apply_to_payment(v_action, v_id, v_attempts);
        continue when v_outcome.result = 'BUSY';
        insert into outbox.operator_action_results
        values (p_action_id, v_id, v_outcome.result, v_outcome.detail, v_outcome.new_outbox_id, session_user, clock_timestamp());
        outbox_id := v_id; result := v_outcome.result; detail := v_outcome.detail; new_outbox_id := v_outcome.new_outbox_id;
        return next;
    end loop;
    outbox_id := null; result := null; detail := null; new_outbox_id := null;
    remaining := v_action.member_count - (select count(*) from outbox.operator_action_results r where r.action_id = p_action_id);
    return next;
end
$$;
