create or replace function outbox.statement_findings(p_statement_id uuid)
returns table (kind text, subject text, outbox_id uuid, wire_key text, rail_reference text, line_no bigint, our_amount_minor bigint,
               our_currency text, their_amount_minor bigint, their_currency text, standing text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
-- Purpose: how a statement and our ledger differ, in one snapshot; what agrees comes as MATCHED, and what the first
--   statement of a rail cannot judge as AT_THE_EDGE. Internal to finish_reconcile.
-- Results: a payment is missing if the rail has booked it in none of its statements, though they cover without a gap all the
--   time in which it may have done so: from the first byte less the slack to the completion plus the slack.
declare
    s outbox.reconcile_statements;
    v_slack interval;
    v_covered timestamptz;
    v_earlier timestamptz;
    v_lo uuid;
    v_hi uuid;
begin
    select * into s from outbox.reconcile_statements r where r.statement_id = p_statement_id;
    v_slack := s.slack_ms * interval '1 ms';
    v_covered := s.booked_from;
    loop
        v_earlier := (select min(r.booked_from) from outbox.reconcile_statements r
                       where r.rail = s.rail and r.booked_until >= v_covered and r.booked_from < v_covered
                         and exists (select from outbox.reconcile_comparisons c where c.statement_id = r.statement_id));
        exit when v_earlier is null;
        v_covered := v_earlier;
    end loop;
    return query
    with lines as materialized (
        select m.*, row_number() over (partition by m.outbox_id order by m.line_no) as occurrence
          from outbox.statement_matches(p_statement_id) as m
    ), known as materialized (
        -- The last attempt, and the queue, of each payment that the statement names.
        select l.*, i.rail, i.amount_minor as our_amount, i.currency as our_currency, t.state, t.rail_reference as our_reference,
               case when i.rail <> s.rail then 'ON_RAIL ' || i.rail
                    else coalesce(t.state, p.disposition || coalesce(' ' || p.hold_reason, '')) end as stands
          from lines l
         cross join lateral (select n.rail, n.amount_minor, n.currency from outbox.payment_outbox_instructions n where n.outbox_id = l.outbox_id limit 1) as i
          left join lateral (select a.state, a.rail_reference from outbox.payment_outbox_attempts a
                              where a.outbox_id = l.outbox_id and a.state in ('DISPATCHED', 'FAILED', 'CANCELLED') limit 1) as t on true
          left join outbox.payment_outbox_pending p on p.outbox_id = l.outbox_id
         where l.outbox_id is not null
    ), ours as materialized (
        select a.outbox_id, a.rail_reference,
               a.completed_at + v_slack < s.booked_until and coalesce(f.first_at, a.completed_at) - v_slack >= v_covered as is_judged
          from outbox.payment_outbox_attempts a
          left join lateral (select min(e.claimed_at) as first_at from outbox.payment_outbox_attempts e
                              where e.outbox_id = a.outbox_id and e.kind = 'SUBMIT') as f on true
         where a.rail = s.rail and a.state = 'DISPATCHED'
           and a.completed_at >= s.booked_from - v_slack and a.completed_at < s.booked_until
    ), missing as (
        select o.*, i.amount_minor as our_amount, i.currency as our_currency
          from ours o
         cross join lateral (select n.amount_minor, n.currency from outbox.payment_outbox_instructions n where n.outbox_id = o.outbox_id limit 1) as i
         where not exists (select from known k where k.outbox_id = o.outbox_id)
           and not exists (select from outbox.reconcile_lines l where l.outbox_id = o.outbox_id and l.rail = s.rail and l.is_paid
                              and l.statement_id in (select c.statement_id from outbox.reconcile_comparisons c))
           and not exists (select from outbox.reconcile_lines l where l.rail = s.rail and l.rail_reference = o.rail_reference and l.is_paid
                              and l.wire_key is null and l.statement_id in (select c.statement_id from outbox.reconcile_comparisons c))
    )
    select case when m.is_judged then 'MISSING_AT_RAIL' else 'AT_THE_EDGE' end, m.outbox_id::text, m.outbox_id, null::text, m.rail_reference,
           null::bigint, m.our_amount, m.our_currency, null::bigint, null::text, 'DISPATCHED'
      from missing m
    union all
    select 'UNKNOWN_TO_US', coalesce(l.wire_key, l.rail_reference), null, l.wire_key, l.rail_reference, l.line_no, null, null, l.amount_minor,
           l.currency, null
      from lines l where l.outbox_id is null
    union all
    select f.kind, k.outbox_id::text, k.outbox_id, k.wire_key, coalesce(k.rail_reference, k.our_reference), k.line_no, k.our_amount, k.our_currency,
           k.amount_minor, k.currency, k.stands
      from known k
     cross join lateral (
        select 'AMOUNT_DIFFERS' as kind where k.our_amount is not null and (k.our_amount, k.our_currency) is distinct from (k.amount_minor, k.currency)
        union all
        -- Another statement may cover the same day: the same reference there is the same booking.
        select 'TWICE_AT_RAIL' where k.occurrence > 1 or exists (
            select from outbox.reconcile_lines l where l.outbox_id = k.outbox_id and l.statement_id <> p_statement_id and l.rail = s.rail and l.is_paid
               and l.rail_reference <> k.rail_reference and l.statement_id in (select c.statement_id from outbox.reconcile_comparisons c))
        union all
        select 'PAID_BUT_NOT_DISPATCHED' where k.stands <> 'DISPATCHED' and k.occurrence = 1) as f
    union all
    select 'MATCHED', k.outbox_id::text, k.outbox_id, k.wire_key, k.rail_reference, k.line_no, k.our_amount, k.our_currency, k.amount_minor,
           k.currency, k.stands
      from known k
     where k.stands = 'DISPATCHED' and k.occurrence = 1
       and (k.our_amount is null or (k.our_amount, k.our_currency) is not distinct from (k.amount_minor, k.currency));
end
$$;
