create or replace function outbox.enqueue_payment_outbox_batch(
    p_participant_ids text[], p_instruction_ids text[], p_idempotency_keys text[], p_rails text[], p_payloads bytea[],
    p_content_types text[], p_amounts_minor bigint[], p_currencies text[], p_not_befores timestamptz[],
    p_not_afters timestamptz[], p_ordering_keys text[], p_traceparents text[], p_attestation_ids uuid[],
    p_hint boolean default true
) returns table (ordinal integer, outbox_id uuid, created boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
-- Purpose: records payments in the caller's transaction: identity, instruction and pending row.
-- Parameters: arrays of one length; amounts in minor units; p_hint = false for two-phase commit, where NOTIFY is not allowed.
-- Results: for each payment its outbox_id, and whether this call created it. The same participant, instruction, key and request
--   returns the first row. OB001: the instruction with another request, OB002: with another key. OB003, OB004: a bad value. OB021, OB022:
--   see refuse_unattested_payments. One bad payment refuses the whole batch.
-- Locks taken: ordering keys and identities, each in order (two batches cannot deadlock), wake-up locks shared.
-- Hazard: "look first, then insert" pays twice under concurrency. The identity's primary key decides: a conflict is an answer in
--   the next statement, or 40001 above read committed. Look-ups are lateral with a limit: the plan goes by the key, whatever the size.
declare
    v_now timestamptz := clock_timestamp();
    v_size integer := cardinality(p_participant_ids);
    v_policy integer := outbox.active_policy_version();
    v_attested boolean; v_other record; v_ids uuid[]; v_outbox_ids uuid[]; v_digests bytea[]; v_differs bigint[];
begin
    if (select bool_or(l.size is distinct from v_size) from (values
            (cardinality(p_instruction_ids)), (cardinality(p_idempotency_keys)), (cardinality(p_rails)), (cardinality(p_payloads)),
            (cardinality(p_content_types)), (cardinality(p_amounts_minor)), (cardinality(p_currencies)),
            (cardinality(p_not_befores)), (cardinality(p_not_afters)), (cardinality(p_ordering_keys)),
            (cardinality(p_traceparents)), (cardinality(p_attestation_ids))) as l (size)) or v_size is null then
        raise exception 'the arrays of a batch must have one length, that of p_participant_ids' using errcode = 'OB003';
    end if;
    v_attested := outbox.refuse_bad_payments(p_participant_ids, p_instruction_ids, p_idempotency_keys, p_rails, p_payloads, p_content_types,
        p_amounts_minor, p_currencies, p_not_befores, p_not_afters, p_ordering_keys, p_traceparents, p_attestation_ids);

    if cardinality(array_remove(p_ordering_keys, null)) > 0 then
        perform outbox.lock_ordering_keys(p_rails, p_ordering_keys);
    end if;

    select array_agg(outbox.new_outbox_id()), array_agg(outbox.payment_identity_sha256(c.rail, c.payload, c.content_type,
               c.amount_minor, c.currency, c.not_before, c.not_after, c.ordering_key))
      into v_ids, v_digests
      from unnest(p_rails, p_payloads, p_content_types, p_amounts_minor, p_currencies, p_not_befores, p_not_afters, p_ordering_keys)
           as c (rail, payload, content_type, amount_minor, currency, not_before, not_after, ordering_key);

    insert into outbox.payment_outbox_identities
        (participant_id, instruction_id, generation, idempotency_key, outbox_id, identity_sha256)
    select c.participant_id, c.instruction_id, 0, c.idempotency_key, c.outbox_id, c.digest
      from unnest(p_participant_ids, p_instruction_ids, p_idempotency_keys, v_ids, v_digests) with ordinality
           as c (participant_id, instruction_id, idempotency_key, outbox_id, digest, ordinal)
     order by c.participant_id, c.instruction_id, c.ordinal
        on conflict on constraint payment_outbox_identities_pkey do nothing;

    -- A new statement: it sees what a concurrent caller committed while the insert waited for it.
    select array_agg(i.outbox_id order by c.ordinal),
           array_agg(c.ordinal order by c.ordinal) filter (where i.idempotency_key <> c.idempotency_key or i.identity_sha256 <> c.digest)
      into v_outbox_ids, v_differs
      from unnest(p_participant_ids, p_instruction_ids, p_idempotency_keys, v_digests) with ordinality
           as c (participant_id, instruction_id, idempotency_key, digest, ordinal)
     cross join lateral (select n.outbox_id, n.idempotency_key, n.identity_sha256 from outbox.payment_outbox_identities n
                          where n.participant_id = c.participant_id and n.instruction_id = c.instruction_id and n.generation = 0 limit 1) as i;
    if v_differs is not null then
        select v_differs[1] as ordinal, n.instruction_id, n.outbox_id, n.idempotency_key <> p_idempotency_keys[v_differs[1]] as other_key into v_other
          from outbox.payment_outbox_identities n
         where n.participant_id = p_participant_ids[v_differs[1]] and n.instruction_id = p_instruction_ids[v_differs[1]] and n.generation = 0;
        raise exception 'payment % of the batch: instruction % is already recorded as % %', v_other.ordinal,
            quote_literal(v_other.instruction_id), v_other.outbox_id,
            case when v_other.other_key then 'under another idempotency key' else 'with another request' end
            using errcode = case when v_other.other_key then 'OB002' else 'OB001' end,
                  column = case when v_other.other_key then 'idempotency_key' else 'instruction_id' end,
                  hint = 'the same instruction is never paid twice; a new payment needs a new instruction_id';
    end if;

    -- Only of new payments: repeating an enqueue is always safe, also after not_after.
    select c.ordinal into v_other from unnest(v_ids, v_outbox_ids, p_not_afters) with ordinality as c (outbox_id, first_id, not_after, ordinal)
     where c.outbox_id = c.first_id and c.not_after <= v_now limit 1;
    if found then
        raise exception 'payment % of the batch: not_after is already past', v_other.ordinal using errcode = 'OB003', column = 'not_after';
    end if;

    -- A policy was put in force while this call waited: it is that which judges, and which is recorded.
    if v_policy is distinct from outbox.active_policy_version() then
        v_policy := outbox.active_policy_version();
        v_attested := outbox.refuse_bad_payments(p_participant_ids, p_instruction_ids, p_idempotency_keys, p_rails, p_payloads, p_content_types,
            p_amounts_minor, p_currencies, p_not_befores, p_not_afters, p_ordering_keys, p_traceparents, p_attestation_ids);
    end if;
    if v_attested then
        perform outbox.refuse_unattested_payments(v_ids, v_outbox_ids, p_participant_ids, p_instruction_ids, p_rails, p_payloads, p_attestation_ids);
    end if;
    insert into outbox.payment_outbox_instructions
    select c.outbox_id, c.participant_id, c.instruction_id, c.rail, c.payload, c.content_type, sha256(c.payload), c.amount_minor, c.currency,
           c.attestation_id, c.not_before, c.not_after, c.ordering_key, c.traceparent, session_user, v_now, v_policy
      from unnest(v_ids, v_outbox_ids, p_participant_ids, p_instruction_ids, p_rails, p_payloads, p_content_types, p_amounts_minor,
                  p_currencies, p_attestation_ids, p_not_befores, p_not_afters, p_ordering_keys, p_traceparents)
           as c (outbox_id, first_id, participant_id, instruction_id, rail, payload, content_type, amount_minor,
                 currency, attestation_id, not_before, not_after, ordering_key, traceparent)
     where c.outbox_id = c.first_id;
    insert into outbox.payment_outbox_pending (outbox_id, rail, participant_id, is_ordered, next_attempt_at, not_after, created_at)
    select c.outbox_id, c.rail, c.participant_id, c.ordering_key is not null, greatest(v_now, c.not_before), c.not_after, v_now
      from unnest(v_ids, v_outbox_ids, p_rails, p_participant_ids, p_ordering_keys, p_not_befores, p_not_afters)
           as c (outbox_id, first_id, rail, participant_id, ordering_key, not_before, not_after)
     where c.outbox_id = c.first_id;
    if cardinality(array_remove(p_ordering_keys, null)) > 0 then
        perform outbox.enqueue_in_order(array(select case when c.id = c.first_id then c.id end from unnest(v_ids, v_outbox_ids) as c (id, first_id)),
            p_rails, p_ordering_keys);
    end if;

    if p_hint then perform outbox.hint_outbox_lanes(p_rails); end if;
    return query select c.ordinal::integer, c.first_id, c.outbox_id = c.first_id
      from unnest(v_ids, v_outbox_ids) with ordinality as c (outbox_id, first_id, ordinal);
end
$$;
