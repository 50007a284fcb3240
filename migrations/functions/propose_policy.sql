create or replace function outbox.propose_policy(p_document text, p_reason text)
returns table (version integer, checksum text, base_version integer)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
-- Purpose: records a policy that a person wants, against the one that is active now. Nothing changes yet.
-- Parameters: p_document, canonical JSON (docs/OPERATIONS.md, The policy): outboxd checks and writes it; what the database acts by is checked here.
-- Locks taken: proposals follow each other, so that versions are 1..n without gaps.
-- Results: its version, the checksum that an approval repeats, and the version that is active. OB003: a bad value, by name.
declare
    v_document jsonb := p_document::jsonb;
    v_columns text[] := array(select c.name from jsonb_object_keys(to_jsonb(jsonb_populate_record(null::outbox.payment_rails, '{}'))) as c (name)
                               where c.name not in ('rail', 'changed_at', 'changed_by', 'policy_version') order by c.name);
    v_bad record;
begin
    if coalesce(p_reason, '') !~ '\S' then
        raise exception 'a policy needs a reason' using errcode = 'OB003', column = 'reason';
    elsif coalesce(jsonb_typeof(v_document), '') <> 'object' or v_document -> 'format' is distinct from '1' or coalesce(jsonb_typeof(v_document -> 'rails'), '') <> 'object'
          or v_document -> 'rails' = '{}' then
        raise exception 'a policy is an object with format 1 and at least one of rails' using errcode = 'OB003', column = 'document';
    end if;
    select r.rail, m.name into v_bad
      from jsonb_each(v_document -> 'rails') as r (rail, decisions)
      left join unnest(v_columns) as m (name) on not coalesce(r.decisions -> 'contract' ? m.name, false)
     where m.name is not null or coalesce(jsonb_typeof(r.decisions -> 'contract'), '') <> 'object'
     order by 1, 2 limit 1;
    if found then
        raise exception 'rail %: the contract has no %', v_bad.rail, coalesce(v_bad.name, 'values') using errcode = 'OB003', column = 'document';
    end if;
    -- Every value has the type of its column; whether it is one that the column takes is found out by the activation.
    perform from outbox.policy_contracts(p_document);
    lock table outbox.policy_documents in share row exclusive mode;
    insert into outbox.policy_documents as d (version, document, checksum, base_version, reason, proposed_by, proposed_at)
    values ((select count(*) + 1 from outbox.policy_documents), p_document, sha256(convert_to(p_document, 'UTF8')), outbox.active_policy_version(), p_reason, session_user, clock_timestamp())
    returning d.version, encode(d.checksum, 'hex'), d.base_version into version, checksum, base_version;
    return next;
end
$$;
