create or replace function outbox.read_outbox_pauses() returns table (
    rail text, participant_id text, paused_by text, paused_at timestamptz, reason text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: what is paused: everything (both null), rails, participants; not what contracts pause.
    select u.rail, u.participant_id, u.paused_by, u.paused_at, a.reason
      from outbox.outbox_pauses u
      join outbox.operator_actions a on a.action_id = u.action_id
     order by u.rail nulls first, u.participant_id nulls first
$$;
