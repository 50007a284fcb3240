create or replace function outbox.reconcile_cover(p_rail text, p_statement_id uuid) returns tstzmultirange
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the time that a rail's statements cover, of those that count and of the one that is being compared. Internal to
--   finish_reconcile.
    select coalesce(range_agg(tstzrange(s.booked_from, s.booked_until)), '{}')
      from outbox.reconcile_statements s
     where s.rail = p_rail and (s.statement_id = p_statement_id or s.statement_id in (select c.statement_id from outbox.reconcile_counted c))
$$;
