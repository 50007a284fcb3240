create or replace function outbox.read_action_members(p_action_id uuid, p_after uuid default null, p_limit integer default 1000) returns table (
    outbox_id uuid, participant_id text, instruction_id text, rail text, amount_minor bigint, currency text, disposition_then text,
    result text, detail text, new_outbox_id uuid, disposition_now text, ended_as text, sent boolean, rail_reference text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
-- Purpose: the payments of an action: how each stood, what the action did, and how it stands now; `sent` marks those
--   that may have left since, for a recall. How a redriven payment stands now is how the new one does; of what
--   was detached only the id is known, and the state is DETACHED.
-- Parameters: p_after, the last id of the page before.
    select m.outbox_id, coalesce(i.participant_id, ''), coalesce(i.instruction_id, ''), coalesce(i.rail, ''), m.amount_minor, m.currency, coalesce(m.disposition, 'ENDED'),
           r.result, r.detail, r.new_outbox_id, p.disposition, coalesce(t.state, case when i.rail is null then 'DETACHED' end), p.first_sent_at is not null or p.in_doubt_since is not null or coalesce(p.possible_duplicate, t.state = 'DISPATCHED', false),
           t.rail_reference
      from outbox.operator_action_members m
      left join lateral (select n.participant_id, n.instruction_id, n.rail from outbox.payment_outbox_instructions n where n.outbox_id = m.outbox_id limit 1) as i on true
      left join outbox.operator_action_results r on r.action_id = m.action_id and r.outbox_id = m.outbox_id
      left join outbox.payment_outbox_pending p on p.outbox_id = coalesce(r.new_outbox_id, m.outbox_id)
      left join lateral (select a.state, a.rail_reference from outbox.payment_outbox_attempts a
                          where a.outbox_id = coalesce(r.new_outbox_id, m.outbox_id) and a.state in ('DISPATCHED', 'FAILED', 'CANCELLED') limit 1) as t on true
     where m.action_id = p_action_id and m.outbox_id > coalesce(p_after, '00000000-0000-0000-0000-000000000000')
     order by m.outbox_id
     limit p_limit
$$;
