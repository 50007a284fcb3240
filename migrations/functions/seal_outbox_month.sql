create or replace function outbox.seal_outbox_month(p_holds text, p_month date, p_min_age_ms bigint) returns text[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
-- Purpose: closes a month for every further row, so that what is counted afterwards is what is detached.
-- Parameters: as in open_in_month.
-- Results: empty if it is sealed, now or before; otherwise why not.
-- Locks taken: share row exclusive on the month's partitions, which waits for transactions that have written to them and lets others read.
--   Those of now write to other months, so nobody queues up behind it. Before them the lock of audits, so that each audit was either before the seal
--   or sees it: by its own number the next full one is known to have seen what is sealed.
-- Hazard: a transaction that began long ago may hold a payment with an id of the month, which nobody else sees. Hence first the locks, then the
--   look, in a new snapshot.
declare
    v_step record;
    v_table text;
begin
    select * into v_step from outbox.next_partition_step(p_holds, p_month, p_min_age_ms);
    if v_step.step = 'REFUSED' then
        return v_step.details;
    elsif v_step.step <> 'SEAL' then
        return '{}';
    end if;
    if not pg_try_advisory_xact_lock(1869968487::bigint << 32) then
        return array['an audit is under way'];
    end if;
    begin
        foreach v_table in array v_step.details loop
            execute format('lock table only outbox.%I in share row exclusive mode', v_table);
        end loop;
    exception when lock_not_available then
        return array[format('an open transaction has written to %s', v_table)];
    end;
    select * into v_step from outbox.next_partition_step(p_holds, p_month, p_min_age_ms);
    if v_step.step <> 'SEAL' then
        return case v_step.step when 'REFUSED' then v_step.details else '{}'::text[] end;
    end if;
    foreach v_table in array v_step.details loop
        execute format('create trigger month_is_sealed before insert or update or delete on outbox.%I '
                       'for each row execute function outbox.refuse_sealed_change()', v_table);
        execute format('alter table outbox.%I enable always trigger month_is_sealed', v_table);
    end loop;
    insert into outbox.partition_seals
    values (p_holds, p_month, p_min_age_ms, coalesce((select max(c.checkpoint_no) from outbox.audit_checkpoints c), 0), session_user, clock_timestamp());
    return '{}';
end
$$;
