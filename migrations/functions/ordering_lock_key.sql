create or replace function outbox.ordering_lock_key(p_rail text, p_ordering_key text) returns bigint
language sql immutable strict parallel safe
as $$
-- Purpose: the advisory lock of an ordering key: "outc" in the upper half, the key's hash in the lower. Two keys of
--   one hash wait for each other, no more.
    select (1869968483::bigint << 32) | (hashtext(p_rail || ' ' || p_ordering_key)::bigint & 4294967295)
$$;
