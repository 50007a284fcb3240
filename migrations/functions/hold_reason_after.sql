create or replace function outbox.hold_reason_after(
    p_outcome text, p_on_unknown text, p_in_doubt boolean, p_send_count integer, p_max_sends integer, p_inquiry_count integer,
    p_max_inquiries integer, p_late_success boolean, p_hold_requested boolean, p_not_found_too_late boolean
) returns text
language sql immutable parallel safe
as $$
-- Purpose: why a payment waits for a person after an attempt that is not terminal. The same table as
--   `after_attempt` of the core; a test compares the two on every combination.
-- Parameters: p_in_doubt and the counts as they are after the attempt; p_not_found_too_late, a final "not found" that would have
--   counted inside the key window.
-- Results: the reason, or null: it is sent again, or inquired after. A limit ends in a hold, never in FAILED.
    select case
        when p_outcome = 'KEY_REUSED' then 'CONTRADICTION'
        when p_outcome in ('REFUSED', 'NOT_FOUND') and p_late_success then 'CONTRADICTION'
        when p_late_success and p_on_unknown <> 'inquire' then 'LATE_SUCCESS'
        when p_hold_requested then 'REQUESTED'
        when p_in_doubt and p_on_unknown = 'hold' then 'UNKNOWN'
        when p_not_found_too_late then 'KEY_WINDOW'
        when (p_in_doubt or p_late_success) and p_on_unknown = 'inquire'
            then case when p_inquiry_count >= p_max_inquiries then 'EXHAUSTED' end
        when p_outcome <> 'RELEASED' and p_send_count >= p_max_sends then 'EXHAUSTED'
    end
$$;
