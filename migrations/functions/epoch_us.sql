create or replace function outbox.epoch_us(p_epoch outbox.outbox_cluster) returns bigint
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: when an epoch was recorded, in microseconds since 1970: a later one is greater, whatever was lost in
--   between, which its number is not. 0: there is none.
begin
    return coalesce((extract(epoch from p_epoch.recorded_at) * 1000000)::bigint, 0);
end
$$;
