create or replace function outbox.claim_outbox_batch(
    p_rail text, p_worker_id text, p_limit integer, p_min_lease_ms bigint, p_in_flight integer,
    p_after_at timestamptz default null, p_after_id uuid default null, p_environment text default null, p_endpoint text default null,
    p_seen_epoch_us bigint default 0, p_seen_log_position bigint default 0, p_memory_id uuid default null, p_seen_beat bigint default 0, p_policy_version integer default null
) returns table (
    kind text, outbox_id uuid, attempt_no integer, lease_token uuid, lease_ms bigint, due_at timestamptz, participant_id text,
    endpoint text, payload bytea, content_type text, traceparent text, not_after timestamptz, crash_count integer, is_resend boolean, hold_reason text,
    db_now timestamptz, next_due_at timestamptz, held_count integer, expired_count integer, suspect_count integer, parked_count integer,
    paused boolean, log_position bigint, epoch_us bigint)
language plpgsql volatile security definer
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
-- Purpose: leases at most p_limit due payments of one rail, and applies contract, rate, order and pauses.
-- Parameters: p_min_lease_ms, what one send and its completion need; p_in_flight, the lane's sends under way:
--   a payment that crashed two workers is claimed only at 0, and alone; p_after_*, the claim cursor, null for a sweep;
--   p_environment, what the dispatcher is configured for; p_endpoint, where its lane sends now; p_seen_* and p_memory_id, what it remembers; p_policy_version, whose tables it reads answers by.
-- Results: SUBMIT, a payment to send (is_resend: an earlier attempt was not certainly unsent;
--   endpoint: where, for one that was ever in doubt the one it was sent to); INQUIRE, one to ask after,
--   without its payload; HELD, one that now waits for a person;
--   last SUMMARY: due_at and outbox_id are the greatest pair looked at, expired_count lost leases were settled
--   and are due again, suspect_count crashers wait for an empty lane, parked_count stand behind another of their ordering key.
-- Locks taken: the rows, for no key update, in due order, skip locked.
-- Hazards: the locking select stands alone, for inside an `in (…)` its limit may be run many times; the clock
--   is a variable, for in a `where` it is volatile and no index condition; what the select saw is used from
--   arrays, and later statements have fresh snapshots. Look-ups are lateral with a limit, updates go to the
--   ctid found: no plan reads a whole table believed empty, or the batch again for each row.
declare
    v_rail outbox.payment_rails; v_now timestamptz; v_limit integer := p_limit; v_next timestamptz; v_stopped text[];
    v_ids uuid[]; v_due timestamptz[]; v_lost boolean[]; v_reasons text[]; v_crashes integer[]; v_apart uuid[]; v_behind uuid[] := '{}'; v_chosen uuid[]; v_lo uuid; v_hi uuid;
    v_held integer := 0; v_expired integer := 0; v_suspects integer := 0;
begin
    v_rail := outbox.rail_to_claim(p_rail, p_limit, p_min_lease_ms, p_in_flight, p_environment, p_seen_epoch_us, p_seen_log_position, p_memory_id, p_seen_beat, p_policy_version);
    v_now := clock_timestamp();
    if v_rail.max_sends_per_s is not null then
        select a.allowed, a.next_at into v_limit, v_next from outbox.rate_allowance(p_rail, v_rail.max_sends_per_s, p_limit, v_now) as a;
    end if;
    if not v_rail.paused and v_limit > 0 then
        v_stopped := outbox.paused_participants(p_rail);
        select array_agg(s.outbox_id), array_agg(s.next_attempt_at), array_agg(s.lost), array_agg(s.reason), array_agg(s.crash_count),
               array_agg(s.outbox_id) filter (where s.is_apart and not s.lost and s.reason is null)
          into v_ids, v_due, v_lost, v_reasons, v_crashes, v_apart
          from (select p.outbox_id, p.next_attempt_at, p.lease_token is not null as lost, p.crash_count,
                       p.disposition = 'READY' and (p.is_ordered or p.participant_id = any (v_stopped)) as is_apart,
                       outbox.hold_reason_before(p, v_rail, v_now) as reason
                  from outbox.payment_outbox_pending p
                 where p.rail = p_rail and p.disposition in ('READY', 'IN_DOUBT') and p.next_attempt_at <= v_now
                   and (p.next_attempt_at, p.outbox_id) > (coalesce(p_after_at, '-infinity'), coalesce(p_after_id, '00000000-0000-0000-0000-000000000000'))
                   and (p.lease_token is null or p.lease_expires_at <= v_now)
                 order by p.next_attempt_at, p.outbox_id
                 limit v_limit
                   for no key update skip locked) as s;
    end if;
    if cardinality(v_ids) > p_limit then raise exception 'claim of % payments locked %', p_limit, cardinality(v_ids) using errcode = 'OB008'; end if;
    kind := 'HELD';
    if true = any (v_lost) then
        v_expired := cardinality(array_positions(v_lost, true));
        for outbox_id, attempt_no, hold_reason in
            select s.outbox_id, s.attempt_no, s.hold_reason
              from outbox.settle_lost_leases(array(select c.id from unnest(v_ids, v_lost) as c (id, lost) where c.lost), v_now) as s
             where s.hold_reason is not null
        loop
            v_held := v_held + 1; return next;
        end loop;
    end if;
    for outbox_id, attempt_no, hold_reason in
        update outbox.payment_outbox_pending p set disposition = 'HELD', hold_reason = c.reason, hold_requested = false
          from unnest(v_ids, v_lost, v_reasons) as c (id, lost, reason)
         cross join lateral (select q.ctid as tid from outbox.payment_outbox_pending q where q.outbox_id = c.id limit 1) as l
         where p.ctid = l.tid and not c.lost and c.reason is not null
        returning p.outbox_id, p.attempt_count, p.hold_reason
    loop
        v_held := v_held + 1; return next;
    end loop;
    if v_apart is not null then v_behind := outbox.park_unclaimable(p_rail, v_apart, v_now); end if;
    v_suspects := (select count(*) from unnest(v_ids, v_lost, v_reasons, v_crashes) as c (id, lost, reason, crashes) where not c.lost and c.reason is null and c.crashes >= 2 and c.id <> all (v_behind));
    v_chosen := array(select c.id from unnest(v_ids, v_lost, v_reasons, v_crashes) with ordinality as c (id, lost, reason, crashes, place)
                       where not c.lost and c.reason is null and c.id <> all (v_behind) and (c.crashes >= 2) = (p_in_flight = 0 and v_suspects > 0)
                       order by c.place limit case when p_in_flight = 0 and v_suspects > 0 then 1 end);
    if v_rail.max_sends_per_s is not null then
        perform outbox.rate_used(p_rail, v_rail.max_sends_per_s, cardinality(v_chosen), v_now);
    end if;
    select (array_agg(c.id order by c.id))[1], (array_agg(c.id order by c.id desc))[1] into v_lo, v_hi from unnest(v_chosen) as c (id);
    return query
    with leased as (
        update outbox.payment_outbox_pending p
           set disposition = outbox.disposition_of(v_rail.on_unknown, p.in_doubt_since is not null or p.late_success), attempt_count = p.attempt_count + 1,
               first_sent_at = coalesce(p.first_sent_at, v_now),
               endpoint = case when p.quarantine_until is null and p.in_doubt_since is null and not p.late_success then p_endpoint else p.endpoint end, claimed_by = p_worker_id, claimed_at = v_now,
               lease_token = gen_random_uuid(), lease_expires_at = v_now + v_rail.lease_duration_ms * interval '1 ms', policy_version = v_rail.policy_version
         where p.outbox_id = any (v_chosen)
        returning p.outbox_id, p.attempt_count, p.lease_token, p.next_attempt_at, p.not_after, p.crash_count, outbox.attempt_kind_of(p.disposition) as kind,
                  p.first_sent_at < v_now or p.possible_duplicate as is_resend,
                  p.participant_id, p.endpoint)
    select l.kind, l.outbox_id, l.attempt_count, l.lease_token, v_rail.lease_duration_ms, l.next_attempt_at, l.participant_id, l.endpoint, i.payload,
           i.content_type, i.traceparent, l.not_after, l.crash_count, l.is_resend, null::text, v_now, null::timestamptz, null::integer, null::integer, null::integer, null::integer, null::boolean, null::bigint, null::bigint
      from leased l
     cross join lateral (select case l.kind when 'SUBMIT' then n.payload end as payload, n.content_type, n.traceparent from outbox.payment_outbox_instructions n
                          where n.outbox_id = l.outbox_id and n.outbox_id between v_lo and v_hi limit 1) as i;

    kind := 'SUMMARY'; attempt_no := null; hold_reason := null;
    db_now := v_now; held_count := v_held; expired_count := v_expired; suspect_count := v_suspects; parked_count := cardinality(v_behind); paused := v_rail.paused;
    log_position := pg_current_wal_flush_lsn() - '0/0'; epoch_us := coalesce((select outbox.epoch_us(c) from outbox.outbox_cluster c order by c.epoch_no desc limit 1), 0);
    select c.id, c.due into outbox_id, due_at from unnest(v_ids, v_due) as c (id, due) order by c.due desc, c.id desc limit 1;
    if not v_rail.paused and coalesce(cardinality(v_ids), 0) < v_limit then
        select p.next_attempt_at into next_due_at from outbox.payment_outbox_pending p
         where p.rail = p_rail and p.disposition in ('READY', 'IN_DOUBT') and p.next_attempt_at > v_now
         order by p.next_attempt_at limit 1;
    elsif v_limit < p_limit then
        next_due_at := v_next;
    end if;
    return next; end
$$;
