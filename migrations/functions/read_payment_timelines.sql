create or replace function outbox.read_payment_timelines(p_id text, p_participant_id text default null) returns setof jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
-- Purpose: everything the database knows of a payment, for people: never its payload.
-- Parameters: p_id, an outbox_id or an instruction_id; p_participant_id narrows an instruction_id, which is
--   unique only for each participant, and spares a scan.
-- Results: a document a payment, at most 100, oldest first; then those whose month was detached, with `detached`: the receipts of it.
declare
    v_ids uuid[];
    v_attestations uuid[];
    v_lo uuid;
    v_hi uuid;
    v_named uuid;
begin
    v_ids := array(select n.outbox_id from outbox.payment_outbox_identities n
                    where n.instruction_id = p_id and n.participant_id = coalesce(p_participant_id, n.participant_id)
                    order by n.outbox_id limit 100);
    -- An instruction_id may have the form of a UUID as well.
    if p_id ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
        v_named := p_id::uuid;
        v_ids := v_named || v_ids;
    end if;
    v_attestations := array(select i.attestation_id from outbox.payment_outbox_instructions i
                             where i.outbox_id = any (v_ids) and i.attestation_id is not null order by i.attestation_id);
    v_lo := v_attestations[1];
    v_hi := v_attestations[cardinality(v_attestations)];
    return query
    select jsonb_build_object(
               'outbox_id', i.outbox_id, 'participant_id', i.participant_id, 'instruction_id', i.instruction_id, 'generation', n.generation,
               'idempotency_key', n.idempotency_key, 'rail', i.rail, 'content_type', i.content_type, 'payload_bytes', octet_length(i.payload),
               'payload_sha256', encode(i.payload_sha256, 'hex'), 'amount_minor', i.amount_minor, 'currency', i.currency,
               'not_before', i.not_before, 'not_after', i.not_after, 'traceparent', i.traceparent, 'attestation_id', i.attestation_id,
               'enqueued_by', i.enqueued_by, 'enqueued_at', i.created_at, 'policy_version', i.policy_version,
               -- The range is constant, so that the plan opens the months it needs.
               'attestation', (select to_jsonb(a) || jsonb_build_object(
                                      'payload_sha256', encode(a.payload_sha256, 'hex'), 'client_cert_fingerprint', encode(a.client_cert_fingerprint, 'hex'),
                                      'signature', encode(a.signature, 'hex'),
                                      'credential_revoked_at', outbox.credential_revoked_at(a.client_cert_fingerprint, a.key_id, a.jwt_iss, a.jti))
                                 from outbox.ingress_attestations a
                                where a.attestation_id = i.attestation_id and a.attestation_id between v_lo and v_hi),
               'actions', outbox.actions_on_payment(i.outbox_id, i.participant_id, i.instruction_id),
               'pending', (select to_jsonb(p) - array['outbox_id', 'rail', 'participant_id', 'created_at', 'not_after', 'lease_token']
                             from outbox.payment_outbox_pending p where p.outbox_id = i.outbox_id),
               'attempts', (select coalesce(jsonb_agg(to_jsonb(a) - array['outbox_id', 'rail', 'lease_token'] order by a.attempt_no), '[]')
                              from outbox.payment_outbox_attempts a where a.outbox_id = i.outbox_id),
               'late_outcomes', (select coalesce(jsonb_agg(to_jsonb(l) - array['outbox_id', 'evidence_sha256', 'lease_token'] order by l.recorded_at), '[]')
                                   from outbox.payment_outbox_late_outcomes l where l.outbox_id = i.outbox_id))
      from outbox.payment_outbox_instructions i
      join outbox.payment_outbox_identities n
        on n.participant_id = i.participant_id and n.instruction_id = i.instruction_id and n.outbox_id = i.outbox_id
     where i.outbox_id = any (v_ids)
     order by i.outbox_id;
    -- What is left of a payment whose month was detached. By its outbox_id alone all identities are read.
    return query
    select jsonb_build_object(
               'outbox_id', n.outbox_id, 'participant_id', n.participant_id, 'instruction_id', n.instruction_id, 'generation', n.generation,
               'idempotency_key', n.idempotency_key,
               'late_outcomes', (select coalesce(jsonb_agg(to_jsonb(l) - array['outbox_id', 'evidence_sha256', 'lease_token'] order by l.recorded_at), '[]')
                                   from outbox.payment_outbox_late_outcomes l where l.outbox_id = n.outbox_id),
               'detached', (select jsonb_agg(jsonb_build_object('table_name', r.table_name, 'row_count', r.row_count, 'rows_sha256', encode(r.rows_sha256, 'hex'),
                                                 'recorded_by', r.recorded_by, 'recorded_at', r.recorded_at) order by r.table_name)
                              from outbox.partition_receipts r
                             where r.holds = 'PAYMENTS' and n.outbox_id >= r.ids_from and n.outbox_id < r.ids_before))
      from (select * from outbox.payment_outbox_identities d
             where d.instruction_id = p_id and d.participant_id = coalesce(p_participant_id, d.participant_id)
            union
            select * from outbox.payment_outbox_identities d
             where d.outbox_id = v_named and outbox.detached_as(v_named) is not null) as n
     where n.outbox_id = any (v_ids) and outbox.detached_as(n.outbox_id) is not null
     order by n.outbox_id;
end
$$;
