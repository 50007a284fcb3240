create or replace function outbox.propose_failover(p_lost_from timestamptz, p_environment text, p_reason text) returns uuid
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: records that this cluster is to be dispatched from now on, and from when on what the one before it did may
--   be missing here. A second person approves it (decide_operator_action, with no payments), then apply_failover.
-- Parameters: p_lost_from, the last moment of which nothing is missing: rather too early than too late; p_environment,
--   what the dispatchers are configured for.
-- Results: the action. OB003: a time in the future, or none.
declare
    v_action uuid := outbox.new_outbox_id();
    v_cluster record;
begin
    select * into v_cluster from outbox.cluster_now();
    if p_lost_from is null or not isfinite(p_lost_from) or p_lost_from > clock_timestamp() then
        raise exception 'lost_from must be a time that is past' using errcode = 'OB003', column = 'lost_from';
    elsif coalesce(p_reason, '') !~ '\S' then
        raise exception 'an action needs a reason' using errcode = 'OB003', column = 'reason';
    end if;
    insert into outbox.operator_actions
    values (v_action, 'FAILOVER', null, null,
            jsonb_build_object('lost_from', p_lost_from, 'environment', coalesce(p_environment, ''), 'system_identifier', v_cluster.system_identifier::text,
                               'timeline', v_cluster.timeline), p_reason, null, true, 0, outbox.members_sha256('{}'), '{}', session_user, clock_timestamp());
    return v_action;
end
$$;
