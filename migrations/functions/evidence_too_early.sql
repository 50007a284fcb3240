create or replace function outbox.evidence_too_early(p_doubt_until timestamptz) returns text
language sql stable
as $$
-- Purpose: in words for people, why evidence does not count that was given while a send may have been under way. Internal to
--   fault_of_action and redrive_payment.
-- Parameters: p_doubt_until, when it was certainly over.
    select 'what was sent may still be under way until ' || to_char(p_doubt_until at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
           || ', and this was proposed before: look at it then, and propose it again'
$$;
