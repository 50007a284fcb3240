create or replace function outbox.rail_to_claim(p_rail text, p_limit integer, p_min_lease_ms bigint, p_in_flight integer, p_environment text,
    p_seen_epoch_us bigint, p_seen_log_position bigint, p_memory_id uuid, p_seen_beat bigint, p_policy_version integer)
returns outbox.payment_rails
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the rail's contract for a claim, paused if anything that holds for the rail is. Internal to claim.
-- Parameters: those of claim.
-- Results: or raises OB003 (a bad value), OB004 (no contract), OB006 (isolation), OB007 (a lease too short),
--   OB011 (another epoch), OB015 (an older database), OB016 (another policy than the dispatcher's).
-- Hazard: the row and the active version are seen by two statements. An activation between them refuses the claim; the lease records the
--   row's stamp, which is of the contract in the same row.
declare
    v_rail outbox.payment_rails;
    v_active integer;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'claim runs only at read committed: skip locked fails above it' using errcode = 'OB006';
    end if;
    perform outbox.refuse_other_epoch(p_environment, p_seen_epoch_us, p_seen_log_position, p_memory_id, p_seen_beat);
    select * into v_rail from outbox.payment_rails r where r.rail = p_rail;
    if not found then
        raise exception 'rail % has no contract', p_rail using errcode = 'OB004', hint = 'set one with set_payment_rail';
    end if;
    v_active := outbox.active_policy_version();
    if v_active is distinct from p_policy_version then
        raise exception 'rail %: %, and this dispatcher has read %', p_rail, coalesce('policy version ' || v_active || ' is active', 'no policy is active'),
            coalesce('version ' || p_policy_version, 'none') using errcode = 'OB016', hint = 'it reads the active policy twice a second';
    elsif v_rail.policy_version is distinct from v_active then
        raise exception 'rail % is not in policy version %', p_rail, v_active using errcode = 'OB004', hint = 'use outboxd policy propose';
    elsif v_rail.lease_duration_ms < p_min_lease_ms then
        raise exception 'rail %: a lease of % ms is shorter than the % ms that this dispatcher needs', p_rail,
            v_rail.lease_duration_ms, p_min_lease_ms using errcode = 'OB007', hint = 'raise lease_duration_ms, or lower the timeout';
    elsif not coalesce(p_limit between 1 and 10000 and p_min_lease_ms >= 0 and p_in_flight >= 0, false) then
        raise exception 'p_limit must be 1 to 10000, p_min_lease_ms and p_in_flight 0 or more' using errcode = 'OB003';
    end if;
    v_rail.paused := v_rail.paused or exists (select from outbox.outbox_pauses u
                                               where u.participant_id is null and coalesce(u.rail, p_rail) = p_rail);
    return v_rail;
end
$$;
