create or replace function outbox.finish_reconcile(p_statement_id uuid, p_breaks_max integer)
returns table (matched bigint, at_the_edge bigint, before_cover bigint, breaks_found integer, breaks_closed integer, open_breaks bigint,
               gaps_from timestamptz[], gaps_until timestamptz[])
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
#variable_conflict use_column
-- Purpose: compares a statement whose lines are all there with our ledger. Records which payment each line is of and the breaks that
--   are not open already, and closes those of the same rail that it shows to agree now. May be called again: the ledger goes on.
-- Parameters: p_breaks_max, refuses to record more: another rail's file differs in every line.
-- Results: what agrees, what waits for another statement, what may have been booked before the first one, breaks found and closed now,
--   those of the rail that are open, and what lies between the statements. OB003: no such statement, it is void, its lines are
--   not those that were announced, or too many breaks.
-- Locks taken: an advisory one for all reconciliations, so that none finds a break that another is about to record.
-- Hazard: a completion may commit after it was seen to be absent. What ended in the last hour is looked at again.
declare
    s outbox.reconcile_statements;
    v_now timestamptz;
    v_cover tstzmultirange;
    v_slack interval;
    v_from timestamptz;
    v_judged_until timestamptz;
begin
    perform pg_advisory_xact_lock(outbox.reconcile_lock_key());
    v_now := clock_timestamp();
    s := outbox.whole_statement(p_statement_id);
    v_cover := outbox.reconcile_cover(s.rail, p_statement_id);
    v_slack := (select max(r.slack_ms) from outbox.reconcile_statements r
                 where r.statement_id = p_statement_id or r.rail = s.rail and r.statement_id in (select c.statement_id from outbox.reconcile_counted c))
               * interval '1 ms';
    v_from := outbox.reconcile_judged_until(s.rail);
    if not exists (select from outbox.reconcile_comparisons c where c.statement_id = p_statement_id) then
        v_from := least(v_from, s.booked_from);
    end if;
    perform outbox.match_statement_lines(p_statement_id, v_now);
    with unbooked as materialized (
        select * from outbox.unbooked_payments(s.rail, p_statement_id, v_cover, v_slack, greatest(v_from, lower(v_cover)))
    ), findings as materialized (
        select * from outbox.statement_findings(p_statement_id)
        union all
        select u.kind, u.outbox_id::text, u.outbox_id, null, u.rail_reference, null, u.amount_minor, u.currency, null, null, 'DISPATCHED', null
          from unbooked u
    ), still_open as materialized (
        select b.*, r.booked_from < s.booked_until and r.booked_until > s.booked_from as is_overlapping,
               exists (select from outbox.reconcile_voidings v where v.statement_id = b.statement_id) as is_void
          from outbox.reconcile_breaks b
          join outbox.reconcile_statements r on r.statement_id = b.statement_id
         where b.rail = s.rail and not exists (select from outbox.reconcile_closed c where c.break_id = b.break_id)
    ), recorded as (
        insert into outbox.reconcile_breaks
        select outbox.new_outbox_id(), p_statement_id, s.rail, f.kind, f.subject, f.outbox_id, f.wire_key, f.rail_reference, f.line_no, f.our_amount_minor,
               f.our_currency, f.their_amount_minor, f.their_currency, f.standing, v_now
          from findings f
         where f.kind not in ('MATCHED', 'AT_THE_EDGE', 'BEFORE_COVER')
           and not exists (select from still_open o
                            where o.kind = f.kind and o.subject = f.subject and not o.is_void
                              and (o.is_overlapping or f.kind in ('MISSING_AT_RAIL', 'PAID_BUT_NOT_DISPATCHED'))
                              and (o.their_amount_minor, o.their_currency) is not distinct from (f.their_amount_minor, f.their_currency))
         order by f.line_no
        -- What a person has resolved is not found again by the same statement.
        on conflict on constraint break_is_found_once_in_a_statement do nothing
        returning 1
    ), agreed as (
        insert into outbox.reconcile_resolutions
        select o.break_id, 'it agrees by statement ' || p_statement_id, null, p_statement_id, session_user, v_now,
               (select count(*) + 1 from outbox.reconcile_resolutions r where r.break_id = o.break_id)
          from still_open o
         where o.kind <> 'TWICE_AT_RAIL' and (o.is_overlapping or o.kind in ('MISSING_AT_RAIL', 'PAID_BUT_NOT_DISPATCHED'))
           and not exists (select from findings f where f.kind = o.kind and f.subject = o.subject)
           and (o.kind = 'UNKNOWN_TO_US' and o.subject in (select f.booking from findings f where f.booking is not null and f.kind <> 'UNKNOWN_TO_US')
                or o.kind <> 'UNKNOWN_TO_US' and o.outbox_id in (select f.outbox_id from findings f where f.booking is not null and f.outbox_id is not null))
        returning 1
    )
    select (select count(*) from findings f where f.kind = 'MATCHED'), (select count(*) from findings f where f.kind = 'AT_THE_EDGE'),
           (select count(*) from findings f where f.kind = 'BEFORE_COVER'), (select count(*) from recorded), (select count(*) from agreed),
           least((select min(u.completed_at) from unbooked u where u.kind = 'AT_THE_EDGE'), upper(v_cover), v_now - interval '1 hour')
      into matched, at_the_edge, before_cover, breaks_found, breaks_closed, v_judged_until;
    if breaks_found > p_breaks_max then
        raise exception 'statement % has % new breaks, more than %', p_statement_id, breaks_found, p_breaks_max
            using errcode = 'OB003', column = 'breaks_max', hint = 'is it the right rail and period? nothing of the comparison is recorded';
    end if;
    insert into outbox.reconcile_comparisons
    values (p_statement_id, (select count(*) + 1 from outbox.reconcile_comparisons c where c.statement_id = p_statement_id),
            finish_reconcile.matched, finish_reconcile.at_the_edge, finish_reconcile.before_cover, breaks_found, breaks_closed, v_judged_until,
            session_user, v_now);
    open_breaks := (select count(*) from outbox.reconcile_breaks b
                     where b.rail = s.rail and not exists (select from outbox.reconcile_closed c where c.break_id = b.break_id));
    select coalesce(array_agg(lower(g.gap) order by g.gap), '{}'), coalesce(array_agg(upper(g.gap) order by g.gap), '{}')
      into gaps_from, gaps_until
      from unnest(tstzmultirange(range_merge(v_cover)) - v_cover) as g (gap);
    return next;
end
$$;
