create or replace function outbox.booked_before(p_statement_id uuid, p_outbox_id uuid, p_reference text) returns integer
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_nestloop = on
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
-- Purpose: whether other statements of the rail that count have a booking of a payment. Internal to match_statement_lines.
-- Hazard: the caller's settings would hold here: a plan for each payment, and whole tables hashed for each.
-- Results: 0, one of an overlapping period has it under this reference, which is the same booking; 1, none has it; 2, others have.
begin
    return coalesce((
        select min(case when t.booked_from < s.booked_until and t.booked_until > s.booked_from and l.rail_reference = p_reference then 0 else 2 end)
          from outbox.reconcile_statements s
          join outbox.reconcile_counted t on t.rail = s.rail
          join outbox.reconcile_matches m on m.statement_id = t.statement_id and m.outbox_id = p_outbox_id
          join outbox.reconcile_lines l on l.statement_id = m.statement_id and l.line_no = m.line_no
         where s.statement_id = p_statement_id and t.statement_id <> p_statement_id), 1);
end
$$;
