create or replace function outbox.outbox_id_floor(p_at timestamptz) returns uuid
language sql immutable strict parallel safe
as $$
-- Purpose: the smallest UUIDv7 (RFC 9562, 5.7) of the millisecond of p_at: the bound of an id range.
-- Parameters: p_at, after 1970.
    select encode(substring(int8send(floor(extract(epoch from p_at) * 1000)::bigint) from 3) || decode('00000000000000000000', 'hex'), 'hex')::uuid
$$;
