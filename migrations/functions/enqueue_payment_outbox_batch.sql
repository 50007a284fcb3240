create or replace function outbox.enqueue_payment_outbox_batch(
    p_participant_ids text[], p_instruction_ids text[], p_idempotency_keys text[], p_rails text[], p_payloads bytea[],
    p_content_types text[], p_amounts_minor bigint[], p_currencies text[], p_not_befores timestamptz[],
    p_not_afters timestamptz[], p_ordering_keys text[], p_traceparents text[], p_attestation_ids uuid[],
    p_hint boolean default true
) returns table (ordinal integer, outbox_id uuid, created boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
-- Purpose: records payments in the caller's transaction: identity, instruction and pending row.
-- Parameters: lists of one length; amounts in minor units; p_hint = false for two-phase commit, where NOTIFY is not allowed.
-- Results: for each payment its outbox_id, and whether this call created it. The same participant, instruction, key and request
--   returns the first row. OB001: the instruction with another request, OB002: with another key. OB003, OB004: a bad value. OB021, OB022:
--   see refuse_unattested_payments. One bad payment refuses the whole batch.
-- Locks taken: ordering keys and identities, each in order (two batches cannot deadlock), wake-up locks shared.
-- Hazards: "look first, then insert" pays twice under concurrency. The identity's primary key decides: a conflict is an answer in
--   the next statement, or 40001 above read committed. Plans are kept, which is safe only as no statement here can be planned in two
--   ways: inserts of values, and a look-up by key, lateral with a limit, with every other way switched off. And a plan made anew
--   would hold flat copies of the arrays, in each of which a value is found by going through those before it.
declare
    v_now timestamptz := clock_timestamp();
    v_size integer := cardinality(p_participant_ids);
    v_policy integer := outbox.active_policy_version();
    v_tick bigint; v_ids uuid[]; v_outbox_ids uuid[]; v_payload_digests bytea[]; v_digests bytea[]; v_new bigint; v_differs bigint[];
    v_attested boolean; v_other record;
begin
    -- A value is taken by its place: in a list that begins elsewhere it would be that of another payment.
    if num_nulls(p_participant_ids, p_instruction_ids, p_idempotency_keys, p_rails, p_payloads, p_content_types, p_amounts_minor, p_currencies,
                 p_not_befores, p_not_afters, p_ordering_keys, p_traceparents, p_attestation_ids) > 0
       or (select bool_or(l.dims is distinct from case when v_size > 0 then format('[1:%s]', v_size) end)
             from unnest(array[array_dims(p_participant_ids), array_dims(p_instruction_ids), array_dims(p_idempotency_keys), array_dims(p_rails),
                      array_dims(p_payloads), array_dims(p_content_types), array_dims(p_amounts_minor), array_dims(p_currencies), array_dims(p_not_befores),
                      array_dims(p_not_afters), array_dims(p_ordering_keys), array_dims(p_traceparents), array_dims(p_attestation_ids)]) as l (dims)) then
        raise exception 'the arrays of a batch must be lists of one length, that of p_participant_ids, and begin at 1' using errcode = 'OB003';
    end if;
    v_attested := outbox.refuse_bad_payments(p_participant_ids, p_instruction_ids, p_idempotency_keys, p_rails, p_payloads, p_content_types,
        p_amounts_minor, p_currencies, p_not_befores, p_not_afters, p_ordering_keys, p_traceparents, p_attestation_ids);
    if cardinality(array_remove(p_ordering_keys, null)) > 0 then
        perform outbox.lock_ordering_keys(p_rails, p_ordering_keys);
    end if;

    -- One reading of the clock: a payment takes longer than a tick, so no id is ahead of the time at which it is recorded.
    v_tick := floor(extract(epoch from clock_timestamp()) * 4096000);
    select array_agg(outbox.outbox_id_at(v_tick + n.place)), array_agg(n.payload_sha256),
           array_agg(outbox.payment_identity_sha256(p_rails[n.place], n.payload_sha256, p_content_types[n.place], p_amounts_minor[n.place],
               p_currencies[n.place], p_not_befores[n.place], p_not_afters[n.place], p_ordering_keys[n.place]))
      into v_ids, v_payload_digests, v_digests
      from (select g.place, sha256(p_payloads[g.place]) as payload_sha256 from generate_series(1, v_size) as g (place) offset 0) as n;

    insert into outbox.payment_outbox_identities
        (participant_id, instruction_id, generation, idempotency_key, outbox_id, identity_sha256)
    select c.participant_id, c.instruction_id, 0, p_idempotency_keys[c.place], v_ids[c.place], v_digests[c.place]
      from unnest(p_participant_ids, p_instruction_ids) with ordinality as c (participant_id, instruction_id, place)
     order by c.participant_id, c.instruction_id, c.place
        on conflict on constraint payment_outbox_identities_pkey do nothing;
    get diagnostics v_new = row_count;
    v_outbox_ids := v_ids;
    if v_new < v_size then
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
    end if;

    -- Only of new payments: repeating an enqueue is always safe, also after not_after.
    select n.place into v_other from generate_series(1, v_size) as n (place)
     where v_ids[n.place] = v_outbox_ids[n.place] and p_not_afters[n.place] <= v_now limit 1;
    if found then
        raise exception 'payment % of the batch: not_after is already past', v_other.place using errcode = 'OB003', column = 'not_after';
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
    select v_ids[n.place], p_participant_ids[n.place], p_instruction_ids[n.place], p_rails[n.place], p_payloads[n.place], p_content_types[n.place],
           v_payload_digests[n.place], p_amounts_minor[n.place], p_currencies[n.place], p_attestation_ids[n.place], p_not_befores[n.place],
           p_not_afters[n.place], p_ordering_keys[n.place], p_traceparents[n.place], session_user, v_now, v_policy
      from generate_series(1, v_size) as n (place) where v_ids[n.place] = v_outbox_ids[n.place];
    insert into outbox.payment_outbox_pending (outbox_id, rail, participant_id, is_ordered, next_attempt_at, not_after, created_at)
    select v_ids[n.place], p_rails[n.place], p_participant_ids[n.place], p_ordering_keys[n.place] is not null,
           greatest(v_now, p_not_befores[n.place]), p_not_afters[n.place], v_now
      from generate_series(1, v_size) as n (place) where v_ids[n.place] = v_outbox_ids[n.place];
    if cardinality(array_remove(p_ordering_keys, null)) > 0 then
        perform outbox.enqueue_in_order(array(select case when c.id = c.first_id then c.id end from unnest(v_ids, v_outbox_ids) as c (id, first_id)),
            p_rails, p_ordering_keys);
    end if;
    if p_hint then perform outbox.hint_outbox_lanes(p_rails); end if;
    return query select c.ordinal::integer, c.first_id, c.outbox_id = c.first_id
      from unnest(v_ids, v_outbox_ids) with ordinality as c (outbox_id, first_id, ordinal);
end
$$;
