create or replace function outbox.set_payment_rail(
    p_rail text, p_on_unknown text default null, p_idempotency_window_ms bigint default null, p_rail_timeout_ms bigint default null,
    p_processing_bound_ms bigint default null, p_amount_required boolean default null, p_max_sends integer default null,
    p_max_crashes integer default null, p_backoff_base_ms bigint default null, p_backoff_cap_ms bigint default null,
    p_lease_duration_ms bigint default null, p_paused boolean default null, p_not_found_is_final boolean default null,
    p_max_inquiries integer default null, p_max_sends_per_s integer default null,
    p_fallback boolean default null, p_require_attestation boolean default null
) returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
-- Purpose: makes or changes a rail's contract. What is null stays as it is, or gets the default.
-- Parameters: times in milliseconds; p_paused stops claiming at the next claim; p_max_sends_per_s, 0 for no rate; p_fallback,
--   whether dispatchers may have further endpoints for what the first has certainly not executed; p_require_attestation, whether
--   enqueue refuses a new payment without an accepted attestation of its bytes.
-- Results: whether the rail is new.
--   OB016: a policy is active, and contracts are what it says.
-- Locks taken: activations are held up until the transaction ends; the rail's row.
-- Hazard: `resend` says that the rail executes a key at most once within the window, and p_not_found_is_final that
--   what it does not find it never executed. Where that is not so, every unknown outcome is a possible double payment.
declare
    v_new boolean := false;
    v_policy integer;
begin
    lock table outbox.policy_activations in share mode;
    v_policy := outbox.active_policy_version();
    if v_policy is not null then
        raise exception 'policy version % is active: use outboxd policy propose', v_policy using errcode = 'OB016',
            hint = 'a contract is part of the policy, which another login approves';
    end if;
    -- Only for a rail that is not there: the table's checks come before its conflicts, and would refuse a change
    -- that the rail as it is allows.
    if not exists (select from outbox.payment_rails r where r.rail = p_rail) then
        insert into outbox.payment_rails as r (rail, on_unknown, idempotency_window_ms, changed_at, changed_by)
        values (p_rail, coalesce(p_on_unknown, 'hold'), p_idempotency_window_ms, clock_timestamp(), session_user)
            on conflict (rail) do nothing;
        v_new := found;
    end if;
    if p_fallback = false and exists (select from outbox.payment_outbox_pending p
                                       where p.rail = p_rail and p.endpoint is null and (p.in_doubt_since is not null or p.late_success)) then
        raise exception 'rail % has payments in doubt of which nobody knows the endpoint: resolve them before fallback ends', p_rail
            using errcode = 'OB003', column = 'fallback';
    end if;
    update outbox.payment_rails r
       set on_unknown = coalesce(p_on_unknown, r.on_unknown),
           idempotency_window_ms = coalesce(p_idempotency_window_ms, r.idempotency_window_ms),
           rail_timeout_ms = coalesce(p_rail_timeout_ms, r.rail_timeout_ms),
           processing_bound_ms = coalesce(p_processing_bound_ms, r.processing_bound_ms),
           amount_required = coalesce(p_amount_required, r.amount_required),
           max_sends = coalesce(p_max_sends, r.max_sends),
           max_crashes = coalesce(p_max_crashes, r.max_crashes),
           backoff_base_ms = coalesce(p_backoff_base_ms, r.backoff_base_ms),
           backoff_cap_ms = coalesce(p_backoff_cap_ms, r.backoff_cap_ms),
           lease_duration_ms = coalesce(p_lease_duration_ms, r.lease_duration_ms),
           fallback = coalesce(p_fallback, r.fallback),
           require_attestation = coalesce(p_require_attestation, r.require_attestation),
           paused = coalesce(p_paused, r.paused),
           not_found_is_final = coalesce(p_not_found_is_final, r.not_found_is_final),
           max_inquiries = coalesce(p_max_inquiries, r.max_inquiries),
           max_sends_per_s = case when p_max_sends_per_s = 0 then null else coalesce(p_max_sends_per_s, r.max_sends_per_s) end,
           changed_at = clock_timestamp(), changed_by = session_user
     where r.rail = p_rail;
    return v_new;
end
$$;
