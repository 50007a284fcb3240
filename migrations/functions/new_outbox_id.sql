create or replace function outbox.new_outbox_id() returns uuid
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: a new UUIDv7 (RFC 9562, 5.7): uuidv7() where the server has it (18), otherwise the
--   millisecond, the fraction of it in 12 bits (method 3), and 62 random bits.
-- Results: the id. It is the payment's wire key, and its time is the partition's key.
declare
    v_micros bigint;
    v_bytes bytea;
begin
    if current_setting('server_version_num')::integer >= 180000 then
        return uuidv7();
    end if;
    v_micros := floor(extract(epoch from clock_timestamp()) * 1000000)::bigint;
    v_bytes := substring(int8send(v_micros / 1000) from 3)
        || int2send((28672 | ((v_micros % 1000) * 4096 / 1000))::smallint)
        || substring(uuid_send(gen_random_uuid()) from 9);
    return encode(v_bytes, 'hex')::uuid;
end
$$;
