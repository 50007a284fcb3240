create or replace function outbox.action_needs_approval(p_kind text) returns boolean
language sql immutable strict parallel safe
as $$
-- Purpose: which actions need a second person: those after which a payment may be sent again, ends, or is believed.
    select p_kind not in ('PAUSE', 'RESUME', 'HOLD', 'CANCEL', 'RETRY_NOW')
$$;
