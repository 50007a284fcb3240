create or replace function outbox.complete_outbox_batch(
    p_worker_id text, p_outbox_ids uuid[], p_attempt_nos integer[], p_lease_tokens uuid[], p_outcomes text[], p_delays_ms bigint[],
    p_first_byte_ats timestamptz[], p_last_byte_ats timestamptz[], p_endpoints text[], p_request_sha256s bytea[],
    p_response_sha256s bytea[], p_rail_references text[], p_rail_codes text[], p_error_classes text[], p_error_details text[]
) returns table (ordinal integer, verdict text, state text, hold_reason text, next_attempt_at timestamptz)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
-- Purpose: records what attempts came to, if their leases still hold, and moves the payments on.
-- Parameters: lists of one length; outcomes, not states: what follows is derived here. p_delays_ms: the wait
--   before another send, if there is one, at most a day. An ACCEPTED without a reference counts as UNKNOWN.
-- Results: by ordinal. applied; already_applied: the same result of the same attempt is recorded; fenced: the
--   lease is lost, and what was learned is kept in late_outcomes; busy: somebody has the row locked, or the
--   payment is in the batch twice: try again.
-- Locks taken: the rows, for no key update, in order of id, skip locked: one locked row does not make the
--   others miss their leases.
-- Hazards: lock, clock and judgement are steps of their own, with snapshots of their own. In one statement all parts see the
--   time before the lock wait: an overlapping retry came out fenced, a late success was missed. now() accepts a lease that
--   has run out. Plans are kept: nothing is read here but the queue, by its primary key.
declare
    v_sorted uuid[] := array(select distinct c.id from unnest(p_outbox_ids) as c (id) order by c.id);
    v_locked uuid[];
    v_ordered boolean;
    v_now timestamptz;
    v_unlocked uuid[] := '{}';
    v_accepted integer[] := '{}';
begin
    perform outbox.refuse_bad_completions(p_outbox_ids, p_attempt_nos, p_lease_tokens, p_outcomes,
        array[array_dims(p_outbox_ids), array_dims(p_attempt_nos), array_dims(p_lease_tokens), array_dims(p_outcomes), array_dims(p_delays_ms),
              array_dims(p_first_byte_ats), array_dims(p_last_byte_ats), array_dims(p_endpoints), array_dims(p_request_sha256s),
              array_dims(p_response_sha256s), array_dims(p_rail_references), array_dims(p_rail_codes), array_dims(p_error_classes), array_dims(p_error_details)],
        num_nulls(p_outbox_ids, p_attempt_nos, p_lease_tokens, p_outcomes, p_delays_ms, p_first_byte_ats, p_last_byte_ats, p_endpoints, p_request_sha256s,
              p_response_sha256s, p_rail_references, p_rail_codes, p_error_classes, p_error_details));
    select coalesce(array_agg(s.outbox_id), '{}'), bool_or(s.is_ordered) into v_locked, v_ordered
      from (select p.outbox_id, p.is_ordered from outbox.payment_outbox_pending p where p.outbox_id = any (v_sorted)
             order by p.outbox_id for no key update skip locked) as s;
    v_now := clock_timestamp();
    if cardinality(v_sorted) = cardinality(p_outbox_ids) then
        if cardinality(v_locked) < cardinality(v_sorted) then
            v_unlocked := array(select c.id from unnest(v_sorted) as c (id) except select l.id from unnest(v_locked) as l (id));
        end if;
        v_accepted := outbox.record_acceptances(v_unlocked, v_now,
            p_outbox_ids, p_attempt_nos, p_lease_tokens, p_outcomes, p_first_byte_ats, p_last_byte_ats, p_endpoints,
            p_request_sha256s, p_response_sha256s, p_rail_references, p_rail_codes, p_error_classes, p_error_details);
    end if;
    if cardinality(v_accepted) = cardinality(p_outbox_ids) then
        return query select a.place, 'applied', 'DISPATCHED', null::text, null::timestamptz from unnest(v_accepted) as a (place) order by 1;
    else
        return query select r.* from outbox.record_outcomes(v_accepted, v_locked, v_now, p_worker_id, p_outbox_ids, p_attempt_nos, p_lease_tokens, p_outcomes, p_delays_ms,
            p_first_byte_ats, p_last_byte_ats, p_endpoints, p_request_sha256s, p_response_sha256s, p_rail_references, p_rail_codes, p_error_classes, p_error_details) as r;
    end if;
    if v_ordered then
        perform outbox.unpark_successors(v_locked);
    end if;
end
$$;
