create or replace function outbox.record_operator_attempt(p_action outbox.operator_actions, v outbox.payment_outbox_pending, p_state text, p_now timestamptz)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the ledger's row of what a person decided about a payment: an attempt of kind OPERATOR, whose token is the
--   action, and the reference the evidence, or what the rail's statement that the action names says of each. Internal to apply_to_payment.
    insert into outbox.payment_outbox_attempts
        (outbox_id, attempt_no, rail, kind, state, worker_id, lease_token, claimed_at, completed_at, rail_reference, error_class, error_detail, policy_version)
    values (v.outbox_id, v.attempt_count + 1, v.rail, 'OPERATOR', p_state, session_user, p_action.action_id, p_now, p_now,
        case when p_state = 'DISPATCHED' and p_action.parameters ? 'statement_id' then coalesce(
                 (outbox.open_paid_break((p_action.parameters ->> 'statement_id')::uuid, v.outbox_id)).rail_reference, p_action.evidence)
             when p_state = 'DISPATCHED' then p_action.evidence end, lower(p_action.kind), left(concat_ws(': ', p_action.evidence, p_action.reason), 500),
        outbox.active_policy_version())
$$;
