create or replace function outbox.revoke_token(p_jti text, p_key_id text, p_jwt_iss text, p_reason text, p_expires_at timestamptz default null)
returns table (revocation_id uuid, revoked_at timestamptz, created boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
-- Purpose: puts a token, or a key with all that it signs, on the deny list, beside what its issuer says of it. See revoke_client_cert.
-- Parameters: p_jti or p_key_id, one of them; p_jwt_iss, of this issuer only, null for any: an id may be unique for its issuer alone;
--   p_expires_at, not before the token itself ends; null, for ever.
-- Results: the entry; not created if one that counts as long, for as many issuers, is there already.
begin
    if num_nonnulls(p_jti, p_key_id) <> 1 or length(coalesce(p_jti, p_key_id)) not between 1 and 256 or length(p_jwt_iss) not between 1 and 256 then
        raise exception 'a revocation names either the id of a token or the id of a key, of 1 to 256 characters' using errcode = 'OB003', column = 'jti';
    elsif coalesce(p_reason, '') !~ '\S' or length(p_reason) > 1000 then
        raise exception 'a revocation needs a reason of at most 1000 characters' using errcode = 'OB003', column = 'reason';
    elsif p_expires_at <= clock_timestamp() or not isfinite(p_expires_at) then
        raise exception 'expires_at is past, or no time' using errcode = 'OB003', column = 'expires_at';
    end if;
    select r.revocation_id, r.revoked_at into revocation_id, revoked_at
      from (select t.* from outbox.revoked_tokens t where t.jti = p_jti
            union all select k.* from outbox.revoked_tokens k where k.key_id = p_key_id) as r
     where (r.expires_at is null or r.expires_at >= p_expires_at) and (r.jwt_iss is null or r.jwt_iss = p_jwt_iss) order by r.revoked_at limit 1;
    created := not found;
    if created then
        revocation_id := outbox.new_outbox_id();
        revoked_at := clock_timestamp();
        insert into outbox.revoked_tokens values (revocation_id, p_jti, p_key_id, p_jwt_iss, revoked_at, p_reason, session_user, p_expires_at);
    end if;
    return next;
end
$$;
