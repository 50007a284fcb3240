create or replace function outbox.statement_findings(p_statement_id uuid)
returns table (kind text, subject text, outbox_id uuid, wire_key text, rail_reference text, line_no bigint, our_amount_minor bigint,
               our_currency text, their_amount_minor bigint, their_currency text, standing text, booking text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
-- Purpose: how the paid lines of a statement, as they are matched, and our ledger differ; what agrees comes as MATCHED.
--   Internal to finish_reconcile.
-- Results: subject, the payment, or for what is about one booking (UNKNOWN_TO_US, TWICE_AT_RAIL) the booking: what the line says, and
--   the how many of lines alike it is. A payment that another statement had before is booked twice, unless the periods
--   overlap and this one has it under the same reference: then it is the same booking. So is one of which another generation was
--   booked: the instruction was paid twice. The rail's reference is compared only if the
--   statement shows references that we know, and never with what a person wrote. A booking of a payment whose month was detached is one
--   that we do not know any more, and its standing says so.
declare
    s outbox.reconcile_statements;
begin
    select * into s from outbox.reconcile_statements r where r.statement_id = p_statement_id;
    return query
    with lines as materialized (
        select l.line_no, l.wire_key, l.rail_reference, l.amount_minor, l.currency, m.outbox_id, l.outbox_id as named, m.matched_at,
               concat(l.wire_key, '|', l.rail_reference, '|', l.amount_minor, '|', l.currency, '|',
                      row_number() over (partition by l.wire_key, l.rail_reference, l.amount_minor, l.currency order by l.line_no)) as booking
          from outbox.reconcile_lines l
          left join outbox.reconcile_matches m on m.statement_id = l.statement_id and m.line_no = l.line_no
         where l.statement_id = p_statement_id and l.is_paid
    ), known as materialized (
        -- The last attempt, and the queue, of each payment that the statement names.
        select l.*, i.rail, i.amount_minor as our_amount, i.currency as our_currency, t.state, t.rail_reference as our_reference, t.kind,
               case when i.rail <> s.rail then 'ON_RAIL ' || i.rail
                    else coalesce(t.state, p.disposition || coalesce(' ' || p.hold_reason, '')) end as stands,
               row_number() over (partition by l.outbox_id order by l.rail_reference is not distinct from t.rail_reference desc, l.line_no) as occurrence
          from lines l
         cross join lateral (select n.rail, n.amount_minor, n.currency from outbox.payment_outbox_instructions n where n.outbox_id = l.outbox_id limit 1) as i
          left join lateral (select a.state, a.rail_reference, a.kind from outbox.payment_outbox_attempts a
                              where a.outbox_id = l.outbox_id and a.state in ('DISPATCHED', 'FAILED', 'CANCELLED') limit 1) as t on true
          left join outbox.payment_outbox_pending p on p.outbox_id = l.outbox_id
         where l.outbox_id is not null
    ), judged as materialized (
        select k.*, k.occurrence > 1 or exists (
                   select from outbox.reconcile_matches m
                     join outbox.reconcile_counted t on t.statement_id = m.statement_id and t.rail = s.rail
                     join outbox.reconcile_lines l on l.statement_id = m.statement_id and l.line_no = m.line_no
                    where m.outbox_id = k.outbox_id and m.statement_id <> p_statement_id and m.matched_at < k.matched_at
                      and not (t.booked_from < s.booked_until and t.booked_until > s.booked_from
                               and exists (select from outbox.reconcile_matches n
                                             join outbox.reconcile_lines h on h.statement_id = n.statement_id and h.line_no = n.line_no
                                            where n.statement_id = p_statement_id and n.outbox_id = k.outbox_id
                                              and h.rail_reference is not distinct from l.rail_reference)))
               -- Another generation of the instruction was booked: before, or in this statement as an earlier generation.
               or exists (
                   select from outbox.payment_outbox_instructions i
                     join outbox.payment_outbox_identities mine on mine.participant_id = i.participant_id and mine.instruction_id = i.instruction_id
                                                               and mine.outbox_id = i.outbox_id
                     join outbox.payment_outbox_identities other on other.participant_id = i.participant_id and other.instruction_id = i.instruction_id
                                                                and other.generation <> mine.generation
                     join outbox.reconcile_matches m on m.outbox_id = other.outbox_id
                    where i.outbox_id = k.outbox_id
                      and (m.statement_id = p_statement_id and other.generation < mine.generation
                           or m.statement_id <> p_statement_id and m.matched_at < k.matched_at
                              and m.statement_id in (select t.statement_id from outbox.reconcile_counted t))) as is_twice,
               k.our_amount is null or (k.our_amount, k.our_currency) is not distinct from (k.amount_minor, k.currency) as same_money,
               coalesce(btrim(k.wire_key), '') = '' or k.rail_reference is null or k.kind is distinct from 'SUBMIT' and k.kind is distinct from 'INQUIRE'
                   or k.state <> 'DISPATCHED' or k.rail_reference = k.our_reference
                   or not exists (select from known x where x.rail_reference in (select y.our_reference from known y)) as same_reference
          from known k
    )
    select 'UNKNOWN_TO_US', l.booking, null::uuid, l.wire_key, l.rail_reference, l.line_no, null::bigint, null::text, l.amount_minor,
           l.currency, case when outbox.detached_as(l.named) is not null then 'DETACHED' end, l.booking
      from lines l where l.outbox_id is null
    union all
    select f.kind, case f.kind when 'TWICE_AT_RAIL' then k.outbox_id || '|' || k.booking else k.outbox_id::text end, k.outbox_id, k.wire_key,
           coalesce(k.rail_reference, k.our_reference), k.line_no, k.our_amount, k.our_currency, k.amount_minor, k.currency, k.stands, k.booking
      from judged k
     cross join lateral (
        select 'TWICE_AT_RAIL' as kind where k.is_twice
        union all
        select 'AMOUNT_DIFFERS' where not k.same_money and k.occurrence = 1
        union all
        select 'REFERENCE_DIFFERS' where not k.same_reference and not k.is_twice
        union all
        select 'PAID_BUT_NOT_DISPATCHED' where k.stands <> 'DISPATCHED' and k.occurrence = 1
        union all
        select 'MATCHED' where k.stands = 'DISPATCHED' and k.occurrence = 1 and k.same_money and k.same_reference) as f;
end
$$;
