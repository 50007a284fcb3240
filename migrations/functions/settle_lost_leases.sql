create or replace function outbox.settle_lost_leases(p_outbox_ids uuid[], p_now timestamptz)
returns table (outbox_id uuid, attempt_no integer, hold_reason text)
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
-- Purpose: ends each lost lease in a LEASE_EXPIRED attempt and applies the contract: the payment may have
--   been executed. Internal to claim and expire; the caller holds the rows' locks and saw the leases lost.
-- Parameters: p_now, the caller's clock.
-- Results: each payment with the reason it is held, or null if it may be sent again or inquired after.
-- Hazards: sent again without this row, a payment is paid twice with nothing in the ledger to show it. The
--   update goes to the ctid found (the caller's locks keep it): another join may rescan the batch for each row.
begin
    insert into outbox.payment_outbox_attempts
        (outbox_id, attempt_no, rail, kind, state, worker_id, lease_token, claimed_at, completed_at, endpoint, error_class, policy_version)
    select p.outbox_id, p.attempt_count, p.rail, outbox.attempt_kind_of(p.disposition), 'LEASE_EXPIRED', p.claimed_by, p.lease_token, p.claimed_at, p_now, p.endpoint, 'lease_lost', p.policy_version
      from outbox.payment_outbox_pending p
     where p.outbox_id = any (p_outbox_ids);

    return query
    update outbox.payment_outbox_pending p
       set disposition = case when l.reason is null then outbox.disposition_of(l.on_unknown, true) else 'HELD' end, hold_reason = l.reason,
           hold_requested = p.hold_requested and l.reason is null,
           crash_count = p.crash_count + 1, in_doubt_since = coalesce(p.in_doubt_since, p.lease_expires_at),
           quarantine_until = greatest(p.quarantine_until, l.quarantine_until),
           claimed_by = null, claimed_at = null, lease_token = null, lease_expires_at = null, policy_version = null
      from unnest(p_outbox_ids) as c (id)
     cross join lateral (
        select q.ctid as tid, r.on_unknown,
               -- A lost inquiry sends nothing late.
               case q.disposition when 'READY' then q.lease_expires_at + (r.rail_timeout_ms + r.processing_bound_ms) * interval '1 ms' end as quarantine_until,
               case when q.late_success and r.on_unknown <> 'inquire' then 'LATE_SUCCESS'
                    when q.hold_requested then 'REQUESTED'
                    when r.on_unknown = 'hold' then 'UNKNOWN'
                    when q.crash_count + 1 >= r.max_crashes then 'EXHAUSTED'
               end as reason
          from outbox.payment_outbox_pending q
          join outbox.payment_rails r on r.rail = q.rail
         where q.outbox_id = c.id
         limit 1) as l
     where p.ctid = l.tid
    returning p.outbox_id, p.attempt_count, p.hold_reason;
end
$$;
