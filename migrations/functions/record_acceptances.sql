create or replace function outbox.record_acceptances(
    p_unlocked uuid[], p_now timestamptz, p_outbox_ids uuid[], p_attempt_nos integer[], p_lease_tokens uuid[], p_outcomes text[],
    p_first_byte_ats timestamptz[], p_last_byte_ats timestamptz[], p_endpoints text[], p_request_sha256s bytea[],
    p_response_sha256s bytea[], p_rail_references text[], p_rail_codes text[], p_error_classes text[], p_error_details text[]
) returns integer[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
-- Purpose: records the acceptances of a batch whose leases hold, and takes their payments from the queue. An acceptance with
--   a reference is DISPATCHED under every contract, whatever the payment's state: of all that follows from an outcome nothing
--   has to be worked out, which is most of what completing costs. Internal to complete.
-- Parameters: p_unlocked, the payments of the batch whose rows the caller has not locked, which are few: a kept plan goes through them for each payment;
--   p_now, its clock after the lock; then the arrays of the batch, in which no payment is named twice.
-- Results: the places of those that were recorded, in order. All others are the caller's: without a reference, fenced, busy.
-- Hazard: the one plan that is kept must not depend on what the tables hold. The look-up is lateral with a limit, and the
--   delete goes to the ctid found (the caller's locks keep it); the row is judged as it is locked. What is only recorded is
--   taken by its place: each array in unnest is a set of its own.
declare
    v_places integer[];
begin
    with ended as (
        delete from outbox.payment_outbox_pending p
         using unnest(p_outbox_ids, p_attempt_nos, p_lease_tokens, p_outcomes, p_rail_references) with ordinality
               as c (outbox_id, attempt_no, lease_token, outcome, rail_reference, place)
         cross join lateral (select q.ctid as tid from outbox.payment_outbox_pending q where q.outbox_id = c.outbox_id limit 1) as l
         where p.ctid = l.tid and c.outcome = 'ACCEPTED' and c.rail_reference <> '' and c.outbox_id <> all (p_unlocked)
           and p.attempt_count = c.attempt_no and p.lease_token = c.lease_token and p.lease_expires_at > p_now
        returning c.*, p.rail, p.disposition, p.claimed_by, p.claimed_at, p.policy_version
    ), recorded as (
        insert into outbox.payment_outbox_attempts
        select e.outbox_id, e.attempt_no, e.rail, outbox.attempt_kind_of(e.disposition), 'DISPATCHED', e.outcome, e.claimed_by, e.lease_token, e.claimed_at,
               p_first_byte_ats[e.place], p_last_byte_ats[e.place], p_now, left(p_endpoints[e.place], 500), p_request_sha256s[e.place],
               p_response_sha256s[e.place], left(e.rail_reference, 256), left(p_rail_codes[e.place], 256), left(p_error_classes[e.place], 100),
               left(p_error_details[e.place], 500), e.policy_version
          from ended e
    )
    select coalesce(array_agg(e.place::integer order by e.place), '{}') into v_places from ended e;
    return v_places;
end
$$;
