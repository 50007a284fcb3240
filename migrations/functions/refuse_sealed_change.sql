create or replace function outbox.refuse_sealed_change() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: keeps a sealed month as it was counted, attached or detached. Fires before INSERT, UPDATE and DELETE of each row, ENABLE ALWAYS.
-- Results: never returns; raises OB009.
-- Hazard: a detached table loses the row triggers that it had from its parent. This one is its own, and stays.
begin
    raise exception '% on %.% refused: the month is sealed', tg_op, tg_table_schema, tg_table_name
        using errcode = 'OB009', hint = 'enqueue it again: it then gets an id of now';
end
$$;
