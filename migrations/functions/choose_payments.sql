create or replace function outbox.choose_payments(
    p_rail text, p_limit integer, p_min_lease_ms bigint, p_in_flight integer, p_after_at timestamptz, p_after_id uuid, p_environment text,
    p_seen_epoch_us bigint, p_seen_log_position bigint, p_memory_id uuid, p_seen_beat bigint, p_policy_version integer,
    out now timestamptz, out on_unknown text, out lease_ms bigint, out policy_version integer, out paused boolean,
    out chosen uuid[], out least_id uuid, out greatest_id uuid, out held_ids uuid[], out held_attempt_nos integer[], out held_reasons text[],
    out last_due_at timestamptz, out last_id uuid, out next_due_at timestamptz, out expired integer, out suspects integer, out parked integer,
    out log_position bigint, out epoch_us bigint)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_sort = off
as $$
#variable_conflict use_column
-- Purpose: locks at most p_limit due payments of one rail, settles, holds or parks those that must not be leased, and says
--   which of the others are. Internal to claim, which says what its parameters mean.
-- Results: the clock; of the contract what the lease needs; the chosen, in due order, with the bounds of their ids; those that now wait for a
--   person; the greatest pair looked at, when the next is due, and the counts of a claim's summary.
-- Locks taken: the rows, for no key update, in due order, skip locked.
-- Hazards: the locking select stands alone, for inside an `in (…)` its limit may be run many times; the clock
--   is a variable, for in a `where` it is volatile and no index condition; what the select saw is used from
--   arrays, and later statements have fresh snapshots. Look-ups are lateral with a limit, updates go to the
--   ctid found: no plan reads a whole table believed empty, or the batch again for each row. Plans are kept: what is read here has no
--   months, and the due index is the only way that the settings leave, whatever the tables held when a plan was made. Where no
--   payment is special (lost, to be held, a suspect, ordered, of a paused participant), which is nearly always, all are chosen as they were locked.
declare
    v_rail outbox.payment_rails; v_now timestamptz; v_limit integer := p_limit; v_next timestamptz; v_stopped text[];
    v_ids uuid[]; v_due timestamptz[]; v_lost boolean[]; v_reasons text[]; v_crashes integer[]; v_apart uuid[]; v_behind uuid[] := '{}'; v_suspects integer := 0;
    v_is_plain boolean; v_ids_sorted uuid[];
begin
    v_rail := outbox.rail_to_claim(p_rail, p_limit, p_min_lease_ms, p_in_flight, p_environment, p_seen_epoch_us, p_seen_log_position, p_memory_id, p_seen_beat, p_policy_version);
    v_now := clock_timestamp();
    if v_rail.max_sends_per_s is not null then
        select a.allowed, a.next_at into v_limit, v_next from outbox.rate_allowance(p_rail, v_rail.max_sends_per_s, p_limit, v_now) as a;
    end if;
    if not v_rail.paused and v_limit > 0 then
        v_stopped := outbox.paused_participants(p_rail);
        select array_agg(s.outbox_id), array_agg(s.next_attempt_at), array_agg(s.lost), array_agg(s.reason), array_agg(s.crash_count),
               array_agg(s.outbox_id) filter (where s.is_apart and not s.lost and s.reason is null),
               not bool_or(s.lost or s.reason is not null or s.crash_count >= 2 or s.is_apart)
          into v_ids, v_due, v_lost, v_reasons, v_crashes, v_apart, v_is_plain
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
    expired := 0;
    if v_is_plain then
        chosen := v_ids;
    else
        if true = any (v_lost) then
            expired := cardinality(array_positions(v_lost, true));
            select array_agg(s.outbox_id), array_agg(s.attempt_no), array_agg(s.hold_reason) into held_ids, held_attempt_nos, held_reasons
              from outbox.settle_lost_leases(array(select c.id from unnest(v_ids, v_lost) as c (id, lost) where c.lost), v_now) as s
             where s.hold_reason is not null;
        end if;
        with held as (
            update outbox.payment_outbox_pending p set disposition = 'HELD', hold_reason = c.reason, hold_requested = false
              from unnest(v_ids, v_lost, v_reasons) as c (id, lost, reason)
             cross join lateral (select q.ctid as tid from outbox.payment_outbox_pending q where q.outbox_id = c.id limit 1) as l
             where p.ctid = l.tid and not c.lost and c.reason is not null
            returning p.outbox_id, p.attempt_count, p.hold_reason)
        select held_ids || array_agg(h.outbox_id), held_attempt_nos || array_agg(h.attempt_count), held_reasons || array_agg(h.hold_reason)
          into held_ids, held_attempt_nos, held_reasons from held h;
        if v_apart is not null then v_behind := outbox.park_unclaimable(p_rail, v_apart, v_now); end if;
        v_suspects := (select count(*) from unnest(v_ids, v_lost, v_reasons, v_crashes) as c (id, lost, reason, crashes) where not c.lost and c.reason is null and c.crashes >= 2 and c.id <> all (v_behind));
        chosen := array(select c.id from unnest(v_ids, v_lost, v_reasons, v_crashes) with ordinality as c (id, lost, reason, crashes, place)
                           where not c.lost and c.reason is null and c.id <> all (v_behind) and (c.crashes >= 2) = (p_in_flight = 0 and v_suspects > 0)
                           order by c.place limit case when p_in_flight = 0 and v_suspects > 0 then 1 end);
    end if;
    if v_rail.max_sends_per_s is not null then
        perform outbox.rate_used(p_rail, v_rail.max_sends_per_s, cardinality(chosen), v_now);
    end if;
    v_ids_sorted := array(select c.id from unnest(chosen) as c (id) order by c.id);
    least_id := v_ids_sorted[1]; greatest_id := v_ids_sorted[cardinality(v_ids_sorted)];
    select c.id, c.due into last_id, last_due_at from unnest(v_ids, v_due) as c (id, due) order by c.due desc, c.id desc limit 1;
    if not v_rail.paused and coalesce(cardinality(v_ids), 0) < v_limit then
        select p.next_attempt_at into next_due_at from outbox.payment_outbox_pending p
         where p.rail = p_rail and p.disposition in ('READY', 'IN_DOUBT') and p.next_attempt_at > v_now
         order by p.next_attempt_at limit 1;
    elsif v_limit < p_limit then
        next_due_at := v_next;
    end if;
    now := v_now; on_unknown := v_rail.on_unknown; lease_ms := v_rail.lease_duration_ms; policy_version := v_rail.policy_version; paused := v_rail.paused;
    suspects := v_suspects; parked := cardinality(v_behind);
    log_position := pg_current_wal_flush_lsn() - '0/0'; epoch_us := coalesce((select outbox.epoch_us(c) from outbox.outbox_cluster c order by c.epoch_no desc limit 1), 0);
end
$$;
