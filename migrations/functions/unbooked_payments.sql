create or replace function outbox.unbooked_payments(p_rail text, p_statement_id uuid, p_cover tstzmultirange, p_slack interval, p_from timestamptz)
returns table (kind text, outbox_id uuid, rail_reference text, amount_minor bigint, currency text, completed_at timestamptz)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
-- Purpose: the dispatched payments that none of the rail's statements has. Internal to finish_reconcile.
-- Parameters: p_statement_id, the one being compared; p_cover, what the statements cover; p_slack, the largest of theirs; p_from, only
--   what was completed since. The index on completed_at is read from there on, not the whole ledger.
-- Results: MISSING_AT_RAIL if the cover has without a gap all the time in which the rail may have booked it: from the first claim
--   less the slack to the completion plus the slack. AT_THE_EDGE waits for a statement; BEFORE_COVER may have been booked
--   before the first one. What was found missing is not found again, unless the statement that found it was voided.
begin
    return query
    with ours as materialized (
        select a.outbox_id, a.rail_reference, a.completed_at
          from outbox.payment_outbox_attempts a
         where a.rail = p_rail and a.state = 'DISPATCHED' and a.completed_at >= p_from and a.completed_at < upper(p_cover)
           and not exists (select from outbox.reconcile_matches m
                             join outbox.reconcile_statements t on t.statement_id = m.statement_id and t.rail = p_rail
                            where m.outbox_id = a.outbox_id
                              and (t.statement_id = p_statement_id or t.statement_id in (select c.statement_id from outbox.reconcile_counted c)))
           and not exists (select from outbox.reconcile_breaks b
                            where b.rail = p_rail and b.subject = a.outbox_id::text and b.kind = 'MISSING_AT_RAIL'
                              and b.statement_id not in (select v.statement_id from outbox.reconcile_voidings v))
    )
    select case when tstzrange(f.first_at - p_slack, o.completed_at + p_slack, '[]') <@ p_cover then 'MISSING_AT_RAIL'
                when f.first_at - p_slack < lower(p_cover) then 'BEFORE_COVER'
                else 'AT_THE_EDGE' end,
           o.outbox_id, o.rail_reference, i.amount_minor, i.currency, o.completed_at
      from ours o
     cross join lateral (select coalesce(min(e.claimed_at), o.completed_at) as first_at from outbox.payment_outbox_attempts e
                          where e.outbox_id = o.outbox_id and e.kind = 'SUBMIT') as f
     cross join lateral (select n.amount_minor, n.currency from outbox.payment_outbox_instructions n where n.outbox_id = o.outbox_id limit 1) as i;
end
$$;
