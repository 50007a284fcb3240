create or replace function outbox.claim_outbox_batch(
    p_rail text, p_worker_id text, p_limit integer, p_min_lease_ms bigint, p_in_flight integer,
    p_after_at timestamptz default null, p_after_id uuid default null, p_environment text default null, p_endpoint text default null,
    p_seen_epoch_us bigint default 0, p_seen_log_position bigint default 0, p_memory_id uuid default null, p_seen_beat bigint default 0, p_policy_version integer default null
) returns table (
    kind text, outbox_id uuid, attempt_no integer, lease_token uuid, lease_ms bigint, due_at timestamptz, participant_id text,
    endpoint text, payload bytea, content_type text, traceparent text, not_after timestamptz, crash_count integer, is_resend boolean, hold_reason text,
    db_now timestamptz, next_due_at timestamptz, held_count integer, expired_count integer, suspect_count integer, parked_count integer,
    paused boolean, log_position bigint, epoch_us bigint)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_sort = off
as $$
#variable_conflict use_column
-- Purpose: leases at most p_limit due payments of one rail, and applies contract, rate, order and pauses.
-- Parameters: p_min_lease_ms, what one send and its completion need; p_in_flight, the lane's sends under way:
--   a payment that crashed two workers is claimed only at 0, and alone; p_after_*, the claim cursor, null for a sweep;
--   p_environment, what the dispatcher is configured for; p_endpoint, where its lane sends now; p_seen_* and p_memory_id, what it remembers; p_policy_version, whose tables it reads answers by.
-- Results: SUBMIT, a payment to send (is_resend: an earlier attempt was not certainly unsent;
--   endpoint: where, for one that was ever in doubt the one it was sent to); INQUIRE, one to ask after,
--   without its payload; HELD, one that now waits for a person;
--   last SUMMARY: due_at and outbox_id are the greatest pair looked at, expired_count lost leases were settled
--   and are due again, suspect_count crashers wait for an empty lane, parked_count stand behind another of their ordering key.
-- Locks taken: those of `choose_payments`.
-- Hazards: those of `choose_payments`; plans are made anew here: the bounds of the chosen ids leave out all months but their own.
declare
    v_c record;
begin
    select c.* into v_c from outbox.choose_payments(p_rail, p_limit, p_min_lease_ms, p_in_flight, p_after_at, p_after_id, p_environment,
        p_seen_epoch_us, p_seen_log_position, p_memory_id, p_seen_beat, p_policy_version) as c;
    if v_c.held_ids is not null then
        kind := 'HELD';
        for outbox_id, attempt_no, hold_reason in select h.id, h.attempt_no, h.reason from unnest(v_c.held_ids, v_c.held_attempt_nos, v_c.held_reasons) as h (id, attempt_no, reason) loop
            return next;
        end loop;
    end if;
    return query
    with leased as (
        update outbox.payment_outbox_pending p
           set disposition = outbox.disposition_of(v_c.on_unknown, p.in_doubt_since is not null or p.late_success), attempt_count = p.attempt_count + 1,
               first_sent_at = coalesce(p.first_sent_at, v_c.now),
               endpoint = case when p.quarantine_until is null and p.in_doubt_since is null and not p.late_success then p_endpoint else p.endpoint end, claimed_by = p_worker_id, claimed_at = v_c.now,
               lease_token = gen_random_uuid(), lease_expires_at = v_c.now + v_c.lease_ms * interval '1 ms', policy_version = v_c.policy_version
         where p.outbox_id = any (v_c.chosen)
        returning p.outbox_id, p.attempt_count, p.lease_token, p.next_attempt_at, p.not_after, p.crash_count, outbox.attempt_kind_of(p.disposition) as kind,
                  p.first_sent_at < v_c.now or p.possible_duplicate as is_resend,
                  p.participant_id, p.endpoint)
    select l.kind, l.outbox_id, l.attempt_count, l.lease_token, v_c.lease_ms, l.next_attempt_at, l.participant_id, l.endpoint, i.payload,
           i.content_type, i.traceparent, l.not_after, l.crash_count, l.is_resend, null::text, v_c.now, null::timestamptz, null::integer, null::integer, null::integer, null::integer, null::boolean, null::bigint, null::bigint
      from leased l
     cross join lateral (select case l.kind when 'SUBMIT' then n.payload end as payload, n.content_type, n.traceparent from outbox.payment_outbox_instructions n
                          where n.outbox_id = l.outbox_id and n.outbox_id between v_c.least_id and v_c.greatest_id limit 1) as i;
    return query
    select 'SUMMARY', v_c.last_id, null::integer, null::uuid, null::bigint, v_c.last_due_at, null, null, null::bytea, null, null, null::timestamptz, null::integer, null::boolean, null,
           v_c.now, v_c.next_due_at, coalesce(cardinality(v_c.held_ids), 0), v_c.expired, v_c.suspects, v_c.parked, v_c.paused, v_c.log_position, v_c.epoch_us;
end
$$;
