create or replace function outbox.statement_matches(p_statement_id uuid)
returns table (line_no bigint, wire_key text, rail_reference text, amount_minor bigint, currency text, outbox_id uuid)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
-- Purpose: which payment each paid line of a statement is of: by its wire key, otherwise by its reference, otherwise none.
--   Internal to statement_findings.
-- Hazard: references are in no index of the ledger. They are looked for where attempts ended about the period, and in the
--   whole ledger only for what is then left, which is what we do not know.
declare
    s outbox.reconcile_statements;
    v_lo uuid;
    v_hi uuid;
begin
    select * into s from outbox.reconcile_statements r where r.statement_id = p_statement_id;
    select min(l.outbox_id::text)::uuid, max(l.outbox_id::text)::uuid into v_lo, v_hi from outbox.reconcile_lines l where l.statement_id = p_statement_id;
    return query
    with paid as materialized (
        select l.line_no, l.wire_key, l.rail_reference, l.amount_minor, l.currency, i.outbox_id
          from outbox.reconcile_lines l
          left join outbox.payment_outbox_instructions i on i.outbox_id = l.outbox_id and i.outbox_id between v_lo and v_hi
         where l.statement_id = p_statement_id and l.is_paid
    ), near as materialized (
        select r.line_no, (array_agg(r.outbox_id order by r.state = 'DISPATCHED' desc, r.outbox_id))[1] as outbox_id
          from (select p.line_no, a.outbox_id, a.state
                  from paid p
                  join outbox.payment_outbox_attempts a on a.rail_reference = p.rail_reference and a.rail = s.rail
                   and a.completed_at >= s.booked_from - interval '7 days' and a.completed_at < s.booked_until + interval '7 days'
                 where p.outbox_id is null
                union all
                select p.line_no, o.outbox_id, 'LATE'
                  from paid p
                  join outbox.payment_outbox_late_outcomes o on o.rail_reference = p.rail_reference
                  join outbox.payment_outbox_instructions i on i.outbox_id = o.outbox_id and i.rail = s.rail
                 where p.outbox_id is null) as r
         group by r.line_no
    ), far as materialized (
        select p.line_no, (array_agg(a.outbox_id order by a.state = 'DISPATCHED' desc, a.outbox_id))[1] as outbox_id
          from paid p
          join outbox.payment_outbox_attempts a on a.rail_reference = p.rail_reference and a.rail = s.rail
         where p.outbox_id is null and not exists (select from near n where n.line_no = p.line_no)
           and (select count(*) from paid q where q.outbox_id is null) > (select count(*) from near)
         group by p.line_no
    )
    select p.line_no, p.wire_key, p.rail_reference, p.amount_minor, p.currency, coalesce(p.outbox_id, n.outbox_id, f.outbox_id)
      from paid p
      left join near n on n.line_no = p.line_no
      left join far f on f.line_no = p.line_no;
end
$$;
