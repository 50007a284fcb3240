create or replace function outbox.ensure_outbox_partitions() returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '100ms'
as $$
-- Purpose: makes the monthly partitions of instructions and attempts, from the last month to 24 ahead.
--   Run by the migrator, at every `outboxd migrate`.
-- Results: how many partitions were made.
-- Locks taken: share update exclusive on the parents, which no enqueue and no claim waits for.
-- Hazard: `create table … partition of` takes an access exclusive lock on the parent, waits behind any
--   open transaction, and every enqueue waits behind it. Hence create, check, attach, with a short
--   lock_timeout and retries. No default partition: once it holds a row its month cannot be made.
declare
    v_month timestamptz;
    v_parent text;
    v_name text;
    v_range text;
    v_tries integer;
    v_made integer := 0;
    v_current timestamptz := date_trunc('month', clock_timestamp(), 'UTC');
begin
    for v_month in select generate_series(v_current - interval '1 month', v_current + interval '24 months', '1 month') loop
        foreach v_parent in array array['payment_outbox_instructions', 'payment_outbox_attempts'] loop
            v_name := v_parent || to_char(v_month at time zone 'UTC', '"_y"YYYY"m"MM');
            continue when to_regclass('outbox.' || v_name) is not null;
            v_range := format('outbox_id >= %L::uuid and outbox_id < %L::uuid',
                outbox.outbox_id_floor(v_month), outbox.outbox_id_floor(v_month + interval '1 month'));
            v_tries := 0;
            loop
                begin
                    execute format('create table outbox.%I (like outbox.%I including defaults including constraints '
                        'including storage)', v_name, v_parent);
                    execute format('alter table outbox.%I add constraint id_in_month check (%s)', v_name, v_range);
                    perform outbox.guard_history_table(format('outbox.%I', v_name)::regclass);
                    execute format('alter table outbox.%I attach partition outbox.%I for values from (%L) to (%L)', v_parent,
                        v_name, outbox.outbox_id_floor(v_month), outbox.outbox_id_floor(v_month + interval '1 month'));
                    execute format('alter table outbox.%I drop constraint id_in_month', v_name);
                    exit;
                exception when lock_not_available or duplicate_table then
                    -- Another migrator made it, or somebody held the parent: look again, up to 100 times.
                    v_tries := v_tries + 1;
                    if v_tries >= 100 then
                        raise;
                    end if;
                    exit when to_regclass('outbox.' || v_name) is not null;
                end;
            end loop;
            v_made := v_made + 1;
        end loop;
    end loop;
    return v_made;
end
$$;
