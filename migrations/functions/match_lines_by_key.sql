create or replace function outbox.match_lines_by_key(p_statement_id uuid, p_now timestamptz) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set jit = off
set plan_cache_mode = force_custom_plan
set enable_nestloop = on
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
-- Purpose: records which payment each paid line is of that has our key, and no payment yet. Internal to match_statement_lines.
-- Hazard: a table that was empty is planned as one page, and this statement fills it: each line would read all that was written so far,
--   100,000 lines in 85 s. So each look-up is by key.
declare
    v_lo uuid;
    v_hi uuid;
begin
    select min(l.outbox_id::text)::uuid, max(l.outbox_id::text)::uuid into v_lo, v_hi from outbox.reconcile_lines l where l.statement_id = p_statement_id;
    insert into outbox.reconcile_matches
    select p_statement_id, l.line_no, i.outbox_id, p_now
      from outbox.reconcile_lines l
      join outbox.payment_outbox_instructions i on i.outbox_id = l.outbox_id and i.outbox_id between v_lo and v_hi
     where l.statement_id = p_statement_id and l.is_paid
       and not exists (select from outbox.reconcile_matches m where m.statement_id = p_statement_id and m.line_no = l.line_no);
end
$$;
