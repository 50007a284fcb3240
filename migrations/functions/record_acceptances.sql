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
--   delete goes to the ctid found (the caller's locks keep it); the row is judged as it is locked.
declare
    v_places integer[];
begin
    with ended as (
        delete from outbox.payment_outbox_pending p
         using unnest(p_outbox_ids, p_attempt_nos, p_lease_tokens, p_outcomes, p_first_byte_ats, p_last_byte_ats, p_endpoints, p_request_sha256s,
                      p_response_sha256s, p_rail_references, p_rail_codes, p_error_classes, p_error_details) with ordinality
               as c (outbox_id, attempt_no, lease_token, outcome, first_byte_at, last_byte_at, endpoint, request_sha256,
                     response_sha256, rail_reference, rail_code, error_class, error_detail, place)
         cross join lateral (select q.ctid as tid from outbox.payment_outbox_pending q where q.outbox_id = c.outbox_id limit 1) as l
         where p.ctid = l.tid and c.outcome = 'ACCEPTED' and c.rail_reference <> '' and c.outbox_id <> all (p_unlocked)
           and p.attempt_count = c.attempt_no and p.lease_token = c.lease_token and p.lease_expires_at > p_now
        returning c.*, p.rail, p.disposition, p.claimed_by, p.claimed_at, p.policy_version
    ), recorded as (
        insert into outbox.payment_outbox_attempts
        select e.outbox_id, e.attempt_no, e.rail, outbox.attempt_kind_of(e.disposition), 'DISPATCHED', e.outcome, e.claimed_by, e.lease_token, e.claimed_at,
               e.first_byte_at, e.last_byte_at, p_now, left(e.endpoint, 500), e.request_sha256, e.response_sha256, left(e.rail_reference, 256),
               left(e.rail_code, 256), left(e.error_class, 100), left(e.error_detail, 500), e.policy_version
          from ended e
    )
    select coalesce(array_agg(e.place::integer order by e.place), '{}') into v_places from ended e;
    return v_places;
end
$$;
