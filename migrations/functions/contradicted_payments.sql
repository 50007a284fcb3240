create or replace function outbox.contradicted_payments() returns table (kind text, outbox_id uuid, rail text, detail text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set jit = off
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
-- Purpose: payments that money has left for against our books, or twice, as the rail's late answers say. Internal to
--   audit_payments, read_outbox_status and read_outbox_metrics.
-- Results: FAILED_BUT_ACCEPTED: ended without success, and accepted by the rail. ACCEPTED_TWICE: the rail gave more than one
--   reference. A payment can be both. Of all time, since nothing in the books can mend it: those of detached months as their
--   receipts say. ACCEPTED_WHEN_DETACHED: accepted later than its month was sealed; its rail is not known here.
-- Hazards: a person's evidence is no reference of the rail, and must not count for one; what a statement says is. The range
--   of the ids is a constant for the planner, which leaves out the other months; look-ups are lateral, by key.
declare
    v_lo uuid := (select l.outbox_id from outbox.payment_outbox_late_outcomes l where l.outcome = 'ACCEPTED' order by l.outbox_id limit 1);
    v_hi uuid := (select l.outbox_id from outbox.payment_outbox_late_outcomes l where l.outcome = 'ACCEPTED' order by l.outbox_id desc limit 1);
begin
    return query
    with late as materialized (
        select l.outbox_id, array_agg(l.rail_reference) as given
          from outbox.payment_outbox_late_outcomes l
         where l.outcome = 'ACCEPTED' and l.outbox_id between v_lo and v_hi
         group by l.outbox_id
    )
    select f.kind, t.outbox_id, i.rail, f.detail
      from late t
     cross join lateral (select n.rail from outbox.payment_outbox_instructions n
                          where n.outbox_id = t.outbox_id and n.outbox_id between v_lo and v_hi limit 1) as i
     cross join lateral (
         select coalesce(bool_or(a.state <> 'DISPATCHED'), false) as is_unsuccessful,
                array_agg(a.rail_reference) filter (where a.state = 'DISPATCHED' and a.rail_reference <> ''
                    and not (a.kind = 'OPERATOR' and exists (select from outbox.operator_actions o
                        where o.action_id = a.lease_token and o.evidence = a.rail_reference))) as given
           from outbox.payment_outbox_attempts a
          where a.outbox_id = t.outbox_id and a.outbox_id between v_lo and v_hi and a.state in ('DISPATCHED', 'FAILED', 'CANCELLED')) as e
     cross join lateral (select array_agg(distinct u.reference order by u.reference) as all_given from unnest(t.given || e.given) as u (reference)) as r
     cross join lateral (values
        ('FAILED_BUT_ACCEPTED', e.is_unsuccessful, 'the rail said later that it had accepted it'),
        ('ACCEPTED_TWICE', cardinality(r.all_given) > 1, 'the rail accepted it under ' || array_to_string(r.all_given, ' and '))) as f (kind, is_so, detail)
     where f.is_so;
    return query
    select c.kind, c.outbox_id, c.rail, c.detail
      from outbox.partition_receipts r
     cross join lateral jsonb_to_recordset(r.contradictions) as c (kind text, outbox_id uuid, rail text, detail text)
     where outbox.detached_as(r.ids_from) is not null;
    return query
    select 'ACCEPTED_WHEN_DETACHED', l.outbox_id, null::text, 'the rail accepted it after its month was sealed: compare with how it ended there'
      from outbox.detached_id_ranges() as g
      join outbox.payment_outbox_late_outcomes l on l.outbox_id >= g.ids_from and l.outbox_id < g.ids_before and l.outcome = 'ACCEPTED'
      join outbox.partition_seals s on s.holds = 'PAYMENTS' and l.outbox_id >= outbox.outbox_id_floor(s.month::timestamp at time zone 'UTC')
                                   and l.outbox_id < outbox.outbox_id_floor((s.month + interval '1 month') at time zone 'UTC') and l.recorded_at > s.sealed_at;
end
$$;
