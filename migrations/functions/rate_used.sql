create or replace function outbox.rate_used(p_rail text, p_per_s integer, p_used integer, p_now timestamptz) returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: notes attempts against a rail's rate. Internal to claim, which holds the row's lock.
    update outbox.payment_rail_rates t set next_at = greatest(t.next_at, p_now) + p_used * (interval '1 s' / p_per_s) where t.rail = p_rail
$$;
