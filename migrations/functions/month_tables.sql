create or replace function outbox.month_tables() returns table (place integer, name text, id_column text, holds text)
language sql immutable parallel safe
as $$
-- Purpose: the tables that have a partition for each month of an id, which is a UUIDv7. To add a table is to add a line.
-- Results: what holds the same is detached together, in this order.
    values (1, 'payment_outbox_instructions', 'outbox_id', 'PAYMENTS'),
           (2, 'payment_outbox_attempts', 'outbox_id', 'PAYMENTS'),
           (3, 'ingress_attestations', 'attestation_id', 'ATTESTATIONS')
$$;
