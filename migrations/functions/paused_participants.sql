create or replace function outbox.paused_participants(p_rail text) returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
-- Purpose: the participants that may not be sent for on this rail.
-- Hazard: a statement may call it for each row: its plan is kept, whatever the caller's setting.
begin
    return array(select u.participant_id from outbox.outbox_pauses u where u.participant_id is not null and coalesce(u.rail, p_rail) = p_rail);
end
$$;
