create or replace function outbox.check_epoch(p_environment text) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: whether a claim would be refused because this is not the cluster on record, without claiming.
-- Parameters: p_environment, what the dispatcher is configured for; null counts as ''.
-- Results: nothing, or raises OB011 as a claim would.
begin
    perform outbox.refuse_other_epoch(p_environment, 0, 0);
end
$$;
