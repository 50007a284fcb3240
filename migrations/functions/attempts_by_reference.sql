create or replace function outbox.attempts_by_reference(p_rail text, p_references text[])
returns table (rail_reference text, outbox_id uuid, state text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off
set enable_nestloop = on
set enable_seqscan = on
as $$
#variable_conflict use_column
-- Purpose: the attempts of a rail with one of these references. Internal to match_statement_lines.
-- Hazard: there is no index: the whole ledger is read, unless there is nothing to look for.
begin
    if cardinality(p_references) > 0 then
        return query
        select a.rail_reference, a.outbox_id, a.state from outbox.payment_outbox_attempts a
         where a.rail = p_rail and a.rail_reference = any (p_references);
    end if;
end
$$;
