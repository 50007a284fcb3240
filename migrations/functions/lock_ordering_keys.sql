create or replace function outbox.lock_ordering_keys(p_rails text[], p_ordering_keys text[]) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: makes enqueues under one key follow each other: the order of the places is then that of the commits.
--   Internal to enqueue, which calls it before anything else.
-- Locks taken: the lock of each key until the transaction ends, in order (two batches cannot deadlock).
declare
    v_lock bigint;
begin
    for v_lock in select distinct outbox.ordering_lock_key(c.rail, c.ordering_key) from unnest(p_rails, p_ordering_keys) as c (rail, ordering_key)
                   where c.ordering_key is not null order by 1 loop
        perform pg_advisory_xact_lock(v_lock);
    end loop;
end
$$;
