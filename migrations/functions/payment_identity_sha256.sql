create or replace function outbox.payment_identity_sha256(
    p_rail text, p_payload_sha256 bytea, p_content_type text, p_amount_minor bigint, p_currency text,
    p_not_before timestamptz, p_not_after timestamptz, p_ordering_key text
) returns bytea
language sql stable parallel safe
as $$
-- Purpose: what makes two requests to pay the same request. Never traceparent, attestation, who or
--   when: a repeated enqueue brings new ones.
-- Results: SHA-256 over each value with its length in front, so that no two lists of values give the
--   same bytes; a null has length -1. Times enter as microseconds, the payload as its own SHA-256,
--   which callers have or need besides.
-- Hazard: one expression without a table, so that the planner puts it into the caller's statement; as a statement of its own it was
--   begun and ended once a payment.
    select sha256(
        coalesce(int4send(octet_length(convert_to(p_rail, 'UTF8'))) || convert_to(p_rail, 'UTF8'), int4send(-1))
        || coalesce(int4send(32) || p_payload_sha256, int4send(-1))
        || coalesce(int4send(octet_length(convert_to(p_content_type, 'UTF8'))) || convert_to(p_content_type, 'UTF8'), int4send(-1))
        || coalesce(int4send(8) || int8send(p_amount_minor), int4send(-1))
        || coalesce(int4send(octet_length(convert_to(p_currency, 'UTF8'))) || convert_to(p_currency, 'UTF8'), int4send(-1))
        || coalesce(int4send(8) || int8send((extract(epoch from p_not_before) * 1000000)::bigint), int4send(-1))
        || coalesce(int4send(8) || int8send((extract(epoch from p_not_after) * 1000000)::bigint), int4send(-1))
        || coalesce(int4send(octet_length(convert_to(p_ordering_key, 'UTF8'))) || convert_to(p_ordering_key, 'UTF8'), int4send(-1)))
$$;
