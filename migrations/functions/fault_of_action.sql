create or replace function outbox.fault_of_action(p_action outbox.operator_actions, p_attempts_then integer, v outbox.payment_outbox_pending,
    p_now timestamptz) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: why an action cannot be applied to a payment as it stands, in words for people; null if it can. Internal
--   to apply_to_payment.
-- Parameters: p_attempts_then, how many attempts had ended when the action was proposed: evidence of then says nothing of what was sent since.
-- Hazard: "failed" and "send again" by evidence from inside the quarantine may be overtaken by a send that was still on its way when the
--   evidence was given. What counts is the time of the proposal, however late it is applied.
    select case
        when p_action.kind = 'HOLD' then case when v.disposition = 'HELD' then 'it is held already: ' || v.hold_reason end
        when v.lease_token is not null then 'an attempt is under way: hold it first'
        when p_action.kind = 'CANCEL' then
            case when v.first_sent_at is not null or v.in_doubt_since is not null or v.late_success or v.possible_duplicate then 'it may have been sent' end
        when p_action.kind = 'RETRY_NOW' then
            case when v.disposition not in ('READY', 'IN_DOUBT') then 'it is ' || lower(v.disposition)
                 when v.next_attempt_at <= p_now then 'it is due already'
                 when (select i.not_before from outbox.payment_outbox_instructions i where i.outbox_id = v.outbox_id) > p_now then 'its not_before is not reached' end
        when v.attempt_count <> p_attempts_then then 'it was tried since this was proposed: look at it, and propose it again'
        when p_action.kind = 'RESOLVE_DISPATCHED' then
            case when v.disposition not in ('HELD', 'IN_DOUBT') then 'it is neither held nor in doubt'
                 when p_action.parameters ? 'statement_id' then
                     case when (outbox.open_paid_break((p_action.parameters ->> 'statement_id')::uuid, v.outbox_id)).break_id is null
                          then 'no open break of the statement says that it was paid' end
                 when v.attempt_count = 0 and v.in_doubt_since is null then 'it was never sent' end
        when p_action.kind = 'RESOLVE_FAILED' and v.disposition not in ('HELD', 'IN_DOUBT') then 'it is neither held nor in doubt'
        when p_action.kind <> 'RESOLVE_FAILED' and v.disposition <> 'HELD' then 'it is not held'
        when v.late_success then 'the rail said to a worker that it had accepted it: resolve it as dispatched, or ask the rail'
        when outbox.is_paid_by_statement(v.outbox_id) then 'a statement of the rail says that it was paid: resolve it as dispatched, or void the statement'
        when v.is_redrive and p_action.kind <> 'RESOLVE_FAILED' and outbox.is_accepted_elsewhere(v.outbox_id)
            then 'the rail accepted another payment of its instruction: cancel it if it was never sent, or resolve it'
        when p_action.kind = 'RELEASE' and v.in_doubt_since is not null and (select r.on_unknown from outbox.payment_rails r where r.rail = v.rail) = 'inquire'
            then case when v.endpoint is null and (select r.fallback from outbox.payment_rails r where r.rail = v.rail)
                      then 'nobody knows at which endpoint to ask after it: resolve it by evidence' end
        when p_action.kind = 'RELEASE' and (v.first_sent_at is not null or v.in_doubt_since is not null)
            then 'it was sent: that takes RELEASE_AS_RESEND, with evidence that it was not executed'
        when v.quarantine_until > p_action.proposed_at then outbox.evidence_too_early(v.quarantine_until)
        when p_action.kind <> 'RESOLVE_FAILED'
             and case when p_action.parameters ? 'not_after' then (p_action.parameters ->> 'not_after')::timestamptz else v.not_after end < p_now
            then 'its not_after is past: give another'
    end
$$;
