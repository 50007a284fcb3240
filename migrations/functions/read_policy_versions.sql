create or replace function outbox.read_policy_versions(p_version integer default null, p_limit integer default 100) returns setof jsonb
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the policies that were proposed, who decided on them, and which is active.
-- Parameters: one version, or null for the last p_limit.
-- Results: a document each, the newest first; that of one version has its text too, as `document`.
    select to_jsonb(v) || jsonb_build_object('reason', d.reason, 'decision_reason', c.reason, 'activation_reason', a.reason)
           || case when p_version is null then '{}' else jsonb_build_object('document', d.document) end
      from outbox.policy_versions v
      join outbox.policy_documents d on d.version = v.version
      left join outbox.policy_decisions c on c.version = v.version
      left join outbox.policy_activations a on a.version = v.version
     where v.version = coalesce(p_version, v.version)
     order by v.version desc
     limit p_limit
$$;
