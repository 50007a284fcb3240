create or replace function outbox.attempt_kind_of(p_disposition text) returns text
language sql immutable parallel safe
as $$
-- Purpose: what a lease on a payment in this disposition is for. No column says it, so that a claim stays HOT.
    select case p_disposition when 'IN_DOUBT' then 'INQUIRE' else 'SUBMIT' end
$$;
