create or replace function outbox.enqueue_payment_outbox(
    p_participant_id text, p_instruction_id text, p_idempotency_key text, p_rail text, p_payload bytea, p_content_type text,
    p_amount_minor bigint default null, p_currency text default null, p_not_before timestamptz default null,
    p_not_after timestamptz default null, p_ordering_key text default null, p_traceparent text default null,
    p_attestation_id uuid default null, p_hint boolean default true
) returns table (outbox_id uuid, created boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off
as $$
#variable_conflict use_column
-- Purpose: records one payment in the caller's transaction. See enqueue_payment_outbox_batch, which does it for all but the plain
--   case: a new instruction, without order and attestation. That takes one statement for each table.
-- Parameters: the payload verbatim; the amount in minor units.
-- Results: outbox_id, and whether this call created it; errors are those of the batch.
-- Locks taken: the identity, the rail's wake-up lock shared.
-- Hazards: the policy and the contract are read after the identity is had, for which the call may have waited: what is in force
--   then judges, and is recorded. Plans are made once, which is safe only as no statement here can be planned in two ways: inserts
--   of values, and look-ups by key with every other way switched off.
declare
    v_now timestamptz := clock_timestamp();
    v_id uuid := outbox.new_outbox_id();
    v_payload_sha256 bytea := sha256(p_payload);
    v_made boolean := false;
    v_amount_required boolean;
    v_require_attestation boolean;
    v_policy integer;
begin
    if p_ordering_key is null and (p_not_after is null or p_not_after > v_now)
       and outbox.is_plain_payment(p_participant_id, p_instruction_id, p_idempotency_key, p_payload, p_content_type, p_amount_minor, p_currency,
           p_not_before, p_not_after, p_ordering_key, p_traceparent, p_attestation_id, false, false) then
        insert into outbox.payment_outbox_identities (participant_id, instruction_id, generation, idempotency_key, outbox_id, identity_sha256)
        values (p_participant_id, p_instruction_id, 0, p_idempotency_key, v_id,
                outbox.payment_identity_sha256(p_rail, v_payload_sha256, p_content_type, p_amount_minor, p_currency, p_not_before, p_not_after, p_ordering_key))
            on conflict on constraint payment_outbox_identities_pkey do nothing;
        v_made := found;
    end if;
    if not v_made then
        return query select b.outbox_id, b.created
          from outbox.enqueue_payment_outbox_batch(array[p_participant_id], array[p_instruction_id], array[p_idempotency_key], array[p_rail],
                   array[p_payload], array[p_content_type], array[p_amount_minor], array[p_currency], array[p_not_before],
                   array[p_not_after], array[p_ordering_key], array[p_traceparent], array[p_attestation_id], p_hint) as b;
        return;
    end if;
    select r.amount_required, r.require_attestation, outbox.active_policy_version() into v_amount_required, v_require_attestation, v_policy
      from (values (p_rail)) as c (rail) left join outbox.payment_rails r on r.rail = c.rail;
    if (v_require_attestation or (v_amount_required and p_amount_minor is null)) is not false then
        if outbox.refuse_bad_payments(array[p_participant_id], array[p_instruction_id], array[p_idempotency_key], array[p_rail], array[p_payload],
               array[p_content_type], array[p_amount_minor], array[p_currency], array[p_not_before], array[p_not_after], array[p_ordering_key],
               array[p_traceparent], array[p_attestation_id]) then
            perform outbox.refuse_unattested_payments(array[v_id], array[v_id], array[p_participant_id], array[p_instruction_id], array[p_rail],
                array[p_payload], array[p_attestation_id]);
        end if;
    end if;
    insert into outbox.payment_outbox_instructions
    values (v_id, p_participant_id, p_instruction_id, p_rail, p_payload, p_content_type, v_payload_sha256, p_amount_minor, p_currency,
            p_attestation_id, p_not_before, p_not_after, p_ordering_key, p_traceparent, session_user, v_now, v_policy);
    insert into outbox.payment_outbox_pending (outbox_id, rail, participant_id, is_ordered, next_attempt_at, not_after, created_at)
    values (v_id, p_rail, p_participant_id, false, greatest(v_now, p_not_before), p_not_after, v_now);
    if p_hint then perform outbox.hint_outbox_lane(p_rail); end if;
    outbox_id := v_id;
    created := true;
    return next;
end
$$;
