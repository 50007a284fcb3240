create or replace function outbox.credential_revoked_at(p_fingerprint bytea, p_key_id text, p_jwt_iss text, p_jti text) returns timestamptz
language sql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
-- Purpose: since when one of the names of a credential is on a deny list; null if none is. Internal to record_ingress_attestation,
--   enqueue and the timelines.
-- Parameters: the SHA-256 of a client certificate, the id of a key, the issuer of a token, the id of a token; null for what there is not. An entry for
--   one issuer counts for a credential without one, too.
-- Hazard: asked for each payment that comes with an attestation, so it goes by the index whatever the planner believes of the lists.
    select min(r.revoked_at)
      from (select c.revoked_at, c.expires_at from outbox.revoked_client_certs c where c.fingerprint = p_fingerprint
            union all
            select t.revoked_at, t.expires_at from outbox.revoked_tokens t where t.jti = p_jti and coalesce(t.jwt_iss = p_jwt_iss, true)
            union all
            select k.revoked_at, k.expires_at from outbox.revoked_tokens k where k.key_id = p_key_id and coalesce(k.jwt_iss = p_jwt_iss, true)) as r
     where r.expires_at is null or r.expires_at > clock_timestamp()
$$;
