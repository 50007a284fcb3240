create or replace function outbox.release_wakeup_lock(p_rail text) returns boolean
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: a lane wakes up, or may not claim: enqueue stops sending it hints.
-- Results: whether this session held the lock.
    select pg_advisory_unlock(outbox.wakeup_lock_key(p_rail))
$$;
