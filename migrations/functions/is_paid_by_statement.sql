create or replace function outbox.is_paid_by_statement(p_outbox_id uuid) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
-- Purpose: whether a statement of the rail that was compared names the payment as paid, by its key or by what its break says.
--   Internal to fault_of_action and redrive_payment.
    select exists (select from outbox.reconcile_lines l
                    where l.outbox_id = p_outbox_id and l.is_paid
                      and exists (select from outbox.reconcile_comparisons c where c.statement_id = l.statement_id))
        or exists (select from outbox.reconcile_breaks b
                    where b.outbox_id = p_outbox_id and b.kind = 'PAID_BUT_NOT_DISPATCHED'
                      and not exists (select from outbox.reconcile_resolutions r where r.break_id = b.break_id))
$$;
