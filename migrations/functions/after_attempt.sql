create or replace function outbox.after_attempt(
    p_payment outbox.payment_outbox_pending, p_rail outbox.payment_rails, p_outcome text, p_delay interval, p_now timestamptz
) returns table (
    kind text, state text, hold_reason text, disposition text, in_doubt boolean, send_count integer, inquiry_count integer,
    next_attempt_at timestamptz, first_sent_at timestamptz, quarantine_until timestamptz)
language sql stable parallel safe
as $$
-- Purpose: what becomes of a leased payment whose attempt ended in p_outcome. The same table as `after_attempt` of
--   the core; a test compares the two on every combination. Internal to complete.
-- Parameters: p_delay, the wait before another attempt, if there is one; p_now, the clock after the row's lock.
-- Results: one row. An inquiry that taught nothing leaves the doubt, and counts if it was answered; only a "not found" that the contract makes final,
--   after the quarantine, ends it. No limit makes a doubt FAILED. A refusal of a send ends an earlier doubt only under contract resend: the rail
--   executes a key once and answers it with its first result. Under another contract it says nothing of the earlier send.
-- Hazards: a "not found" that was asked for before the quarantine was over may be overtaken by a send that is still on
--   its way, however late it is recorded: what counts is the time of the claim. Past the key window a rail may have forgotten key and payment
--   alike: its "not found" proves nothing.
    select k.kind, s.state,
           outbox.hold_reason_after(e.outcome, p_rail.on_unknown, d.in_doubt, c.send_count, p_rail.max_sends, c.inquiry_count, p_rail.max_inquiries,
                                    p_payment.late_success, p_payment.hold_requested,
                                    e.outcome = 'NOT_FOUND' and f.is_final and not f.in_key_window),
           outbox.disposition_of(p_rail.on_unknown, d.in_doubt or p_payment.late_success), d.in_doubt, c.send_count,
           case when d.in_doubt then c.inquiry_count else 0 end,
           case when e.outcome = 'RELEASED' then p_payment.next_attempt_at
                when e.outcome = 'NOT_FOUND' and p_rail.not_found_is_final and d.in_doubt then greatest(p_now + p_delay, p_payment.quarantine_until)
                else p_now + p_delay end,
           case when k.kind = 'SUBMIT' and e.outcome in ('NOT_SENT', 'RELEASED') then nullif(p_payment.first_sent_at, p_payment.claimed_at)
                else p_payment.first_sent_at end,
           case when k.kind = 'SUBMIT' and s.state = 'IN_DOUBT'
                then greatest(p_payment.quarantine_until, p_now + (p_rail.rail_timeout_ms + p_rail.processing_bound_ms) * interval '1 ms')
                else p_payment.quarantine_until end
      from (select outbox.attempt_kind_of(p_payment.disposition) as kind) as k
     -- What an attempt of this kind cannot end in proves nothing.
     cross join lateral (select case when k.kind = 'SUBMIT' and p_outcome in ('NOT_FOUND', 'INCONCLUSIVE') or k.kind = 'INQUIRE' and p_outcome in ('NOT_EXECUTED', 'KEY_REUSED')
                                then 'UNKNOWN' else p_outcome end as outcome) as e
     cross join lateral (select k.kind = 'INQUIRE' and p_rail.not_found_is_final
                                    and coalesce(p_payment.quarantine_until <= p_payment.claimed_at, p_payment.quarantine_until is null) as is_final,
                                coalesce(p_payment.claimed_at < p_payment.first_sent_at + p_rail.idempotency_window_ms * interval '1 ms', true) as in_key_window,
                                k.kind = 'INQUIRE' or p_rail.on_unknown = 'resend' or p_payment.in_doubt_since is null as refusal_counts) as f
     cross join lateral (select outbox.attempt_state_after(e.outcome, p_payment.late_success, f.is_final and f.in_key_window, f.refusal_counts) as state) as s
     cross join lateral (select (p_payment.in_doubt_since is not null or k.kind = 'INQUIRE' or s.state = 'IN_DOUBT')
                                and not (e.outcome = 'NOT_FOUND' and s.state = 'RETRYABLE') as in_doubt) as d
     cross join lateral (select p_payment.send_count + (k.kind = 'SUBMIT' and e.outcome in ('NOT_EXECUTED', 'INTERIM', 'UNKNOWN'))::integer
                                    as send_count,
                                p_payment.inquiry_count + (k.kind = 'INQUIRE' and (e.outcome in ('INTERIM', 'INCONCLUSIVE')
                                    or e.outcome = 'NOT_FOUND' and not p_rail.not_found_is_final))::integer as inquiry_count) as c
$$;
