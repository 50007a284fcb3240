create or replace function outbox.read_revoked_client_certs(p_fingerprints bytea[]) returns table (
    fingerprint bytea, revoked_at timestamptz, revoked_by text, reason text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
-- Purpose: which of these client certificates are revoked, each with its first entry that counts. Dispatchers ask for their own.
    select r.fingerprint, r.revoked_at, r.revoked_by, r.reason
      from unnest(p_fingerprints) as g (fingerprint)
     cross join lateral (select c.* from outbox.revoked_client_certs c
                          where c.fingerprint = g.fingerprint and (c.expires_at is null or c.expires_at > clock_timestamp())
                          order by c.revoked_at limit 1) as r
$$;
