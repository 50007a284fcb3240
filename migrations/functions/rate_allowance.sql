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
-- Hazard: a row further ahead than the burst was written by a clock that has gone back since, or under a lower rate, and
--   would stop the rail for as long. It is judged by the clock after the lock: p_now is from before it, and may be
--   older than what another claim has just used.
declare
    v_interval interval := interval '1 s' / p_per_s;
    v_burst interval := greatest(interval '100 ms', v_interval);
    v_next timestamptz;
begin
    insert into outbox.payment_rail_rates as t (rail, next_at) values (p_rail, p_now) on conflict (rail) do nothing;
    select t.next_at into v_next from outbox.payment_rail_rates t where t.rail = p_rail for update;
    if v_next > clock_timestamp() + v_burst then
        update outbox.payment_rail_rates t set next_at = clock_timestamp() + v_burst where t.rail = p_rail returning t.next_at into v_next;
    end if;
    v_next := greatest(v_next, p_now);
    allowed := least(p_limit, floor(extract(epoch from p_now + v_burst - v_next) / extract(epoch from v_interval)))::integer;
    next_at := v_next - v_burst + v_interval;
    return next;
end
$$;
