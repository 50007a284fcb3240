create or replace function outbox.is_plain_payment(
    p_participant_id text, p_instruction_id text, p_idempotency_key text, p_payload bytea, p_content_type text, p_amount_minor bigint,
    p_currency text, p_not_before timestamptz, p_not_after timestamptz, p_ordering_key text, p_traceparent text, p_attestation_id uuid,
    p_amount_required boolean, p_require_attestation boolean
) returns boolean
language sql immutable parallel safe
as $$
-- Purpose: whether a payment certainly has no bad value and no attestation to be looked at, told cheaply. Internal to
--   enqueue; of every other refuse_bad_payments says what is bad, if anything is.
-- Parameters: p_amount_required and p_require_attestation, of the rail's contract; null: there is no such rail.
-- Hazards: it must never say yes to what refuse_bad_payments refuses. It need not say yes to all else. A regular expression costs
--   a twentieth of what recording a payment of a batch costs: the commonest types are told without.
    select coalesce(not p_require_attestation and p_attestation_id is null
        and length(p_participant_id) between 1 and 200 and length(p_instruction_id) between 1 and 200 and length(p_idempotency_key) between 1 and 200
        and octet_length(p_payload) <= 1048576 and (p_content_type in ('application/json', 'application/xml') or p_content_type ~ '^[a-z]{1,30}/[-+.a-z0-9]{1,90}$')
        and case when p_amount_minor is null then p_currency is null and not p_amount_required else p_amount_minor > 0 and p_currency ~ '^[A-Z]{3}$' end
        and (p_not_before is null or isfinite(p_not_before))
        and (p_not_after is null or (isfinite(p_not_after) and (p_not_before is null or p_not_after > p_not_before)))
        and (p_ordering_key is null or length(p_ordering_key) between 1 and 200)
        and (p_traceparent is null or p_traceparent ~ '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'), false)
$$;
