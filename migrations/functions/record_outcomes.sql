create or replace function outbox.record_outcomes(
    p_accepted integer[], p_locked uuid[], p_now timestamptz,
    p_worker_id text, p_outbox_ids uuid[], p_attempt_nos integer[], p_lease_tokens uuid[], p_outcomes text[], p_delays_ms bigint[],
    p_first_byte_ats timestamptz[], p_last_byte_ats timestamptz[], p_endpoints text[], p_request_sha256s bytea[],
    p_response_sha256s bytea[], p_rail_references text[], p_rail_codes text[], p_error_classes text[], p_error_details text[]
) returns table (ordinal integer, verdict text, state text, hold_reason text, next_attempt_at timestamptz)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
-- Purpose: records what is left of a batch after its acceptances, moves the payments on, and answers for the whole batch.
--   Internal to complete, which says what the verdicts mean.
-- Parameters: p_accepted, the places that are recorded already; p_locked, the rows that the caller has locked; p_now, its clock
--   after that; then the batch.
-- Hazard: look-ups are lateral with a limit, and updates go to the ctid that one found (the rows are locked, so it
--   stays): any other join to a table believed empty rescans the batch for each row. Plans are made anew: the bounds of
--   the batch's ids leave out all months but its own.
declare
    v_lo uuid := (select c.id from unnest(p_outbox_ids) as c (id) order by c.id limit 1);
    v_hi uuid := (select c.id from unnest(p_outbox_ids) as c (id) order by c.id desc limit 1);
begin
    return query
    with given as materialized (
        select c.ordinal::integer, c.outbox_id, c.attempt_no, c.lease_token,
               case when c.outcome = 'ACCEPTED' and coalesce(c.rail_reference, '') = '' then 'UNKNOWN' else c.outcome end as outcome,
               least(greatest(c.delay_ms, 0), 86400000) * interval '1 ms' as delay, c.first_byte_at, c.last_byte_at,
               left(c.endpoint, 500) as endpoint, c.request_sha256, c.response_sha256, left(c.rail_reference, 256) as rail_reference,
               left(c.rail_code, 256) as rail_code, left(c.error_class, 100) as error_class, left(c.error_detail, 500) as error_detail,
               row_number() over (partition by c.outbox_id order by c.ordinal) as nth
          from unnest(p_outbox_ids, p_attempt_nos, p_lease_tokens, p_outcomes, p_delays_ms, p_first_byte_ats, p_last_byte_ats, p_endpoints,
                      p_request_sha256s, p_response_sha256s, p_rail_references, p_rail_codes, p_error_classes, p_error_details) with ordinality
               as c (outbox_id, attempt_no, lease_token, outcome, delay_ms, first_byte_at, last_byte_at, endpoint, request_sha256,
                     response_sha256, rail_reference, rail_code, error_class, error_detail, ordinal)
         where c.ordinal::integer <> all (p_accepted)
    ), judged as materialized (
        select g.*, p.tid, p.rail, p.claimed_by, p.claimed_at, p.policy_version, n.*, r.on_unknown, (r.rail_timeout_ms + r.processing_bound_ms) * interval '1 ms' as doubt,
               case when p.outbox_id is not null and (g.nth > 1 or g.outbox_id <> all (p_locked)) then 'busy'
                    when p.attempt_count = g.attempt_no and p.lease_token = g.lease_token and p.lease_expires_at > p_now then 'applied'
                    when g.nth > 1 then 'busy' else 'late' end as verdict
          from given g
          left join lateral (select q as pending, q.ctid as tid, q.* from outbox.payment_outbox_pending q where q.outbox_id = g.outbox_id limit 1) as p on true
          left join outbox.payment_rails r on r.rail = p.rail
         cross join lateral outbox.after_attempt(p.pending, r, g.outcome, g.delay, p_now) as n
    ), decided as materialized (
        select j.*, a.outbox_id is not null as already, a.state as state_then
          from judged j
          left join lateral (select b.* from outbox.payment_outbox_attempts b where j.verdict = 'late' and b.outbox_id = j.outbox_id
                                and b.attempt_no = j.attempt_no and b.outbox_id between v_lo and v_hi limit 1) as a
            on a.lease_token = j.lease_token and a.outcome = j.outcome and a.rail_reference is not distinct from j.rail_reference
           and a.response_sha256 is not distinct from j.response_sha256
    ), recorded as (
        insert into outbox.payment_outbox_attempts
        select d.outbox_id, d.attempt_no, d.rail, d.kind, d.state, d.outcome, d.claimed_by, d.lease_token, d.claimed_at, d.first_byte_at, d.last_byte_at,
               p_now, d.endpoint, d.request_sha256, d.response_sha256, d.rail_reference, d.rail_code, d.error_class, d.error_detail, d.policy_version
          from decided d where d.verdict = 'applied'
    ), settled as (
        delete from outbox.payment_outbox_pending p using decided d
         where p.ctid = d.tid and d.verdict = 'applied' and d.state in ('DISPATCHED', 'FAILED')
    ), moved as (
        update outbox.payment_outbox_pending p
           set disposition = case when d.hold_reason is null then d.disposition else 'HELD' end, hold_reason = d.hold_reason,
               hold_requested = p.hold_requested and d.hold_reason is null, send_count = d.send_count, inquiry_count = d.inquiry_count,
               next_attempt_at = d.next_attempt_at, first_sent_at = d.first_sent_at, quarantine_until = d.quarantine_until,
               in_doubt_since = case when d.in_doubt then coalesce(p.in_doubt_since, p_now) end,
               claimed_by = null, claimed_at = null, lease_token = null, lease_expires_at = null, policy_version = null
          from decided d
         where p.ctid = d.tid and d.verdict = 'applied' and d.state not in ('DISPATCHED', 'FAILED')
    ), kept as (
        insert into outbox.payment_outbox_late_outcomes
        select l.outbox_id, l.attempt_no, sha256(convert_to(format('%s %s %L %L', l.lease_token, l.outcome, l.rail_reference, encode(l.response_sha256, 'hex')), 'UTF8')),
               l.lease_token, p_worker_id, l.outcome, l.first_byte_at, l.last_byte_at, p_now, l.endpoint, l.request_sha256,
               l.response_sha256, l.rail_reference, l.rail_code, l.error_class, l.error_detail
          from decided l where l.verdict = 'late' and not l.already
            on conflict do nothing
    ), warned as (
        update outbox.payment_outbox_pending p
           set late_success = p.late_success or l.outcome = 'ACCEPTED', in_doubt_since = coalesce(p.in_doubt_since, p_now),
               first_sent_at = coalesce(p.first_sent_at, l.first_byte_at, p_now), quarantine_until = greatest(p.quarantine_until, p_now + l.doubt),
               disposition = case when p.disposition = 'READY' and p.lease_token is null then outbox.disposition_of(l.on_unknown, true) else p.disposition end,
               hold_reason = case when l.outcome = 'ACCEPTED' and p.hold_reason <> 'CONTRADICTION' then 'LATE_SUCCESS' else p.hold_reason end
          from decided l
         where p.ctid = l.tid and l.verdict = 'late' and not l.already and l.outcome in ('ACCEPTED', 'INTERIM', 'UNKNOWN', 'KEY_REUSED', 'INCONCLUSIVE')
    )
    select d.ordinal, case when d.already then 'already_applied' when d.verdict = 'late' then 'fenced' else d.verdict end,
           case when d.already then d.state_then when d.verdict = 'applied' then d.state end, case when d.verdict = 'applied' and d.state not in ('DISPATCHED', 'FAILED') then d.hold_reason end,
           case when d.verdict = 'applied' and d.state not in ('DISPATCHED', 'FAILED') and d.hold_reason is null then d.next_attempt_at end
      from decided d
     union all
    select a.place, 'applied', 'DISPATCHED', null, null from unnest(p_accepted) as a (place)
     order by 1;
end
$$;
