create or replace function outbox.hint_outbox_lanes(p_rails text[]) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: wakes the lanes of these rails that sleep. Internal to enqueue.
-- Locks taken: those of `hint_outbox_lane`, in order of rail.
declare
    v_rail text;
begin
    for v_rail in select distinct r.rail from unnest(p_rails) as r (rail) order by r.rail loop
        perform outbox.hint_outbox_lane(v_rail);
    end loop;
end
$$;
