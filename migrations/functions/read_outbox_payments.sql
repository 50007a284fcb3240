create or replace function outbox.read_outbox_payments(
    p_rail text default null, p_participant_id text default null, p_disposition text default null, p_hold_reason text default null,
    p_ended_as text default null, p_since timestamptz default null, p_until timestamptz default null, p_after uuid default null,
    p_limit integer default 100
) returns table (
    outbox_id uuid, participant_id text, instruction_id text, rail text, amount_minor bigint, currency text, enqueued_at timestamptz,
    disposition text, hold_reason text, ended_as text, in_doubt_since timestamptz, next_attempt_at timestamptz, not_after timestamptz,
    attempts integer, ordering_key text, age_ms bigint, is_leased boolean, is_due boolean, waits_for text, taken_up_by text, action_id uuid)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_sort = off
as $$
#variable_conflict use_column
-- Purpose: lists payments, in order of their outbox_id, which is that of their enqueue.
-- Parameters: what is null does not filter; p_ended_as looks in the ledger (DISPATCHED, FAILED, CANCELLED), otherwise
--   the queue is listed; p_since and p_until bound the time of the enqueue; p_after, the last id of the page before.
-- Results: at most p_limit. Never a payload. age_ms: since it is in doubt, otherwise since its enqueue. is_due: the time of its
--   next attempt has come, whatever keeps it. waits_for: who acts next. The dispatcher; unparking, for another of its ordering key or a
--   pause of its participant; an operator, of what is held or whose rail is stopped; the approver of action_id, the newest action that
--   names it and can still be carried out on it. taken_up_by: who began that action or, of what a person held, that person.
--   OB003: a hold_reason of what has ended.
-- Hazard: pages are read by key, in order, so that all pages together read the queue once: a sort would read it for each.
declare
    v_lo uuid := greatest(outbox.outbox_id_floor(coalesce(p_since, 'epoch')), coalesce(p_after, '00000000-0000-0000-0000-000000000000'));
    v_hi uuid := outbox.outbox_id_floor(coalesce(p_until, '9999-01-01Z'));
    v_now timestamptz := clock_timestamp();
    v_policy integer := outbox.active_policy_version();
    v_stopped text[] := array(select r.rail from outbox.payment_rails r
                               where r.paused or r.policy_version is distinct from v_policy
                                  or exists (select from outbox.outbox_pauses u where u.participant_id is null and coalesce(u.rail, r.rail) = r.rail));
    -- What was proposed before a failover was acknowledged is not carried out.
    v_acknowledged timestamptz := (select max(c.recorded_at) from outbox.outbox_cluster c where c.action_id is not null);
begin
    if p_ended_as is not null and p_hold_reason is not null then
        raise exception 'what has ended is not held: a state of % and a hold reason exclude each other', p_ended_as using errcode = 'OB003', column = 'hold_reason';
    elsif p_ended_as is not null then
        return query
        select a.outbox_id, i.participant_id, i.instruction_id, a.rail, i.amount_minor, i.currency, i.created_at, null::text, null::text, a.state,
               null::timestamptz, null::timestamptz, i.not_after, a.attempt_no, i.ordering_key,
               (extract(epoch from clock_timestamp() - i.created_at) * 1000)::bigint, false, false, null::text, null::text, null::uuid
          from outbox.payment_outbox_attempts a
         cross join lateral (select n.* from outbox.payment_outbox_instructions n
                              where n.outbox_id = a.outbox_id and n.outbox_id > v_lo and n.outbox_id < v_hi
                                and (p_participant_id is null or n.participant_id = p_participant_id) limit 1) as i
         where a.state = p_ended_as and a.state in ('DISPATCHED', 'FAILED', 'CANCELLED') and a.outbox_id > v_lo and a.outbox_id < v_hi
           and (p_rail is null or a.rail = p_rail)
         order by a.outbox_id limit p_limit;
        return;
    end if;
    return query
    select p.outbox_id, p.participant_id, i.instruction_id, p.rail, i.amount_minor, i.currency, i.created_at, p.disposition, p.hold_reason, null::text,
           p.in_doubt_since, p.next_attempt_at, p.not_after, p.attempt_count, i.ordering_key,
           (extract(epoch from clock_timestamp() - coalesce(p.in_doubt_since, i.created_at)) * 1000)::bigint, p.lease_token is not null, p.next_attempt_at <= clock_timestamp(),
           case when p.disposition = 'HELD' then case when o.is_undecided then 'approver' else 'operator' end
                when p.disposition = 'PARKED' then 'unparking'
                when p.lease_token is null and p.rail = any (v_stopped) then 'operator' else 'dispatcher' end,
           coalesce(o.proposed_by, h.proposed_by), o.action_id
      from outbox.payment_outbox_pending p
     cross join lateral (select n.* from outbox.payment_outbox_instructions n
                          where n.outbox_id = p.outbox_id and n.outbox_id > v_lo and n.outbox_id < v_hi limit 1) as i
      left join lateral (select a.action_id, a.proposed_by, a.needs_approval and d.action_id is null as is_undecided
                           from outbox.operator_action_members m join outbox.operator_actions a on a.action_id = m.action_id
                           left join outbox.operator_action_decisions d on d.action_id = m.action_id
                          where m.outbox_id = p.outbox_id and coalesce(d.decision, 'APPROVED') = 'APPROVED'
                            and not exists (select from outbox.operator_action_results r where r.action_id = m.action_id and r.outbox_id = m.outbox_id)
                            and (a.kind = 'HOLD' or v_acknowledged is null or a.proposed_at >= v_acknowledged)
                            and outbox.fault_of_action(a, m.attempt_count, p, v_now) is null
                          order by a.proposed_at desc limit 1) as o on true
      left join lateral (select a.kind, a.proposed_by
                           from outbox.operator_action_results r join outbox.operator_actions a on a.action_id = r.action_id
                          where (p.hold_reason = 'REQUESTED' or p.hold_requested) and r.outbox_id = p.outbox_id and r.result = 'APPLIED'
                            and a.kind in ('HOLD', 'RELEASE', 'RELEASE_AS_RESEND')
                          order by r.applied_at desc limit 1) as h on h.kind = 'HOLD'
     where p.outbox_id > v_lo and p.outbox_id < v_hi
       and (p_rail is null or p.rail = p_rail) and (p_participant_id is null or p.participant_id = p_participant_id)
       and (p_disposition is null or p.disposition = p_disposition) and (p_hold_reason is null or p.hold_reason = p_hold_reason)
     order by p.outbox_id limit p_limit;
end
$$;
