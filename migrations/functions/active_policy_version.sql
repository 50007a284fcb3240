create or replace function outbox.active_policy_version() returns integer
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the active policy's version, or null. Internal to claim, enqueue and what people do.
-- Hazard: once a call, never once a row. In SQL, which cannot be put into the caller's statement with a setting of its own, it
--   would be parsed and planned at every call.
begin
    return (select a.version from outbox.policy_activations a order by a.activation_no desc limit 1);
end
$$;
