create or replace function outbox.read_api_range() returns table (api_min integer, api_max integer)
language sql stable
as $$
-- Purpose: which versions of these functions' interface the schema serves. A dispatcher starts if its own
--   version lies inside, whatever the migration ledger says.
    select 1, 1
$$;
