create or replace function outbox.policy_faults() returns table (fault text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: where the active policy is not what was approved, or a rail's contract not what it says. Internal to audit_guards.
-- Hazards: a document that was not approved is not read. A column that it has not is of a later schema, and at its default.
    with active as materialized (
        select a.version, d.document, coalesce(d.checksum = sha256(convert_to(d.document, 'UTF8')) and a.checksum = d.checksum and c.checksum = d.checksum
                   and c.decision = 'APPROVED' and c.decided_by <> d.proposed_by, false) as is_approved
          from (select * from outbox.policy_activations l order by l.activation_no desc limit 1) as a
          left join outbox.policy_documents d on d.version = a.version
          left join outbox.policy_decisions c on c.version = a.version
    ), contracts as materialized (
        select v.version, r.rail, r.decisions -> 'contract' as contract
          from active v cross join lateral jsonb_each(case when v.is_approved then v.document::jsonb -> 'rails' end) as r (rail, decisions))
    select 'policy version ' || v.version || ' is not the document that was approved' from active v where not v.is_approved
    union all
    select 'rail ' || c.rail || ' has another contract than policy version ' || c.version
      from contracts c left join outbox.payment_rails r on r.rail = c.rail
     where r.policy_version is distinct from c.version
        or exists (select from jsonb_each(c.contract) as m (name, value) where to_jsonb(r) -> m.name <> m.value)
    union all
    select 'rail ' || r.rail || ' bears policy version ' || r.policy_version || ', which is not active or has no such rail'
      from outbox.payment_rails r
     where r.policy_version is not null and not exists (select from contracts c where c.rail = r.rail)
$$;
