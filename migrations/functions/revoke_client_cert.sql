create or replace function outbox.revoke_client_cert(p_fingerprint bytea, p_reason text, p_expires_at timestamptz default null)
returns table (revocation_id uuid, revoked_at timestamptz, created boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
-- Purpose: puts a client certificate on the deny list, beside what its PKI says of it. From its commit on no request is accepted by it, no
--   attestation that rests on it lets a payment in, and a dispatcher that shows it leaves its rail alone.
-- Parameters: p_fingerprint, SHA-256 of the certificate (DER); p_expires_at, until when the entry counts: not before the certificate itself
--   ends; null, for ever. No entry is taken back.
-- Results: the entry; not created if one that counts as long is there already.
begin
    if coalesce(octet_length(p_fingerprint), 0) <> 32 then
        raise exception 'a fingerprint is the SHA-256 of the certificate, 32 bytes' using errcode = 'OB003', column = 'fingerprint';
    elsif coalesce(p_reason, '') !~ '\S' or length(p_reason) > 1000 then
        raise exception 'a revocation needs a reason of at most 1000 characters' using errcode = 'OB003', column = 'reason';
    elsif p_expires_at <= clock_timestamp() or not isfinite(p_expires_at) then
        raise exception 'expires_at is past, or no time' using errcode = 'OB003', column = 'expires_at';
    end if;
    select c.revocation_id, c.revoked_at into revocation_id, revoked_at from outbox.revoked_client_certs c
     where c.fingerprint = p_fingerprint and (c.expires_at is null or c.expires_at >= p_expires_at) order by c.revoked_at limit 1;
    created := not found;
    if created then
        revocation_id := outbox.new_outbox_id();
        revoked_at := clock_timestamp();
        insert into outbox.revoked_client_certs values (revocation_id, p_fingerprint, revoked_at, p_reason, session_user, p_expires_at);
    end if;
    return next;
end
$$;
