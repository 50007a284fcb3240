create or replace function outbox.finish_reconcile(p_statement_id uuid, p_breaks_max integer)
returns table (matched bigint, at_the_edge bigint, breaks_found integer, breaks_closed integer, open_breaks bigint)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
#variable_conflict use_column
-- Purpose: compares a statement whose lines are all there with our ledger. Records the breaks that are not open already,
--   and closes those of the same rail that it shows to agree now. May be called again: the ledger goes on.
-- Parameters: p_breaks_max, refuses to record more: another rail's file differs in every line.
-- Results: what agrees, what the edge of the period leaves to the next statement, breaks found and closed now, and those
--   of the rail that are open. OB003: no such statement, lines are missing, or too many breaks.
-- Locks taken: an advisory one for all reconciliations, so that none finds a break that another is about to record.
declare
    s outbox.reconcile_statements;
    v_lines bigint := (select count(*) from outbox.reconcile_lines l where l.statement_id = p_statement_id);
    v_now timestamptz;
begin
    select * into s from outbox.reconcile_statements r where r.statement_id = p_statement_id;
    if not found then
        raise exception 'there is no statement %', p_statement_id using errcode = 'OB003', column = 'statement_id';
    elsif v_lines <> s.line_count then
        raise exception 'statement % has % lines of %', p_statement_id, v_lines, s.line_count using errcode = 'OB003', column = 'statement_id';
    end if;
    perform pg_advisory_xact_lock(outbox.reconcile_lock_key());
    v_now := clock_timestamp();
    with findings as materialized (
        select * from outbox.statement_findings(p_statement_id)
    ), still_open as materialized (
        select b.* from outbox.reconcile_breaks b
         where b.rail = s.rail and not exists (select from outbox.reconcile_resolutions r where r.break_id = b.break_id)
    ), recorded as (
        insert into outbox.reconcile_breaks
        select outbox.new_outbox_id(), p_statement_id, s.rail, f.kind, f.subject, f.outbox_id, f.wire_key, f.rail_reference, f.line_no, f.our_amount_minor,
               f.our_currency, f.their_amount_minor, f.their_currency, f.standing, v_now
          from findings f
         where f.kind not in ('MATCHED', 'AT_THE_EDGE')
           and not exists (select from still_open o where o.kind = f.kind and o.subject = f.subject)
        -- Of lines alike the first names the break; one that a person has resolved is not found again by the same statement.
         order by f.line_no
        on conflict on constraint break_is_found_once_in_a_statement do nothing
        returning 1
    ), agreed as (
        insert into outbox.reconcile_resolutions
        select o.break_id, 'it agrees by statement ' || p_statement_id, null, p_statement_id, session_user, v_now
          from still_open o
         where o.kind <> 'TWICE_AT_RAIL'
           and not exists (select from findings f where f.kind = o.kind and f.subject = o.subject)
           and exists (select from findings f
                        where f.kind not in ('MISSING_AT_RAIL', 'AT_THE_EDGE', 'UNKNOWN_TO_US')
                          and (f.subject = o.subject or (o.kind = 'UNKNOWN_TO_US' and (f.wire_key = o.subject or f.rail_reference = o.subject))))
        returning 1
    )
    select (select count(*) from findings f where f.kind = 'MATCHED'), (select count(*) from findings f where f.kind = 'AT_THE_EDGE'),
           (select count(*) from recorded), (select count(*) from agreed)
      into matched, at_the_edge, breaks_found, breaks_closed;
    if breaks_found > p_breaks_max then
        raise exception 'statement % has % new breaks, more than %', p_statement_id, breaks_found, p_breaks_max
            using errcode = 'OB003', column = 'breaks_max', hint = 'is it the right rail and period? nothing of the comparison is recorded';
    end if;
    insert into outbox.reconcile_comparisons
    values (p_statement_id, (select count(*) + 1 from outbox.reconcile_comparisons c where c.statement_id = p_statement_id),
            finish_reconcile.matched, finish_reconcile.at_the_edge, breaks_found, breaks_closed, session_user, v_now);
    open_breaks := (select count(*) from outbox.reconcile_breaks b
                     where b.rail = s.rail and not exists (select from outbox.reconcile_resolutions r where r.break_id = b.break_id));
    return next;
end
$$;
