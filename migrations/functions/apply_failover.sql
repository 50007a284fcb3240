create or replace function outbox.apply_failover(p_action_id uuid, p_limit integer default 10000)
returns table (doubtful integer, held integer, is_over boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
-- Purpose: marks what may have been sent by the cluster before this one as doubtful, and at the end records the epoch,
--   so that claims go on. On a hold rail it is held, also where the contract lets it go to another endpoint and nobody
--   knows to which it went; else on an inquire rail it is asked after, on a resend rail its key window counts from lost_from.
-- Parameters: at most p_limit payments a call. What became of each payment is recorded; the next call goes on behind the last, whoever
--   makes it: nobody says from where.
-- Results: is_over, the epoch is recorded.
-- Locks taken: the action's; the payments looked at, in order of id. Nothing is claimed meanwhile: the epoch is not the one on record.
-- Hazards: any payment may have been sent after the last commit that arrived here, also one that was parked, held or, since
--   a person may have brought it forward, backing off then; only one that was never tried and is not due could not. A lease in force may have
--   ended and been followed by others. Where it was sent, unless it was in doubt before, nobody knows. A lease that is lost to us may have been granted just
--   before the end, and its worker sends as long as it lets it: the quarantine has a whole lease more. What is enqueued meanwhile
--   behind the place was never with the cluster before.
declare
    v_action outbox.operator_actions := outbox.approved_action(p_action_id);
    v_lost_from timestamptz := (v_action.parameters ->> 'lost_from')::timestamptz;
    v_now timestamptz := clock_timestamp();
    v_after uuid;
    v_ids uuid[];
begin
    if v_action.kind <> 'FAILOVER' then
        raise exception 'action % is no failover', p_action_id using errcode = 'OB003';
    elsif exists (select from outbox.outbox_cluster c where c.action_id = p_action_id) then
        raise exception 'failover % is recorded already', p_action_id using errcode = 'OB013';
    elsif exists (select from outbox.cluster_now() as c where (c.system_identifier::text, c.timeline)
                  is distinct from (v_action.parameters ->> 'system_identifier', (v_action.parameters ->> 'timeline')::integer)) then
        raise exception 'failover % was approved for another cluster or timeline', p_action_id using errcode = 'OB003';
    elsif p_limit is null or p_limit < 1 then
        raise exception 'the limit is %', coalesce(p_limit::text, 'null') using errcode = 'OB003', column = 'limit';
    end if;
    v_after := (select r.outbox_id from outbox.operator_action_results r where r.action_id = p_action_id order by r.outbox_id desc limit 1);
    v_ids := array(select p.outbox_id from outbox.payment_outbox_pending p
                    where p.outbox_id > coalesce(v_after, '00000000-0000-0000-0000-000000000000')
                    order by p.outbox_id limit p_limit for no key update);
    with marked as (
        update outbox.payment_outbox_pending p
           set in_doubt_since = coalesce(p.in_doubt_since, v_now), first_sent_at = least(p.first_sent_at, v_lost_from),
               quarantine_until = greatest(p.quarantine_until, v_now + (r.lease_duration_ms + r.rail_timeout_ms + r.processing_bound_ms) * interval '1 ms'),
               endpoint = case when p.quarantine_until is not null then p.endpoint end,
               hold_requested = p.hold_requested or p.lease_token is not null and p.quarantine_until is null and r.fallback,
               disposition = case when p.lease_token is not null then p.disposition
                                  when p.disposition = 'HELD' or r.on_unknown = 'hold' or r.fallback and p.quarantine_until is null then 'HELD'
                                  when p.disposition = 'PARKED' then 'PARKED' else outbox.disposition_of(r.on_unknown, true) end,
               hold_reason = case when p.disposition = 'HELD' then p.hold_reason
                                  when p.lease_token is null and (r.on_unknown = 'hold' or r.fallback and p.quarantine_until is null) then 'UNKNOWN' end
          from outbox.payment_rails r
         where p.outbox_id = any (v_ids) and r.rail = p.rail
           and (p.attempt_count > 0 or p.next_attempt_at <= v_now or p.disposition = 'HELD')
        returning p.outbox_id, p.disposition
    ), recorded as (
        insert into outbox.operator_action_results
        select p_action_id, c.id, case when m.outbox_id is null then 'SKIPPED' else 'APPLIED' end,
               case when m.outbox_id is null then 'it was never tried, and is not due' else 'it may have been sent' end, null, session_user, v_now
          from unnest(v_ids) as c (id) left join marked m on m.outbox_id = c.id)
    select count(*), count(*) filter (where m.disposition = 'HELD') into doubtful, held from marked m;
    is_over := cardinality(v_ids) < p_limit;
    if is_over then
        insert into outbox.outbox_cluster (system_identifier, timeline, environment, lost_from, action_id, recorded_by, recorded_at)
        select c.system_identifier, c.timeline, v_action.parameters ->> 'environment', v_lost_from, p_action_id, session_user, clock_timestamp()
          from outbox.cluster_now() as c;
    end if;
    return next;
end
$$;
