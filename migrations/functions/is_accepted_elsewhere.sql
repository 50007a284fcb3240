create or replace function outbox.is_accepted_elsewhere(p_outbox_id uuid) returns boolean
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
-- Purpose: whether the rail says of another generation of the payment's instruction that it executed it: then this one would pay a
--   second time. Internal to hold_reason_before, fault_of_action and redrive_payment.
-- Hazard: that the rail had dispatched another one is what people had evidence against when they had it paid anew. What it has said since
--   is more than they knew then, and so is any success of one that had ended without.
    with generations as (
        select n.outbox_id, lead(n.outbox_id) over (order by n.generation) as next_id
          from outbox.payment_outbox_identities n
         where (n.participant_id, n.instruction_id) = (select i.participant_id, i.instruction_id from outbox.payment_outbox_instructions i
                                                        where i.outbox_id = p_outbox_id limit 1))
    select exists (
        select from generations g
         where g.outbox_id <> p_outbox_id
           and (outbox.is_paid_by_statement(g.outbox_id)
                or exists (select from outbox.payment_outbox_late_outcomes l
                            where l.outbox_id = g.outbox_id and l.outcome = 'ACCEPTED'
                              and (l.recorded_at > (select i.created_at from outbox.payment_outbox_instructions i where i.outbox_id = g.next_id limit 1)
                                   or not exists (select from outbox.payment_outbox_attempts a where a.outbox_id = g.outbox_id and a.state = 'DISPATCHED')))))
$$;
