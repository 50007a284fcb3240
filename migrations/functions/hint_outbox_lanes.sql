create or replace function outbox.hint_outbox_lanes(p_rails text[]) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: wakes the lanes that sleep, and only those. Internal to enqueue.
-- Locks taken: the wake-up lock of each rail, shared, until the transaction ends, in order of rail.
-- Hazard: NOTIFY takes a database-wide lock at commit; in every commit it makes commits three times
--   slower. So it is sent only when the shared lock cannot be had: then a lane holds it, asleep.
declare
    v_rail text;
begin
    for v_rail in select distinct r.rail from unnest(p_rails) as r (rail) order by r.rail loop
        if not pg_try_advisory_xact_lock_shared(outbox.wakeup_lock_key(v_rail)) then
            perform pg_notify('outbox_' || v_rail, '');
        end if;
    end loop;
end
$$;
