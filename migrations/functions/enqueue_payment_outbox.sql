create or replace function outbox.enqueue_payment_outbox(
    p_participant_id text, p_instruction_id text, p_idempotency_key text, p_rail text, p_payload bytea, p_content_type text,
    p_amount_minor bigint default null, p_currency text default null, p_not_before timestamptz default null,
    p_not_after timestamptz default null, p_ordering_key text default null, p_traceparent text default null,
    p_attestation_id uuid default null, p_hint boolean default true
) returns table (outbox_id uuid, created boolean)
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: records one payment in the caller's transaction. See enqueue_payment_outbox_batch.
-- Parameters: the payload verbatim; the amount in minor units.
-- Results: outbox_id, and whether this call created it.
    select b.outbox_id, b.created
      from outbox.enqueue_payment_outbox_batch(array[p_participant_id], array[p_instruction_id], array[p_idempotency_key], array[p_rail],
               array[p_payload], array[p_content_type], array[p_amount_minor], array[p_currency], array[p_not_before],
               array[p_not_after], array[p_ordering_key], array[p_traceparent], array[p_attestation_id], p_hint) as b
$$;
