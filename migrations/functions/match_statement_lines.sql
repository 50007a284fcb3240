create or replace function outbox.match_statement_lines(p_statement_id uuid, p_now timestamptz) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set jit = off
set plan_cache_mode = force_custom_plan
set enable_nestloop = off
set enable_seqscan = off
as $$
-- Purpose: records which payment each paid line is of, for lines that have none yet: by the wire key; only a line without one by its
--   reference. Internal to finish_reconcile.
--   Of lines and payments with one reference each line gets another payment: the nth line the nth payment with the same money;
--   what is then left the nth of those left, whose money differs; and a line too many a payment that has a line, so that it is twice.
--   First come payments that an overlapping statement has under this reference, for it is the same booking, then those
--   that no statement has.
-- Hazard: references are in no index of the ledger. They are looked for where attempts ended about the period, and in the
--   whole ledger only for references of which there are fewer payments than lines, which is what we do not know. What the planner
--   takes for one row is a statement: joined by loops, 20,000 lines took 100 s. What is looked up by key has functions of its own.
declare
    s outbox.reconcile_statements;
begin
    select * into s from outbox.reconcile_statements r where r.statement_id = p_statement_id;
    perform outbox.match_lines_by_key(p_statement_id, p_now);
    with lines as materialized (
        select l.line_no, l.rail_reference, l.amount_minor, l.currency,
               row_number() over (partition by l.rail_reference, l.amount_minor, l.currency order by l.line_no) as place
          from outbox.reconcile_lines l
         where l.statement_id = p_statement_id and l.is_paid and coalesce(btrim(l.wire_key), '') = ''
           and not exists (select from outbox.reconcile_matches m where m.statement_id = p_statement_id and m.line_no = l.line_no)
    ), near as materialized (
        select a.rail_reference, a.outbox_id, a.state
          from outbox.payment_outbox_attempts a
         where a.rail = s.rail and a.rail_reference in (select l.rail_reference from lines l)
           and a.completed_at >= s.booked_from - interval '7 days' and a.completed_at < s.booked_until + interval '7 days'
        union all
        select o.rail_reference, o.outbox_id, 'LATE'
          from outbox.payment_outbox_late_outcomes o
          join outbox.payment_outbox_instructions i on i.outbox_id = o.outbox_id and i.rail = s.rail
         where o.rail_reference in (select l.rail_reference from lines l)
    ), scarce as materialized (
        select l.rail_reference
          from (select q.rail_reference, count(*) as how_many from lines q group by q.rail_reference) as l
          left join (select n.rail_reference, count(distinct n.outbox_id) as how_many from near n
                      where not exists (select from outbox.reconcile_matches m where m.statement_id = p_statement_id and m.outbox_id = n.outbox_id)
                      group by n.rail_reference) as n on n.rail_reference = l.rail_reference
         where l.how_many > coalesce(n.how_many, 0)
    ), candidates as materialized (
        select c.rail_reference, c.outbox_id, c.is_dispatched, i.amount_minor, i.currency,
               outbox.booked_before(p_statement_id, c.outbox_id, c.rail_reference) as rank,
               exists (select from outbox.reconcile_matches m where m.statement_id = p_statement_id and m.outbox_id = c.outbox_id) as is_taken
          from (select f.rail_reference, f.outbox_id, bool_or(f.state = 'DISPATCHED') as is_dispatched
                  from (select * from near
                        union all
                        select a.rail_reference, a.outbox_id, a.state
                          from outbox.attempts_by_reference(s.rail, array(select r.rail_reference from scarce r)) as a) as f
                 group by f.rail_reference, f.outbox_id) as c
         cross join lateral (select n.amount_minor, n.currency from outbox.payment_outbox_instructions n where n.outbox_id = c.outbox_id limit 1) as i
    ), placed as materialized (
        select c.*, row_number() over (partition by c.rail_reference, c.amount_minor, c.currency order by c.rank, c.is_dispatched desc, c.outbox_id) as place
          from candidates c where not c.is_taken
    ), alike as materialized (
        select l.line_no, p.rail_reference, p.outbox_id
          from lines l
          join placed p on (p.rail_reference, p.amount_minor, p.currency, p.place) = (l.rail_reference, l.amount_minor, l.currency, l.place)
    ), left_over as materialized (
        select q.line_no, q.rail_reference, q.amount_minor, q.currency, row_number() over (partition by q.rail_reference order by q.line_no) as place
          from lines q where not exists (select from alike x where x.line_no = q.line_no)
    ), other as materialized (
        select l.line_no, p.outbox_id
          from left_over l
          join (select q.rail_reference, q.outbox_id,
                       row_number() over (partition by q.rail_reference order by q.rank, q.is_dispatched desc, q.outbox_id) as place
                  from placed q where not exists (select from alike x where x.rail_reference = q.rail_reference and x.outbox_id = q.outbox_id)) as p
            on (p.rail_reference, p.place) = (l.rail_reference, l.place)
    )
    insert into outbox.reconcile_matches
    select p_statement_id, f.line_no, f.outbox_id, p_now
      from (select x.line_no, x.outbox_id from alike x
            union all
            select x.line_no, x.outbox_id from other x
            union all
            (select distinct on (l.line_no) l.line_no, c.outbox_id
              from left_over l join candidates c on c.rail_reference = l.rail_reference
             where not exists (select from other x where x.line_no = l.line_no)
             order by l.line_no, (c.amount_minor, c.currency) is not distinct from (l.amount_minor, l.currency) desc, c.rank, c.is_dispatched desc,
                      c.outbox_id)) as f;
end
$$;
