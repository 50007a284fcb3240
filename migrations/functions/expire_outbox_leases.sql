create or replace function outbox.expire_outbox_leases(
    p_rail text, p_limit integer, p_after_at timestamptz default null, p_after_id uuid default null
) returns table (outbox_id uuid, attempt_no integer, hold_reason text, examined integer, last_at timestamptz, last_id uuid)
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
-- Purpose: settles lost leases of a rail that is not claimed (paused), so that nothing stays leased for ever.
-- Parameters: looks at p_limit rows of the due index from the pair p_after_* on; null: from the beginning.
-- Results: the settled payments; then one row without outbox_id: how many rows were looked at and the last
--   pair. Fewer than p_limit: the end is reached, begin again.
-- Locks taken: rows with a lost lease, for no key update, in due order, skip locked.
-- Hazard: lease columns are in no index (claims would not be HOT), so this reads the due index in bounded steps.
declare
    v_now timestamptz;
    v_ids uuid[];
    v_lost uuid[];
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'expire runs only at read committed: skip locked fails above it' using errcode = 'OB006';
    end if;
    v_now := clock_timestamp();
    select array_agg(s.outbox_id), (array_agg(s.next_attempt_at order by s.place desc))[1], (array_agg(s.outbox_id order by s.place desc))[1], count(*)
      into v_ids, last_at, last_id, examined
      from (select p.outbox_id, p.next_attempt_at, row_number() over (order by p.next_attempt_at, p.outbox_id) as place
              from outbox.payment_outbox_pending p
             where p.rail = p_rail and p.disposition in ('READY', 'IN_DOUBT')
               and (p.next_attempt_at, p.outbox_id) > (coalesce(p_after_at, '-infinity'), coalesce(p_after_id, '00000000-0000-0000-0000-000000000000'))
             order by p.next_attempt_at, p.outbox_id limit p_limit) as s;
    v_lost := array(select p.outbox_id from outbox.payment_outbox_pending p
                     where p.outbox_id = any (v_ids) and p.lease_expires_at <= v_now
                     order by p.outbox_id for no key update skip locked);
    if cardinality(v_lost) > 0 then
        return query select s.outbox_id, s.attempt_no, s.hold_reason, null::integer, null::timestamptz, null::uuid
                       from outbox.settle_lost_leases(v_lost, v_now) as s;
    end if;
    outbox_id := null;
    return next;
end
$$;
