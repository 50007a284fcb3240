create or replace function outbox.rate_allowance(p_rail text, p_per_s integer, p_limit integer, p_now timestamptz)
returns table (allowed integer, next_at timestamptz)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
-- Purpose: how many attempts a rail's rate allows now, for all dispatchers together (the generic cell rate algorithm,
--   ITU-T I.371). Internal to claim, which notes what it used with rate_used.
-- Parameters: p_per_s, attempts a second; p_now, the claim's clock.
-- Results: allowed, at most p_limit, at most a tenth of a second's worth or one; next_at, when the next one is.
-- Locks taken: the rail's row, until the claim ends: claims of a rail with a rate follow each other.
declare
    v_interval interval := interval '1 s' / p_per_s;
    v_burst interval := greatest(interval '100 ms', v_interval);
    v_next timestamptz;
begin
    insert into outbox.payment_rail_rates as t (rail, next_at) values (p_rail, p_now) on conflict (rail) do nothing;
    select greatest(t.next_at, p_now) into v_next from outbox.payment_rail_rates t where t.rail = p_rail for update;
    allowed := least(p_limit, floor(extract(epoch from p_now + v_burst - v_next) / extract(epoch from v_interval)))::integer;
    next_at := v_next - v_burst + v_interval;
    return next;
end
$$;
