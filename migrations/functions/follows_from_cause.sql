create or replace function outbox.follows_from_cause(a outbox.payment_outbox_attempts) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: whether an attempt is in a state that its outcome leads to, or a person's action that was applied to this payment. Internal
--   to audit_payments.
-- Hazard: what a kind of attempt cannot end in is recorded as it was reported, and counts as unknown (after_attempt).
    select case
        when a.kind = 'OPERATOR' then a.outcome is null and exists (
            select from outbox.operator_actions c
              join outbox.operator_action_members m on m.action_id = c.action_id and m.outbox_id = a.outbox_id
              join outbox.operator_action_results r on r.action_id = c.action_id and r.outbox_id = a.outbox_id and r.result = 'APPLIED'
             where c.action_id = a.lease_token
               and a.state = case c.kind when 'CANCEL' then 'CANCELLED' when 'RELEASE_AS_RESEND' then 'RETRYABLE'
                                         when 'RESOLVE_DISPATCHED' then 'DISPATCHED' when 'RESOLVE_FAILED' then 'FAILED' end)
        when a.state = 'LEASE_EXPIRED' then a.outcome is null
        else coalesce((select a.state in (outbox.attempt_state_after(e.outcome, false, false, true), outbox.attempt_state_after(e.outcome, false, true, true),
                                          outbox.attempt_state_after(e.outcome, true, false, false))
                         from (select case when a.kind = 'SUBMIT' and a.outcome in ('NOT_FOUND', 'INCONCLUSIVE')
                                             or a.kind = 'INQUIRE' and a.outcome in ('NOT_EXECUTED', 'KEY_REUSED')
                                           then 'UNKNOWN' else a.outcome end as outcome) as e), false)
    end
$$;
