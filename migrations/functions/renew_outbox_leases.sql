create or replace function outbox.renew_outbox_leases(
    p_worker_id text, p_outbox_ids uuid[], p_attempt_nos integer[], p_lease_tokens uuid[]
) returns table (ordinal integer, verdict text, lease_ms bigint)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
-- Purpose: extends leases that still hold to the contract's lease_duration_ms from now.
-- Parameters: arrays of one length, a lease an element.
-- Results: by ordinal. renewed, with the lease's new length; fenced: it is lost, and no renewal brings it
--   back; busy: somebody has the row locked, try again.
-- Locks taken: the rows, for no key update, in order of id, skip locked.
-- Hazard: the clock is read after the locks; a lease that ran out during a wait is lost.
declare
    v_locked uuid[];
    v_now timestamptz;
begin
    v_locked := array(select p.outbox_id from outbox.payment_outbox_pending p where p.outbox_id = any (p_outbox_ids)
                       order by p.outbox_id for no key update skip locked);
    v_now := clock_timestamp();
    return query
    with given as materialized (
        select c.ordinal::integer, c.outbox_id, c.attempt_no, c.lease_token
          from unnest(p_outbox_ids, p_attempt_nos, p_lease_tokens) with ordinality as c (outbox_id, attempt_no, lease_token, ordinal)
    ), renewed as (
        update outbox.payment_outbox_pending p
           set lease_expires_at = v_now + r.lease_duration_ms * interval '1 ms'
          from given g, outbox.payment_rails r
         where p.outbox_id = g.outbox_id and p.outbox_id = any (v_locked) and r.rail = p.rail and p.claimed_by = p_worker_id
           and p.attempt_count = g.attempt_no and p.lease_token = g.lease_token and p.lease_expires_at > v_now
        returning p.outbox_id, p.attempt_count, p.lease_token, r.lease_duration_ms
    )
    select g.ordinal, case when n.outbox_id is not null then 'renewed'
                           when p.outbox_id is not null and g.outbox_id <> all (v_locked) then 'busy' else 'fenced' end, n.lease_duration_ms
      from given g
      left join renewed n on n.outbox_id = g.outbox_id and n.attempt_count = g.attempt_no and n.lease_token = g.lease_token
      left join lateral (select q.outbox_id from outbox.payment_outbox_pending q where q.outbox_id = g.outbox_id limit 1) as p on true
     order by g.ordinal;
end
$$;
