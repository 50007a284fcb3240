create or replace function outbox.refuse_bad_attestation(p_a outbox.ingress_attestations) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: refuses an attestation that has a bad value, naming the column. Internal to record_ingress_attestation.
-- Results: nothing, or raises OB003.
-- Hazard: a whole token (RFC 7519, RFC 7515: three parts, the first beginning with eyJ) is a secret, or carries the payload. No
--   column takes one: a token is named by its jti, and of a JWS only the signature is kept, or the detached form.
declare
    c_token constant text := '^eyJ[-_A-Za-z0-9]*\.[-_A-Za-z0-9]+\.[-_A-Za-z0-9]*$';
    v_bad record;
begin
    select f.place, case when f.value ~ c_token then 'must not be a token: name it by its id'
                         else format('must have %s to %s characters', f.low, f.high) end as fault into v_bad
      from (values ('request_id', p_a.request_id, 1, 200), ('participant_id', p_a.participant_id, 1, 200),
                   ('instruction_id', coalesce(p_a.instruction_id, '-'), 1, 200), ('tenant_id', coalesce(p_a.tenant_id, '-'), 1, 200),
                   ('key_id', coalesce(p_a.key_id, '-'), 1, 200), ('jwt_iss', coalesce(p_a.jwt_iss, '-'), 1, 256),
                   ('jti', coalesce(p_a.jti, '-'), 1, 256), ('signature_alg', coalesce(p_a.signature_alg, '-'), 1, 64),
                   ('policy_version', coalesce(p_a.policy_version, '-'), 1, 128)) as f (place, value, low, high)
     where coalesce(length(f.value), 0) not between f.low and f.high or f.value ~ c_token
     limit 1;
    if not found then
        select f.place, f.fault into v_bad
          from (values
            ('received_at', case when not coalesce(isfinite(p_a.received_at), false) then 'must be a finite time' end),
            ('payload_sha256', case when coalesce(octet_length(p_a.payload_sha256), 0) <> 32 then 'must have 32 bytes' end),
            ('client_cert_fingerprint', case when octet_length(p_a.client_cert_fingerprint) <> 32 then 'must be the SHA-256 of the certificate, 32 bytes' end),
            ('signature', case when octet_length(p_a.signature) not between 1 and 4096 then 'must have 1 to 4096 bytes'
                               when encode(p_a.signature, 'escape') ~ c_token then 'must not be a whole token: it carries what was signed' end),
            ('auth_method', case when coalesce(p_a.auth_method, '') not in ('MTLS', 'JWS', 'JWT', 'HTTPSIG', 'HMAC', 'APIKEY', 'SSH', 'NONE')
                                 then 'must be MTLS, JWS, JWT, HTTPSIG, HMAC, APIKEY, SSH or NONE' end),
            ('decision', case when coalesce(p_a.decision, '') not in ('ACCEPTED', 'REJECTED') then 'must be ACCEPTED or REJECTED' end),
            ('reason_code', case when p_a.reason_code !~ '^[A-Z][A-Z0-9_]{0,63}$' then 'must be 1 to 64 of A-Z, 0-9 and _, beginning with a letter'
                                 when p_a.decision = 'REJECTED' and p_a.reason_code is null then 'is required for what is rejected' end),
            ('instruction_id', case when p_a.decision = 'ACCEPTED' and p_a.instruction_id is null then 'is required for what is accepted' end),
            ('auth_method', case when p_a.decision = 'ACCEPTED' and p_a.auth_method = 'NONE' then 'is NONE: nothing is accepted without a proof' end),
            ('client_cert_fingerprint', case when p_a.decision = 'ACCEPTED' and p_a.auth_method = 'MTLS' and p_a.client_cert_fingerprint is null
                                             then 'is required: what has no name cannot be revoked' end),
            ('jti', case when p_a.decision = 'ACCEPTED' and p_a.auth_method = 'JWT' and num_nonnulls(p_a.jti, p_a.key_id) = 0
                         then 'or key_id is required: what has no name cannot be revoked' end),
            ('key_id', case when p_a.decision = 'ACCEPTED' and p_a.auth_method not in ('MTLS', 'JWT', 'NONE') and p_a.key_id is null
                            then 'is required: what has no name cannot be revoked' end)) as f (place, fault)
         where f.fault is not null
         limit 1;
    end if;
    if found then
        raise exception 'attestation: % %', v_bad.place, v_bad.fault
            using errcode = 'OB003', column = v_bad.place, schema = 'outbox', hint = 'nothing is recorded';
    end if;
end
$$;
