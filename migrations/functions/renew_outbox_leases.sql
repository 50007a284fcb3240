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
-- Purpose: extends leases that still hold to the contract's lease_duration_ms from now, and shortens none.
-- Parameters: arrays of one length, a lease an element.
-- Results: by ordinal. renewed, with the lease's new length; fenced: it is lost, and no renewal brings it
--   back; busy: somebody has the row locked, try again.
-- Locks taken: the rows, for no key update, in order of id, skip locked.
-- Hazards: the clock is read after the locks; a lease that ran out during a wait is lost. The update goes to
--   the ctid found (the rows are locked): another join may rescan the batch for each row. From a clock that was put back
--   for a moment a lease would be renewed to an end before the one it had, and lost as soon as the clock is right.
declare
    v_locked uuid[];
    v_now timestamptz;
begin
    v_locked := array(select p.outbox_id from outbox.payment_outbox_pending p where p.outbox_id = any (p_outbox_ids)
                       order by p.outbox_id for no key update skip locked);
    v_now := clock_timestamp();
    return query
    with judged as materialized (
        select g.ordinal::integer, p.tid, r.lease_duration_ms,
               case when g.outbox_id <> all (v_locked) then case when p.tid is null then 'fenced' else 'busy' end
                    when p.claimed_by = p_worker_id and p.attempt_count = g.attempt_no and p.lease_token = g.lease_token
                         and p.lease_expires_at > v_now then 'renewed' else 'fenced' end as verdict
          from unnest(p_outbox_ids, p_attempt_nos, p_lease_tokens) with ordinality as g (outbox_id, attempt_no, lease_token, ordinal)
          left join lateral (select q.ctid as tid, q.* from outbox.payment_outbox_pending q where q.outbox_id = g.outbox_id limit 1) as p on true
          left join outbox.payment_rails r on r.rail = p.rail
    ), renewed as (
        update outbox.payment_outbox_pending p
           set lease_expires_at = greatest(p.lease_expires_at, v_now + j.lease_duration_ms * interval '1 ms')
          from judged j
         where p.ctid = j.tid and j.verdict = 'renewed'
    )
    select j.ordinal, j.verdict, case when j.verdict = 'renewed' then j.lease_duration_ms end
      from judged j
     order by j.ordinal;
end
$$;
