create or replace function outbox.is_paid_by_statement(p_outbox_id uuid) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
-- Purpose: whether a statement of the rail that counts has a paid line of the payment. Internal to fault_of_action and redrive_payment.
    select exists (select from outbox.reconcile_matches m join outbox.reconcile_counted c on c.statement_id = m.statement_id
                    where m.outbox_id = p_outbox_id)
$$;
