create or replace function outbox.outbox_id_at(p_tick bigint) returns uuid
language sql volatile parallel safe
as $$
-- Purpose: a new UUIDv7 (RFC 9562, 5.7) of a moment: its millisecond, the fraction of it in 12 bits (method 3), and 62 random bits.
-- Parameters: p_tick, 4096ths of a millisecond since 1970.
-- Hazard: one expression that reads no clock, so that the planner puts it into the caller's statement: as a call for each payment
--   it was a tenth of what recording a batch costs.
    select encode(overlay(uuid_send(gen_random_uuid()) placing int8send((p_tick >> 12 << 16) | 28672 | (p_tick & 4095)) from 1), 'hex')::uuid
$$;
