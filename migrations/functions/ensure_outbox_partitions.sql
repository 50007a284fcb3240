create or replace function outbox.ensure_outbox_partitions() returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set lock_timeout = '100ms'
as $$
-- Purpose: makes the monthly partitions of all month tables, from the last month to 24 ahead, but for those that were detached, and
--   takes the row types of all tables from PUBLIC. Run by the migrator, at every `outboxd migrate` and `outboxd partitions ensure`.
-- Results: how many partitions were made.
-- Locks taken: share update exclusive on the parents, which no enqueue and no claim waits for.
-- Hazards: `create table … partition of` takes an access exclusive lock on the parent, waits behind any
--   open transaction, and every enqueue waits behind it. Hence create, check, attach, with a short
--   lock_timeout and retries. No default partition: once it holds a row its month cannot be made.
--   PUBLIC may use the row type of a new table, whatever the default privileges say, and pg_dump does not carry the
--   revoke: a column of that type in anybody's table keeps the owner from altering ours.
--   A month added to a timestamptz is a month of the session's time zone: hence UTC above. Security definer,
--   so that a partition made by a superuser belongs to the owner like its parent.
declare
    v_month timestamptz;
    v_parent record;
    v_name text;
    v_range text;
    v_tries integer;
    v_made integer := 0;
    v_current timestamptz := date_trunc('month', clock_timestamp(), 'UTC');
begin
    for v_month in select generate_series(v_current - interval '1 month', v_current + interval '24 months', '1 month') loop
        for v_parent in select t.name, t.id_column from outbox.month_tables() as t order by t.place loop
            v_name := v_parent.name || to_char(v_month, '"_y"YYYY"m"MM');
            v_range := format('%1$I >= %2$L::uuid and %1$I < %3$L::uuid', v_parent.id_column,
                outbox.outbox_id_floor(v_month), outbox.outbox_id_floor(v_month + interval '1 month'));
            v_tries := 0;
            loop
                -- Looked at again after each wait: another migrator may have made it.
                exit when exists (select from pg_inherits h where h.inhrelid = to_regclass('outbox.' || v_name)
                                                              and h.inhparent = to_regclass('outbox.' || v_parent.name))
                       or exists (select from outbox.partition_receipts r where r.table_name = v_name);
                begin
                    execute format('create table outbox.%I (like outbox.%I including defaults including constraints '
                        'including storage)', v_name, v_parent.name);
                    execute format('alter table outbox.%I add constraint id_in_month check (%s)', v_name, v_range);
                    perform outbox.guard_history_table(format('outbox.%I', v_name)::regclass);
                    execute format('alter table outbox.%I attach partition outbox.%I for values from (%L) to (%L)', v_parent.name,
                        v_name, outbox.outbox_id_floor(v_month), outbox.outbox_id_floor(v_month + interval '1 month'));
                    execute format('alter table outbox.%I drop constraint id_in_month', v_name);
                    v_made := v_made + 1;
                exception when lock_not_available or duplicate_table or unique_violation then
                    -- Somebody holds the parent, or makes the same table (its names are unique in the catalogue).
                    -- A table that stays without being attached is a person's: the error names it.
                    v_tries := v_tries + 1;
                    if v_tries >= 100 then
                        raise;
                    end if;
                end;
            end loop;
        end loop;
    end loop;
    for v_name in select t.typname from pg_type t cross join aclexplode(coalesce(t.typacl, acldefault('T', t.typowner))) as a
                   where t.typnamespace = 'outbox'::regnamespace and t.typrelid <> 0 and a.grantee = 0 loop
        execute format('revoke usage on type outbox.%I from public', v_name);
    end loop;
    return v_made;
end
$$;
