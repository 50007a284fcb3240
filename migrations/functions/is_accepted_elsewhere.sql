create or replace function outbox.is_accepted_elsewhere(p_outbox_id uuid) returns boolean
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
as $$
-- Purpose: whether the rail says of another generation of the payment's instruction that it executed it: then this one would pay a
--   second time. Internal to hold_reason_before, fault_of_action and redrive_payment.
-- Hazards: that the rail had dispatched another one is what people had evidence against when they had it paid anew. What it has said since
--   is more than they knew then, and so is any success of one that had ended without. The range of the ids is a constant for the
--   planner, which leaves out the other months.
declare
    v_ids uuid[];
    v_lo uuid;
    v_hi uuid;
begin
    v_ids := array(select n.outbox_id from outbox.payment_outbox_identities n
                    where (n.participant_id, n.instruction_id) = (select i.participant_id, i.instruction_id from outbox.payment_outbox_instructions i
                                                                   where i.outbox_id = p_outbox_id limit 1)
                    order by n.generation);
    v_lo := (select min(u.id::text)::uuid from unnest(v_ids) as u (id));
    v_hi := (select max(u.id::text)::uuid from unnest(v_ids) as u (id));
    return exists (
        select from unnest(v_ids) with ordinality as g (outbox_id, place)
         where g.outbox_id <> p_outbox_id
           and (outbox.is_paid_by_statement(g.outbox_id)
                or exists (select from outbox.payment_outbox_late_outcomes l
                            where l.outbox_id = g.outbox_id and l.outbox_id between v_lo and v_hi and l.outcome = 'ACCEPTED'
                              and (l.recorded_at > (select i.created_at from outbox.payment_outbox_instructions i
                                                     where i.outbox_id = v_ids[g.place + 1] and i.outbox_id between v_lo and v_hi limit 1)
                                   or not exists (select from outbox.payment_outbox_attempts a
                                                   where a.outbox_id = g.outbox_id and a.outbox_id between v_lo and v_hi and a.state = 'DISPATCHED')))));
end
$$;
