create or replace function outbox.record_partition_receipts(p_holds text, p_month date, p_min_age_ms bigint, p_row_counts bigint[], p_sha256s bytea[])
returns text[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the receipts of a sealed month, one for each of its tables, all or none, before the first is detached: at no moment is a payment
--   neither here nor on a receipt.
-- Parameters: as in open_in_month; p_row_counts and p_sha256s, what hash_table_chunk gave for the tables in their order.
-- Results: empty if they are recorded, now or before; otherwise why not.
-- Locks taken: none that others wait for. Counts the rows of the month in one statement.
declare
    v_step record;
    v_counts bigint[] := '{}';
    v_count bigint;
    v_table text;
    v_end timestamptz := (p_month + interval '1 month') at time zone 'UTC';
    v_lo uuid := outbox.outbox_id_floor(p_month::timestamp at time zone 'UTC');
    v_hi uuid := outbox.outbox_id_floor(v_end);
    v_payments bigint;
    v_ended bigint;
begin
    select * into v_step from outbox.next_partition_step(p_holds, p_month, p_min_age_ms);
    if v_step.step in ('DETACH', 'DONE') then
        return '{}';
    elsif v_step.step <> 'COUNT' then
        return case v_step.step when 'REFUSED' then v_step.details else array['the next step is ' || v_step.step] end;
    end if;
    foreach v_table in array v_step.details loop
        execute format('select count(*) from only outbox.%I', v_table) into v_count;
        v_counts := v_counts || v_count;
    end loop;
    if v_counts is distinct from p_row_counts or cardinality(p_sha256s) is distinct from cardinality(v_counts) then
        return array[format('rows hashed: %s, rows there: %s', p_row_counts, v_counts)];
    end if;
    if p_holds = 'PAYMENTS' then
        select count(*) into v_payments from outbox.payment_outbox_instructions i where i.outbox_id >= v_lo and i.outbox_id < v_hi;
        select count(*) into v_ended from outbox.payment_outbox_attempts a
         where a.outbox_id >= v_lo and a.outbox_id < v_hi and a.state in ('DISPATCHED', 'FAILED', 'CANCELLED');
        if v_payments <> v_ended then
            return array[format('%s payments, and %s that have ended', v_payments, v_ended)];
        end if;
    end if;
    insert into outbox.partition_receipts
    select t.table_name, m.name, p_holds, p_month, v_lo, v_hi, t.row_count, v_payments, t.sha256,
           case when p_holds = 'PAYMENTS' and m.place = 1 then (
               select coalesce(jsonb_agg(to_jsonb(c) order by c.kind, c.outbox_id), '[]') from outbox.contradicted_payments() as c
                where c.outbox_id >= v_lo and c.outbox_id < v_hi) else '[]' end,
           (select max(c.checkpoint_no) from outbox.audit_checkpoints c where c.is_full), session_user, clock_timestamp()
      from unnest(v_step.details, v_counts, p_sha256s) with ordinality as t (table_name, row_count, sha256, place)
      join (select n.name, n.place, row_number() over (order by n.place) as ordinal from outbox.month_tables() as n where n.holds = p_holds) as m
        on m.ordinal = t.place;
    return '{}';
end
$$;
