create or replace function outbox.read_reconcile_breaks(
    p_only_open boolean default true, p_rail text default null, p_after uuid default null, p_limit integer default 1000
) returns table (
    break_id uuid, statement_id uuid, rail text, kind text, outbox_id uuid, wire_key text, rail_reference text, line_no bigint,
    our_amount_minor bigint, our_currency text, their_amount_minor bigint, their_currency text, standing text, standing_now text,
    found_at timestamptz, age_ms bigint, resolved_by text, resolved_at timestamptz, resolution text, action_id uuid, is_void boolean,
    resolved_by_statement uuid)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: breaks between statements and our ledger, in the order in which they were found.
-- Parameters: p_only_open; p_rail, null for all; p_after, the last of the page before.
-- Results: standing, how the payment stood when the break was found, and how it stands now; is_void, the statement
--   that found it was voided; resolved_by_statement, the statement that closed it, if no person did.
    select b.break_id, b.statement_id, b.rail, b.kind, b.outbox_id, b.wire_key, b.rail_reference, b.line_no, b.our_amount_minor, b.our_currency,
           b.their_amount_minor, b.their_currency, b.standing, coalesce(t.state, p.disposition || coalesce(' ' || p.hold_reason, ''), case when outbox.detached_as(b.outbox_id) is not null then 'DETACHED' end), b.found_at,
           (extract(epoch from clock_timestamp() - b.found_at) * 1000)::bigint, r.resolved_by, r.resolved_at, r.reason, r.action_id,
           exists (select from outbox.reconcile_voidings v where v.statement_id = b.statement_id), r.statement_id
      from outbox.reconcile_breaks b
      left join outbox.reconcile_closed r on r.break_id = b.break_id
      left join lateral (select a.state from outbox.payment_outbox_attempts a
                          where a.outbox_id = b.outbox_id and a.state in ('DISPATCHED', 'FAILED', 'CANCELLED') limit 1) as t on true
      left join outbox.payment_outbox_pending p on p.outbox_id = b.outbox_id
     where (r.break_id is null or not p_only_open)
       and (p_rail is null or b.rail = p_rail)
       and b.break_id > coalesce(p_after, '00000000-0000-0000-0000-000000000000')
     order by b.break_id
     limit p_limit
$$;
