create or replace function outbox.open_paid_break(p_statement_id uuid, p_outbox_id uuid) returns outbox.reconcile_breaks
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: that this statement, of the payment's own rail, says that it was paid, and nobody has cleared it; null if not. Internal to
--   propose_operator_action, fault_of_action and record_operator_attempt.
    select b from outbox.reconcile_breaks b
      join outbox.payment_outbox_instructions i on i.outbox_id = p_outbox_id and i.rail = b.rail
     where b.statement_id = p_statement_id and b.kind = 'PAID_BUT_NOT_DISPATCHED' and b.subject = p_outbox_id::text
       and not exists (select from outbox.reconcile_closed c where c.break_id = b.break_id)
       and not exists (select from outbox.reconcile_voidings v where v.statement_id = b.statement_id)
     limit 1
$$;
