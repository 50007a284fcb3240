create or replace function outbox.hold_reason_before(p_payment outbox.payment_outbox_pending, p_rail outbox.payment_rails, p_now timestamptz) returns text
language sql stable parallel safe
as $$
-- Purpose: why a payment that is due is held instead of leased.
-- Parameters: p_now, the claim's clock.
-- Results: the reason, or null: it is sent, or inquired after (`disposition_of`).
-- Hazard: past the key window the rail may have forgotten the key, and the same key pays again. A whole lease is
--   kept free, since the claim's reply may be slow and a send begins as long as its lease lets it.
    select case
        when p_payment.late_success and p_rail.on_unknown <> 'inquire' then 'LATE_SUCCESS'
        when p_payment.hold_requested then 'REQUESTED'
        when p_payment.crash_count >= p_rail.max_crashes then 'EXHAUSTED'
        when (p_payment.in_doubt_since is not null or p_payment.late_success) and p_rail.on_unknown = 'inquire'
            then case when p_payment.inquiry_count >= p_rail.max_inquiries then 'EXHAUSTED' end
        when p_payment.is_redrive and outbox.is_accepted_elsewhere(p_payment.outbox_id) then 'LATE_SUCCESS'
        when p_payment.not_after < p_now then 'MISSED_WINDOW'
        when p_payment.send_count >= p_rail.max_sends then 'EXHAUSTED'
        when p_payment.in_doubt_since is not null and p_rail.on_unknown <> 'resend' then 'UNKNOWN'
        -- Of a payment that was ever in doubt, also if a "not found" ended the doubt: the quarantine stays noted.
        when p_payment.in_doubt_since is null and p_payment.quarantine_until is null then null
        when p_payment.first_sent_at + (p_rail.idempotency_window_ms - p_rail.lease_duration_ms) * interval '1 ms' < p_now then 'KEY_WINDOW'
    end
$$;
