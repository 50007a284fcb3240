create or replace function outbox.refuse_untimely_action(p_action outbox.operator_actions) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: refuses to carry out what was decided without knowing what a failover lost. Internal to apply_operator_action.
-- Results: nothing, or raises OB011: this is another cluster or timeline than on record, and nobody has said what it lacks; or a failover was
--   acknowledged after the action was proposed.
-- Hazards: on a promoted standby a payment that was dispatched can be "certainly never sent", and a redrive that was applied and sent can be
--   waiting to be applied. A hold cannot pay, and is never refused. A disk snapshot that was put back cannot be told here: only
--   dispatchers remember more.
declare
    v_known outbox.outbox_cluster;
begin
    select * into v_known from outbox.outbox_cluster c order by c.epoch_no desc limit 1;
    if not found or p_action.kind = 'HOLD' then
        return;
    end if;
    -- As a dispatcher of this database that has seen nothing: only another cluster is refused.
    perform outbox.refuse_other_epoch(v_known.environment, 0, 0, null, 0);
    if v_known.action_id is not null and p_action.proposed_at < v_known.recorded_at then
        raise exception 'action % was proposed before the failover that was acknowledged at %: it may have been carried out already, and is not known here',
            p_action.action_id, v_known.recorded_at using errcode = 'OB011', hint = 'look for the instruction in the rail''s books, also under a key that is not known here, and propose it again';
    end if;
end
$$;
