create or replace function outbox.hint_outbox_lane(p_rail text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: wakes the lanes of a rail that sleep, and only those. Internal to enqueue.
-- Locks taken: the wake-up lock of the rail, shared, until the transaction ends.
-- Hazard: NOTIFY takes a database-wide lock at commit; in every commit it makes commits three times
--   slower. So it is sent only when the shared lock cannot be had: then a lane holds it, asleep.
begin
    if not pg_try_advisory_xact_lock_shared(outbox.wakeup_lock_key(p_rail)) then
        perform pg_notify('outbox_' || p_rail, '');
    end if;
end
$$;
