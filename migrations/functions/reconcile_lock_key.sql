create or replace function outbox.reconcile_lock_key() returns bigint
language sql immutable parallel safe
as $$
-- Purpose: the advisory lock of reconciliations that compare: "outf".
    select 1869968486::bigint << 32
$$;
