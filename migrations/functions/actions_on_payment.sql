create or replace function outbox.actions_on_payment(p_outbox_id uuid, p_participant_id text, p_instruction_id text) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: what people did to a payment, or want to: each action that names it, with the second person's word and what came of it, oldest
--   first; and the redrive of an earlier generation of the instruction that made it. Internal to read_payment_timelines.
    select coalesce(jsonb_agg(jsonb_build_object(
               'action_id', o.action_id, 'kind', o.kind, 'reason', o.reason, 'evidence', o.evidence, 'needs_approval', o.needs_approval,
               'proposed_by', o.proposed_by, 'proposed_at', o.proposed_at, 'decision', d.decision, 'decision_reason', d.reason,
               'decided_by', d.decided_by, 'decided_at', d.decided_at, 'result', s.result, 'detail', s.detail, 'new_outbox_id', s.new_outbox_id,
               'applied_by', s.applied_by, 'applied_at', s.applied_at) order by o.proposed_at, o.action_id), '[]')
      from outbox.operator_action_members m
      join outbox.operator_actions o on o.action_id = m.action_id
      left join outbox.operator_action_decisions d on d.action_id = m.action_id
      left join outbox.operator_action_results s on s.action_id = m.action_id and s.outbox_id = m.outbox_id
     where m.outbox_id = any (array(select n.outbox_id from outbox.payment_outbox_identities n
                                     where n.participant_id = p_participant_id and n.instruction_id = p_instruction_id))
       and (m.outbox_id = p_outbox_id or s.new_outbox_id = p_outbox_id)
$$;
