create or replace function outbox.pauses_lock_key() returns bigint
language sql immutable parallel safe
as $$
-- Purpose: the advisory lock of the pauses of participants: "outd". Shared to park, exclusive to let go on.
    select 1869968484::bigint << 32
$$;
