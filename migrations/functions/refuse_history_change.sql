create or replace function outbox.refuse_history_change() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: keeps history append-only. Fires before UPDATE, DELETE (row) and TRUNCATE (statement),
--   ENABLE ALWAYS, on every history table; each partition has its own TRUNCATE trigger, since the
--   parent's does not fire for it.
-- Results: never returns; raises OB009.
-- Hazard: the owner can still drop the trigger. What an owner does is not prevented here.
begin
    raise exception '% on %.% refused: history is append-only', tg_op, tg_table_schema, tg_table_name
        using errcode = 'OB009', hint = 'record a correction as a new row';
end
$$;
