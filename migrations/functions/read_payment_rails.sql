create or replace function outbox.read_payment_rails() returns table (
    rail text, on_unknown text, idempotency_window_ms bigint, not_found_is_final boolean, rail_timeout_ms bigint, processing_bound_ms bigint, amount_required boolean,
    max_sends integer, max_inquiries integer, max_crashes integer, backoff_base_ms bigint, backoff_cap_ms bigint, lease_duration_ms bigint, max_sends_per_s integer, fallback boolean, paused boolean, require_attestation boolean, policy_version integer, columns text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the contracts of all rails.
-- Results: a row a rail, by name; times in milliseconds; columns, the whole contract as a policy's document has it.
    select r.rail, r.on_unknown, r.idempotency_window_ms, r.not_found_is_final, r.rail_timeout_ms, r.processing_bound_ms, r.amount_required, r.max_sends,
           r.max_inquiries, r.max_crashes, r.backoff_base_ms, r.backoff_cap_ms, r.lease_duration_ms, r.max_sends_per_s, r.fallback, r.paused, r.require_attestation,
           r.policy_version, (to_jsonb(r) - array['rail', 'changed_at', 'changed_by', 'policy_version'])::text
      from outbox.payment_rails r
     order by r.rail
$$;
