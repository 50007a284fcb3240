create or replace function outbox.attempt_state_after(p_outcome text, p_late_success boolean, p_not_found_counts boolean, p_refusal_counts boolean) returns text
language sql immutable parallel safe
as $$
-- Purpose: the state an attempt is recorded in. The same table as `attempt_state` of the core; a test
--   compares the two.
-- Parameters: p_not_found_counts, the rail's "not found" is a promise, the quarantine is over and the key
--   window is not; p_refusal_counts, a refusal is about the payment, not only about this send of it.
-- Results: the state, or null for an outcome that is not known.
    select case
        when p_outcome = 'ACCEPTED' then 'DISPATCHED'
        -- A refusal after a success was seen does not end the payment: no terminal attempt. Nor does one beside a doubt that it says nothing of.
        when p_outcome = 'REFUSED' then case when p_refusal_counts and not p_late_success then 'FAILED' else 'IN_DOUBT' end
        when p_outcome = 'NOT_FOUND' then case when p_not_found_counts and not p_late_success then 'RETRYABLE' else 'IN_DOUBT' end
        when p_outcome in ('NOT_SENT', 'NOT_EXECUTED', 'THROTTLED', 'RAIL_REFUSED_US') then 'RETRYABLE'
        when p_outcome in ('INTERIM', 'UNKNOWN', 'KEY_REUSED', 'INCONCLUSIVE') then 'IN_DOUBT'
        when p_outcome = 'RELEASED' then 'RELEASED'
    end
$$;
