create or replace function outbox.paused_participants(p_rail text) returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the participants that may not be sent for on this rail. In PL/pgSQL, whose statement is planned once a session.
begin
    return array(select u.participant_id from outbox.outbox_pauses u where u.participant_id is not null and coalesce(u.rail, p_rail) = p_rail);
end
$$;
