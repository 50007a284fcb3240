create or replace function outbox.disposition_of(p_on_unknown text, p_in_doubt boolean) returns text
language sql immutable parallel safe
as $$
-- Purpose: where a payment stands in the queue that is not held: IN_DOUBT, its next lease asks after it; READY, it
--   sends. Only an inquire rail is asked.
-- Parameters: p_in_doubt, it may have been executed, or a late success is known.
    select case when p_on_unknown = 'inquire' and p_in_doubt then 'IN_DOUBT' else 'READY' end
$$;
