create or replace function outbox.activate_policy(p_version integer, p_reason text) returns table (rail text, is_governed boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
-- Purpose: puts an approved policy in force: writes each contract of it into payment_rails, and takes the stamp from every other rail, which
--   is claimed no more.
-- Results: every rail, and whether the policy has it. OB003 (no such version, no reason), OB012 (maker and checker are one login), OB014 (not approved), OB016
--   (another is active than when it was proposed), 23514 (a value that a contract does not take, by the name of what it breaks).
-- Locks taken: the place behind the active version, until the transaction ends: of two activations the second is refused; each rail's row.
-- Hazard: whoever can set a contract decides about double payments. The rails are those of the document whose checksum was approved.
declare
    v_policy outbox.policy_documents;
    v_decision outbox.policy_decisions;
    v_now timestamptz := clock_timestamp();
begin
    select * into v_policy from outbox.policy_documents d where d.version = p_version;
    select * into v_decision from outbox.policy_decisions c where c.version = p_version;
    if v_policy.version is null then
        raise exception 'there is no policy version %', p_version using errcode = 'OB003';
    elsif coalesce(p_reason, '') !~ '\S' then
        raise exception 'an activation needs a reason' using errcode = 'OB003', column = 'reason';
    elsif v_decision.decision is distinct from 'APPROVED' or v_decision.checksum <> sha256(convert_to(v_policy.document, 'UTF8')) then
        raise exception 'policy version % is %', p_version, coalesce(lower(nullif(v_decision.decision, 'APPROVED')), 'not approved yet') using errcode = 'OB014',
            hint = 'another login approves it: outboxd policy approve VERSION';
    elsif v_decision.decided_by = v_policy.proposed_by then
        raise exception 'policy version % was proposed and approved by %', p_version, v_policy.proposed_by using errcode = 'OB012';
    elsif v_policy.base_version is distinct from outbox.active_policy_version() then
        raise exception 'policy version % was proposed against %, which is not active any more', p_version, coalesce('version ' || v_policy.base_version, 'none')
            using errcode = 'OB016', hint = 'compare it with the active one, and propose it again: outboxd policy propose';
    end if;
    insert into outbox.policy_activations (version, base_version, checksum, reason, activated_by, activated_at)
    values (p_version, v_policy.base_version, v_policy.checksum, p_reason, session_user, v_now) on conflict do nothing;
    if not found then
        raise exception 'another policy has been activated meanwhile' using errcode = 'OB016';
    end if;
    select c.rail into rail
      from outbox.policy_contracts(v_policy.document) as c join outbox.payment_rails r on r.rail = c.rail and r.fallback and not c.fallback
     where exists (select from outbox.payment_outbox_pending p where p.rail = c.rail and p.endpoint is null and (p.in_doubt_since is not null or p.late_success))
     limit 1;
    if found then
        raise exception 'rail % has payments in doubt of which nobody knows the endpoint: resolve them before fallback ends', rail using errcode = 'OB003', column = 'fallback';
    end if;
    update outbox.payment_rails r set policy_version = null where r.policy_version is not null;
    -- Every column of a contract.
    insert into outbox.payment_rails as r (rail, on_unknown, idempotency_window_ms, not_found_is_final, rail_timeout_ms, processing_bound_ms, amount_required,
        max_sends, max_inquiries, max_crashes, backoff_base_ms, backoff_cap_ms, lease_duration_ms, max_sends_per_s, fallback, paused, require_attestation,
        changed_at, changed_by, policy_version)
    select c.rail, c.on_unknown, c.idempotency_window_ms, c.not_found_is_final, c.rail_timeout_ms, c.processing_bound_ms, c.amount_required,
           c.max_sends, c.max_inquiries, c.max_crashes, c.backoff_base_ms, c.backoff_cap_ms, c.lease_duration_ms, c.max_sends_per_s, c.fallback, c.paused, c.require_attestation,
           v_now, session_user, p_version
      from outbox.policy_contracts(v_policy.document) as c
        on conflict (rail) do update set on_unknown = excluded.on_unknown, idempotency_window_ms = excluded.idempotency_window_ms,
           not_found_is_final = excluded.not_found_is_final, rail_timeout_ms = excluded.rail_timeout_ms, processing_bound_ms = excluded.processing_bound_ms,
           amount_required = excluded.amount_required, max_sends = excluded.max_sends, max_inquiries = excluded.max_inquiries,
           max_crashes = excluded.max_crashes, backoff_base_ms = excluded.backoff_base_ms, backoff_cap_ms = excluded.backoff_cap_ms,
           lease_duration_ms = excluded.lease_duration_ms, max_sends_per_s = excluded.max_sends_per_s, fallback = excluded.fallback,
           paused = excluded.paused, require_attestation = excluded.require_attestation, changed_at = excluded.changed_at, changed_by = excluded.changed_by, policy_version = excluded.policy_version;
    return query select r.rail, r.policy_version is not null from outbox.payment_rails r order by r.rail;
end
$$;
