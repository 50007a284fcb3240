create or replace function outbox.new_outbox_id() returns uuid
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: a new UUIDv7 of now.
-- Results: the id. It is the payment's wire key, and its time is the partition's key.
declare
    v_tick bigint := floor(extract(epoch from clock_timestamp()) * 4096000);
begin
    return outbox.outbox_id_at(v_tick);
end
$$;
