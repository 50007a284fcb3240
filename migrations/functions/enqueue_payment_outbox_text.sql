create or replace function outbox.enqueue_payment_outbox_text(
    p_participant_id text, p_instruction_id text, p_idempotency_key text, p_rail text, p_payload text, p_content_type text,
    p_amount_minor bigint default null, p_currency text default null, p_not_before timestamptz default null,
    p_not_after timestamptz default null, p_ordering_key text default null, p_traceparent text default null,
    p_attestation_id uuid default null, p_hint boolean default true
) returns table (outbox_id uuid, created boolean)
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: enqueue_payment_outbox for callers that hold the payload as text, such as psql.
-- Parameters: the payload is sent as its UTF-8 bytes.
-- Results: outbox_id, and whether this call created it.
    select b.outbox_id, b.created
      from outbox.enqueue_payment_outbox(p_participant_id, p_instruction_id, p_idempotency_key, p_rail, convert_to(p_payload, 'UTF8'),
               p_content_type, p_amount_minor, p_currency, p_not_before, p_not_after, p_ordering_key, p_traceparent,
               p_attestation_id, p_hint) as b
$$;
