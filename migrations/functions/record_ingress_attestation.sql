create or replace function outbox.record_ingress_attestation(
    p_request_id text, p_participant_id text, p_instruction_id text, p_received_at timestamptz, p_payload_sha256 bytea,
    p_auth_method text, p_decision text, p_reason_code text default null, p_tenant_id text default null,
    p_client_cert_fingerprint bytea default null, p_key_id text default null, p_jwt_iss text default null, p_jti text default null,
    p_signature_alg text default null, p_signature bytea default null, p_policy_version text default null
) returns table (attestation_id uuid, decision text, reason_code text, created boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
-- Purpose: records whose request was let in or turned away at the entrance, and by which proof. In the caller's transaction.
-- Parameters: p_payload_sha256, over the bytes that are enqueued; p_client_cert_fingerprint, SHA-256 of the certificate (DER);
--   p_policy_version, the entrance's own, else the active one is recorded; p_signature, at most 4096 bytes, without what was signed. Never a payload, never a token, key or password.
-- Results: the decision, which is REJECTED for the reason REVOKED where the credential is on a deny list, whatever the caller said.
--   The same participant, request and content returns the first row, but for received_at, which a repetition brings anew; if its
--   credential was revoked since, the answer is REJECTED and the row stays as it was. OB020: the request with other content. OB003: a bad value.
-- Locks taken: the request's identity.
-- Hazard: "look first, then insert" records twice under concurrency. The primary key of ingress_requests decides, as for enqueue.
declare
    v_now timestamptz := clock_timestamp();
    v_id uuid := outbox.new_outbox_id();
    v_revoked boolean := outbox.credential_revoked_at(p_client_cert_fingerprint, p_key_id, p_jwt_iss, p_jti) is not null;
    v_content bytea := (select sha256(string_agg(coalesce(int4send(octet_length(f.value)) || f.value, int4send(-1)), ''::bytea order by f.place))
                          from (values (1, convert_to(p_instruction_id, 'UTF8')), (2, convert_to(p_tenant_id, 'UTF8')), (3, p_payload_sha256),
                                       (4, convert_to(p_auth_method, 'UTF8')), (5, p_client_cert_fingerprint), (6, convert_to(p_key_id, 'UTF8')),
                                       (7, convert_to(p_jwt_iss, 'UTF8')), (8, convert_to(p_jti, 'UTF8')), (9, convert_to(p_signature_alg, 'UTF8')),
                                       (10, p_signature), (11, convert_to(p_decision, 'UTF8')), (12, convert_to(p_reason_code, 'UTF8')),
                                       (13, convert_to(p_policy_version, 'UTF8'))) as f (place, value));
    v_row outbox.ingress_attestations;
    v_first record;
begin
    v_row := row(v_id, p_request_id, p_instruction_id, p_participant_id, p_tenant_id, p_received_at, p_payload_sha256, p_auth_method,
                 p_client_cert_fingerprint, p_key_id, p_jwt_iss, p_jti, p_signature_alg, p_signature, p_decision, p_reason_code, coalesce(p_policy_version, outbox.active_policy_version()::text),
                 session_user, v_now);
    perform outbox.refuse_bad_attestation(v_row);
    insert into outbox.ingress_requests values (p_participant_id, p_request_id, v_id, v_content)
        on conflict on constraint ingress_requests_pkey do nothing;
    -- A new statement: it sees what a concurrent caller committed while the insert waited for it.
    select q.attestation_id, q.content_sha256 into v_first from outbox.ingress_requests q
     where q.participant_id = p_participant_id and q.request_id = p_request_id;
    if v_first.content_sha256 <> v_content then
        raise exception 'request % is already recorded with other content, as %', quote_literal(p_request_id), v_first.attestation_id
            using errcode = 'OB020', column = 'request_id', hint = 'another request needs another request_id';
    end if;
    created := v_first.attestation_id = v_id;
    if created then
        if v_revoked then
            v_row.decision := 'REJECTED';
            v_row.reason_code := 'REVOKED';
        end if;
        insert into outbox.ingress_attestations values (v_row.*);
    else
        v_id := v_first.attestation_id;
        select a.* into v_row from outbox.ingress_attestations a where a.attestation_id = v_id;
        if not found then
            raise exception 'request % is already recorded, and its attestation is kept no more', quote_literal(p_request_id)
                using errcode = 'OB020', column = 'request_id', hint = 'another request needs another request_id';
        end if;
    end if;
    attestation_id := v_id;
    decision := case when v_revoked then 'REJECTED' else v_row.decision end;
    reason_code := case when v_revoked and v_row.decision = 'ACCEPTED' then 'REVOKED' else v_row.reason_code end;
    return next;
end
$$;
