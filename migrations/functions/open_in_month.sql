create or replace function outbox.open_in_month(p_holds text, p_month date, p_min_age_ms bigint) returns setof text
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set jit = off
as $$
-- Purpose: why a month cannot be detached, a sentence a row with an example; no row if nothing in it is open. Internal to the steps of detaching.
-- Parameters: p_holds, as in month_tables; p_month, its first day; p_min_age_ms, how long ago the last thing in it has to have happened. A
--   rail's key window and quarantine count where they are longer.
-- Hazard: what is asked of the ledger carries the month's id range, a constant for the planner.
declare
    v_now timestamptz := clock_timestamp();
    v_age interval := justify_hours(p_min_age_ms * interval '1 ms');
    v_since timestamptz := v_now - v_age;
    v_end timestamptz := (p_month + interval '1 month') at time zone 'UTC';
    v_lo uuid := outbox.outbox_id_floor(p_month::timestamp at time zone 'UTC');
    v_hi uuid := outbox.outbox_id_floor(v_end);
begin
    if v_end > v_now then
        return next 'the month is not over';
    end if;
    if p_holds <> 'PAYMENTS' then
        if v_end > v_since then
            return next format('the month ended less than %s ago', v_age);
        end if;
        return query
        select format('the payments of %s are here: they go first', to_char(p.month, 'YYYY-MM'))
          from outbox.read_outbox_partitions() as p
         where p.holds = 'PAYMENTS' and p.month in (p_month, p_month + interval '1 month') and p.state not in ('DETACHED', 'GONE')
         group by p.month;
        return query
        select format('%s pending payments name what is in it, such as %s', count(*), min(p.outbox_id::text))
          from outbox.payment_outbox_pending p
         cross join lateral (select n.attestation_id from outbox.payment_outbox_instructions n where n.outbox_id = p.outbox_id limit 1) as i
         where i.attestation_id >= v_lo and i.attestation_id < v_hi having count(*) > 0;
        return;
    end if;
    return query
    select format('%s payments are pending (%s), such as %s', count(*), string_agg(distinct lower(p.disposition), ', '), min(p.outbox_id::text))
      from outbox.payment_outbox_pending p where p.outbox_id >= v_lo and p.outbox_id < v_hi having count(*) > 0;
    return query
    select format('%s breaks with a statement are open, such as %s of payment %s', count(*), min(b.break_id::text), min(b.outbox_id::text))
      from outbox.reconcile_breaks b
     where b.outbox_id >= v_lo and b.outbox_id < v_hi
       and not exists (select from outbox.reconcile_closed c where c.break_id = b.break_id)
       and not exists (select from outbox.reconcile_voidings v where v.statement_id = b.statement_id) having count(*) > 0;
    return query
    select format('%s dispatched payments of rail %s wait for a statement, such as %s', count(*), r.rail, min(a.outbox_id::text))
      from outbox.payment_rails r
     cross join lateral (select outbox.reconcile_judged_until(r.rail) as until) as j
      join outbox.payment_outbox_attempts a on a.rail = r.rail and a.state = 'DISPATCHED' and a.completed_at >= j.until
     where a.outbox_id >= v_lo and a.outbox_id < v_hi
     group by r.rail;
    return query
    select format('an action of %s payments is not done and not withdrawn: %s', count(*), m.action_id)
      from outbox.operator_action_members m
     where m.outbox_id >= v_lo and m.outbox_id < v_hi
       and not exists (select from outbox.operator_action_results r where r.action_id = m.action_id and r.outbox_id = m.outbox_id)
       and not exists (select from outbox.operator_action_decisions d where d.action_id = m.action_id and d.decision in ('REJECTED', 'WITHDRAWN'))
     group by m.action_id;
    return query
    select format('%s payments of rail %s ended an attempt less than %s ago, such as %s', count(distinct a.outbox_id), a.rail, g.age, min(a.outbox_id::text))
      from outbox.payment_outbox_attempts a
      left join outbox.payment_rails r on r.rail = a.rail
     cross join lateral (select justify_hours(greatest(p_min_age_ms, r.idempotency_window_ms, r.rail_timeout_ms + r.processing_bound_ms) * interval '1 ms') as age) as g
     where a.outbox_id >= v_lo and a.outbox_id < v_hi and a.completed_at > v_now - g.age
     group by a.rail, g.age;
    return query
    select format('%s outcomes were learned late less than %s ago, such as one of payment %s', count(*), v_age, min(l.outbox_id::text))
      from outbox.payment_outbox_late_outcomes l
     where l.outbox_id >= v_lo and l.outbox_id < v_hi and l.recorded_at > v_since having count(*) > 0;
    return query
    select format('%s payments break a promise, says the last audit, such as %s', count(*), min(o.outbox_id::text))
      from outbox.audit_open o where o.is_broken and o.outbox_id >= v_lo and o.outbox_id < v_hi having count(*) > 0;
end
$$;
