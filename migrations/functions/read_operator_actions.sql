create or replace function outbox.read_operator_actions(p_action_id uuid default null, p_limit integer default 100) returns table (
    action_id uuid, kind text, rail text, participant_id text, parameters jsonb, reason text, evidence text, needs_approval boolean,
    member_count integer, members_sha256 bytea, amounts jsonb, proposed_by text, proposed_at timestamptz, decision text, decided_by text,
    decided_at timestamptz, decision_reason text, applied bigint, skipped bigint, standings jsonb)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: what people asked for, who approved it, and how far it got.
-- Parameters: one action, or null for the last p_limit.
-- Results: standings, for one action: how many of its payments stood how when it was proposed.
    select a.action_id, a.kind, a.rail, a.participant_id, a.parameters, a.reason, a.evidence, a.needs_approval, a.member_count, a.members_sha256,
           a.amounts, a.proposed_by, a.proposed_at, d.decision, d.decided_by, d.decided_at, d.reason,
           (select count(*) from outbox.operator_action_results r where r.action_id = a.action_id and r.result = 'APPLIED'),
           (select count(*) from outbox.operator_action_results r where r.action_id = a.action_id and r.result = 'SKIPPED'),
           (select jsonb_object_agg(s.standing, s.payments)
              from (select concat(coalesce(m.disposition, 'ENDED'), ' ' || m.hold_reason, case when m.was_sent then ', may have been sent'
                                  when m.disposition is not null then ', not sent' end) as standing, count(*) as payments
                      from outbox.operator_action_members m where m.action_id = p_action_id group by 1) as s)
      from outbox.operator_actions a
      left join outbox.operator_action_decisions d on d.action_id = a.action_id
     where a.action_id = coalesce(p_action_id, a.action_id)
     order by a.action_id desc
     limit p_limit
$$;
