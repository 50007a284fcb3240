create or replace function outbox.read_action_members(p_action_id uuid, p_after uuid default null, p_limit integer default 1000) returns table (
    outbox_id uuid, wire_key uuid, participant_id text, instruction_id text, rail text, amount_minor bigint, currency text, enqueued_at timestamptz,
    disposition_then text, result text, detail text, new_outbox_id uuid, disposition_now text, ended_as text, in_doubt_since timestamptz, age_ms bigint,
    sent boolean, rail_reference text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
-- Purpose: the payments of an action: how each stood, what the action did, and how it stands now; `sent` marks those
--   that may have left since, for a recall. How a redriven payment stands now is how the new one does; of what
--   was detached only the id is known, and the state is DETACHED.
-- Parameters: p_after, the last outbox_id of the page before.
-- Results: wire_key, the key at the rail of the payment whose `sent`, rail_reference and age are told: of a redriven one the new one's.
--   age_ms: since it is in doubt, otherwise since its enqueue. What ended without success is `sent` if the rail said later, or says
--   in a statement, that it had accepted it.
-- Hazard: look-ups are by key, so that all pages together read no table whole.
    select m.outbox_id, k.wire_key, coalesce(i.participant_id, ''), coalesce(i.instruction_id, ''), coalesce(i.rail, ''), m.amount_minor, m.currency, i.created_at,
           coalesce(m.disposition, 'ENDED'), r.result, r.detail, r.new_outbox_id, p.disposition,
           coalesce(t.state, case when i.rail is null then 'DETACHED' end), p.in_doubt_since,
           (extract(epoch from clock_timestamp() - coalesce(p.in_doubt_since, i.created_at)) * 1000)::bigint,
           p.first_sent_at is not null or p.in_doubt_since is not null or coalesce(p.possible_duplicate, t.state = 'DISPATCHED', false)
               or exists (select from outbox.payment_outbox_late_outcomes l where l.outbox_id = k.wire_key and l.outcome = 'ACCEPTED')
               or outbox.is_paid_by_statement(k.wire_key),
           case when t.state = 'DISPATCHED' then t.rail_reference
                else coalesce((select l.rail_reference from outbox.payment_outbox_late_outcomes l
                                where l.outbox_id = k.wire_key and l.outcome = 'ACCEPTED' order by l.recorded_at limit 1), t.rail_reference) end
      from outbox.operator_action_members m
      left join outbox.operator_action_results r on r.action_id = m.action_id and r.outbox_id = m.outbox_id
     cross join lateral (select coalesce(r.new_outbox_id, m.outbox_id) as wire_key) as k
      left join lateral (select n.participant_id, n.instruction_id, n.rail, n.created_at from outbox.payment_outbox_instructions n
                          where n.outbox_id = k.wire_key limit 1) as i on true
      left join outbox.payment_outbox_pending p on p.outbox_id = k.wire_key
      left join lateral (select a.state, a.rail_reference from outbox.payment_outbox_attempts a
                          where a.outbox_id = k.wire_key and a.state in ('DISPATCHED', 'FAILED', 'CANCELLED') limit 1) as t on true
     where m.action_id = p_action_id and m.outbox_id > coalesce(p_after, '00000000-0000-0000-0000-000000000000')
     order by m.outbox_id
     limit p_limit
$$;
