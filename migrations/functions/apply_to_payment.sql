create or replace function outbox.apply_to_payment(p_action outbox.operator_actions, p_outbox_id uuid, p_attempts_then integer)
returns table (result text, detail text, new_outbox_id uuid)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
-- Purpose: what each action does to one payment. Internal to apply_operator_action.
--   HOLD: held REQUESTED; one that is leased is held when its attempt ends without ending it.
--   CANCEL: ends CANCELLED, only if it was certainly never sent.
--   RETRY_NOW: due now, never before not_before.
--   RELEASE: a held payment that was certainly never sent is ready again, and one in doubt on an inquire rail is asked after again;
--     the limits count anew, not_after stays unless the action gives another.
--   RELEASE_AS_RESEND: a held payment that was sent and, by the evidence, not executed is ready again under the same
--     key; the doubt ends, limits and key window begin anew. Not after a late success, nor by evidence from inside the quarantine. It is sent marked as
--     a possible duplicate, and can never be cancelled.
--   RESOLVE_DISPATCHED, RESOLVE_FAILED: a held or doubtful payment ends so, by the evidence; failed not after a late
--     success, nor by evidence from inside the quarantine.
--   REDRIVE: redrive_payment.
-- Parameters: p_attempts_then, how many attempts of it had ended when the action was proposed.
-- Results: APPLIED; SKIPPED with why; BUSY, somebody else has the row.
-- Hazard: a lease in force means that a worker may be sending now: only HOLD touches such a payment. A lost one is settled first, since
--   where nothing is claimed nobody else does.
declare
    v outbox.payment_outbox_pending;
    v_now timestamptz;
    v_fault text;
begin
    if p_action.kind = 'REDRIVE' then
        return query select * from outbox.redrive_payment(p_action, p_outbox_id, p_attempts_then);
        return;
    end if;
    select * into v from outbox.payment_outbox_pending p where p.outbox_id = p_outbox_id for no key update skip locked;
    if not found then
        return query select case when e.there then 'BUSY' else 'SKIPPED' end, case when not e.there then 'it has ended' end, null::uuid
            from (select exists (select from outbox.payment_outbox_pending p where p.outbox_id = p_outbox_id) as there) as e;
        return;
    end if;
    v_now := clock_timestamp();
    if v.lease_expires_at <= v_now then
        perform outbox.settle_lost_leases(array[p_outbox_id], v_now);
        select * into v from outbox.payment_outbox_pending p where p.outbox_id = p_outbox_id;
    end if;
    v_fault := outbox.fault_of_action(p_action, p_attempts_then, v, v_now);
    if v_fault is not null then
        return query select 'SKIPPED', v_fault, null::uuid;
        return;
    end if;
    case
    when p_action.kind = 'HOLD' and v.lease_token is not null then
        update outbox.payment_outbox_pending p set hold_requested = true where p.outbox_id = p_outbox_id;
        return query select 'APPLIED', 'held when its attempt under way has ended', null::uuid;
        return;
    when p_action.kind = 'HOLD' then
        update outbox.payment_outbox_pending p set disposition = 'HELD', hold_reason = 'REQUESTED' where p.outbox_id = p_outbox_id;
    when p_action.kind = 'RETRY_NOW' then
        update outbox.payment_outbox_pending p set next_attempt_at = v_now where p.outbox_id = p_outbox_id;
    when p_action.kind = 'RELEASE' and v.in_doubt_since is not null then
        update outbox.payment_outbox_pending p
           set disposition = 'IN_DOUBT', hold_reason = null, hold_requested = false, crash_count = 0, inquiry_count = 0,
               next_attempt_at = greatest(p.next_attempt_at, v_now)
         where p.outbox_id = p_outbox_id;
    when p_action.kind in ('RELEASE', 'RELEASE_AS_RESEND') then
        if p_action.kind = 'RELEASE_AS_RESEND' then
            perform outbox.record_operator_attempt(p_action, v, 'RETRYABLE', v_now);
        end if;
        update outbox.payment_outbox_pending p
           set disposition = 'READY', hold_reason = null,
               hold_requested = false, send_count = 0, crash_count = 0, inquiry_count = 0, in_doubt_since = null, first_sent_at = null,
               quarantine_until = null, next_attempt_at = greatest(p.next_attempt_at, v_now),
               attempt_count = p.attempt_count + (p_action.kind = 'RELEASE_AS_RESEND')::integer,
               possible_duplicate = p.possible_duplicate or p_action.kind = 'RELEASE_AS_RESEND',
               not_after = case when p_action.parameters ? 'not_after' then (p_action.parameters ->> 'not_after')::timestamptz else p.not_after end
         where p.outbox_id = p_outbox_id;
    else
        perform outbox.record_operator_attempt(p_action, v, case p_action.kind when 'CANCEL' then 'CANCELLED' when 'RESOLVE_FAILED' then 'FAILED'
            else 'DISPATCHED' end, v_now);
        delete from outbox.payment_outbox_pending p where p.outbox_id = p_outbox_id;
        if v.is_ordered then
            perform outbox.unpark_successors(array[p_outbox_id]);
        end if;
    end case;
    return query select 'APPLIED', null::text, null::uuid;
end
$$;
