create or replace function outbox.reconcile_judged_until(p_rail text) returns timestamptz
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: of a rail's payments that ended before this, none waits for a statement; null if none was compared. Internal to
--   finish_reconcile and void_reconcile_statement.
    select j.judged_until
      from (select c.judged_until, c.compared_at as at from outbox.reconcile_comparisons c
              join outbox.reconcile_statements s on s.statement_id = c.statement_id and s.rail = p_rail
            union all
            select v.judged_until, v.voided_at from outbox.reconcile_voidings v
              join outbox.reconcile_statements s on s.statement_id = v.statement_id and s.rail = p_rail
             where v.judged_until is not null) as j
     order by j.at desc limit 1
$$;
