create or replace function outbox.redrive_payment(p_action outbox.operator_actions, p_outbox_id uuid, p_attempts_then integer)
returns table (result text, detail text, new_outbox_id uuid)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
-- Purpose: pays an ended payment again, as a new generation of the same instruction with a new outbox_id, which is a
--   new key to the rail. Internal to apply_to_payment.
-- Results: as apply_to_payment; new_outbox_id is the new payment. Only the last generation, only if it ended FAILED or
--   DISPATCHED, and not if the rail said later, or says in a statement, that it had accepted it or another generation. Where an attempt of
--   any generation may have been executed, or one is in a month that was detached, it takes evidence that was given when the quarantine of that attempt was over.
-- Parameters: p_attempts_then, as in apply_to_payment.
-- Locks taken: the instruction's row, skip locked, so that of two redrives the second finds the first.
-- Hazard: the rail executes the new key. What was executed under the old one is then paid twice: the evidence has to
--   say that it was not. A redrive that a failover lost was executed under a key that is known nowhere here: of what was enqueued before an
--   acknowledged failover, a booking of the same money that nobody here knows has to be cleared first.
declare
    v_i outbox.payment_outbox_instructions;
    v_generation integer;
    v_key text;
    v_last uuid;
    v_state text;
    v_attempts integer;
    v_all uuid[];
    v_first_at timestamptz;
    v_doubt_until timestamptz;
    v_booking outbox.reconcile_breaks;
    v_now timestamptz := clock_timestamp();
    v_not_after timestamptz;
begin
    select * into v_i from outbox.payment_outbox_instructions i where i.outbox_id = p_outbox_id for no key update skip locked;
    if not found then
        detail := outbox.detached_as(p_outbox_id);
        result := case when detail is null then 'BUSY' else 'SKIPPED' end;
        return next;
        return;
    end if;
    select n.generation, n.outbox_id, n.idempotency_key into v_generation, v_last, v_key from outbox.payment_outbox_identities n
     where n.participant_id = v_i.participant_id and n.instruction_id = v_i.instruction_id order by n.generation desc limit 1;
    select a.state, a.attempt_no into v_state, v_attempts from outbox.payment_outbox_attempts a
     where a.outbox_id = p_outbox_id and a.state in ('DISPATCHED', 'FAILED', 'CANCELLED');
    v_all := array(select n.outbox_id from outbox.payment_outbox_identities n
                    where n.participant_id = v_i.participant_id and n.instruction_id = v_i.instruction_id);
    v_first_at := (select min(i.created_at) from outbox.payment_outbox_instructions i where i.outbox_id = any (v_all));
    -- What is not certainly unexecuted: an unknown outcome, a lost lease, what was learned late, and what a failover may have lost.
    select max(d.at) + (r.rail_timeout_ms + r.processing_bound_ms) * interval '1 ms' into v_doubt_until
      from (select a.completed_at as at from outbox.payment_outbox_attempts a
             where a.outbox_id = any (v_all) and a.kind = 'SUBMIT' and a.state in ('IN_DOUBT', 'LEASE_EXPIRED')
            union all
            select l.recorded_at from outbox.payment_outbox_late_outcomes l
             where l.outbox_id = any (v_all) and l.outcome not in ('REFUSED', 'NOT_SENT', 'NOT_EXECUTED', 'THROTTLED', 'RAIL_REFUSED_US')
            union all
            select c.recorded_at + r.lease_duration_ms * interval '1 ms' from outbox.outbox_cluster c, outbox.payment_rails r
             where c.action_id is not null and c.recorded_at > v_first_at and r.rail = v_i.rail) as d
      join outbox.payment_rails r on r.rail = v_i.rail
     group by r.rail;
    select b.* into v_booking from outbox.reconcile_breaks b
     where b.rail = v_i.rail and b.kind = 'UNKNOWN_TO_US' and b.their_amount_minor = v_i.amount_minor and b.their_currency = v_i.currency
       and exists (select from outbox.outbox_cluster c where c.action_id is not null and c.recorded_at > v_first_at)
       and not exists (select from outbox.reconcile_closed c where c.break_id = b.break_id)
       and not exists (select from outbox.reconcile_voidings v where v.statement_id = b.statement_id)
     order by b.break_id limit 1;
    v_not_after := case when p_action.parameters ? 'not_after' then (p_action.parameters ->> 'not_after')::timestamptz else v_i.not_after end;
    result := 'SKIPPED';
    detail := case when v_last <> p_outbox_id then 'it was redriven already, as ' || v_last
                   when coalesce(v_state, '') not in ('DISPATCHED', 'FAILED') then 'it has not ended as dispatched or failed'
                   when v_attempts <> p_attempts_then then 'it had not ended when this was proposed: look at it, and propose it again'
                   when v_state = 'FAILED' and exists (select from outbox.payment_outbox_late_outcomes l where l.outbox_id = p_outbox_id and l.outcome = 'ACCEPTED')
                       then 'the rail said later that it had accepted it'
                   when outbox.is_accepted_elsewhere(p_outbox_id) then 'the rail accepted another payment of its instruction'
                   when outbox.is_paid_by_statement(p_outbox_id) then 'a statement of the rail says that it was paid: void the statement if that is wrong'
                   when v_booking.break_id is not null then 'break ' || v_booking.break_id || ' is a booking of the same money under a key that is not known here, '
                       || 'and a redrive of it may be among what the failover lost: close the break first'
                   when v_doubt_until > p_action.proposed_at then outbox.evidence_too_early(v_doubt_until)
                   when v_doubt_until is not null and p_action.evidence is null then 'an attempt of it may have been executed: that takes evidence that it was not'
                   when p_action.evidence is null and (exists (select from outbox.payment_outbox_attempts a where a.outbox_id = any (v_all) and a.state = 'DISPATCHED')
                                                       or cardinality(v_all) > (select count(*) from outbox.payment_outbox_instructions i where i.outbox_id = any (v_all)))
                       then 'it was dispatched, or an earlier one of its instruction was: that takes evidence that the rail never got it'
                   when v_not_after < v_now then 'its not_after is past: give another' end;
    if detail is not null then
        return next;
        return;
    end if;
    new_outbox_id := outbox.new_outbox_id();
    perform outbox.lock_ordering_keys(array[v_i.rail], array[v_i.ordering_key]);
    insert into outbox.payment_outbox_identities
    values (v_i.participant_id, v_i.instruction_id, v_generation + 1, v_key, new_outbox_id,
            outbox.payment_identity_sha256(v_i.rail, v_i.payload_sha256, v_i.content_type, v_i.amount_minor, v_i.currency, v_i.not_before, v_not_after, v_i.ordering_key));
    insert into outbox.payment_outbox_instructions
    select new_outbox_id, v_i.participant_id, v_i.instruction_id, v_i.rail, v_i.payload, v_i.content_type, v_i.payload_sha256, v_i.amount_minor, v_i.currency,
           v_i.attestation_id, v_i.not_before, v_not_after, v_i.ordering_key, v_i.traceparent, session_user, v_now, outbox.active_policy_version();
    insert into outbox.payment_outbox_pending (outbox_id, rail, participant_id, is_ordered, is_redrive, next_attempt_at, not_after, created_at)
    values (new_outbox_id, v_i.rail, v_i.participant_id, v_i.ordering_key is not null, true, greatest(v_now, v_i.not_before), v_not_after, v_now);
    if v_i.ordering_key is not null then
        perform outbox.enqueue_in_order(array[new_outbox_id], array[v_i.rail], array[v_i.ordering_key]);
    end if;
    result := 'APPLIED';
    return next;
end
$$;
