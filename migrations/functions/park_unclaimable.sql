create or replace function outbox.park_unclaimable(p_rail text, p_outbox_ids uuid[], p_now timestamptz) returns uuid[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
-- Purpose: takes payments out of the claim that are not the first of their ordering key, or whose participant is
--   paused. Internal to claim, which holds the rows' locks.
-- Parameters: ready payments that may be one or the other; p_now, the claim's clock.
-- Results: those that may not be sent now. They are parked; where another transaction has the key, or is changing
--   the pauses, only put off for 100 ms.
-- Hazard: parked without the lock, or by a look from before it, a payment whose predecessor ends at that moment, or
--   whose participant goes on, is brought back by nobody.
declare
    v_stopped uuid[];
    v_behind uuid[];
    v_locked uuid[] := '{}';
begin
    v_stopped := array(select p.outbox_id from outbox.payment_outbox_pending p where p.outbox_id = any (p_outbox_ids)
                          and p.participant_id = any (outbox.paused_participants(p_rail)));
    v_behind := array(select c.id from unnest(p_outbox_ids) as c (id) where outbox.is_behind_another(c.id));
    if cardinality(v_stopped) > 0 and pg_try_advisory_xact_lock_shared(outbox.pauses_lock_key()) then
        v_locked := v_stopped;
    end if;
    v_locked := v_locked || array(select o.outbox_id from outbox.payment_outbox_order o
                       where o.outbox_id = any (v_behind) and pg_try_advisory_xact_lock(outbox.ordering_lock_key(o.rail, o.ordering_key)));
    -- A new statement: the look that counts is from after the lock.
    update outbox.payment_outbox_pending p
       set disposition = case when p.outbox_id = any (v_locked) and (outbox.is_behind_another(p.outbox_id)
                                   or p.participant_id = any (outbox.paused_participants(p_rail))) then 'PARKED' else 'READY' end,
           next_attempt_at = case when p.outbox_id = any (v_locked) then p.next_attempt_at else p_now + interval '100 ms' end
     where p.outbox_id = any (v_stopped || v_behind);
    return v_stopped || v_behind;
end
$$;
