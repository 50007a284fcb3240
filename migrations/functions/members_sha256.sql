create or replace function outbox.members_sha256(p_outbox_ids uuid[]) returns bytea
language sql immutable parallel safe
as $$
-- Purpose: what an approval is bound to: SHA-256 over the ids, sixteen bytes each, in order.
    select sha256(coalesce(string_agg(uuid_send(c.id), ''::bytea order by c.id), ''::bytea)) from unnest(p_outbox_ids) as c (id)
$$;
