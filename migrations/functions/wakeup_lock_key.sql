create or replace function outbox.wakeup_lock_key(p_rail text) returns bigint
language sql immutable strict parallel safe
as $$
-- Purpose: the advisory lock of a rail's wake-up: "outb" in the upper half, the rail's hash in the lower.
    select (1869968482::bigint << 32) | (hashtext(p_rail)::bigint & 4294967295)
$$;
