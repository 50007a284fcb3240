create or replace function outbox.try_wakeup_lock(p_rail text) returns boolean
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: an idle lane says "I am asleep", so that enqueue sends it a hint. Session lock, on the
--   listener's connection; let go with release_wakeup_lock.
-- Results: whether the lock was taken. False: somebody is enqueueing, or another lane sleeps; poll.
-- Hazard: never wait for this lock: a listener stuck in it gets its notifications late.
    select pg_try_advisory_lock(outbox.wakeup_lock_key(p_rail))
$$;
