create or replace function outbox.fault_of_action(p_action outbox.operator_actions, v outbox.payment_outbox_pending, p_now timestamptz) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: why an action cannot be applied to a payment as it stands, in words for people; null if it can. Internal
--   to apply_to_payment.
-- Hazard: "failed" and "send again" inside the quarantine may be overtaken by a send that is still on its way.
    select case
        when p_action.kind = 'HOLD' then case when v.disposition = 'HELD' then 'it is held already: ' || v.hold_reason end
        when v.lease_token is not null then 'an attempt is under way: hold it first'
        when p_action.kind = 'CANCEL' then
            case when v.first_sent_at is not null or v.in_doubt_since is not null or v.late_success then 'it may have been sent' end
        when p_action.kind = 'RETRY_NOW' then
            case when v.disposition not in ('READY', 'IN_DOUBT') then 'it is ' || lower(v.disposition)
                 when v.next_attempt_at <= p_now then 'it is due already'
                 when (select i.not_before from outbox.payment_outbox_instructions i where i.outbox_id = v.outbox_id) > p_now then 'its not_before is not reached' end
        when p_action.kind = 'RESOLVE_DISPATCHED' then
            case when v.disposition not in ('HELD', 'IN_DOUBT') then 'it is neither held nor in doubt' end
        when p_action.kind = 'RESOLVE_FAILED' and v.disposition not in ('HELD', 'IN_DOUBT') then 'it is neither held nor in doubt'
        when p_action.kind <> 'RESOLVE_FAILED' and v.disposition <> 'HELD' then 'it is not held'
        when v.late_success then 'the rail said to a worker that it had accepted it: resolve it as dispatched, or ask the rail'
        when p_action.kind = 'RELEASE' and (v.first_sent_at is not null or v.in_doubt_since is not null)
            then 'it was sent: that takes RELEASE_AS_RESEND, with evidence that it was not executed'
        when v.quarantine_until > p_now then 'what was sent may still be under way until ' || to_char(v.quarantine_until at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
        when p_action.kind <> 'RESOLVE_FAILED'
             and case when p_action.parameters ? 'not_after' then (p_action.parameters ->> 'not_after')::timestamptz else v.not_after end < p_now
            then 'its not_after is past: give another'
    end
$$;
