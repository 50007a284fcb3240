create or replace function outbox.check_epoch(p_environment text, p_seen_epoch_us bigint, p_seen_log_position bigint, p_memory_id uuid, p_seen_beat bigint)
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: whether a claim would be refused because this is not the cluster on record or is older than it was, without
--   claiming.
-- Parameters: p_environment, what the dispatcher is configured for; null counts as ''; the rest, what the dispatcher
--   remembers, as in a claim; 0, 0, null, 0: nothing.
-- Results: nothing, or raises OB011 or OB015 as a claim would.
begin
    perform outbox.refuse_other_epoch(p_environment, p_seen_epoch_us, p_seen_log_position, p_memory_id, p_seen_beat);
end
$$;
