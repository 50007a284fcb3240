-- The functions, the only writers of state. Their current texts are also in migrations/functions/, one a
-- file; a test proves that all migrations together give exactly those.

set local lock_timeout = '2s';

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

create or replace function outbox.guard_history_table(p_table regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: puts the append-only triggers on one history table, partitioned parent or partition.
--   Internal to migrations and ensure_outbox_partitions.
-- Parameters: p_table, the table. A partition gets its row trigger from the parent when attached.
-- Locks taken: share row exclusive on p_table.
-- Hazard: row triggers do not stop TRUNCATE, and TRUNCATE of a partition does not fire the parent's
--   trigger; without ENABLE ALWAYS, session_replication_role = replica goes round both.
begin
    execute format('create trigger history_is_never_truncated before truncate on %s '
                   'for each statement execute function outbox.refuse_history_change()', p_table);
    execute format('alter table %s enable always trigger history_is_never_truncated', p_table);
end
$$;

create or replace function outbox.outbox_id_at(p_tick bigint) returns uuid
language sql volatile parallel safe
as $$
-- Purpose: a new UUIDv7 (RFC 9562, 5.7) of a moment: its millisecond, the fraction of it in 12 bits (method 3), and 62 random bits.
-- Parameters: p_tick, 4096ths of a millisecond since 1970.
-- Hazard: one expression that reads no clock, so that the planner puts it into the caller's statement: as a call for each payment
--   it was a tenth of what recording a batch costs.
    select encode(overlay(uuid_send(gen_random_uuid()) placing int8send((p_tick >> 12 << 16) | 28672 | (p_tick & 4095)) from 1), 'hex')::uuid
$$;

create or replace function outbox.outbox_id_floor(p_at timestamptz) returns uuid
language sql immutable strict parallel safe
as $$
-- Purpose: the smallest UUIDv7 (RFC 9562, 5.7) of the millisecond of p_at: the bound of an id range.
-- Parameters: p_at, after 1970.
    select encode(substring(int8send(floor(extract(epoch from p_at) * 1000)::bigint) from 3) || decode('00000000000000000000', 'hex'), 'hex')::uuid
$$;

create or replace function outbox.new_outbox_id() returns uuid
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: a new UUIDv7 of now.
-- Results: the id. It is the payment's wire key, and its time is the partition's key.
declare
    v_tick bigint := floor(extract(epoch from clock_timestamp()) * 4096000);
begin
    return outbox.outbox_id_at(v_tick);
end
$$;

create or replace function outbox.month_tables() returns table (place integer, name text, id_column text, holds text)
language sql immutable parallel safe
as $$
-- Purpose: the tables that have a partition for each month of an id, which is a UUIDv7. To add a table is to add a line.
-- Results: what holds the same is detached together, in this order.
    values (1, 'payment_outbox_instructions', 'outbox_id', 'PAYMENTS'),
           (2, 'payment_outbox_attempts', 'outbox_id', 'PAYMENTS'),
           (3, 'ingress_attestations', 'attestation_id', 'ATTESTATIONS')
$$;

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

create or replace function outbox.read_outbox_partitions() returns table (
    holds text, month date, parent_name text, table_name text, state text, row_count bigint, payment_count bigint, rows_sha256 bytea,
    recorded_by text, recorded_at timestamptz)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the months of all month tables, and where each is on its way out.
-- Results: oldest first. state: ATTACHED; SEALED; COUNTED, it has a receipt; DETACHING, half-way; DETACHED, a table of its own;
--   GONE, only the receipt is here. Counts, hash, who and when are those of the receipt.
    with attached as (
        select t.name as parent_name, c.relname::text as table_name, to_date(right(c.relname, 8), '"y"YYYY"m"MM') as month, h.inhdetachpending as is_detaching
          from outbox.month_tables() as t
          join pg_inherits h on h.inhparent = to_regclass('outbox.' || t.name)
          join pg_class c on c.oid = h.inhrelid and c.relname ~ '_y[0-9]{4}m[0-9]{2}$'
    )
    select t.holds, coalesce(a.month, r.month), t.name, coalesce(a.table_name, r.table_name),
           case when a.is_detaching then 'DETACHING'
                when a.table_name is null and to_regclass(format('outbox.%I', r.table_name)) is null then 'GONE'
                when a.table_name is null then 'DETACHED'
                when r.table_name is not null then 'COUNTED'
                when exists (select from outbox.partition_seals s where s.holds = t.holds and s.month = a.month) then 'SEALED'
                else 'ATTACHED' end,
           r.row_count, r.payment_count, r.rows_sha256, r.recorded_by, r.recorded_at
      from attached a
      full join outbox.partition_receipts r on r.table_name = a.table_name and r.parent_name = a.parent_name
      join outbox.month_tables() as t on t.name = coalesce(a.parent_name, r.parent_name)
     order by 2, t.place
$$;

create or replace function outbox.detached_id_ranges() returns table (ids_from uuid, ids_before uuid)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the ids of payments whose month has left by receipt, whole or half-way; months that follow each other are one range, so that
--   there are few. Internal.
-- Hazard: a month that was detached without a receipt is not in it: its payments are lost to every audit.
    select outbox.outbox_id_floor(lower(d.months)::timestamp at time zone 'UTC'), outbox.outbox_id_floor(upper(d.months)::timestamp at time zone 'UTC')
      from (select unnest(range_agg(daterange(r.month, (r.month + interval '1 month')::date))) as months
              from outbox.partition_receipts r
             where r.holds = 'PAYMENTS'
               and not exists (select from pg_inherits h where h.inhrelid = to_regclass(format('outbox.%I', r.table_name))
                                                           and h.inhparent = to_regclass(format('outbox.%I', r.parent_name)) and not h.inhdetachpending)) as d
$$;

create or replace function outbox.detached_as(p_outbox_id uuid) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: that the month of a payment was detached, and where it is told of, in words for people; null if it was not. Internal.
    select format('its month %s was detached: see its receipt, %s', to_char(r.month, 'YYYY-MM'), r.table_name)
      from outbox.partition_receipts r
      join outbox.detached_id_ranges() as g on p_outbox_id >= g.ids_from and p_outbox_id < g.ids_before
     where r.holds = 'PAYMENTS' and p_outbox_id >= r.ids_from and p_outbox_id < r.ids_before
     order by r.table_name desc limit 1
$$;

create or replace function outbox.open_in_month(p_holds text, p_month date, p_min_age_ms bigint) returns setof text
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set jit = off
as $$
-- Purpose: why a month cannot be detached, a sentence a row with an example; no row if nothing in it is open. Internal to the steps of detaching.
-- Parameters: p_holds, as in month_tables; p_month, its first day; p_min_age_ms, how long ago the last thing in it has to have happened. A
--   rail's key window and quarantine count where they are longer.
-- Hazard: what is asked of the ledger carries the month's id range, a constant for the planner.
declare
    v_now timestamptz := clock_timestamp();
    v_age interval := justify_hours(p_min_age_ms * interval '1 ms');
    v_since timestamptz := v_now - v_age;
    v_end timestamptz := (p_month + interval '1 month') at time zone 'UTC';
    v_lo uuid := outbox.outbox_id_floor(p_month::timestamp at time zone 'UTC');
    v_hi uuid := outbox.outbox_id_floor(v_end);
begin
    if v_end > v_now then
        return next 'the month is not over';
    end if;
    if p_holds <> 'PAYMENTS' then
        if v_end > v_since then
            return next format('the month ended less than %s ago', v_age);
        end if;
        return query
        select format('the payments of %s are here: they go first', to_char(p.month, 'YYYY-MM'))
          from outbox.read_outbox_partitions() as p
         where p.holds = 'PAYMENTS' and p.month in (p_month, p_month + interval '1 month') and p.state not in ('DETACHED', 'GONE')
         group by p.month;
        return query
        select format('%s pending payments name what is in it, such as %s', count(*), min(p.outbox_id::text))
          from outbox.payment_outbox_pending p
         cross join lateral (select n.attestation_id from outbox.payment_outbox_instructions n where n.outbox_id = p.outbox_id limit 1) as i
         where i.attestation_id >= v_lo and i.attestation_id < v_hi having count(*) > 0;
        return;
    end if;
    return query
    select format('%s payments are pending (%s), such as %s', count(*), string_agg(distinct lower(p.disposition), ', '), min(p.outbox_id::text))
      from outbox.payment_outbox_pending p where p.outbox_id >= v_lo and p.outbox_id < v_hi having count(*) > 0;
    return query
    select format('%s breaks with a statement are open, such as %s of payment %s', count(*), min(b.break_id::text), min(b.outbox_id::text))
      from outbox.reconcile_breaks b
     where b.outbox_id >= v_lo and b.outbox_id < v_hi
       and not exists (select from outbox.reconcile_closed c where c.break_id = b.break_id)
       and not exists (select from outbox.reconcile_voidings v where v.statement_id = b.statement_id) having count(*) > 0;
    return query
    select format('%s dispatched payments of rail %s wait for a statement, such as %s', count(*), r.rail, min(a.outbox_id::text))
      from outbox.payment_rails r
     cross join lateral (select outbox.reconcile_judged_until(r.rail) as until) as j
      join outbox.payment_outbox_attempts a on a.rail = r.rail and a.state = 'DISPATCHED' and a.completed_at >= j.until
     where a.outbox_id >= v_lo and a.outbox_id < v_hi
     group by r.rail;
    return query
    select format('an action of %s payments is not done and not withdrawn: %s', count(*), m.action_id)
      from outbox.operator_action_members m
     where m.outbox_id >= v_lo and m.outbox_id < v_hi
       and not exists (select from outbox.operator_action_results r where r.action_id = m.action_id and r.outbox_id = m.outbox_id)
       and not exists (select from outbox.operator_action_decisions d where d.action_id = m.action_id and d.decision in ('REJECTED', 'WITHDRAWN'))
     group by m.action_id;
    return query
    select format('%s payments of rail %s ended an attempt less than %s ago, such as %s', count(distinct a.outbox_id), a.rail, g.age, min(a.outbox_id::text))
      from outbox.payment_outbox_attempts a
      left join outbox.payment_rails r on r.rail = a.rail
     cross join lateral (select justify_hours(greatest(p_min_age_ms, r.idempotency_window_ms, r.rail_timeout_ms + r.processing_bound_ms) * interval '1 ms') as age) as g
     where a.outbox_id >= v_lo and a.outbox_id < v_hi and a.completed_at > v_now - g.age
     group by a.rail, g.age;
    return query
    select format('%s outcomes were learned late less than %s ago, such as one of payment %s', count(*), v_age, min(l.outbox_id::text))
      from outbox.payment_outbox_late_outcomes l
     where l.outbox_id >= v_lo and l.outbox_id < v_hi and l.recorded_at > v_since having count(*) > 0;
    return query
    select format('%s payments break a promise, says the last audit, such as %s', count(*), min(o.outbox_id::text))
      from outbox.audit_open o where o.is_broken and o.outbox_id >= v_lo and o.outbox_id < v_hi having count(*) > 0;
end
$$;

create or replace function outbox.next_partition_step(p_holds text, p_month date, p_min_age_ms bigint)
returns table (step text, details text[], statement text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
-- Purpose: what is to be done next to detach a month, told by what is there, so that whoever was interrupted asks again and goes on.
-- Parameters: as in open_in_month.
-- Results: REFUSED, with why in details; SEAL: seal_outbox_month; AUDIT: a full audit has to see the sealed month; COUNT: hash the tables in
--   details, then record_partition_receipts; DETACH: run statement, outside of a transaction; DONE.
-- Hazard: instructions go first. Between the two steps nothing can be redriven from attempts that are half gone.
declare
    v_names text[];
    v_states text[];
    v_next integer;
    v_parent text;
    v_sealed integer := (select s.checkpoint_no from outbox.partition_seals s where s.holds = p_holds and s.month = p_month);
    v_open text[];
begin
    select array_agg(coalesce(p.table_name, t.name) order by t.place), array_agg(coalesce(p.state, 'MISSING') order by t.place) into v_names, v_states
      from outbox.month_tables() as t
      left join outbox.read_outbox_partitions() as p on p.parent_name = t.name and p.month = p_month
     where t.holds = p_holds;
    if v_states is null or p_month <> date_trunc('month', p_month) or p_min_age_ms is null or p_min_age_ms < 0 then
        raise exception 'no month: % of %, at least % ms old', p_month, p_holds, p_min_age_ms using errcode = 'OB003';
    elsif 'MISSING' = any (v_states) then
        return query select 'REFUSED', array(select format('%s has no partition %s and no receipt of it', u.name, to_char(p_month, 'YYYY-MM'))
            from unnest(v_names, v_states) as u (name, state) where u.state = 'MISSING'), null::text;
        return;
    end if;
    v_next := (select min(u.place) from unnest(v_states) with ordinality as u (state, place) where u.state not in ('DETACHED', 'GONE'));
    if v_next is null then
        return query select 'DONE', v_names, null::text;
        return;
    end if;
    -- Once the first table is on its way, the only way is to the end: half a month is no ledger.
    if v_next = 1 and v_states[1] <> 'DETACHING' then
        v_open := array(select o.why from outbox.open_in_month(p_holds, p_month, p_min_age_ms) as o (why));
        if cardinality(v_open) > 0 then
            return query select 'REFUSED', v_open, null::text;
            return;
        end if;
    end if;
    if v_states[v_next] in ('COUNTED', 'DETACHING') then
        v_parent := (select t.name from outbox.month_tables() as t where t.holds = p_holds order by t.place offset v_next - 1 limit 1);
        return query select 'DETACH', v_names[v_next:v_next], format('alter table outbox.%I detach partition outbox.%I %s', v_parent, v_names[v_next],
            case v_states[v_next] when 'COUNTED' then 'concurrently' else 'finalize' end);
    elsif v_sealed is null then
        return query select 'SEAL', v_names, null::text;
    elsif p_holds = 'PAYMENTS' and not exists (select from outbox.audit_checkpoints c where c.is_full and c.checkpoint_no > v_sealed) then
        return query select 'AUDIT', v_names, null::text;
    else
        return query select 'COUNT', v_names, null::text;
    end if;
end
$$;

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

create or replace function outbox.hash_table_chunk(p_table regclass, p_chain bytea, p_after jsonb)
returns table (chain bytea, row_count bigint, last_key jsonb)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set bytea_output = 'hex'
set extra_float_digits = 1
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
#variable_conflict use_column
-- Purpose: the next 1000 rows of a table, in the order of its primary key, taken into a hash. Called until row_count is 0, each time with what
--   it gave: a statement holds no snapshot for long, and memory is that of 1000 rows. It needs nothing else of this schema, so that an
--   archive with the same table can call it.
-- Parameters: p_chain and p_after, null at the beginning.
-- Results: chain = sha256(p_chain, then the digests of the rows), beginning with sha256 of nothing; the digest of a row is the sha256 of its text
--   as jsonb, with times in UTC and bytes as hex, so it does not depend on a setting or on the order of columns.
-- Hazard: the size of a chunk is part of the hash. Without enable_sort = off each chunk may sort the whole table.
declare
    v_columns text;
    v_texts text;
    v_bound text;
begin
    select string_agg(format('t.%I', a.attname), ', ' order by k.place), string_agg(format('t.%I::text', a.attname), ', ' order by k.place),
           string_agg(format('%L::%s', p_after ->> (k.place - 1)::integer, format_type(a.atttypid, a.atttypmod)), ', ' order by k.place)
      into v_columns, v_texts, v_bound
      from pg_index x
     cross join lateral unnest(x.indkey::smallint[]) with ordinality as k (attnum, place)
      join pg_attribute a on a.attrelid = x.indrelid and a.attnum = k.attnum
     where x.indrelid = p_table and x.indisprimary;
    if v_columns is null then
        raise exception '% has no primary key: its rows have no order', p_table using errcode = 'OB003';
    end if;
    p_chain := coalesce(p_chain, sha256(''));
    return query execute format(
        'select sha256($1 || coalesce(string_agg(r.digest, '''' order by r.place), '''')), count(*), (array_agg(r.key order by r.place desc))[1]
           from (select row_number() over () as place, q.* from (
                     select sha256(convert_to(to_jsonb(t)::text, ''UTF8'')) as digest, jsonb_build_array(%s) as key
                       from only %s t %s order by %s limit 1000) as q) as r having count(*) > 0',
        v_texts, p_table, case when p_after is not null then format('where (%s) > (%s)', v_columns, v_bound) else '' end, v_columns) using p_chain;
    if not found then
        return query select p_chain, 0::bigint, p_after;
    end if;
end
$$;

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

create or replace function outbox.audit_receipts(p_full boolean) returns table (kind text, outbox_id uuid, detail text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set jit = off
as $$
#variable_conflict use_column
-- Purpose: whether what is gone has left by receipt, and whether the receipts agree with each other, with the queue and, p_full, with the
--   identities, which never go. Internal to audit_outbox.
-- Hazard: identities have no index by outbox_id, so that all are read to count them.
begin
    return query
    with parts as materialized (
        select p.holds, p.parent_name, p.month from outbox.read_outbox_partitions() as p
    )
    select 'MONTH_WITHOUT_RECEIPT', null::uuid, format('%s has no partition %s, and no receipt of it', t.name, to_char(m.month, 'YYYY-MM'))
      from outbox.month_tables() as t
     cross join lateral (select min(p.month) as first, max(p.month) as last from parts p where p.holds = t.holds) as e
     cross join lateral (select g.month::date as month from generate_series(e.first::timestamp, e.last::timestamp, '1 month') as g (month)) as m
     where not exists (select from parts p where p.parent_name = t.name and p.month = m.month);
    return query
    select 'RECEIPT_DIFFERS', null::uuid, format('the receipts of %s are not one for each table, or do not agree', to_char(r.month, 'YYYY-MM'))
      from outbox.partition_receipts r
     group by r.holds, r.month
    having count(*) <> (select count(*) from outbox.month_tables() as t where t.holds = r.holds)
        or count(distinct (r.ids_from, r.ids_before, r.payment_count)) > 1
        or bool_or(r.ids_from <> outbox.outbox_id_floor(r.month::timestamp at time zone 'UTC')
                   or r.ids_before <> outbox.outbox_id_floor((r.month + interval '1 month') at time zone 'UTC'))
        or r.holds = 'PAYMENTS' and bool_or(r.payment_count is null
                   or r.row_count < r.payment_count or r.parent_name = 'payment_outbox_instructions' and r.row_count <> r.payment_count);
    return query
    select 'PENDING_BUT_DETACHED', p.outbox_id, outbox.detached_as(p.outbox_id)
      from outbox.detached_id_ranges() as g
      join outbox.payment_outbox_pending p on p.outbox_id >= g.ids_from and p.outbox_id < g.ids_before;
    return query
    select 'HISTORY_UNGUARDED', null::uuid, s.relid || ': ' || n.name || case
               when g.tgenabled is null then ' is missing' when g.tgenabled <> 'A' then ' is ' || g.tgenabled::text else ' does not refuse' end
      from (select to_regclass(format('outbox.%I', t.name || to_char(e.month, '"_y"YYYY"m"MM'))) as relid
              from outbox.partition_seals e join outbox.month_tables() as t on t.holds = e.holds) as s
     cross join (values ('month_is_sealed', 31, 'outbox.refuse_sealed_change'), ('history_is_never_truncated', 34, 'outbox.refuse_history_change'))
                as n (name, fires, refuses)
      left join pg_trigger g on g.tgrelid = s.relid and g.tgname = n.name
     where s.relid is not null
       and (g.tgenabled, g.tgtype::integer, g.tgqual is null, g.tgfoid) is distinct from ('A'::"char", n.fires, true, n.refuses::regproc::oid);
    return query
    select 'HISTORY_UNGUARDED', null::uuid, 'outbox.refuse_sealed_change() is not what it was'
      from pg_proc p
     where p.oid = 'outbox.refuse_sealed_change'::regproc and sha256(convert_to(p.prosrc, 'UTF8')) <> '\x09bb152d45b46c3941e4174bc5d362e75e2e48c5ed985a8434b53dc57140c6d2';
    if p_full then
        return query
        with held as materialized (
            select r.month, max(r.payment_count) as payments from outbox.partition_receipts r where r.holds = 'PAYMENTS' group by r.month
        ), known as materialized (
            select date_trunc('month', to_timestamp(('x' || substr(d.outbox_id::text, 1, 8) || substr(d.outbox_id::text, 10, 4))::bit(48)::bigint / 1000.0), 'UTC')
                       at time zone 'UTC' as month, count(*) as payments
              from outbox.payment_outbox_identities d
             where exists (select from outbox.detached_id_ranges() as g where d.outbox_id >= g.ids_from and d.outbox_id < g.ids_before)
             group by 1
        )
        select 'RECEIPT_DIFFERS', null::uuid, format('the receipts of %s say %s payments, and there are %s identities', to_char(h.month, 'YYYY-MM'),
                   h.payments, coalesce(k.payments, 0))
          from held h
          left join known k on k.month = h.month
         where h.payments <> coalesce(k.payments, 0)
           and exists (select from outbox.detached_id_ranges() as g where outbox.outbox_id_floor(h.month::timestamp at time zone 'UTC') >= g.ids_from
                                                                      and outbox.outbox_id_floor(h.month::timestamp at time zone 'UTC') < g.ids_before);
    end if;
end
$$;

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

create or replace function outbox.partition_headroom_months() returns integer
language sql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
-- Purpose: for how many months after this one all month tables have a partition, without a gap.
-- Results: 24 after `outboxd migrate`; below 12 is a warning; below 0 enqueue fails.
-- Hazard: a table with a month's name is no partition unless it is attached.
    with attached as materialized (
        select right(c.relname, 8) as suffix, count(distinct h.inhparent) as parents
          from pg_inherits h
          join pg_class c on c.oid = h.inhrelid
         where h.inhparent in (select to_regclass('outbox.' || t.name) from outbox.month_tables() as t)
         group by right(c.relname, 8)
    )
    select (count(*) filter (where m.whole) - 1)::integer
      from (select bool_and(coalesce(a.parents, 0) = (select count(*) from outbox.month_tables())) over (order by g.month) as whole
              from generate_series(date_trunc('month', clock_timestamp(), 'UTC'),
                                   date_trunc('month', clock_timestamp(), 'UTC') + interval '60 months', '1 month') as g (month)
              left join attached a on a.suffix = to_char(g.month, '"y"YYYY"m"MM')) as m
$$;

create or replace function outbox.payment_identity_sha256(
    p_rail text, p_payload_sha256 bytea, p_content_type text, p_amount_minor bigint, p_currency text,
    p_not_before timestamptz, p_not_after timestamptz, p_ordering_key text
) returns bytea
language sql stable parallel safe
as $$
-- Purpose: what makes two requests to pay the same request. Never traceparent, attestation, who or
--   when: a repeated enqueue brings new ones.
-- Results: SHA-256 over each value with its length in front, so that no two lists of values give the
--   same bytes; a null has length -1. Times enter as microseconds, the payload as its own SHA-256,
--   which callers have or need besides.
-- Hazard: one expression without a table, so that the planner puts it into the caller's statement; as a statement of its own it was
--   begun and ended once a payment.
    select sha256(
        coalesce(int4send(octet_length(convert_to(p_rail, 'UTF8'))) || convert_to(p_rail, 'UTF8'), int4send(-1))
        || coalesce(int4send(32) || p_payload_sha256, int4send(-1))
        || coalesce(int4send(octet_length(convert_to(p_content_type, 'UTF8'))) || convert_to(p_content_type, 'UTF8'), int4send(-1))
        || coalesce(int4send(8) || int8send(p_amount_minor), int4send(-1))
        || coalesce(int4send(octet_length(convert_to(p_currency, 'UTF8'))) || convert_to(p_currency, 'UTF8'), int4send(-1))
        || coalesce(int4send(8) || int8send((extract(epoch from p_not_before) * 1000000)::bigint), int4send(-1))
        || coalesce(int4send(8) || int8send((extract(epoch from p_not_after) * 1000000)::bigint), int4send(-1))
        || coalesce(int4send(octet_length(convert_to(p_ordering_key, 'UTF8'))) || convert_to(p_ordering_key, 'UTF8'), int4send(-1)))
$$;

create or replace function outbox.wakeup_lock_key(p_rail text) returns bigint
language sql immutable strict parallel safe
as $$
-- Purpose: the advisory lock of a rail's wake-up: "outb" in the upper half, the rail's hash in the lower.
    select (1869968482::bigint << 32) | (hashtext(p_rail)::bigint & 4294967295)
$$;

create or replace function outbox.try_wakeup_lock(p_rail text) returns boolean
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: an idle lane says "I am asleep", so that enqueue sends it a hint. Session lock, on the
--   listener's connection; let go with release_wakeup_lock.
-- Results: whether the lock was taken. False: somebody is enqueueing, or another lane sleeps; poll.
-- Hazard: never wait for this lock: a listener stuck in it gets its notifications late.
    select pg_try_advisory_lock(outbox.wakeup_lock_key(p_rail))
$$;

create or replace function outbox.release_wakeup_lock(p_rail text) returns boolean
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: a lane wakes up, or may not claim: enqueue stops sending it hints.
-- Results: whether this session held the lock.
    select pg_advisory_unlock(outbox.wakeup_lock_key(p_rail))
$$;

create or replace function outbox.hint_outbox_lane(p_rail text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: wakes the lanes of a rail that sleep, and only those. Internal to enqueue.
-- Locks taken: the wake-up lock of the rail, shared, until the transaction ends.
-- Hazard: NOTIFY takes a database-wide lock at commit; in every commit it makes commits three times
--   slower. So it is sent only when the shared lock cannot be had: then a lane holds it, asleep.
begin
    if not pg_try_advisory_xact_lock_shared(outbox.wakeup_lock_key(p_rail)) then
        perform pg_notify('outbox_' || p_rail, '');
    end if;
end
$$;

create or replace function outbox.hint_outbox_lanes(p_rails text[]) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: wakes the lanes of these rails that sleep. Internal to enqueue.
-- Locks taken: those of `hint_outbox_lane`, in order of rail.
declare
    v_rail text;
begin
    for v_rail in select distinct r.rail from unnest(p_rails) as r (rail) order by r.rail loop
        perform outbox.hint_outbox_lane(v_rail);
    end loop;
end
$$;

create or replace function outbox.active_policy_version() returns integer
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the active policy's version, or null. Internal to claim, enqueue and what people do.
-- Hazard: once a call, never once a row. In SQL, which cannot be put into the caller's statement with a setting of its own, it
--   would be parsed and planned at every call.
begin
    return (select a.version from outbox.policy_activations a order by a.activation_no desc limit 1);
end
$$;

create or replace function outbox.policy_contracts(p_document text) returns setof outbox.payment_rails
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the contracts of a policy's document as rows of payment_rails, by rail. Internal to what proposes, activates and audits policies.
--   A column of payment_rails is a key of the same name in each contract; a new column needs nothing here.
-- Results: raises where the document is no JSON, or a value is of another type.
    select c.*
      from jsonb_each(p_document::jsonb -> 'rails') as r (rail, decisions)
     cross join lateral jsonb_populate_record(null::outbox.payment_rails, r.decisions -> 'contract' || jsonb_build_object('rail', r.rail)) as c
     order by r.rail
$$;

create or replace function outbox.policy_faults() returns table (fault text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: where the active policy is not what was approved, or a rail's contract not what it says. Internal to audit_guards.
-- Hazards: a document that was not approved is not read. A column that it has not is of a later schema, and at its default.
    with active as materialized (
        select a.version, d.document, coalesce(d.checksum = sha256(convert_to(d.document, 'UTF8')) and a.checksum = d.checksum and c.checksum = d.checksum
                   and c.decision = 'APPROVED' and c.decided_by <> d.proposed_by, false) as is_approved
          from (select * from outbox.policy_activations l order by l.activation_no desc limit 1) as a
          left join outbox.policy_documents d on d.version = a.version
          left join outbox.policy_decisions c on c.version = a.version
    ), contracts as materialized (
        select v.version, r.rail, r.decisions -> 'contract' as contract
          from active v cross join lateral jsonb_each(case when v.is_approved then v.document::jsonb -> 'rails' end) as r (rail, decisions))
    select 'policy version ' || v.version || ' is not the document that was approved' from active v where not v.is_approved
    union all
    select 'rail ' || c.rail || ' has another contract than policy version ' || c.version
      from contracts c left join outbox.payment_rails r on r.rail = c.rail
     where r.policy_version is distinct from c.version
        or exists (select from jsonb_each(c.contract) as m (name, value) where to_jsonb(r) -> m.name <> m.value)
    union all
    select 'rail ' || r.rail || ' bears policy version ' || r.policy_version || ', which is not active or has no such rail'
      from outbox.payment_rails r
     where r.policy_version is not null and not exists (select from contracts c where c.rail = r.rail)
$$;

create or replace function outbox.is_plain_payment(
    p_participant_id text, p_instruction_id text, p_idempotency_key text, p_payload bytea, p_content_type text, p_amount_minor bigint,
    p_currency text, p_not_before timestamptz, p_not_after timestamptz, p_ordering_key text, p_traceparent text, p_attestation_id uuid,
    p_amount_required boolean, p_require_attestation boolean
) returns boolean
language sql immutable parallel safe
as $$
-- Purpose: whether a payment certainly has no bad value and no attestation to be looked at, told cheaply. Internal to
--   enqueue; of every other refuse_bad_payments says what is bad, if anything is.
-- Parameters: p_amount_required and p_require_attestation, of the rail's contract; null: there is no such rail.
-- Hazards: it must never say yes to what refuse_bad_payments refuses. It need not say yes to all else. A regular expression costs
--   a twentieth of what recording a payment of a batch costs: the commonest types are told without.
    select coalesce(not p_require_attestation and p_attestation_id is null
        and length(p_participant_id) between 1 and 200 and length(p_instruction_id) between 1 and 200 and length(p_idempotency_key) between 1 and 200
        and octet_length(p_payload) <= 1048576 and (p_content_type in ('application/json', 'application/xml') or p_content_type ~ '^[a-z]{1,30}/[-+.a-z0-9]{1,90}$')
        and case when p_amount_minor is null then p_currency is null and not p_amount_required else p_amount_minor > 0 and p_currency ~ '^[A-Z]{3}$' end
        and (p_not_before is null or isfinite(p_not_before))
        and (p_not_after is null or (isfinite(p_not_after) and (p_not_before is null or p_not_after > p_not_before)))
        and (p_ordering_key is null or length(p_ordering_key) between 1 and 200)
        and (p_traceparent is null or p_traceparent ~ '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'), false)
$$;

create or replace function outbox.refuse_bad_payments(
    p_participant_ids text[], p_instruction_ids text[], p_idempotency_keys text[], p_rails text[], p_payloads bytea[],
    p_content_types text[], p_amounts_minor bigint[], p_currencies text[], p_not_befores timestamptz[],
    p_not_afters timestamptz[], p_ordering_keys text[], p_traceparents text[], p_attestation_ids uuid[]
) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: refuses a batch that has a bad value, naming the first bad payment and its column.
--   Internal to enqueue. All arrays are lists of one length, from 1 on.
-- Results: whether attestations are to be looked at, which is no fault yet; or raises OB003 (a value) or OB004 (an unknown rail).
declare
    v_bad record;
begin
    if (select bool_and(outbox.is_plain_payment(p_participant_ids[n.place], p_instruction_ids[n.place], p_idempotency_keys[n.place], p_payloads[n.place],
               p_content_types[n.place], p_amounts_minor[n.place], p_currencies[n.place], p_not_befores[n.place], p_not_afters[n.place],
               p_ordering_keys[n.place], p_traceparents[n.place], p_attestation_ids[n.place], r.amount_required, r.require_attestation))
          from generate_series(1, cardinality(p_rails)) as n (place)
          left join outbox.payment_rails r on r.rail = p_rails[n.place]) then
        return false;
    end if;
    select c.ordinal, c.rail, r.rail as known_rail, f.place, f.fault into v_bad
      from unnest(p_participant_ids, p_instruction_ids, p_idempotency_keys, p_rails, p_payloads, p_content_types,
                  p_amounts_minor, p_currencies, p_not_befores, p_not_afters, p_ordering_keys, p_traceparents, p_attestation_ids) with ordinality
           as c (participant_id, instruction_id, idempotency_key, rail, payload, content_type, amount_minor, currency,
                 not_before, not_after, ordering_key, traceparent, attestation_id, ordinal)
      left join outbox.payment_rails r on r.rail = c.rail
     cross join lateral (values
        ('participant_id', case when coalesce(length(c.participant_id), 0) not between 1 and 200 then 'must have 1 to 200 characters' end),
        ('instruction_id', case when coalesce(length(c.instruction_id), 0) not between 1 and 200 then 'must have 1 to 200 characters' end),
        ('idempotency_key', case when coalesce(length(c.idempotency_key), 0) not between 1 and 200 then 'must have 1 to 200 characters' end),
        ('rail', case when r.rail is null then 'is not a rail with a contract in payment_rails' end),
        ('payload', case when c.payload is null then 'must not be null'
                         when octet_length(c.payload) > 1048576 then 'must have at most 1048576 bytes' end),
        ('content_type', case when coalesce(length(c.content_type), 0) not between 3 and 128
                                or c.content_type !~ '^[-!#$%&''*+.^_`|~0-9A-Za-z]+/[-!#$%&''*+.^_`|~0-9A-Za-z]+( *;[ -~]*[!-~])?$'
                              then 'must be a media type, type/subtype, of at most 128 visible ASCII characters (RFC 9110, 8.3.1)' end),
        ('amount_minor', case when c.amount_minor <= 0 then 'must be above zero'
                              when c.amount_minor is null and r.amount_required then 'is required by the contract of the rail'
                              when c.amount_minor is null and c.currency is not null then 'is missing beside a currency' end),
        ('currency', case when c.currency !~ '^[A-Z]{3}$' then 'must be three capital letters (ISO 4217)'
                          when c.currency is null and c.amount_minor is not null then 'is missing beside an amount' end),
        ('not_before', case when not isfinite(c.not_before) then 'must be a finite time' end),
        ('not_after', case when not isfinite(c.not_after) then 'must be a finite time'
                           when c.not_after <= c.not_before then 'must be later than not_before' end),
        ('ordering_key', case when length(c.ordering_key) not between 1 and 200 then 'must have 1 to 200 characters' end),
        ('traceparent', case when c.traceparent !~ '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'
                             then 'must be a W3C trace context of version 00' end),
        ('attestation_id', case when r.require_attestation or c.attestation_id is not null then '' end)) as f (place, fault)
     where f.fault is not null
     order by f.place = 'attestation_id', c.ordinal
     limit 1;
    if found and v_bad.place <> 'attestation_id' then
        raise exception 'payment % of the batch: % %', v_bad.ordinal, v_bad.place, v_bad.fault
            using errcode = case when v_bad.place = 'rail' then 'OB004' else 'OB003' end, column = v_bad.place,
                  schema = 'outbox', hint = case when v_bad.place = 'rail'
                      then format('rail given: %L; an operator sets its contract with set_payment_rail', v_bad.rail)
                      else 'nothing of the batch is recorded' end;
    end if;
    return found;
end
$$;

create or replace function outbox.is_behind_another(p_outbox_id uuid) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
-- Purpose: whether another payment that has not ended comes before this one under the same ordering key.
    select exists (select from outbox.payment_outbox_order o
                    cross join lateral (select 1 from outbox.payment_outbox_order e
                                         where e.rail = o.rail and e.ordering_key = o.ordering_key and e.place < o.place limit 1) as before
                    where o.outbox_id = p_outbox_id)
$$;

create or replace function outbox.enqueue_in_order(p_outbox_ids uuid[], p_rails text[], p_ordering_keys text[]) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
-- Purpose: gives new payments their places, and parks those that are not the first of their key. Internal to
--   enqueue; the caller holds the locks of the keys.
-- Parameters: p_outbox_ids, null for what is recorded already: it has its place, or has ended.
-- Hazard: above read committed the snapshot may be older than the lock, and the first may have ended: nobody would
--   bring back what is parked then. So nothing is parked there; claim looks again in any case.
begin
    insert into outbox.payment_outbox_order (rail, ordering_key, outbox_id)
    select c.rail, c.ordering_key, c.outbox_id
      from unnest(p_outbox_ids, p_rails, p_ordering_keys) with ordinality as c (outbox_id, rail, ordering_key, ordinal)
     where c.outbox_id is not null and c.ordering_key is not null
     order by c.ordinal;
    if current_setting('transaction_isolation') = 'read committed' then
        update outbox.payment_outbox_pending p set disposition = 'PARKED'
         where p.outbox_id = any (array(select c.id from unnest(p_outbox_ids) as c (id) where outbox.is_behind_another(c.id)));
    end if;
end
$$;

create or replace function outbox.ordering_lock_key(p_rail text, p_ordering_key text) returns bigint
language sql immutable strict parallel safe
as $$
-- Purpose: the advisory lock of an ordering key: "outc" in the upper half, the key's hash in the lower. Two keys of
--   one hash wait for each other, no more.
    select (1869968483::bigint << 32) | (hashtext(p_rail || ' ' || p_ordering_key)::bigint & 4294967295)
$$;

create or replace function outbox.lock_ordering_keys(p_rails text[], p_ordering_keys text[]) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: makes enqueues under one key follow each other: the order of the places is then that of the commits.
--   Internal to enqueue, which calls it before anything else.
-- Locks taken: the lock of each key until the transaction ends, in order (two batches cannot deadlock).
declare
    v_lock bigint;
begin
    for v_lock in select distinct outbox.ordering_lock_key(c.rail, c.ordering_key) from unnest(p_rails, p_ordering_keys) as c (rail, ordering_key)
                   where c.ordering_key is not null order by 1 loop
        perform pg_advisory_xact_lock(v_lock);
    end loop;
end
$$;

create or replace function outbox.enqueue_payment_outbox_batch(
    p_participant_ids text[], p_instruction_ids text[], p_idempotency_keys text[], p_rails text[], p_payloads bytea[],
    p_content_types text[], p_amounts_minor bigint[], p_currencies text[], p_not_befores timestamptz[],
    p_not_afters timestamptz[], p_ordering_keys text[], p_traceparents text[], p_attestation_ids uuid[],
    p_hint boolean default true
) returns table (ordinal integer, outbox_id uuid, created boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
-- Purpose: records payments in the caller's transaction: identity, instruction and pending row.
-- Parameters: lists of one length; amounts in minor units; p_hint = false for two-phase commit, where NOTIFY is not allowed.
-- Results: for each payment its outbox_id, and whether this call created it. The same participant, instruction, key and request
--   returns the first row. OB001: the instruction with another request, OB002: with another key. OB003, OB004: a bad value. OB021, OB022:
--   see refuse_unattested_payments. One bad payment refuses the whole batch.
-- Locks taken: ordering keys and identities, each in order (two batches cannot deadlock), wake-up locks shared.
-- Hazards: "look first, then insert" pays twice under concurrency. The identity's primary key decides: a conflict is an answer in
--   the next statement, or 40001 above read committed. Plans are kept, which is safe only as no statement here can be planned in two
--   ways: inserts of values, and a look-up by key, lateral with a limit, with every other way switched off. And a plan made anew
--   would hold flat copies of the arrays, in each of which a value is found by going through those before it.
declare
    v_now timestamptz := clock_timestamp();
    v_size integer := cardinality(p_participant_ids);
    v_policy integer := outbox.active_policy_version();
    v_tick bigint; v_ids uuid[]; v_outbox_ids uuid[]; v_payload_digests bytea[]; v_digests bytea[]; v_new bigint; v_differs bigint[];
    v_attested boolean; v_other record;
begin
    -- A value is taken by its place: in a list that begins elsewhere it would be that of another payment.
    if num_nulls(p_participant_ids, p_instruction_ids, p_idempotency_keys, p_rails, p_payloads, p_content_types, p_amounts_minor, p_currencies,
                 p_not_befores, p_not_afters, p_ordering_keys, p_traceparents, p_attestation_ids) > 0
       or (select bool_or(l.dims is distinct from case when v_size > 0 then format('[1:%s]', v_size) end)
             from unnest(array[array_dims(p_participant_ids), array_dims(p_instruction_ids), array_dims(p_idempotency_keys), array_dims(p_rails),
                      array_dims(p_payloads), array_dims(p_content_types), array_dims(p_amounts_minor), array_dims(p_currencies), array_dims(p_not_befores),
                      array_dims(p_not_afters), array_dims(p_ordering_keys), array_dims(p_traceparents), array_dims(p_attestation_ids)]) as l (dims)) then
        raise exception 'the arrays of a batch must be lists of one length, that of p_participant_ids, and begin at 1' using errcode = 'OB003';
    end if;
    v_attested := outbox.refuse_bad_payments(p_participant_ids, p_instruction_ids, p_idempotency_keys, p_rails, p_payloads, p_content_types,
        p_amounts_minor, p_currencies, p_not_befores, p_not_afters, p_ordering_keys, p_traceparents, p_attestation_ids);
    if cardinality(array_remove(p_ordering_keys, null)) > 0 then
        perform outbox.lock_ordering_keys(p_rails, p_ordering_keys);
    end if;

    -- One reading of the clock: a payment takes longer than a tick, so no id is ahead of the time at which it is recorded.
    v_tick := floor(extract(epoch from clock_timestamp()) * 4096000);
    select array_agg(outbox.outbox_id_at(v_tick + n.place)), array_agg(n.payload_sha256),
           array_agg(outbox.payment_identity_sha256(p_rails[n.place], n.payload_sha256, p_content_types[n.place], p_amounts_minor[n.place],
               p_currencies[n.place], p_not_befores[n.place], p_not_afters[n.place], p_ordering_keys[n.place]))
      into v_ids, v_payload_digests, v_digests
      from (select g.place, sha256(p_payloads[g.place]) as payload_sha256 from generate_series(1, v_size) as g (place) offset 0) as n;

    insert into outbox.payment_outbox_identities
        (participant_id, instruction_id, generation, idempotency_key, outbox_id, identity_sha256)
    select c.participant_id, c.instruction_id, 0, p_idempotency_keys[c.place], v_ids[c.place], v_digests[c.place]
      from unnest(p_participant_ids, p_instruction_ids) with ordinality as c (participant_id, instruction_id, place)
     order by c.participant_id, c.instruction_id, c.place
        on conflict on constraint payment_outbox_identities_pkey do nothing;
    get diagnostics v_new = row_count;
    v_outbox_ids := v_ids;
    if v_new < v_size then
        -- A new statement: it sees what a concurrent caller committed while the insert waited for it.
        select array_agg(i.outbox_id order by c.ordinal),
               array_agg(c.ordinal order by c.ordinal) filter (where i.idempotency_key <> c.idempotency_key or i.identity_sha256 <> c.digest)
          into v_outbox_ids, v_differs
          from unnest(p_participant_ids, p_instruction_ids, p_idempotency_keys, v_digests) with ordinality
               as c (participant_id, instruction_id, idempotency_key, digest, ordinal)
         cross join lateral (select n.outbox_id, n.idempotency_key, n.identity_sha256 from outbox.payment_outbox_identities n
                              where n.participant_id = c.participant_id and n.instruction_id = c.instruction_id and n.generation = 0 limit 1) as i;
        if v_differs is not null then
            select v_differs[1] as ordinal, n.instruction_id, n.outbox_id, n.idempotency_key <> p_idempotency_keys[v_differs[1]] as other_key into v_other
              from outbox.payment_outbox_identities n
             where n.participant_id = p_participant_ids[v_differs[1]] and n.instruction_id = p_instruction_ids[v_differs[1]] and n.generation = 0;
            raise exception 'payment % of the batch: instruction % is already recorded as % %', v_other.ordinal,
                quote_literal(v_other.instruction_id), v_other.outbox_id,
                case when v_other.other_key then 'under another idempotency key' else 'with another request' end
                using errcode = case when v_other.other_key then 'OB002' else 'OB001' end,
                      column = case when v_other.other_key then 'idempotency_key' else 'instruction_id' end,
                      hint = 'the same instruction is never paid twice; a new payment needs a new instruction_id';
        end if;
    end if;

    -- Only of new payments: repeating an enqueue is always safe, also after not_after.
    select n.place into v_other from generate_series(1, v_size) as n (place)
     where v_ids[n.place] = v_outbox_ids[n.place] and p_not_afters[n.place] <= v_now limit 1;
    if found then
        raise exception 'payment % of the batch: not_after is already past', v_other.place using errcode = 'OB003', column = 'not_after';
    end if;

    -- A policy was put in force while this call waited: it is that which judges, and which is recorded.
    if v_policy is distinct from outbox.active_policy_version() then
        v_policy := outbox.active_policy_version();
        v_attested := outbox.refuse_bad_payments(p_participant_ids, p_instruction_ids, p_idempotency_keys, p_rails, p_payloads, p_content_types,
            p_amounts_minor, p_currencies, p_not_befores, p_not_afters, p_ordering_keys, p_traceparents, p_attestation_ids);
    end if;
    if v_attested then
        perform outbox.refuse_unattested_payments(v_ids, v_outbox_ids, p_participant_ids, p_instruction_ids, p_rails, p_payloads, p_attestation_ids);
    end if;
    insert into outbox.payment_outbox_instructions
    select v_ids[n.place], p_participant_ids[n.place], p_instruction_ids[n.place], p_rails[n.place], p_payloads[n.place], p_content_types[n.place],
           v_payload_digests[n.place], p_amounts_minor[n.place], p_currencies[n.place], p_attestation_ids[n.place], p_not_befores[n.place],
           p_not_afters[n.place], p_ordering_keys[n.place], p_traceparents[n.place], session_user, v_now, v_policy
      from generate_series(1, v_size) as n (place) where v_ids[n.place] = v_outbox_ids[n.place];
    insert into outbox.payment_outbox_pending (outbox_id, rail, participant_id, is_ordered, next_attempt_at, not_after, created_at)
    select v_ids[n.place], p_rails[n.place], p_participant_ids[n.place], p_ordering_keys[n.place] is not null,
           greatest(v_now, p_not_befores[n.place]), p_not_afters[n.place], v_now
      from generate_series(1, v_size) as n (place) where v_ids[n.place] = v_outbox_ids[n.place];
    if cardinality(array_remove(p_ordering_keys, null)) > 0 then
        perform outbox.enqueue_in_order(array(select case when c.id = c.first_id then c.id end from unnest(v_ids, v_outbox_ids) as c (id, first_id)),
            p_rails, p_ordering_keys);
    end if;
    if p_hint then perform outbox.hint_outbox_lanes(p_rails); end if;
    return query select c.ordinal::integer, c.first_id, c.outbox_id = c.first_id
      from unnest(v_ids, v_outbox_ids) with ordinality as c (outbox_id, first_id, ordinal);
end
$$;

create or replace function outbox.enqueue_payment_outbox(
    p_participant_id text, p_instruction_id text, p_idempotency_key text, p_rail text, p_payload bytea, p_content_type text,
    p_amount_minor bigint default null, p_currency text default null, p_not_before timestamptz default null,
    p_not_after timestamptz default null, p_ordering_key text default null, p_traceparent text default null,
    p_attestation_id uuid default null, p_hint boolean default true
) returns table (outbox_id uuid, created boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off
as $$
#variable_conflict use_column
-- Purpose: records one payment in the caller's transaction. See enqueue_payment_outbox_batch, which does it for all but the plain
--   case: a new instruction, without order and attestation. That takes one statement for each table.
-- Parameters: the payload verbatim; the amount in minor units.
-- Results: outbox_id, and whether this call created it; errors are those of the batch.
-- Locks taken: the identity, the rail's wake-up lock shared.
-- Hazards: the policy and the contract are read after the identity is had, for which the call may have waited: what is in force
--   then judges, and is recorded. Plans are made once, which is safe only as no statement here can be planned in two ways: inserts
--   of values, and look-ups by key with every other way switched off.
declare
    v_now timestamptz := clock_timestamp();
    v_id uuid := outbox.new_outbox_id();
    v_payload_sha256 bytea := sha256(p_payload);
    v_made boolean := false;
    v_amount_required boolean;
    v_require_attestation boolean;
    v_policy integer;
begin
    if p_ordering_key is null and (p_not_after is null or p_not_after > v_now)
       and outbox.is_plain_payment(p_participant_id, p_instruction_id, p_idempotency_key, p_payload, p_content_type, p_amount_minor, p_currency,
           p_not_before, p_not_after, p_ordering_key, p_traceparent, p_attestation_id, false, false) then
        insert into outbox.payment_outbox_identities (participant_id, instruction_id, generation, idempotency_key, outbox_id, identity_sha256)
        values (p_participant_id, p_instruction_id, 0, p_idempotency_key, v_id,
                outbox.payment_identity_sha256(p_rail, v_payload_sha256, p_content_type, p_amount_minor, p_currency, p_not_before, p_not_after, p_ordering_key))
            on conflict on constraint payment_outbox_identities_pkey do nothing;
        v_made := found;
    end if;
    if not v_made then
        return query select b.outbox_id, b.created
          from outbox.enqueue_payment_outbox_batch(array[p_participant_id], array[p_instruction_id], array[p_idempotency_key], array[p_rail],
                   array[p_payload], array[p_content_type], array[p_amount_minor], array[p_currency], array[p_not_before],
                   array[p_not_after], array[p_ordering_key], array[p_traceparent], array[p_attestation_id], p_hint) as b;
        return;
    end if;
    select r.amount_required, r.require_attestation, outbox.active_policy_version() into v_amount_required, v_require_attestation, v_policy
      from (values (p_rail)) as c (rail) left join outbox.payment_rails r on r.rail = c.rail;
    if (v_require_attestation or (v_amount_required and p_amount_minor is null)) is not false then
        if outbox.refuse_bad_payments(array[p_participant_id], array[p_instruction_id], array[p_idempotency_key], array[p_rail], array[p_payload],
               array[p_content_type], array[p_amount_minor], array[p_currency], array[p_not_before], array[p_not_after], array[p_ordering_key],
               array[p_traceparent], array[p_attestation_id]) then
            perform outbox.refuse_unattested_payments(array[v_id], array[v_id], array[p_participant_id], array[p_instruction_id], array[p_rail],
                array[p_payload], array[p_attestation_id]);
        end if;
    end if;
    insert into outbox.payment_outbox_instructions
    values (v_id, p_participant_id, p_instruction_id, p_rail, p_payload, p_content_type, v_payload_sha256, p_amount_minor, p_currency,
            p_attestation_id, p_not_before, p_not_after, p_ordering_key, p_traceparent, session_user, v_now, v_policy);
    insert into outbox.payment_outbox_pending (outbox_id, rail, participant_id, is_ordered, next_attempt_at, not_after, created_at)
    values (v_id, p_rail, p_participant_id, false, greatest(v_now, p_not_before), p_not_after, v_now);
    if p_hint then perform outbox.hint_outbox_lane(p_rail); end if;
    outbox_id := v_id;
    created := true;
    return next;
end
$$;

create or replace function outbox.enqueue_payment_outbox_text(
    p_participant_id text, p_instruction_id text, p_idempotency_key text, p_rail text, p_payload text, p_content_type text,
    p_amount_minor bigint default null, p_currency text default null, p_not_before timestamptz default null,
    p_not_after timestamptz default null, p_ordering_key text default null, p_traceparent text default null,
    p_attestation_id uuid default null, p_hint boolean default true
) returns table (outbox_id uuid, created boolean)
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: enqueue_payment_outbox for callers that hold the payload as text, such as psql.
-- Parameters: the payload is sent as its UTF-8 bytes.
-- Results: outbox_id, and whether this call created it.
    select b.outbox_id, b.created
      from outbox.enqueue_payment_outbox(p_participant_id, p_instruction_id, p_idempotency_key, p_rail, convert_to(p_payload, 'UTF8'),
               p_content_type, p_amount_minor, p_currency, p_not_before, p_not_after, p_ordering_key, p_traceparent,
               p_attestation_id, p_hint) as b
$$;

create or replace function outbox.attempt_kind_of(p_disposition text) returns text
language sql immutable parallel safe
as $$
-- Purpose: what a lease on a payment in this disposition is for. No column says it, so that a claim stays HOT.
    select case p_disposition when 'IN_DOUBT' then 'INQUIRE' else 'SUBMIT' end
$$;

create or replace function outbox.disposition_of(p_on_unknown text, p_in_doubt boolean) returns text
language sql immutable parallel safe
as $$
-- Purpose: where a payment stands in the queue that is not held: IN_DOUBT, its next lease asks after it; READY, it
--   sends. Only an inquire rail is asked.
-- Parameters: p_in_doubt, it may have been executed, or a late success is known.
    select case when p_on_unknown = 'inquire' and p_in_doubt then 'IN_DOUBT' else 'READY' end
$$;

create or replace function outbox.settle_lost_leases(p_outbox_ids uuid[], p_now timestamptz)
returns table (outbox_id uuid, attempt_no integer, hold_reason text)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
-- Purpose: ends each lost lease in a LEASE_EXPIRED attempt and applies the contract: the payment may have
--   been executed. Internal to claim and expire; the caller holds the rows' locks and saw the leases lost.
-- Parameters: p_now, the caller's clock.
-- Results: each payment with the reason it is held, or null if it may be sent again or inquired after.
-- Hazards: sent again without this row, a payment is paid twice with nothing in the ledger to show it. The
--   update goes to the ctid found (the caller's locks keep it): another join may rescan the batch for each row.
begin
    insert into outbox.payment_outbox_attempts
        (outbox_id, attempt_no, rail, kind, state, worker_id, lease_token, claimed_at, completed_at, endpoint, error_class, policy_version)
    select p.outbox_id, p.attempt_count, p.rail, outbox.attempt_kind_of(p.disposition), 'LEASE_EXPIRED', p.claimed_by, p.lease_token, p.claimed_at, p_now, p.endpoint, 'lease_lost', p.policy_version
      from outbox.payment_outbox_pending p
     where p.outbox_id = any (p_outbox_ids);

    return query
    update outbox.payment_outbox_pending p
       set disposition = case when l.reason is null then outbox.disposition_of(l.on_unknown, true) else 'HELD' end, hold_reason = l.reason,
           hold_requested = p.hold_requested and l.reason is null,
           crash_count = p.crash_count + 1, in_doubt_since = coalesce(p.in_doubt_since, p.lease_expires_at),
           quarantine_until = greatest(p.quarantine_until, l.quarantine_until),
           claimed_by = null, claimed_at = null, lease_token = null, lease_expires_at = null, policy_version = null
      from unnest(p_outbox_ids) as c (id)
     cross join lateral (
        select q.ctid as tid, r.on_unknown,
               -- A lost inquiry sends nothing late.
               case q.disposition when 'READY' then q.lease_expires_at + (r.rail_timeout_ms + r.processing_bound_ms) * interval '1 ms' end as quarantine_until,
               case when q.late_success and r.on_unknown <> 'inquire' then 'LATE_SUCCESS'
                    when q.hold_requested then 'REQUESTED'
                    when r.on_unknown = 'hold' then 'UNKNOWN'
                    when q.crash_count + 1 >= r.max_crashes then 'EXHAUSTED'
               end as reason
          from outbox.payment_outbox_pending q
          join outbox.payment_rails r on r.rail = q.rail
         where q.outbox_id = c.id
         limit 1) as l
     where p.ctid = l.tid
    returning p.outbox_id, p.attempt_count, p.hold_reason;
end
$$;

create or replace function outbox.is_paid_by_statement(p_outbox_id uuid) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
-- Purpose: whether a statement of the rail that counts has a paid line of the payment. Internal to fault_of_action and redrive_payment.
    select exists (select from outbox.reconcile_matches m join outbox.reconcile_counted c on c.statement_id = m.statement_id
                    where m.outbox_id = p_outbox_id)
$$;

create or replace function outbox.is_accepted_elsewhere(p_outbox_id uuid) returns boolean
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
as $$
-- Purpose: whether the rail says of another generation of the payment's instruction that it executed it: then this one would pay a
--   second time. Internal to hold_reason_before, fault_of_action and redrive_payment.
-- Hazards: that the rail had dispatched another one is what people had evidence against when they had it paid anew. What it has said since
--   is more than they knew then, and so is any success of one that had ended without. The range of the ids is a constant for the
--   planner, which leaves out the other months.
declare
    v_ids uuid[];
    v_lo uuid;
    v_hi uuid;
begin
    v_ids := array(select n.outbox_id from outbox.payment_outbox_identities n
                    where (n.participant_id, n.instruction_id) = (select i.participant_id, i.instruction_id from outbox.payment_outbox_instructions i
                                                                   where i.outbox_id = p_outbox_id limit 1)
                    order by n.generation);
    v_lo := (select min(u.id::text)::uuid from unnest(v_ids) as u (id));
    v_hi := (select max(u.id::text)::uuid from unnest(v_ids) as u (id));
    return exists (
        select from unnest(v_ids) with ordinality as g (outbox_id, place)
         where g.outbox_id <> p_outbox_id
           and (outbox.is_paid_by_statement(g.outbox_id)
                or exists (select from outbox.payment_outbox_late_outcomes l
                            where l.outbox_id = g.outbox_id and l.outbox_id between v_lo and v_hi and l.outcome = 'ACCEPTED'
                              and (l.recorded_at > (select i.created_at from outbox.payment_outbox_instructions i
                                                     where i.outbox_id = v_ids[g.place + 1] and i.outbox_id between v_lo and v_hi limit 1)
                                   or not exists (select from outbox.payment_outbox_attempts a
                                                   where a.outbox_id = g.outbox_id and a.outbox_id between v_lo and v_hi and a.state = 'DISPATCHED')))));
end
$$;

create or replace function outbox.hold_reason_before(p_payment outbox.payment_outbox_pending, p_rail outbox.payment_rails, p_now timestamptz) returns text
language sql stable parallel safe
as $$
-- Purpose: why a payment that is due is held instead of leased.
-- Parameters: p_now, the claim's clock.
-- Results: the reason, or null: it is sent, or inquired after (`disposition_of`).
-- Hazard: past the key window the rail may have forgotten the key, and the same key pays again. A whole lease is
--   kept free, since the claim's reply may be slow and a send begins as long as its lease lets it.
    select case
        when p_payment.late_success and p_rail.on_unknown <> 'inquire' then 'LATE_SUCCESS'
        when p_payment.hold_requested then 'REQUESTED'
        when p_payment.crash_count >= p_rail.max_crashes then 'EXHAUSTED'
        when (p_payment.in_doubt_since is not null or p_payment.late_success) and p_rail.on_unknown = 'inquire'
            then case when p_payment.inquiry_count >= p_rail.max_inquiries then 'EXHAUSTED' end
        when p_payment.is_redrive and outbox.is_accepted_elsewhere(p_payment.outbox_id) then 'LATE_SUCCESS'
        when p_payment.not_after < p_now then 'MISSED_WINDOW'
        when p_payment.send_count >= p_rail.max_sends then 'EXHAUSTED'
        when p_payment.in_doubt_since is not null and p_rail.on_unknown <> 'resend' then 'UNKNOWN'
        -- Of a payment that was ever in doubt, also if a "not found" ended the doubt: the quarantine stays noted.
        when p_payment.in_doubt_since is null and p_payment.quarantine_until is null then null
        when p_payment.first_sent_at + (p_rail.idempotency_window_ms - p_rail.lease_duration_ms) * interval '1 ms' < p_now then 'KEY_WINDOW'
    end
$$;

create or replace function outbox.paused_participants(p_rail text) returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
-- Purpose: the participants that may not be sent for on this rail.
-- Hazard: a statement may call it for each row: its plan is kept, whatever the caller's setting.
begin
    return array(select u.participant_id from outbox.outbox_pauses u where u.participant_id is not null and coalesce(u.rail, p_rail) = p_rail);
end
$$;

create or replace function outbox.pauses_lock_key() returns bigint
language sql immutable parallel safe
as $$
-- Purpose: the advisory lock of the pauses of participants: "outd". Shared to park, exclusive to let go on.
    select 1869968484::bigint << 32
$$;

create or replace function outbox.park_unclaimable(p_rail text, p_outbox_ids uuid[], p_now timestamptz) returns uuid[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
-- Purpose: takes payments out of the claim that are not the first of their ordering key, or whose participant is
--   paused. Internal to claim, which holds the rows' locks.
-- Parameters: ready payments that may be one or the other; p_now, the claim's clock.
-- Results: those that may not be sent now. They are parked; where another transaction has the key, or is changing
--   the pauses, only put off for 100 ms.
-- Hazard: parked without the lock, or by a look from before it, a payment whose predecessor ends at that moment, or
--   whose participant goes on, is brought back by nobody.
declare
    v_stopped uuid[];
    v_behind uuid[];
    v_locked uuid[] := '{}';
begin
    v_stopped := array(select p.outbox_id from outbox.payment_outbox_pending p where p.outbox_id = any (p_outbox_ids)
                          and p.participant_id = any (outbox.paused_participants(p_rail)));
    v_behind := array(select c.id from unnest(p_outbox_ids) as c (id) where outbox.is_behind_another(c.id));
    if cardinality(v_stopped) > 0 and pg_try_advisory_xact_lock_shared(outbox.pauses_lock_key()) then
        v_locked := v_stopped;
    end if;
    v_locked := v_locked || array(select o.outbox_id from outbox.payment_outbox_order o
                       where o.outbox_id = any (v_behind) and pg_try_advisory_xact_lock(outbox.ordering_lock_key(o.rail, o.ordering_key)));
    -- A new statement: the look that counts is from after the lock.
    update outbox.payment_outbox_pending p
       set disposition = case when p.outbox_id = any (v_locked) and (outbox.is_behind_another(p.outbox_id)
                                   or p.participant_id = any (outbox.paused_participants(p_rail))) then 'PARKED' else 'READY' end,
           next_attempt_at = case when p.outbox_id = any (v_locked) then p.next_attempt_at else p_now + interval '100 ms' end
     where p.outbox_id = any (v_stopped || v_behind);
    return v_stopped || v_behind;
end
$$;

create or replace function outbox.cluster_now(out system_identifier bigint, out timeline integer, out flush_lsn pg_lsn)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: which cluster this is, on which timeline, and how much of its log is on disk.
-- Hazards: the control file lags a promotion; the name of the log's present file does not. In SQL it would be planned in each call,
--   and every claim makes one.
begin
    system_identifier := (select c.system_identifier from pg_control_system() as c);
    timeline := ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer;
    flush_lsn := pg_current_wal_flush_lsn();
end
$$;

create or replace function outbox.epoch_us(p_epoch outbox.outbox_cluster) returns bigint
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: when an epoch was recorded, in microseconds since 1970: a later one is greater, whatever was lost in
--   between, which its number is not. 0: there is none.
begin
    return coalesce((extract(epoch from p_epoch.recorded_at) * 1000000)::bigint, 0);
end
$$;

create or replace function outbox.epoch_fault(p_environment text, p_seen_epoch_us bigint, p_seen_log_position bigint, p_memory_id uuid, p_seen_beat bigint)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: why this is not the database that a dispatcher knows. Internal to claim and heartbeat.
-- Parameters: p_environment, what the dispatcher is configured for; null counts as ''; the rest, what it remembers: when
--   the epoch then in force was recorded, in microseconds since 1970 (0: none), how many bytes of log were on disk, its
--   memory, and how many heartbeats of that memory were on record.
-- Results: null, it may be; ENVIRONMENT, it is for another one; CLUSTER, not the cluster or timeline on record; or it is
--   older than what was seen: EPOCH, its epoch is, or does not follow the one that was; BEATS, heartbeats are missing; LOG, nothing else is, and its log is
--   shorter. All but the last stay true however much is written; a log grows. A newer epoch than was seen
--   counts only if two people acknowledged it: then what was seen before counts no more. A first epoch that is newer is another database's,
--   or was recorded by a dispatcher that had seen nothing, on one that was put back to before its first.
declare
    v_now record;
    v_known outbox.outbox_cluster;
    v_epoch_us bigint;
begin
    select * into v_now from outbox.cluster_now();
    select * into v_known from outbox.outbox_cluster c order by c.epoch_no desc limit 1;
    v_epoch_us := outbox.epoch_us(v_known);
    return case
        when v_known.environment <> coalesce(p_environment, '') then 'ENVIRONMENT'
        when v_known.system_identifier <> v_now.system_identifier or v_known.timeline <> v_now.timeline then 'CLUSTER'
        when v_epoch_us < p_seen_epoch_us then 'EPOCH'
        when v_epoch_us > p_seen_epoch_us and p_seen_epoch_us > 0 and v_known.action_id is null then 'EPOCH'
        when v_epoch_us > p_seen_epoch_us then null
        when coalesce((select m.beat from outbox.outbox_dispatcher_memories m where m.memory_id = p_memory_id), 0) < p_seen_beat then 'BEATS'
        when v_now.flush_lsn - '0/0' < p_seen_log_position then 'LOG' end;
end
$$;

create or replace function outbox.refuse_other_epoch(p_environment text, p_seen_epoch_us bigint, p_seen_log_position bigint, p_memory_id uuid, p_seen_beat bigint)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: refuses to claim on a cluster that is not the one on record: a promoted standby, a restore or a clone may
--   have lost attempts that were made. Internal to claim and refuse_untimely_action.
-- Parameters: those of epoch_fault, which judges.
-- Results: nothing, or raises OB011; OB015, the database is older than what the dispatcher has seen. As long as no
--   epoch is on record, nothing has been dispatched.
-- Hazards: an asynchronous standby granted attempt 1 a second time, with an empty ledger. A disk snapshot that is put
--   back has the same identifier and timeline, and its log grows past what was seen: only the dispatcher's heartbeats
--   tell for good.
declare
    v_fault text := outbox.epoch_fault(p_environment, p_seen_epoch_us, p_seen_log_position, p_memory_id, p_seen_beat);
    v_known outbox.outbox_cluster;
    v_now record;
begin
    if v_fault is null then
        return;
    end if;
    select * into v_now from outbox.cluster_now();
    select * into v_known from outbox.outbox_cluster c order by c.epoch_no desc limit 1;
    if v_fault = 'ENVIRONMENT' then
        raise exception 'this database is of the environment %, the dispatcher of %', quote_literal(v_known.environment),
            quote_literal(coalesce(p_environment, '')) using errcode = 'OB011',
            hint = 'a copy of a database must not be dispatched; where it is meant to be, acknowledge it: outboxd failover acknowledge';
    elsif v_fault = 'CLUSTER' then
        raise exception 'this is cluster % on timeline %, on record is % on %: what was sent may be missing here', v_now.system_identifier,
            v_now.timeline, v_known.system_identifier, v_known.timeline using errcode = 'OB011',
            hint = 'find out from when on commits may be lost, then: outboxd failover acknowledge --lost-from TIME';
    elsif v_fault = 'BEATS' and v_now.flush_lsn - '0/0' >= p_seen_log_position then
        raise exception 'the database is older than it was: it has not the heartbeats that this dispatcher has seen' using errcode = 'OB015',
            hint = 'find out from when on commits are lost, then: outboxd failover acknowledge --lost-from TIME';
    end if;
    raise exception 'the database is older than it was: its log ends at % in the epoch of %, seen was % in that of %', v_now.flush_lsn,
        to_timestamp(outbox.epoch_us(v_known) / 1000000.0), pg_lsn '0/0' + p_seen_log_position::numeric, to_timestamp(p_seen_epoch_us / 1000000.0)
        using errcode = 'OB015', hint = 'find out from when on commits are lost, then: outboxd failover acknowledge --lost-from TIME';
end
$$;

create or replace function outbox.rail_to_claim(p_rail text, p_limit integer, p_min_lease_ms bigint, p_in_flight integer, p_environment text,
    p_seen_epoch_us bigint, p_seen_log_position bigint, p_memory_id uuid, p_seen_beat bigint, p_policy_version integer)
returns outbox.payment_rails
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the rail's contract for a claim, paused if anything that holds for the rail is. Internal to claim.
-- Parameters: those of claim.
-- Results: or raises OB003 (a bad value), OB004 (no contract), OB006 (isolation), OB007 (a lease too short),
--   OB011 (another epoch), OB015 (an older database), OB016 (another policy than the dispatcher's).
-- Hazard: the row and the active version are seen by two statements. An activation between them refuses the claim; the lease records the
--   row's stamp, which is of the contract in the same row.
declare
    v_rail outbox.payment_rails;
    v_active integer;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'claim runs only at read committed: skip locked fails above it' using errcode = 'OB006';
    end if;
    perform outbox.refuse_other_epoch(p_environment, p_seen_epoch_us, p_seen_log_position, p_memory_id, p_seen_beat);
    select * into v_rail from outbox.payment_rails r where r.rail = p_rail;
    if not found then
        raise exception 'rail % has no contract', p_rail using errcode = 'OB004', hint = 'set one with set_payment_rail';
    end if;
    v_active := outbox.active_policy_version();
    if v_active is distinct from p_policy_version then
        raise exception 'rail %: %, and this dispatcher has read %', p_rail, coalesce('policy version ' || v_active || ' is active', 'no policy is active'),
            coalesce('version ' || p_policy_version, 'none') using errcode = 'OB016', hint = 'it reads the active policy twice a second';
    elsif v_rail.policy_version is distinct from v_active then
        raise exception 'rail % is not in policy version %', p_rail, v_active using errcode = 'OB004', hint = 'use outboxd policy propose';
    elsif v_rail.lease_duration_ms < p_min_lease_ms then
        raise exception 'rail %: a lease of % ms is shorter than the % ms that this dispatcher needs', p_rail,
            v_rail.lease_duration_ms, p_min_lease_ms using errcode = 'OB007', hint = 'raise lease_duration_ms, or lower the timeout';
    elsif not coalesce(p_limit between 1 and 10000 and p_min_lease_ms >= 0 and p_in_flight >= 0, false) then
        raise exception 'p_limit must be 1 to 10000, p_min_lease_ms and p_in_flight 0 or more' using errcode = 'OB003';
    end if;
    v_rail.paused := v_rail.paused or exists (select from outbox.outbox_pauses u
                                               where u.participant_id is null and coalesce(u.rail, p_rail) = p_rail);
    return v_rail;
end
$$;

create or replace function outbox.rate_allowance(p_rail text, p_per_s integer, p_limit integer, p_now timestamptz)
returns table (allowed integer, next_at timestamptz)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
-- Purpose: how many attempts a rail's rate allows now, for all dispatchers together (the generic cell rate algorithm,
--   ITU-T I.371). Internal to claim, which notes what it used with rate_used.
-- Parameters: p_per_s, attempts a second; p_now, the claim's clock.
-- Results: allowed, at most p_limit, at most a tenth of a second's worth or one; next_at, when the next one is.
-- Locks taken: the rail's row, until the claim ends: claims of a rail with a rate follow each other.
-- Hazard: a row further ahead than the burst was written by a clock that has gone back since, or under a lower rate, and
--   would stop the rail for as long. It is judged by the clock after the lock: p_now is from before it, and may be
--   older than what another claim has just used.
declare
    v_interval interval := interval '1 s' / p_per_s;
    v_burst interval := greatest(interval '100 ms', v_interval);
    v_next timestamptz;
begin
    insert into outbox.payment_rail_rates as t (rail, next_at) values (p_rail, p_now) on conflict (rail) do nothing;
    select t.next_at into v_next from outbox.payment_rail_rates t where t.rail = p_rail for update;
    if v_next > clock_timestamp() + v_burst then
        update outbox.payment_rail_rates t set next_at = clock_timestamp() + v_burst where t.rail = p_rail returning t.next_at into v_next;
    end if;
    v_next := greatest(v_next, p_now);
    allowed := least(p_limit, floor(extract(epoch from p_now + v_burst - v_next) / extract(epoch from v_interval)))::integer;
    next_at := v_next - v_burst + v_interval;
    return next;
end
$$;

create or replace function outbox.rate_used(p_rail text, p_per_s integer, p_used integer, p_now timestamptz) returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: notes attempts against a rail's rate. Internal to claim, which holds the row's lock.
    update outbox.payment_rail_rates t set next_at = greatest(t.next_at, p_now) + p_used * (interval '1 s' / p_per_s) where t.rail = p_rail
$$;

create or replace function outbox.choose_payments(
    p_rail text, p_limit integer, p_min_lease_ms bigint, p_in_flight integer, p_after_at timestamptz, p_after_id uuid, p_environment text,
    p_seen_epoch_us bigint, p_seen_log_position bigint, p_memory_id uuid, p_seen_beat bigint, p_policy_version integer,
    out now timestamptz, out on_unknown text, out lease_ms bigint, out policy_version integer, out paused boolean,
    out chosen uuid[], out least_id uuid, out greatest_id uuid, out held_ids uuid[], out held_attempt_nos integer[], out held_reasons text[],
    out last_due_at timestamptz, out last_id uuid, out next_due_at timestamptz, out expired integer, out suspects integer, out parked integer,
    out log_position bigint, out epoch_us bigint)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_sort = off
as $$
#variable_conflict use_column
-- Purpose: locks at most p_limit due payments of one rail, settles, holds or parks those that must not be leased, and says
--   which of the others are. Internal to claim, which says what its parameters mean.
-- Results: the clock; of the contract what the lease needs; the chosen, in due order, with the bounds of their ids; those that now wait for a
--   person; the greatest pair looked at, when the next is due, and the counts of a claim's summary.
-- Locks taken: the rows, for no key update, in due order, skip locked.
-- Hazards: the locking select stands alone, for inside an `in (…)` its limit may be run many times; the clock
--   is a variable, for in a `where` it is volatile and no index condition; what the select saw is used from
--   arrays, and later statements have fresh snapshots. Look-ups are lateral with a limit, updates go to the
--   ctid found: no plan reads a whole table believed empty, or the batch again for each row. Plans are kept: what is read here has no
--   months, and the due index is the only way that the settings leave, whatever the tables held when a plan was made. Where no
--   payment is special (lost, to be held, a suspect, ordered, of a paused participant), which is nearly always, all are chosen as they were locked.
declare
    v_rail outbox.payment_rails; v_now timestamptz; v_limit integer := p_limit; v_next timestamptz; v_stopped text[];
    v_ids uuid[]; v_due timestamptz[]; v_lost boolean[]; v_reasons text[]; v_crashes integer[]; v_apart uuid[]; v_behind uuid[] := '{}'; v_suspects integer := 0;
    v_is_plain boolean; v_ids_sorted uuid[];
begin
    v_rail := outbox.rail_to_claim(p_rail, p_limit, p_min_lease_ms, p_in_flight, p_environment, p_seen_epoch_us, p_seen_log_position, p_memory_id, p_seen_beat, p_policy_version);
    v_now := clock_timestamp();
    if v_rail.max_sends_per_s is not null then
        select a.allowed, a.next_at into v_limit, v_next from outbox.rate_allowance(p_rail, v_rail.max_sends_per_s, p_limit, v_now) as a;
    end if;
    if not v_rail.paused and v_limit > 0 then
        v_stopped := outbox.paused_participants(p_rail);
        select array_agg(s.outbox_id), array_agg(s.next_attempt_at), array_agg(s.lost), array_agg(s.reason), array_agg(s.crash_count),
               array_agg(s.outbox_id) filter (where s.is_apart and not s.lost and s.reason is null),
               not bool_or(s.lost or s.reason is not null or s.crash_count >= 2 or s.is_apart)
          into v_ids, v_due, v_lost, v_reasons, v_crashes, v_apart, v_is_plain
          from (select p.outbox_id, p.next_attempt_at, p.lease_token is not null as lost, p.crash_count,
                       p.disposition = 'READY' and (p.is_ordered or p.participant_id = any (v_stopped)) as is_apart,
                       outbox.hold_reason_before(p, v_rail, v_now) as reason
                  from outbox.payment_outbox_pending p
                 where p.rail = p_rail and p.disposition in ('READY', 'IN_DOUBT') and p.next_attempt_at <= v_now
                   and (p.next_attempt_at, p.outbox_id) > (coalesce(p_after_at, '-infinity'), coalesce(p_after_id, '00000000-0000-0000-0000-000000000000'))
                   and (p.lease_token is null or p.lease_expires_at <= v_now)
                 order by p.next_attempt_at, p.outbox_id
                 limit v_limit
                   for no key update skip locked) as s;
    end if;
    if cardinality(v_ids) > p_limit then raise exception 'claim of % payments locked %', p_limit, cardinality(v_ids) using errcode = 'OB008'; end if;
    expired := 0;
    if v_is_plain then
        chosen := v_ids;
    else
        if true = any (v_lost) then
            expired := cardinality(array_positions(v_lost, true));
            select array_agg(s.outbox_id), array_agg(s.attempt_no), array_agg(s.hold_reason) into held_ids, held_attempt_nos, held_reasons
              from outbox.settle_lost_leases(array(select c.id from unnest(v_ids, v_lost) as c (id, lost) where c.lost), v_now) as s
             where s.hold_reason is not null;
        end if;
        with held as (
            update outbox.payment_outbox_pending p set disposition = 'HELD', hold_reason = c.reason, hold_requested = false
              from unnest(v_ids, v_lost, v_reasons) as c (id, lost, reason)
             cross join lateral (select q.ctid as tid from outbox.payment_outbox_pending q where q.outbox_id = c.id limit 1) as l
             where p.ctid = l.tid and not c.lost and c.reason is not null
            returning p.outbox_id, p.attempt_count, p.hold_reason)
        select held_ids || array_agg(h.outbox_id), held_attempt_nos || array_agg(h.attempt_count), held_reasons || array_agg(h.hold_reason)
          into held_ids, held_attempt_nos, held_reasons from held h;
        if v_apart is not null then v_behind := outbox.park_unclaimable(p_rail, v_apart, v_now); end if;
        v_suspects := (select count(*) from unnest(v_ids, v_lost, v_reasons, v_crashes) as c (id, lost, reason, crashes) where not c.lost and c.reason is null and c.crashes >= 2 and c.id <> all (v_behind));
        chosen := array(select c.id from unnest(v_ids, v_lost, v_reasons, v_crashes) with ordinality as c (id, lost, reason, crashes, place)
                           where not c.lost and c.reason is null and c.id <> all (v_behind) and (c.crashes >= 2) = (p_in_flight = 0 and v_suspects > 0)
                           order by c.place limit case when p_in_flight = 0 and v_suspects > 0 then 1 end);
    end if;
    if v_rail.max_sends_per_s is not null then
        perform outbox.rate_used(p_rail, v_rail.max_sends_per_s, cardinality(chosen), v_now);
    end if;
    v_ids_sorted := array(select c.id from unnest(chosen) as c (id) order by c.id);
    least_id := v_ids_sorted[1]; greatest_id := v_ids_sorted[cardinality(v_ids_sorted)];
    select c.id, c.due into last_id, last_due_at from unnest(v_ids, v_due) as c (id, due) order by c.due desc, c.id desc limit 1;
    if not v_rail.paused and coalesce(cardinality(v_ids), 0) < v_limit then
        select p.next_attempt_at into next_due_at from outbox.payment_outbox_pending p
         where p.rail = p_rail and p.disposition in ('READY', 'IN_DOUBT') and p.next_attempt_at > v_now
         order by p.next_attempt_at limit 1;
    elsif v_limit < p_limit then
        next_due_at := v_next;
    end if;
    now := v_now; on_unknown := v_rail.on_unknown; lease_ms := v_rail.lease_duration_ms; policy_version := v_rail.policy_version; paused := v_rail.paused;
    suspects := v_suspects; parked := cardinality(v_behind);
    log_position := pg_current_wal_flush_lsn() - '0/0'; epoch_us := coalesce((select outbox.epoch_us(c) from outbox.outbox_cluster c order by c.epoch_no desc limit 1), 0);
end
$$;

create or replace function outbox.claim_outbox_batch(
    p_rail text, p_worker_id text, p_limit integer, p_min_lease_ms bigint, p_in_flight integer,
    p_after_at timestamptz default null, p_after_id uuid default null, p_environment text default null, p_endpoint text default null,
    p_seen_epoch_us bigint default 0, p_seen_log_position bigint default 0, p_memory_id uuid default null, p_seen_beat bigint default 0, p_policy_version integer default null
) returns table (
    kind text, outbox_id uuid, attempt_no integer, lease_token uuid, lease_ms bigint, due_at timestamptz, participant_id text,
    endpoint text, payload bytea, content_type text, traceparent text, not_after timestamptz, crash_count integer, is_resend boolean, hold_reason text,
    db_now timestamptz, next_due_at timestamptz, held_count integer, expired_count integer, suspect_count integer, parked_count integer,
    paused boolean, log_position bigint, epoch_us bigint)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_sort = off
as $$
#variable_conflict use_column
-- Purpose: leases at most p_limit due payments of one rail, and applies contract, rate, order and pauses.
-- Parameters: p_min_lease_ms, what one send and its completion need; p_in_flight, the lane's sends under way:
--   a payment that crashed two workers is claimed only at 0, and alone; p_after_*, the claim cursor, null for a sweep;
--   p_environment, what the dispatcher is configured for; p_endpoint, where its lane sends now; p_seen_* and p_memory_id, what it remembers; p_policy_version, whose tables it reads answers by.
-- Results: SUBMIT, a payment to send (is_resend: an earlier attempt was not certainly unsent;
--   endpoint: where, for one that was ever in doubt the one it was sent to); INQUIRE, one to ask after,
--   without its payload; HELD, one that now waits for a person;
--   last SUMMARY: due_at and outbox_id are the greatest pair looked at, expired_count lost leases were settled
--   and are due again, suspect_count crashers wait for an empty lane, parked_count stand behind another of their ordering key.
-- Locks taken: those of `choose_payments`.
-- Hazards: those of `choose_payments`; plans are made anew here: the bounds of the chosen ids leave out all months but their own.
declare
    v_c record;
begin
    select c.* into v_c from outbox.choose_payments(p_rail, p_limit, p_min_lease_ms, p_in_flight, p_after_at, p_after_id, p_environment,
        p_seen_epoch_us, p_seen_log_position, p_memory_id, p_seen_beat, p_policy_version) as c;
    if v_c.held_ids is not null then
        kind := 'HELD';
        for outbox_id, attempt_no, hold_reason in select h.id, h.attempt_no, h.reason from unnest(v_c.held_ids, v_c.held_attempt_nos, v_c.held_reasons) as h (id, attempt_no, reason) loop
            return next;
        end loop;
    end if;
    return query
    with leased as (
        update outbox.payment_outbox_pending p
           set disposition = outbox.disposition_of(v_c.on_unknown, p.in_doubt_since is not null or p.late_success), attempt_count = p.attempt_count + 1,
               first_sent_at = coalesce(p.first_sent_at, v_c.now),
               endpoint = case when p.quarantine_until is null and p.in_doubt_since is null and not p.late_success then p_endpoint else p.endpoint end, claimed_by = p_worker_id, claimed_at = v_c.now,
               lease_token = gen_random_uuid(), lease_expires_at = v_c.now + v_c.lease_ms * interval '1 ms', policy_version = v_c.policy_version
         where p.outbox_id = any (v_c.chosen)
        returning p.outbox_id, p.attempt_count, p.lease_token, p.next_attempt_at, p.not_after, p.crash_count, outbox.attempt_kind_of(p.disposition) as kind,
                  p.first_sent_at < v_c.now or p.possible_duplicate as is_resend,
                  p.participant_id, p.endpoint)
    select l.kind, l.outbox_id, l.attempt_count, l.lease_token, v_c.lease_ms, l.next_attempt_at, l.participant_id, l.endpoint, i.payload,
           i.content_type, i.traceparent, l.not_after, l.crash_count, l.is_resend, null::text, v_c.now, null::timestamptz, null::integer, null::integer, null::integer, null::integer, null::boolean, null::bigint, null::bigint
      from leased l
     cross join lateral (select case l.kind when 'SUBMIT' then n.payload end as payload, n.content_type, n.traceparent from outbox.payment_outbox_instructions n
                          where n.outbox_id = l.outbox_id and n.outbox_id between v_c.least_id and v_c.greatest_id limit 1) as i;
    return query
    select 'SUMMARY', v_c.last_id, null::integer, null::uuid, null::bigint, v_c.last_due_at, null, null, null::bytea, null, null, null::timestamptz, null::integer, null::boolean, null,
           v_c.now, v_c.next_due_at, coalesce(cardinality(v_c.held_ids), 0), v_c.expired, v_c.suspects, v_c.parked, v_c.paused, v_c.log_position, v_c.epoch_us;
end
$$;

create or replace function outbox.expire_outbox_leases(
    p_rail text, p_limit integer, p_after_at timestamptz default null, p_after_id uuid default null
) returns table (outbox_id uuid, attempt_no integer, hold_reason text, examined integer, last_at timestamptz, last_id uuid)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_sort = off
as $$
#variable_conflict use_column
-- Purpose: settles lost leases of a rail that is not claimed (paused), so that nothing stays leased for ever.
-- Parameters: looks at p_limit rows of the due index from the pair p_after_* on; null: from the beginning.
-- Results: the settled payments; then one row without outbox_id: how many rows were looked at and the last
--   pair. Fewer than p_limit: the end is reached, begin again.
-- Locks taken: rows with a lost lease, for no key update, in due order, skip locked.
-- Hazard: lease columns are in no index (claims would not be HOT), so this reads the due index in bounded steps.
declare
    v_now timestamptz;
    v_ids uuid[];
    v_lost uuid[];
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'expire runs only at read committed: skip locked fails above it' using errcode = 'OB006';
    end if;
    v_now := clock_timestamp();
    select array_agg(s.outbox_id), (array_agg(s.next_attempt_at order by s.place desc))[1], (array_agg(s.outbox_id order by s.place desc))[1], count(*)
      into v_ids, last_at, last_id, examined
      from (select p.outbox_id, p.next_attempt_at, row_number() over (order by p.next_attempt_at, p.outbox_id) as place
              from outbox.payment_outbox_pending p
             where p.rail = p_rail and p.disposition in ('READY', 'IN_DOUBT')
               and (p.next_attempt_at, p.outbox_id) > (coalesce(p_after_at, '-infinity'), coalesce(p_after_id, '00000000-0000-0000-0000-000000000000'))
             order by p.next_attempt_at, p.outbox_id limit p_limit) as s;
    v_lost := array(select p.outbox_id from outbox.payment_outbox_pending p
                     where p.outbox_id = any (v_ids) and p.lease_expires_at <= v_now
                     order by p.outbox_id for no key update skip locked);
    if cardinality(v_lost) > 0 then
        return query select s.outbox_id, s.attempt_no, s.hold_reason, null::integer, null::timestamptz, null::uuid
                       from outbox.settle_lost_leases(v_lost, v_now) as s;
    end if;
    outbox_id := null;
    return next;
end
$$;

create or replace function outbox.attempt_state_after(p_outcome text, p_late_success boolean, p_not_found_counts boolean, p_refusal_counts boolean) returns text
language sql immutable parallel safe
as $$
-- Purpose: the state an attempt is recorded in. The same table as `attempt_state` of the core; a test
--   compares the two.
-- Parameters: p_not_found_counts, the rail's "not found" is a promise, the quarantine is over and the key
--   window is not; p_refusal_counts, a refusal is about the payment, not only about this send of it.
-- Results: the state, or null for an outcome that is not known.
    select case
        when p_outcome = 'ACCEPTED' then 'DISPATCHED'
        -- A refusal after a success was seen does not end the payment: no terminal attempt. Nor does one beside a doubt that it says nothing of.
        when p_outcome = 'REFUSED' then case when p_refusal_counts and not p_late_success then 'FAILED' else 'IN_DOUBT' end
        when p_outcome = 'NOT_FOUND' then case when p_not_found_counts and not p_late_success then 'RETRYABLE' else 'IN_DOUBT' end
        when p_outcome in ('NOT_SENT', 'NOT_EXECUTED', 'THROTTLED', 'RAIL_REFUSED_US') then 'RETRYABLE'
        when p_outcome in ('INTERIM', 'UNKNOWN', 'KEY_REUSED', 'INCONCLUSIVE') then 'IN_DOUBT'
        when p_outcome = 'RELEASED' then 'RELEASED'
    end
$$;

create or replace function outbox.hold_reason_after(
    p_outcome text, p_on_unknown text, p_in_doubt boolean, p_send_count integer, p_max_sends integer, p_inquiry_count integer,
    p_max_inquiries integer, p_late_success boolean, p_hold_requested boolean, p_not_found_too_late boolean
) returns text
language sql immutable parallel safe
as $$
-- Purpose: why a payment waits for a person after an attempt that is not terminal. The same table as
--   `after_attempt` of the core; a test compares the two on every combination.
-- Parameters: p_in_doubt and the counts as they are after the attempt; p_not_found_too_late, a final "not found" that would have
--   counted inside the key window.
-- Results: the reason, or null: it is sent again, or inquired after. A limit ends in a hold, never in FAILED.
    select case
        when p_outcome = 'KEY_REUSED' then 'CONTRADICTION'
        when p_outcome in ('REFUSED', 'NOT_FOUND') and p_late_success then 'CONTRADICTION'
        when p_late_success and p_on_unknown <> 'inquire' then 'LATE_SUCCESS'
        when p_hold_requested then 'REQUESTED'
        when p_in_doubt and p_on_unknown = 'hold' then 'UNKNOWN'
        when p_not_found_too_late then 'KEY_WINDOW'
        when (p_in_doubt or p_late_success) and p_on_unknown = 'inquire'
            then case when p_inquiry_count >= p_max_inquiries then 'EXHAUSTED' end
        when p_outcome <> 'RELEASED' and p_send_count >= p_max_sends then 'EXHAUSTED'
    end
$$;

create or replace function outbox.refuse_bad_completions(
    p_outbox_ids uuid[], p_attempt_nos integer[], p_lease_tokens uuid[], p_outcomes text[], p_dims text[], p_missing integer
) returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: refuses a batch of completions whose arrays are no lists of one length, from 1 on, or that has an outcome nobody
--   knows. Internal to complete.
-- Parameters: p_dims, the dimensions of all lists; p_missing, how many lists are null.
-- Results: nothing, or raises OB003.
declare
    v_dims text := case when cardinality(p_outbox_ids) > 0 then format('[1:%s]', cardinality(p_outbox_ids)) end;
    v_outcome text;
begin
    if p_missing > 0 or exists (select from unnest(p_dims) as l (dims) where l.dims is distinct from v_dims) then
        raise exception 'the arrays of a batch must be lists of one length, that of p_outbox_ids, and begin at 1' using errcode = 'OB003';
    end if;
    if array_position(p_outbox_ids, null) is not null or array_position(p_attempt_nos, null) is not null or array_position(p_lease_tokens, null) is not null then
        raise exception 'a completion names its payment, attempt and lease token: none of them may be null' using errcode = 'OB003';
    end if;
    select c.outcome into v_outcome from unnest(p_outcomes) as c (outcome)
     where outbox.attempt_state_after(c.outcome, false, false, false) is null limit 1;
    if found then
        raise exception 'outcome % is not known', coalesce(quote_literal(v_outcome), 'null') using errcode = 'OB003';
    end if;
end
$$;

create or replace function outbox.after_attempt(
    p_payment outbox.payment_outbox_pending, p_rail outbox.payment_rails, p_outcome text, p_delay interval, p_now timestamptz
) returns table (
    kind text, state text, hold_reason text, disposition text, in_doubt boolean, send_count integer, inquiry_count integer,
    next_attempt_at timestamptz, first_sent_at timestamptz, quarantine_until timestamptz)
language sql stable parallel safe
as $$
-- Purpose: what becomes of a leased payment whose attempt ended in p_outcome. The same table as `after_attempt` of
--   the core; a test compares the two on every combination. Internal to complete.
-- Parameters: p_delay, the wait before another attempt, if there is one; p_now, the clock after the row's lock.
-- Results: one row. An inquiry that taught nothing leaves the doubt, and counts if it was answered; only a "not found" that the contract makes final,
--   after the quarantine, ends it. No limit makes a doubt FAILED. A refusal of a send ends an earlier doubt only under contract resend: the rail
--   executes a key once and answers it with its first result. Under another contract it says nothing of the earlier send.
-- Hazards: a "not found" that was asked for before the quarantine was over may be overtaken by a send that is still on
--   its way, however late it is recorded: what counts is the time of the claim. Past the key window a rail may have forgotten key and payment
--   alike: its "not found" proves nothing.
    select k.kind, s.state,
           outbox.hold_reason_after(e.outcome, p_rail.on_unknown, d.in_doubt, c.send_count, p_rail.max_sends, c.inquiry_count, p_rail.max_inquiries,
                                    p_payment.late_success, p_payment.hold_requested,
                                    e.outcome = 'NOT_FOUND' and f.is_final and not f.in_key_window),
           outbox.disposition_of(p_rail.on_unknown, d.in_doubt or p_payment.late_success), d.in_doubt, c.send_count,
           case when d.in_doubt then c.inquiry_count else 0 end,
           case when e.outcome = 'RELEASED' then p_payment.next_attempt_at
                when e.outcome = 'NOT_FOUND' and p_rail.not_found_is_final and d.in_doubt then greatest(p_now + p_delay, p_payment.quarantine_until)
                else p_now + p_delay end,
           case when k.kind = 'SUBMIT' and e.outcome in ('NOT_SENT', 'RELEASED') then nullif(p_payment.first_sent_at, p_payment.claimed_at)
                else p_payment.first_sent_at end,
           case when k.kind = 'SUBMIT' and s.state = 'IN_DOUBT'
                then greatest(p_payment.quarantine_until, p_now + (p_rail.rail_timeout_ms + p_rail.processing_bound_ms) * interval '1 ms')
                else p_payment.quarantine_until end
      from (select outbox.attempt_kind_of(p_payment.disposition) as kind) as k
     -- What an attempt of this kind cannot end in proves nothing.
     cross join lateral (select case when k.kind = 'SUBMIT' and p_outcome in ('NOT_FOUND', 'INCONCLUSIVE') or k.kind = 'INQUIRE' and p_outcome in ('NOT_EXECUTED', 'KEY_REUSED')
                                then 'UNKNOWN' else p_outcome end as outcome) as e
     cross join lateral (select k.kind = 'INQUIRE' and p_rail.not_found_is_final
                                    and coalesce(p_payment.quarantine_until <= p_payment.claimed_at, p_payment.quarantine_until is null) as is_final,
                                coalesce(p_payment.claimed_at < p_payment.first_sent_at + p_rail.idempotency_window_ms * interval '1 ms', true) as in_key_window,
                                k.kind = 'INQUIRE' or p_rail.on_unknown = 'resend' or p_payment.in_doubt_since is null as refusal_counts) as f
     cross join lateral (select outbox.attempt_state_after(e.outcome, p_payment.late_success, f.is_final and f.in_key_window, f.refusal_counts) as state) as s
     cross join lateral (select (p_payment.in_doubt_since is not null or k.kind = 'INQUIRE' or s.state = 'IN_DOUBT')
                                and not (e.outcome = 'NOT_FOUND' and s.state = 'RETRYABLE') as in_doubt) as d
     cross join lateral (select p_payment.send_count + (k.kind = 'SUBMIT' and e.outcome in ('NOT_EXECUTED', 'INTERIM', 'UNKNOWN'))::integer
                                    as send_count,
                                p_payment.inquiry_count + (k.kind = 'INQUIRE' and (e.outcome in ('INTERIM', 'INCONCLUSIVE')
                                    or e.outcome = 'NOT_FOUND' and not p_rail.not_found_is_final))::integer as inquiry_count) as c
$$;

create or replace function outbox.unpark_first(p_rail text, p_ordering_key text) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
-- Purpose: brings the first payment of an ordering key back into the claim, if it is parked. If its participant is paused,
--   the claim parks it again, under the lock of the pauses: a look at them here might be older than a resume.
-- Results: whether that is settled; false: somebody has the key or the row, try again.
-- Locks taken: the key's, tried; the row, for no key update, skip locked.
declare
    v_first uuid;
    v_disposition text;
begin
    if not pg_try_advisory_xact_lock(outbox.ordering_lock_key(p_rail, p_ordering_key)) then
        return false;
    end if;
    -- A new statement: it sees who was there when the lock was had.
    select o.outbox_id into v_first from outbox.payment_outbox_order o
     where o.rail = p_rail and o.ordering_key = p_ordering_key order by o.place limit 1;
    if not found then
        return true;
    end if;
    select p.disposition into v_disposition from outbox.payment_outbox_pending p where p.outbox_id = v_first for no key update skip locked;
    if found and v_disposition = 'PARKED' then
        update outbox.payment_outbox_pending p
           set disposition = outbox.disposition_of(r.on_unknown, p.in_doubt_since is not null or p.late_success),
               next_attempt_at = greatest(p.next_attempt_at, clock_timestamp())
          from outbox.payment_rails r where p.outbox_id = v_first and r.rail = p.rail;
    end if;
    return v_disposition is not null;
end
$$;

create or replace function outbox.unpark_successors(p_outbox_ids uuid[]) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
-- Purpose: takes ended payments out of the order and brings back who follows them. Internal to what ends payments.
-- Parameters: payments that may have ended: those without a row in the queue have.
-- Hazard: waiting for the key's lock would wait for a producer's transaction. It is tried; where it cannot be had,
--   the key is noted for unpark_outbox_rows.
declare
    v_key record;
begin
    for v_key in
        delete from outbox.payment_outbox_order o
         where o.outbox_id = any (p_outbox_ids) and not exists (select from outbox.payment_outbox_pending p where p.outbox_id = o.outbox_id)
        returning o.rail, o.ordering_key
    loop
        if not outbox.unpark_first(v_key.rail, v_key.ordering_key) then
            insert into outbox.payment_outbox_unparking (rail, ordering_key) values (v_key.rail, v_key.ordering_key);
        end if;
    end loop;
end
$$;

create or replace function outbox.record_acceptances(
    p_unlocked uuid[], p_now timestamptz, p_outbox_ids uuid[], p_attempt_nos integer[], p_lease_tokens uuid[], p_outcomes text[],
    p_first_byte_ats timestamptz[], p_last_byte_ats timestamptz[], p_endpoints text[], p_request_sha256s bytea[],
    p_response_sha256s bytea[], p_rail_references text[], p_rail_codes text[], p_error_classes text[], p_error_details text[]
) returns integer[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
-- Purpose: records the acceptances of a batch whose leases hold, and takes their payments from the queue. An acceptance with
--   a reference is DISPATCHED under every contract, whatever the payment's state: of all that follows from an outcome nothing
--   has to be worked out, which is most of what completing costs. Internal to complete.
-- Parameters: p_unlocked, the payments of the batch whose rows the caller has not locked, which are few: a kept plan goes through them for each payment;
--   p_now, its clock after the lock; then the arrays of the batch, in which no payment is named twice.
-- Results: the places of those that were recorded, in order. All others are the caller's: without a reference, fenced, busy.
-- Hazard: the one plan that is kept must not depend on what the tables hold. The look-up is lateral with a limit, and the
--   delete goes to the ctid found (the caller's locks keep it); the row is judged as it is locked. What is only recorded is
--   taken by its place: each array in unnest is a set of its own.
declare
    v_places integer[];
begin
    with ended as (
        delete from outbox.payment_outbox_pending p
         using unnest(p_outbox_ids, p_attempt_nos, p_lease_tokens, p_outcomes, p_rail_references) with ordinality
               as c (outbox_id, attempt_no, lease_token, outcome, rail_reference, place)
         cross join lateral (select q.ctid as tid from outbox.payment_outbox_pending q where q.outbox_id = c.outbox_id limit 1) as l
         where p.ctid = l.tid and c.outcome = 'ACCEPTED' and c.rail_reference <> '' and c.outbox_id <> all (p_unlocked)
           and p.attempt_count = c.attempt_no and p.lease_token = c.lease_token and p.lease_expires_at > p_now
        returning c.*, p.rail, p.disposition, p.claimed_by, p.claimed_at, p.policy_version
    ), recorded as (
        insert into outbox.payment_outbox_attempts
        select e.outbox_id, e.attempt_no, e.rail, outbox.attempt_kind_of(e.disposition), 'DISPATCHED', e.outcome, e.claimed_by, e.lease_token, e.claimed_at,
               p_first_byte_ats[e.place], p_last_byte_ats[e.place], p_now, left(p_endpoints[e.place], 500), p_request_sha256s[e.place],
               p_response_sha256s[e.place], left(e.rail_reference, 256), left(p_rail_codes[e.place], 256), left(p_error_classes[e.place], 100),
               left(p_error_details[e.place], 500), e.policy_version
          from ended e
    )
    select coalesce(array_agg(e.place::integer order by e.place), '{}') into v_places from ended e;
    return v_places;
end
$$;

create or replace function outbox.record_outcomes(
    p_accepted integer[], p_locked uuid[], p_now timestamptz,
    p_worker_id text, p_outbox_ids uuid[], p_attempt_nos integer[], p_lease_tokens uuid[], p_outcomes text[], p_delays_ms bigint[],
    p_first_byte_ats timestamptz[], p_last_byte_ats timestamptz[], p_endpoints text[], p_request_sha256s bytea[],
    p_response_sha256s bytea[], p_rail_references text[], p_rail_codes text[], p_error_classes text[], p_error_details text[]
) returns table (ordinal integer, verdict text, state text, hold_reason text, next_attempt_at timestamptz)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
-- Purpose: records what is left of a batch after its acceptances, moves the payments on, and answers for the whole batch.
--   Internal to complete, which says what the verdicts mean.
-- Parameters: p_accepted, the places that are recorded already; p_locked, the rows that the caller has locked; p_now, its clock
--   after that; then the batch.
-- Hazard: look-ups are lateral with a limit, and updates go to the ctid that one found (the rows are locked, so it
--   stays): any other join to a table believed empty rescans the batch for each row. Plans are made anew: the bounds of
--   the batch's ids leave out all months but its own.
declare
    v_lo uuid := (select c.id from unnest(p_outbox_ids) as c (id) order by c.id limit 1);
    v_hi uuid := (select c.id from unnest(p_outbox_ids) as c (id) order by c.id desc limit 1);
begin
    return query
    with given as materialized (
        select c.ordinal::integer, c.outbox_id, c.attempt_no, c.lease_token,
               case when c.outcome = 'ACCEPTED' and coalesce(c.rail_reference, '') = '' then 'UNKNOWN' else c.outcome end as outcome,
               least(greatest(c.delay_ms, 0), 86400000) * interval '1 ms' as delay, c.first_byte_at, c.last_byte_at,
               left(c.endpoint, 500) as endpoint, c.request_sha256, c.response_sha256, left(c.rail_reference, 256) as rail_reference,
               left(c.rail_code, 256) as rail_code, left(c.error_class, 100) as error_class, left(c.error_detail, 500) as error_detail,
               row_number() over (partition by c.outbox_id order by c.ordinal) as nth
          from unnest(p_outbox_ids, p_attempt_nos, p_lease_tokens, p_outcomes, p_delays_ms, p_first_byte_ats, p_last_byte_ats, p_endpoints,
                      p_request_sha256s, p_response_sha256s, p_rail_references, p_rail_codes, p_error_classes, p_error_details) with ordinality
               as c (outbox_id, attempt_no, lease_token, outcome, delay_ms, first_byte_at, last_byte_at, endpoint, request_sha256,
                     response_sha256, rail_reference, rail_code, error_class, error_detail, ordinal)
         where c.ordinal::integer <> all (p_accepted)
    ), judged as materialized (
        select g.*, p.tid, p.rail, p.claimed_by, p.claimed_at, p.policy_version, n.*, r.on_unknown, (r.rail_timeout_ms + r.processing_bound_ms) * interval '1 ms' as doubt,
               case when p.outbox_id is not null and (g.nth > 1 or g.outbox_id <> all (p_locked)) then 'busy'
                    when p.attempt_count = g.attempt_no and p.lease_token = g.lease_token and p.lease_expires_at > p_now then 'applied'
                    when g.nth > 1 then 'busy' else 'late' end as verdict
          from given g
          left join lateral (select q as pending, q.ctid as tid, q.* from outbox.payment_outbox_pending q where q.outbox_id = g.outbox_id limit 1) as p on true
          left join outbox.payment_rails r on r.rail = p.rail
         cross join lateral outbox.after_attempt(p.pending, r, g.outcome, g.delay, p_now) as n
    ), decided as materialized (
        select j.*, a.outbox_id is not null as already, a.state as state_then
          from judged j
          left join lateral (select b.* from outbox.payment_outbox_attempts b where j.verdict = 'late' and b.outbox_id = j.outbox_id
                                and b.attempt_no = j.attempt_no and b.outbox_id between v_lo and v_hi limit 1) as a
            on a.lease_token = j.lease_token and a.outcome = j.outcome and a.rail_reference is not distinct from j.rail_reference
           and a.response_sha256 is not distinct from j.response_sha256
    ), recorded as (
        insert into outbox.payment_outbox_attempts
        select d.outbox_id, d.attempt_no, d.rail, d.kind, d.state, d.outcome, d.claimed_by, d.lease_token, d.claimed_at, d.first_byte_at, d.last_byte_at,
               p_now, d.endpoint, d.request_sha256, d.response_sha256, d.rail_reference, d.rail_code, d.error_class, d.error_detail, d.policy_version
          from decided d where d.verdict = 'applied'
    ), settled as (
        delete from outbox.payment_outbox_pending p using decided d
         where p.ctid = d.tid and d.verdict = 'applied' and d.state in ('DISPATCHED', 'FAILED')
    ), moved as (
        update outbox.payment_outbox_pending p
           set disposition = case when d.hold_reason is null then d.disposition else 'HELD' end, hold_reason = d.hold_reason,
               hold_requested = p.hold_requested and d.hold_reason is null, send_count = d.send_count, inquiry_count = d.inquiry_count,
               next_attempt_at = d.next_attempt_at, first_sent_at = d.first_sent_at, quarantine_until = d.quarantine_until,
               in_doubt_since = case when d.in_doubt then coalesce(p.in_doubt_since, p_now) end,
               claimed_by = null, claimed_at = null, lease_token = null, lease_expires_at = null, policy_version = null
          from decided d
         where p.ctid = d.tid and d.verdict = 'applied' and d.state not in ('DISPATCHED', 'FAILED')
    ), kept as (
        insert into outbox.payment_outbox_late_outcomes
        select l.outbox_id, l.attempt_no, sha256(convert_to(format('%s %s %L %L', l.lease_token, l.outcome, l.rail_reference, encode(l.response_sha256, 'hex')), 'UTF8')),
               l.lease_token, p_worker_id, l.outcome, l.first_byte_at, l.last_byte_at, p_now, l.endpoint, l.request_sha256,
               l.response_sha256, l.rail_reference, l.rail_code, l.error_class, l.error_detail
          from decided l where l.verdict = 'late' and not l.already
            on conflict do nothing
    ), warned as (
        update outbox.payment_outbox_pending p
           set late_success = p.late_success or l.outcome = 'ACCEPTED', in_doubt_since = coalesce(p.in_doubt_since, p_now),
               first_sent_at = coalesce(p.first_sent_at, l.first_byte_at, p_now), quarantine_until = greatest(p.quarantine_until, p_now + l.doubt),
               disposition = case when p.disposition = 'READY' and p.lease_token is null then outbox.disposition_of(l.on_unknown, true) else p.disposition end,
               hold_reason = case when l.outcome = 'ACCEPTED' and p.hold_reason <> 'CONTRADICTION' then 'LATE_SUCCESS' else p.hold_reason end
          from decided l
         where p.ctid = l.tid and l.verdict = 'late' and not l.already and l.outcome in ('ACCEPTED', 'INTERIM', 'UNKNOWN', 'KEY_REUSED', 'INCONCLUSIVE')
    )
    select d.ordinal, case when d.already then 'already_applied' when d.verdict = 'late' then 'fenced' else d.verdict end,
           case when d.already then d.state_then when d.verdict = 'applied' then d.state end, case when d.verdict = 'applied' and d.state not in ('DISPATCHED', 'FAILED') then d.hold_reason end,
           case when d.verdict = 'applied' and d.state not in ('DISPATCHED', 'FAILED') and d.hold_reason is null then d.next_attempt_at end
      from decided d
     union all
    select a.place, 'applied', 'DISPATCHED', null, null from unnest(p_accepted) as a (place)
     order by 1;
end
$$;

create or replace function outbox.complete_outbox_batch(
    p_worker_id text, p_outbox_ids uuid[], p_attempt_nos integer[], p_lease_tokens uuid[], p_outcomes text[], p_delays_ms bigint[],
    p_first_byte_ats timestamptz[], p_last_byte_ats timestamptz[], p_endpoints text[], p_request_sha256s bytea[],
    p_response_sha256s bytea[], p_rail_references text[], p_rail_codes text[], p_error_classes text[], p_error_details text[]
) returns table (ordinal integer, verdict text, state text, hold_reason text, next_attempt_at timestamptz)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
-- Purpose: records what attempts came to, if their leases still hold, and moves the payments on.
-- Parameters: lists of one length; outcomes, not states: what follows is derived here. p_delays_ms: the wait
--   before another send, if there is one, at most a day. An ACCEPTED without a reference counts as UNKNOWN.
-- Results: by ordinal. applied; already_applied: the same result of the same attempt is recorded; fenced: the
--   lease is lost, and what was learned is kept in late_outcomes; busy: somebody has the row locked, or the
--   payment is in the batch twice: try again.
-- Locks taken: the rows, for no key update, in order of id, skip locked: one locked row does not make the
--   others miss their leases.
-- Hazards: lock, clock and judgement are steps of their own, with snapshots of their own. In one statement all parts see the
--   time before the lock wait: an overlapping retry came out fenced, a late success was missed. now() accepts a lease that
--   has run out. Plans are kept: nothing is read here but the queue, by its primary key.
declare
    v_sorted uuid[] := array(select distinct c.id from unnest(p_outbox_ids) as c (id) order by c.id);
    v_locked uuid[];
    v_ordered boolean;
    v_now timestamptz;
    v_unlocked uuid[] := '{}';
    v_accepted integer[] := '{}';
begin
    perform outbox.refuse_bad_completions(p_outbox_ids, p_attempt_nos, p_lease_tokens, p_outcomes,
        array[array_dims(p_outbox_ids), array_dims(p_attempt_nos), array_dims(p_lease_tokens), array_dims(p_outcomes), array_dims(p_delays_ms),
              array_dims(p_first_byte_ats), array_dims(p_last_byte_ats), array_dims(p_endpoints), array_dims(p_request_sha256s),
              array_dims(p_response_sha256s), array_dims(p_rail_references), array_dims(p_rail_codes), array_dims(p_error_classes), array_dims(p_error_details)],
        num_nulls(p_outbox_ids, p_attempt_nos, p_lease_tokens, p_outcomes, p_delays_ms, p_first_byte_ats, p_last_byte_ats, p_endpoints, p_request_sha256s,
              p_response_sha256s, p_rail_references, p_rail_codes, p_error_classes, p_error_details));
    select coalesce(array_agg(s.outbox_id), '{}'), bool_or(s.is_ordered) into v_locked, v_ordered
      from (select p.outbox_id, p.is_ordered from outbox.payment_outbox_pending p where p.outbox_id = any (v_sorted)
             order by p.outbox_id for no key update skip locked) as s;
    v_now := clock_timestamp();
    if cardinality(v_sorted) = cardinality(p_outbox_ids) then
        if cardinality(v_locked) < cardinality(v_sorted) then
            v_unlocked := array(select c.id from unnest(v_sorted) as c (id) except select l.id from unnest(v_locked) as l (id));
        end if;
        v_accepted := outbox.record_acceptances(v_unlocked, v_now,
            p_outbox_ids, p_attempt_nos, p_lease_tokens, p_outcomes, p_first_byte_ats, p_last_byte_ats, p_endpoints,
            p_request_sha256s, p_response_sha256s, p_rail_references, p_rail_codes, p_error_classes, p_error_details);
    end if;
    if cardinality(v_accepted) = cardinality(p_outbox_ids) then
        return query select a.place, 'applied', 'DISPATCHED', null::text, null::timestamptz from unnest(v_accepted) as a (place) order by 1;
    else
        return query select r.* from outbox.record_outcomes(v_accepted, v_locked, v_now, p_worker_id, p_outbox_ids, p_attempt_nos, p_lease_tokens, p_outcomes, p_delays_ms,
            p_first_byte_ats, p_last_byte_ats, p_endpoints, p_request_sha256s, p_response_sha256s, p_rail_references, p_rail_codes, p_error_classes, p_error_details) as r;
    end if;
    if v_ordered then
        perform outbox.unpark_successors(v_locked);
    end if;
end
$$;

create or replace function outbox.release_outbox_leases(
    p_worker_id text, p_outbox_ids uuid[], p_attempt_nos integer[], p_lease_tokens uuid[]
) returns table (ordinal integer, verdict text)
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: gives leases back whose payments were certainly not sent. Counts nothing; the payment keeps
--   its place in the queue, and the ledger gets a RELEASED attempt.
-- Parameters, results, locks: as complete_outbox_batch.
-- Hazard: a release of what was sent is a blind resend; the database cannot tell, only the caller can.
    select b.ordinal, b.verdict
      from outbox.complete_outbox_batch(p_worker_id, p_outbox_ids, p_attempt_nos, p_lease_tokens,
               array_fill('RELEASED'::text, array[cardinality(p_outbox_ids)]), array_fill(0::bigint, array[cardinality(p_outbox_ids)]),
               array_fill(null::timestamptz, array[cardinality(p_outbox_ids)]), array_fill(null::timestamptz, array[cardinality(p_outbox_ids)]),
               array_fill(null::text, array[cardinality(p_outbox_ids)]), array_fill(null::bytea, array[cardinality(p_outbox_ids)]),
               array_fill(null::bytea, array[cardinality(p_outbox_ids)]), array_fill(null::text, array[cardinality(p_outbox_ids)]),
               array_fill(null::text, array[cardinality(p_outbox_ids)]), array_fill(null::text, array[cardinality(p_outbox_ids)]),
               array_fill(null::text, array[cardinality(p_outbox_ids)])) as b
$$;

create or replace function outbox.renew_outbox_leases(
    p_worker_id text, p_outbox_ids uuid[], p_attempt_nos integer[], p_lease_tokens uuid[]
) returns table (ordinal integer, verdict text, lease_ms bigint)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
-- Purpose: extends leases that still hold to the contract's lease_duration_ms from now, and shortens none.
-- Parameters: arrays of one length, a lease an element.
-- Results: by ordinal. renewed, with the lease's new length; fenced: it is lost, and no renewal brings it
--   back; busy: somebody has the row locked, try again.
-- Locks taken: the rows, for no key update, in order of id, skip locked.
-- Hazards: the clock is read after the locks; a lease that ran out during a wait is lost. The update goes to
--   the ctid found (the rows are locked): another join may rescan the batch for each row. From a clock that was put back
--   for a moment a lease would be renewed to an end before the one it had, and lost as soon as the clock is right.
declare
    v_locked uuid[];
    v_now timestamptz;
begin
    v_locked := array(select p.outbox_id from outbox.payment_outbox_pending p where p.outbox_id = any (p_outbox_ids)
                       order by p.outbox_id for no key update skip locked);
    v_now := clock_timestamp();
    return query
    with judged as materialized (
        select g.ordinal::integer, p.tid, r.lease_duration_ms,
               case when g.outbox_id <> all (v_locked) then case when p.tid is null then 'fenced' else 'busy' end
                    when p.claimed_by = p_worker_id and p.attempt_count = g.attempt_no and p.lease_token = g.lease_token
                         and p.lease_expires_at > v_now then 'renewed' else 'fenced' end as verdict
          from unnest(p_outbox_ids, p_attempt_nos, p_lease_tokens) with ordinality as g (outbox_id, attempt_no, lease_token, ordinal)
          left join lateral (select q.ctid as tid, q.* from outbox.payment_outbox_pending q where q.outbox_id = g.outbox_id limit 1) as p on true
          left join outbox.payment_rails r on r.rail = p.rail
    ), renewed as (
        update outbox.payment_outbox_pending p
           set lease_expires_at = greatest(p.lease_expires_at, v_now + j.lease_duration_ms * interval '1 ms')
          from judged j
         where p.ctid = j.tid and j.verdict = 'renewed'
    )
    select j.ordinal, j.verdict, case when j.verdict = 'renewed' then j.lease_duration_ms end
      from judged j
     order by j.ordinal;
end
$$;

create or replace function outbox.record_first_epoch(p_environment text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: records where payments are dispatched for the first time. Internal to the heartbeat, which every
--   dispatcher calls before it claims.
-- Locks taken: if there is no epoch, one of its own until the transaction ends.
begin
    if exists (select from outbox.outbox_cluster) then
        return;
    end if;
    perform pg_advisory_xact_lock(1869968485::bigint << 32);
    insert into outbox.outbox_cluster (system_identifier, timeline, environment, recorded_by, recorded_at)
    select c.system_identifier, c.timeline, coalesce(p_environment, ''), session_user, clock_timestamp()
      from outbox.cluster_now() as c
     where not exists (select from outbox.outbox_cluster);
end
$$;

create or replace function outbox.dispatcher_heartbeat(
    p_worker_id text, p_version text, p_api_version integer, p_state text, p_lanes text[], p_in_flight integer, p_heartbeat_interval_ms bigint,
    p_environment text default null, p_settled bigint[] default '{}',
    p_seen_epoch_us bigint default 0, p_seen_log_position bigint default 0, p_memory_id uuid default null, p_seen_beat bigint default 0
) returns table (
    worker_id text, heartbeat_at timestamptz, silent_ms bigint, heartbeat_interval_ms bigint, lanes text[],
    epoch_us bigint, log_position bigint, beat bigint, fault text)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
-- Purpose: shows a dispatcher to operators and to the other dispatchers, and counts its heartbeats for its memory.
-- Parameters: p_state RUNNING, DRAINING or STOPPED; p_heartbeat_interval_ms, when the next one is due;
--   p_environment, what the dispatcher is configured for: the first one ever is the database's;
--   p_settled, for each of p_lanes how many payments this dispatcher saw end; p_seen_* and p_memory_id, what it remembers, as in
--   a claim: a memory_id of null counts nothing.
-- Results: the other dispatchers that missed three heartbeats and were not stopped: their leases run out
--   unrenewed, so the caller sweeps. Last, with a worker_id of null, how far the database is, what the caller has to
--   remember from now on; and fault, why a claim is refused, as epoch_fault says it: then nothing is to be remembered.
-- Locks taken: the caller's row, and its memory's. Rows of dispatchers silent for a week are pruned.
-- Hazard: a database that lacks heartbeats must not regain them by heartbeats, nor be given a first epoch that is newer
--   than the one that was seen. What would be refused is not counted.
declare
    v_now timestamptz := clock_timestamp();
begin
    if p_seen_epoch_us = 0 then
        perform outbox.record_first_epoch(p_environment);
    end if;
    fault := outbox.epoch_fault(p_environment, p_seen_epoch_us, p_seen_log_position, p_memory_id, p_seen_beat);
    if fault is null and p_memory_id is not null then
        insert into outbox.outbox_dispatcher_memories as m values (p_memory_id, 1, v_now)
            on conflict (memory_id) do update set beat = m.beat + 1, noted_at = excluded.noted_at;
    end if;
    insert into outbox.outbox_dispatchers as d
    values (p_worker_id, p_version, p_api_version, p_state, p_lanes, p_in_flight, p_heartbeat_interval_ms, v_now, v_now, p_settled)
        on conflict (worker_id) do update
       set version = excluded.version, api_version = excluded.api_version, state = excluded.state, lanes = excluded.lanes,
           in_flight = excluded.in_flight, heartbeat_interval_ms = excluded.heartbeat_interval_ms, heartbeat_at = excluded.heartbeat_at,
           settled = excluded.settled;
    delete from outbox.outbox_dispatchers d
     where d.worker_id in (select s.worker_id from outbox.outbox_dispatchers s where s.heartbeat_at < v_now - interval '7 days'
                            order by s.worker_id limit 100 for update skip locked);
    return query
    select d.worker_id, d.heartbeat_at, (extract(epoch from v_now - d.heartbeat_at) * 1000)::bigint, d.heartbeat_interval_ms, d.lanes,
           null::bigint, null::bigint, null::bigint, null::text
      from outbox.outbox_dispatchers d
     where d.worker_id <> p_worker_id and d.state <> 'STOPPED'
       and d.heartbeat_at < v_now - 3 * d.heartbeat_interval_ms * interval '1 ms'
       and d.heartbeat_at > v_now - interval '1 day';
    epoch_us := coalesce((select outbox.epoch_us(c) from outbox.outbox_cluster c order by c.epoch_no desc limit 1), 0);
    log_position := pg_current_wal_flush_lsn() - '0/0';
    beat := coalesce((select m.beat from outbox.outbox_dispatcher_memories m where m.memory_id = p_memory_id), 0);
    return next;
end
$$;

create or replace function outbox.read_payment_rails() returns table (
    rail text, on_unknown text, idempotency_window_ms bigint, not_found_is_final boolean, rail_timeout_ms bigint, processing_bound_ms bigint, amount_required boolean,
    max_sends integer, max_inquiries integer, max_crashes integer, backoff_base_ms bigint, backoff_cap_ms bigint, lease_duration_ms bigint, max_sends_per_s integer, fallback boolean, paused boolean, require_attestation boolean, policy_version integer, columns text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the contracts of all rails.
-- Results: a row a rail, by name; times in milliseconds; columns, the whole contract as a policy's document has it.
    select r.rail, r.on_unknown, r.idempotency_window_ms, r.not_found_is_final, r.rail_timeout_ms, r.processing_bound_ms, r.amount_required, r.max_sends,
           r.max_inquiries, r.max_crashes, r.backoff_base_ms, r.backoff_cap_ms, r.lease_duration_ms, r.max_sends_per_s, r.fallback, r.paused, r.require_attestation,
           r.policy_version, (to_jsonb(r) - array['rail', 'changed_at', 'changed_by', 'policy_version'])::text
      from outbox.payment_rails r
     order by r.rail
$$;

create or replace function outbox.set_payment_rail(
    p_rail text, p_on_unknown text default null, p_idempotency_window_ms bigint default null, p_rail_timeout_ms bigint default null,
    p_processing_bound_ms bigint default null, p_amount_required boolean default null, p_max_sends integer default null,
    p_max_crashes integer default null, p_backoff_base_ms bigint default null, p_backoff_cap_ms bigint default null,
    p_lease_duration_ms bigint default null, p_paused boolean default null, p_not_found_is_final boolean default null,
    p_max_inquiries integer default null, p_max_sends_per_s integer default null,
    p_fallback boolean default null, p_require_attestation boolean default null
) returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
-- Purpose: makes or changes a rail's contract. What is null stays as it is, or gets the default.
-- Parameters: times in milliseconds; p_paused stops claiming at the next claim; p_max_sends_per_s, 0 for no rate; p_fallback,
--   whether dispatchers may have further endpoints for what the first has certainly not executed; p_require_attestation, whether
--   enqueue refuses a new payment without an accepted attestation of its bytes.
-- Results: whether the rail is new.
--   OB016: a policy is active, and contracts are what it says.
-- Locks taken: activations are held up until the transaction ends; the rail's row.
-- Hazard: `resend` says that the rail executes a key at most once within the window, and p_not_found_is_final that
--   what it does not find it never executed. Where that is not so, every unknown outcome is a possible double payment.
declare
    v_new boolean := false;
    v_policy integer;
begin
    lock table outbox.policy_activations in share mode;
    v_policy := outbox.active_policy_version();
    if v_policy is not null then
        raise exception 'policy version % is active: use outboxd policy propose', v_policy using errcode = 'OB016',
            hint = 'a contract is part of the policy, which another login approves';
    end if;
    -- Only for a rail that is not there: the table's checks come before its conflicts, and would refuse a change
    -- that the rail as it is allows.
    if not exists (select from outbox.payment_rails r where r.rail = p_rail) then
        insert into outbox.payment_rails as r (rail, on_unknown, idempotency_window_ms, changed_at, changed_by)
        values (p_rail, coalesce(p_on_unknown, 'hold'), p_idempotency_window_ms, clock_timestamp(), session_user)
            on conflict (rail) do nothing;
        v_new := found;
    end if;
    if p_fallback = false and exists (select from outbox.payment_outbox_pending p
                                       where p.rail = p_rail and p.endpoint is null and (p.in_doubt_since is not null or p.late_success)) then
        raise exception 'rail % has payments in doubt of which nobody knows the endpoint: resolve them before fallback ends', p_rail
            using errcode = 'OB003', column = 'fallback';
    end if;
    update outbox.payment_rails r
       set on_unknown = coalesce(p_on_unknown, r.on_unknown),
           idempotency_window_ms = coalesce(p_idempotency_window_ms, r.idempotency_window_ms),
           rail_timeout_ms = coalesce(p_rail_timeout_ms, r.rail_timeout_ms),
           processing_bound_ms = coalesce(p_processing_bound_ms, r.processing_bound_ms),
           amount_required = coalesce(p_amount_required, r.amount_required),
           max_sends = coalesce(p_max_sends, r.max_sends),
           max_crashes = coalesce(p_max_crashes, r.max_crashes),
           backoff_base_ms = coalesce(p_backoff_base_ms, r.backoff_base_ms),
           backoff_cap_ms = coalesce(p_backoff_cap_ms, r.backoff_cap_ms),
           lease_duration_ms = coalesce(p_lease_duration_ms, r.lease_duration_ms),
           fallback = coalesce(p_fallback, r.fallback),
           require_attestation = coalesce(p_require_attestation, r.require_attestation),
           paused = coalesce(p_paused, r.paused),
           not_found_is_final = coalesce(p_not_found_is_final, r.not_found_is_final),
           max_inquiries = coalesce(p_max_inquiries, r.max_inquiries),
           max_sends_per_s = case when p_max_sends_per_s = 0 then null else coalesce(p_max_sends_per_s, r.max_sends_per_s) end,
           changed_at = clock_timestamp(), changed_by = session_user
     where r.rail = p_rail;
    return v_new;
end
$$;

create or replace function outbox.read_api_range() returns table (api_min integer, api_max integer)
language sql stable
as $$
-- Purpose: which versions of these functions' interface the schema serves. A dispatcher starts if its own
--   version lies inside, whatever the migration ledger says.
    select 1, 1
$$;

create or replace function outbox.excess_privilege_of(p_login name) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the first thing that a dispatcher's login may do beyond what outbox_dispatcher may, in words that
--   follow its name; null if there is none. Membership counts whether its rights are inherited or not.
-- Hazard: whoever holds the dispatcher's password can do what its login can: forge history, or approve.
    select x.excess
      from (select 1 as place, 'is a superuser' as excess from pg_roles r where r.rolname = p_login and r.rolsuper
            union all
            select 2, 'may ' || case when r.rolcreaterole then 'create roles' when r.rolreplication then 'replicate' else 'bypass row security' end
              from pg_roles r where r.rolname = p_login and (r.rolcreaterole or r.rolreplication or r.rolbypassrls)
            union all
            select 3, 'is a member of ' || r.rolname || ', which ' ||
                      case when r.rolsuper then 'is a superuser' when r.rolcreaterole then 'may create roles' when r.rolreplication then 'may replicate'
                           else 'may bypass row security' end
              from pg_roles r
             where r.rolname <> p_login and (r.rolsuper or r.rolcreaterole or r.rolreplication or r.rolbypassrls) and pg_has_role(p_login, r.oid, 'member')
            union all
            select 3, 'is a member of ' || g.rolname
              from pg_roles g
             where g.rolname in ('outbox_owner', 'outbox_ingest', 'outbox_operator', 'outbox_approver', 'outbox_auditor',
                                 'outbox_monitor', 'pg_read_all_data', 'pg_write_all_data', 'pg_execute_server_program',
                                 'pg_read_server_files', 'pg_write_server_files')
               and pg_has_role(p_login, g.oid, 'member')
            union all
            select 4, 'has privileges on the table ' || c.oid::regclass::text
              from pg_class c
             where c.relnamespace = 'outbox'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')
               and (has_table_privilege(p_login, c.oid, 'select,insert,update,delete,truncate,references,trigger')
                    or has_any_column_privilege(p_login, c.oid, 'select,insert,update,references'))
            union all
            select 5, 'may call ' || p.oid::regprocedure::text
              from pg_proc p
             where p.pronamespace = 'outbox'::regnamespace
               and has_function_privilege(p_login, p.oid, 'EXECUTE') and not has_function_privilege('outbox_dispatcher', p.oid, 'EXECUTE')
            union all
            select 6, 'may create objects in the schema outbox' where has_schema_privilege(p_login, 'outbox', 'create')) as x
     order by x.place, x.excess
     limit 1
$$;

create or replace function outbox.dispatcher_preflight() returns table (
    login text, backend_pid integer, excess_privilege text, fsync boolean, full_page_writes boolean, synchronous_commit text,
    in_recovery boolean, read_only boolean, server_encoding text, server_version_num integer, api_min integer, api_max integer, db_now timestamptz)
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: what a dispatcher must know of its connection before it claims, in one row.
-- Results: excess_privilege, the first thing the login may do and should not, or null.
-- Hazard: not security definer, since it judges the login itself.
    select session_user::text, pg_backend_pid(), outbox.excess_privilege_of(session_user),
           current_setting('fsync')::boolean, current_setting('full_page_writes')::boolean, current_setting('synchronous_commit'),
           pg_is_in_recovery(), current_setting('default_transaction_read_only')::boolean or current_setting('transaction_read_only')::boolean,
           current_setting('server_encoding'), current_setting('server_version_num')::integer, a.api_min, a.api_max, clock_timestamp()
      from outbox.read_api_range() as a
$$;

create or replace function outbox.contradicted_payments() returns table (kind text, outbox_id uuid, rail text, detail text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set jit = off
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
-- Purpose: payments that money has left for against our books, or twice, as the rail's late answers say. Internal to
--   audit_payments, read_outbox_status and read_outbox_metrics.
-- Results: FAILED_BUT_ACCEPTED: ended without success, and accepted by the rail. ACCEPTED_TWICE: the rail gave more than one
--   reference. A payment can be both. Of all time, since nothing in the books can mend it: those of detached months as their
--   receipts say. ACCEPTED_WHEN_DETACHED: accepted later than its month was sealed; its rail is not known here.
-- Hazards: a person's evidence is no reference of the rail, and must not count for one; what a statement says is. The range
--   of the ids is a constant for the planner, which leaves out the other months; look-ups are lateral, by key.
declare
    v_lo uuid := (select l.outbox_id from outbox.payment_outbox_late_outcomes l where l.outcome = 'ACCEPTED' order by l.outbox_id limit 1);
    v_hi uuid := (select l.outbox_id from outbox.payment_outbox_late_outcomes l where l.outcome = 'ACCEPTED' order by l.outbox_id desc limit 1);
begin
    return query
    with late as materialized (
        select l.outbox_id, array_agg(l.rail_reference) as given
          from outbox.payment_outbox_late_outcomes l
         where l.outcome = 'ACCEPTED' and l.outbox_id between v_lo and v_hi
         group by l.outbox_id
    )
    select f.kind, t.outbox_id, i.rail, f.detail
      from late t
     cross join lateral (select n.rail from outbox.payment_outbox_instructions n
                          where n.outbox_id = t.outbox_id and n.outbox_id between v_lo and v_hi limit 1) as i
     cross join lateral (
         select coalesce(bool_or(a.state <> 'DISPATCHED'), false) as is_unsuccessful,
                array_agg(a.rail_reference) filter (where a.state = 'DISPATCHED' and a.rail_reference <> ''
                    and not (a.kind = 'OPERATOR' and exists (select from outbox.operator_actions o
                        where o.action_id = a.lease_token and o.evidence = a.rail_reference))) as given
           from outbox.payment_outbox_attempts a
          where a.outbox_id = t.outbox_id and a.outbox_id between v_lo and v_hi and a.state in ('DISPATCHED', 'FAILED', 'CANCELLED')) as e
     cross join lateral (select array_agg(distinct u.reference order by u.reference) as all_given from unnest(t.given || e.given) as u (reference)) as r
     cross join lateral (values
        ('FAILED_BUT_ACCEPTED', e.is_unsuccessful, 'the rail said later that it had accepted it'),
        ('ACCEPTED_TWICE', cardinality(r.all_given) > 1, 'the rail accepted it under ' || array_to_string(r.all_given, ' and '))) as f (kind, is_so, detail)
     where f.is_so;
    return query
    select c.kind, c.outbox_id, c.rail, c.detail
      from outbox.partition_receipts r
     cross join lateral jsonb_to_recordset(r.contradictions) as c (kind text, outbox_id uuid, rail text, detail text)
     where outbox.detached_as(r.ids_from) is not null;
    return query
    select 'ACCEPTED_WHEN_DETACHED', l.outbox_id, null::text, 'the rail accepted it after its month was sealed: compare with how it ended there'
      from outbox.detached_id_ranges() as g
      join outbox.payment_outbox_late_outcomes l on l.outbox_id >= g.ids_from and l.outbox_id < g.ids_before and l.outcome = 'ACCEPTED'
      join outbox.partition_seals s on s.holds = 'PAYMENTS' and l.outbox_id >= outbox.outbox_id_floor(s.month::timestamp at time zone 'UTC')
                                   and l.outbox_id < outbox.outbox_id_floor((s.month + interval '1 month') at time zone 'UTC') and l.recorded_at > s.sealed_at;
end
$$;

create or replace function outbox.read_outbox_status(p_since timestamptz default null) returns table (
    rail text, paused boolean, due bigint, waiting bigint, in_flight bigint, in_doubt bigint, held bigint, parked bigint, late_successes bigint,
    dispatched bigint, failed bigint, failed_but_accepted bigint, accepted_twice bigint, oldest_due_ms bigint, oldest_in_doubt_ms bigint, partition_headroom_months integer)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
-- Purpose: where the payments of each rail are, for operators and monitors.
-- Parameters: p_since, counts dispatched and failed payments enqueued from then on; null: all.
-- Results: a row a rail. due: could be claimed now. waiting: not before a later time. parked: behind another of
--   its ordering key. in_doubt: may have been executed and is not held, lost leases that are not settled yet included.
--   failed_but_accepted, accepted_twice: as contradicted_payments says, of all time. Ages in milliseconds.
-- Locks taken: none beyond reading. Reads the whole queue, and the ledger from p_since on.
declare
    v_now timestamptz := clock_timestamp();
    v_lo uuid := outbox.outbox_id_floor(coalesce(p_since, 'epoch'));
begin
    return query
    with queue as (
        select p.rail,
               count(*) filter (where p.disposition = 'READY' and p.lease_token is null and p.next_attempt_at <= v_now) as due,
               count(*) filter (where p.disposition = 'READY' and p.lease_token is null and p.next_attempt_at > v_now) as waiting,
               count(*) filter (where p.lease_expires_at > v_now) as in_flight,
               count(*) filter (where p.lease_expires_at <= v_now or (p.lease_token is null and p.in_doubt_since is not null and p.disposition <> 'HELD')) as in_doubt,
               count(*) filter (where p.disposition = 'HELD') as held,
               count(*) filter (where p.disposition = 'PARKED') as parked,
               count(*) filter (where p.late_success) as late_successes,
               min(p.next_attempt_at) filter (where p.disposition = 'READY' and p.lease_token is null and p.next_attempt_at <= v_now) as oldest_due_at,
               min(coalesce(p.in_doubt_since, p.lease_expires_at)) filter (where p.lease_expires_at <= v_now
                   or (p.lease_token is null and p.in_doubt_since is not null and p.disposition <> 'HELD')) as oldest_in_doubt_at
          from outbox.payment_outbox_pending p
         group by p.rail
    ), ledger as (
        select a.rail, count(*) filter (where a.state = 'DISPATCHED') as dispatched, count(*) filter (where a.state = 'FAILED') as failed
          from outbox.payment_outbox_attempts a
         where a.outbox_id >= v_lo and a.state in ('DISPATCHED', 'FAILED', 'CANCELLED')
         group by a.rail
    ), contradicted as (
        select c.rail, count(*) filter (where c.kind = 'FAILED_BUT_ACCEPTED') as failed_but_accepted,
               count(*) filter (where c.kind = 'ACCEPTED_TWICE') as accepted_twice
          from outbox.contradicted_payments() c
         group by c.rail
    )
    select r.rail, r.paused, coalesce(q.due, 0), coalesce(q.waiting, 0), coalesce(q.in_flight, 0), coalesce(q.in_doubt, 0), coalesce(q.held, 0), coalesce(q.parked, 0),
           coalesce(q.late_successes, 0), coalesce(l.dispatched, 0), coalesce(l.failed, 0), coalesce(c.failed_but_accepted, 0),
           coalesce(c.accepted_twice, 0),
           (extract(epoch from v_now - q.oldest_due_at) * 1000)::bigint, (extract(epoch from v_now - q.oldest_in_doubt_at) * 1000)::bigint,
           outbox.partition_headroom_months()
      from outbox.payment_rails r
      left join queue q on q.rail = r.rail
      left join ledger l on l.rail = r.rail
      left join contradicted c on c.rail = r.rail
     order by r.rail;
end
$$;

create or replace function outbox.read_payment_timelines(p_id text, p_participant_id text default null) returns setof jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
-- Purpose: everything the database knows of a payment, for people: never its payload.
-- Parameters: p_id, an outbox_id or an instruction_id; p_participant_id narrows an instruction_id, which is
--   unique only for each participant, and spares a scan.
-- Results: a document a payment, at most 100, oldest first; then those whose month was detached, with `detached`: the receipts of it.
declare
    v_ids uuid[];
    v_attestations uuid[];
    v_lo uuid;
    v_hi uuid;
    v_named uuid;
begin
    v_ids := array(select n.outbox_id from outbox.payment_outbox_identities n
                    where n.instruction_id = p_id and n.participant_id = coalesce(p_participant_id, n.participant_id)
                    order by n.outbox_id limit 100);
    -- An instruction_id may have the form of a UUID as well.
    if p_id ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
        v_named := p_id::uuid;
        v_ids := v_named || v_ids;
    end if;
    v_attestations := array(select i.attestation_id from outbox.payment_outbox_instructions i
                             where i.outbox_id = any (v_ids) and i.attestation_id is not null order by i.attestation_id);
    v_lo := v_attestations[1];
    v_hi := v_attestations[cardinality(v_attestations)];
    return query
    select jsonb_build_object(
               'outbox_id', i.outbox_id, 'participant_id', i.participant_id, 'instruction_id', i.instruction_id, 'generation', n.generation,
               'idempotency_key', n.idempotency_key, 'rail', i.rail, 'content_type', i.content_type, 'payload_bytes', octet_length(i.payload),
               'payload_sha256', encode(i.payload_sha256, 'hex'), 'amount_minor', i.amount_minor, 'currency', i.currency,
               'not_before', i.not_before, 'not_after', i.not_after, 'traceparent', i.traceparent, 'attestation_id', i.attestation_id,
               'enqueued_by', i.enqueued_by, 'enqueued_at', i.created_at, 'policy_version', i.policy_version,
               -- The range is constant, so that the plan opens the months it needs.
               'attestation', (select to_jsonb(a) || jsonb_build_object(
                                      'payload_sha256', encode(a.payload_sha256, 'hex'), 'client_cert_fingerprint', encode(a.client_cert_fingerprint, 'hex'),
                                      'signature', encode(a.signature, 'hex'),
                                      'credential_revoked_at', outbox.credential_revoked_at(a.client_cert_fingerprint, a.key_id, a.jwt_iss, a.jti))
                                 from outbox.ingress_attestations a
                                where a.attestation_id = i.attestation_id and a.attestation_id between v_lo and v_hi),
               'actions', outbox.actions_on_payment(i.outbox_id, i.participant_id, i.instruction_id),
               'pending', (select to_jsonb(p) - array['outbox_id', 'rail', 'participant_id', 'created_at', 'not_after', 'lease_token']
                             from outbox.payment_outbox_pending p where p.outbox_id = i.outbox_id),
               'attempts', (select coalesce(jsonb_agg(to_jsonb(a) - array['outbox_id', 'rail', 'lease_token'] order by a.attempt_no), '[]')
                              from outbox.payment_outbox_attempts a where a.outbox_id = i.outbox_id),
               'late_outcomes', (select coalesce(jsonb_agg(to_jsonb(l) - array['outbox_id', 'evidence_sha256', 'lease_token'] order by l.recorded_at), '[]')
                                   from outbox.payment_outbox_late_outcomes l where l.outbox_id = i.outbox_id))
      from outbox.payment_outbox_instructions i
      join outbox.payment_outbox_identities n
        on n.participant_id = i.participant_id and n.instruction_id = i.instruction_id and n.outbox_id = i.outbox_id
     where i.outbox_id = any (v_ids)
     order by i.outbox_id;
    -- What is left of a payment whose month was detached. By its outbox_id alone all identities are read.
    return query
    select jsonb_build_object(
               'outbox_id', n.outbox_id, 'participant_id', n.participant_id, 'instruction_id', n.instruction_id, 'generation', n.generation,
               'idempotency_key', n.idempotency_key,
               'late_outcomes', (select coalesce(jsonb_agg(to_jsonb(l) - array['outbox_id', 'evidence_sha256', 'lease_token'] order by l.recorded_at), '[]')
                                   from outbox.payment_outbox_late_outcomes l where l.outbox_id = n.outbox_id),
               'detached', (select jsonb_agg(jsonb_build_object('table_name', r.table_name, 'row_count', r.row_count, 'rows_sha256', encode(r.rows_sha256, 'hex'),
                                                 'recorded_by', r.recorded_by, 'recorded_at', r.recorded_at) order by r.table_name)
                              from outbox.partition_receipts r
                             where r.holds = 'PAYMENTS' and n.outbox_id >= r.ids_from and n.outbox_id < r.ids_before))
      from (select * from outbox.payment_outbox_identities d
             where d.instruction_id = p_id and d.participant_id = coalesce(p_participant_id, d.participant_id)
            union
            select * from outbox.payment_outbox_identities d
             where d.outbox_id = v_named and outbox.detached_as(v_named) is not null) as n
     where n.outbox_id = any (v_ids) and outbox.detached_as(n.outbox_id) is not null
     order by n.outbox_id;
end
$$;

create or replace function outbox.read_blocked_keys(p_limit integer default 100) returns table (
    rail text, ordering_key text, first_outbox_id uuid, disposition text, hold_reason text, first_enqueued_at timestamptz,
    blocked bigint, amounts jsonb)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: who blocks whom: the ordering keys under which payments wait for an earlier one.
-- Results: a row a key: its first payment and how that stands; how many wait behind it, and their money, a sum in
--   minor units for each currency. Held ones first, then the most blocked; at most p_limit.
-- Locks taken: none beyond reading. Reads the whole order.
    select k.rail, k.ordering_key, k.ids[1], p.disposition, p.hold_reason, p.created_at, cardinality(k.ids) - 1,
           (select coalesce(jsonb_object_agg(m.currency, m.amount), '{}')
              from (select i.currency, sum(i.amount_minor) as amount from outbox.payment_outbox_instructions i
                     where i.outbox_id = any (k.ids[2:]) and i.currency is not null group by i.currency) as m)
      from (select o.rail, o.ordering_key, array_agg(o.outbox_id order by o.place) as ids from outbox.payment_outbox_order o
             group by o.rail, o.ordering_key having count(*) > 1) as k
      left join outbox.payment_outbox_pending p on p.outbox_id = k.ids[1]
     order by (p.disposition = 'HELD') desc nulls last, cardinality(k.ids) desc, k.rail, k.ordering_key
     limit p_limit
$$;

create or replace function outbox.unpark_outbox_rows(p_rail text, p_limit integer) returns table (outbox_id uuid, unparked integer, is_full boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
-- Purpose: the maintenance of parked payments: brings back what is owed, and holds what is past not_after.
-- Parameters: at most p_limit keys, p_limit payments of participants that go on, each its share, and p_limit that
--   missed their window.
-- Results: each payment that is held now; then one row without outbox_id: how many keys and payments were looked
--   at; if any, a lane has something to claim; and is_full, whether the limit was reached: call again at once.
-- Locks taken: the notes, skip locked, so that two dispatchers share the work; keys, tried; rows, skip locked.
-- Hazard: a row that somebody has locked is still owed. Its participant's note stays, and begins again when it has come
--   to the end: from the locked row on, those behind others of their key would be looked at again and again.
declare
    v_owed record;
    v_seen uuid[];
    v_ids uuid[];
    v_skipped boolean;
    v_share integer;
    v_held integer;
begin
    unparked := 0; is_full := false;
    -- Rounded up, so that a share is never nothing.
    select ceil(p_limit::numeric / greatest(count(n.participant_id), 1)) into v_share
      from (select u.participant_id from outbox.payment_outbox_unparking u where u.rail = p_rail order by u.owed_no limit p_limit) as n;
    for v_owed in select u.* from outbox.payment_outbox_unparking u
                   where u.rail = p_rail order by u.owed_no limit p_limit for update skip locked loop
        if v_owed.participant_id is not null then
            -- In order of id, from where the last pass ended: those behind others of their key stay where they are.
            v_seen := array(select p.outbox_id from outbox.payment_outbox_pending p
                             where p.rail = p_rail and p.participant_id = v_owed.participant_id and p.disposition = 'PARKED'
                               and p.outbox_id > coalesce(v_owed.from_outbox_id, '00000000-0000-0000-0000-000000000000')
                             order by p.outbox_id limit v_share);
            v_ids := array(select p.outbox_id from outbox.payment_outbox_pending p
                            where p.outbox_id = any (v_seen) and p.disposition = 'PARKED' order by p.outbox_id for no key update skip locked);
            update outbox.payment_outbox_pending p set disposition = 'READY', next_attempt_at = greatest(p.next_attempt_at, clock_timestamp())
             where p.outbox_id = any (v_ids) and not outbox.is_behind_another(p.outbox_id)
               and not p.participant_id = any (outbox.paused_participants(p_rail));
            unparked := unparked + cardinality(v_ids);
            v_skipped := v_owed.has_skipped or cardinality(v_ids) < cardinality(v_seen);
            if cardinality(v_seen) = v_share then
                update outbox.payment_outbox_unparking u set from_outbox_id = v_seen[v_share], has_skipped = v_skipped where u.owed_no = v_owed.owed_no;
                is_full := true;
            elsif v_skipped then
                update outbox.payment_outbox_unparking u set from_outbox_id = null, has_skipped = false where u.owed_no = v_owed.owed_no;
            else
                delete from outbox.payment_outbox_unparking u where u.owed_no = v_owed.owed_no;
            end if;
        elsif outbox.unpark_first(v_owed.rail, v_owed.ordering_key) then
            delete from outbox.payment_outbox_unparking u where u.owed_no = v_owed.owed_no;
            unparked := unparked + 1;
        end if;
    end loop;
    return query
    update outbox.payment_outbox_pending p set disposition = 'HELD', hold_reason = 'MISSED_WINDOW', hold_requested = false
     where p.outbox_id = any (array(select q.outbox_id from outbox.payment_outbox_pending q
                                     where q.rail = p_rail and q.disposition = 'PARKED' and q.not_after < clock_timestamp()
                                     order by q.not_after limit p_limit for no key update skip locked))
    returning p.outbox_id, null::integer, null::boolean;
    get diagnostics v_held = row_count;
    is_full := is_full or unparked >= p_limit or v_held = p_limit;
    outbox_id := null;
    return next;
end
$$;

create or replace function outbox.action_needs_approval(p_kind text) returns boolean
language sql immutable strict parallel safe
as $$
-- Purpose: which actions need a second person: those after which a payment may be sent again, ends, or is believed.
    select p_kind not in ('PAUSE', 'RESUME', 'HOLD', 'CANCEL', 'RETRY_NOW')
$$;

create or replace function outbox.open_paid_break(p_statement_id uuid, p_outbox_id uuid) returns outbox.reconcile_breaks
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: that this statement, of the payment's own rail, says that it was paid, and nobody has cleared it; null if not. Internal to
--   propose_operator_action, fault_of_action and record_operator_attempt.
    select b from outbox.reconcile_breaks b
      join outbox.payment_outbox_instructions i on i.outbox_id = p_outbox_id and i.rail = b.rail
     where b.statement_id = p_statement_id and b.kind = 'PAID_BUT_NOT_DISPATCHED' and b.subject = p_outbox_id::text
       and not exists (select from outbox.reconcile_closed c where c.break_id = b.break_id)
       and not exists (select from outbox.reconcile_voidings v where v.statement_id = b.statement_id)
     limit 1
$$;

create or replace function outbox.evidence_too_early(p_doubt_until timestamptz) returns text
language sql stable
as $$
-- Purpose: in words for people, why evidence does not count that was given while a send may have been under way. Internal to
--   fault_of_action and redrive_payment.
-- Parameters: p_doubt_until, when it was certainly over.
    select 'what was sent may still be under way until ' || to_char(p_doubt_until at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
           || ', and this was proposed before: look at it then, and propose it again'
$$;

create or replace function outbox.fault_of_action(p_action outbox.operator_actions, p_attempts_then integer, v outbox.payment_outbox_pending,
    p_now timestamptz) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: why an action cannot be applied to a payment as it stands, in words for people; null if it can. Internal
--   to apply_to_payment.
-- Parameters: p_attempts_then, how many attempts had ended when the action was proposed: evidence of then says nothing of what was sent since.
-- Hazard: "failed" and "send again" by evidence from inside the quarantine may be overtaken by a send that was still on its way when the
--   evidence was given. What counts is the time of the proposal, however late it is applied.
    select case
        when p_action.kind = 'HOLD' then case when v.disposition = 'HELD' then 'it is held already: ' || v.hold_reason end
        when v.lease_token is not null then 'an attempt is under way: hold it first'
        when p_action.kind = 'CANCEL' then
            case when v.first_sent_at is not null or v.in_doubt_since is not null or v.late_success or v.possible_duplicate then 'it may have been sent' end
        when p_action.kind = 'RETRY_NOW' then
            case when v.disposition not in ('READY', 'IN_DOUBT') then 'it is ' || lower(v.disposition)
                 when v.next_attempt_at <= p_now then 'it is due already'
                 when (select i.not_before from outbox.payment_outbox_instructions i where i.outbox_id = v.outbox_id) > p_now then 'its not_before is not reached' end
        when v.attempt_count <> p_attempts_then then 'it was tried since this was proposed: look at it, and propose it again'
        when p_action.kind = 'RESOLVE_DISPATCHED' then
            case when v.disposition not in ('HELD', 'IN_DOUBT') then 'it is neither held nor in doubt'
                 when p_action.parameters ? 'statement_id' then
                     case when (outbox.open_paid_break((p_action.parameters ->> 'statement_id')::uuid, v.outbox_id)).break_id is null
                          then 'no open break of the statement says that it was paid' end
                 when v.attempt_count = 0 and v.in_doubt_since is null then 'it was never sent' end
        when p_action.kind = 'RESOLVE_FAILED' and v.disposition not in ('HELD', 'IN_DOUBT') then 'it is neither held nor in doubt'
        when p_action.kind <> 'RESOLVE_FAILED' and v.disposition <> 'HELD' then 'it is not held'
        when v.late_success then 'the rail said to a worker that it had accepted it: resolve it as dispatched, or ask the rail'
        when outbox.is_paid_by_statement(v.outbox_id) then 'a statement of the rail says that it was paid: resolve it as dispatched, or void the statement'
        when v.is_redrive and p_action.kind <> 'RESOLVE_FAILED' and outbox.is_accepted_elsewhere(v.outbox_id)
            then 'the rail accepted another payment of its instruction: cancel it if it was never sent, or resolve it'
        when p_action.kind = 'RELEASE' and v.in_doubt_since is not null and (select r.on_unknown from outbox.payment_rails r where r.rail = v.rail) = 'inquire'
            then case when v.endpoint is null and (select r.fallback from outbox.payment_rails r where r.rail = v.rail)
                      then 'nobody knows at which endpoint to ask after it: resolve it by evidence' end
        when p_action.kind = 'RELEASE' and (v.first_sent_at is not null or v.in_doubt_since is not null)
            then 'it was sent: that takes RELEASE_AS_RESEND, with evidence that it was not executed'
        when v.quarantine_until > p_action.proposed_at then outbox.evidence_too_early(v.quarantine_until)
        when p_action.kind <> 'RESOLVE_FAILED'
             and case when p_action.parameters ? 'not_after' then (p_action.parameters ->> 'not_after')::timestamptz else v.not_after end < p_now
            then 'its not_after is past: give another'
    end
$$;

create or replace function outbox.record_operator_attempt(p_action outbox.operator_actions, v outbox.payment_outbox_pending, p_state text, p_now timestamptz)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the ledger's row of what a person decided about a payment: an attempt of kind OPERATOR, whose token is the
--   action, and the reference the evidence, or what the rail's statement that the action names says of each. Internal to apply_to_payment.
    insert into outbox.payment_outbox_attempts
        (outbox_id, attempt_no, rail, kind, state, worker_id, lease_token, claimed_at, completed_at, rail_reference, error_class, error_detail, policy_version)
    values (v.outbox_id, v.attempt_count + 1, v.rail, 'OPERATOR', p_state, session_user, p_action.action_id, p_now, p_now,
        case when p_state = 'DISPATCHED' and p_action.parameters ? 'statement_id' then coalesce(
                 (outbox.open_paid_break((p_action.parameters ->> 'statement_id')::uuid, v.outbox_id)).rail_reference, p_action.evidence)
             when p_state = 'DISPATCHED' then p_action.evidence end, lower(p_action.kind), left(concat_ws(': ', p_action.evidence, p_action.reason), 500),
        outbox.active_policy_version())
$$;

create or replace function outbox.redrive_payment(p_action outbox.operator_actions, p_outbox_id uuid, p_attempts_then integer)
returns table (result text, detail text, new_outbox_id uuid)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
-- Purpose: pays an ended payment again, as a new generation of the same instruction with a new outbox_id, which is a
--   new key to the rail. Internal to apply_to_payment.
-- Results: as apply_to_payment; new_outbox_id is the new payment. Only the last generation, only if it ended FAILED or
--   DISPATCHED, and not if the rail said later, or says in a statement, that it had accepted it or another generation. Where an attempt of
--   any generation may have been executed, or one is in a month that was detached, it takes evidence that was given when the quarantine of that attempt was over.
-- Parameters: p_attempts_then, as in apply_to_payment.
-- Locks taken: the instruction's row, skip locked, so that of two redrives the second finds the first.
-- Hazard: the rail executes the new key. What was executed under the old one is then paid twice: the evidence has to
--   say that it was not. A redrive that a failover lost was executed under a key that is known nowhere here: of what was enqueued before an
--   acknowledged failover, a booking of the same money that nobody here knows has to be cleared first.
declare
    v_i outbox.payment_outbox_instructions;
    v_generation integer;
    v_key text;
    v_last uuid;
    v_state text;
    v_attempts integer;
    v_all uuid[];
    v_first_at timestamptz;
    v_doubt_until timestamptz;
    v_booking outbox.reconcile_breaks;
    v_now timestamptz := clock_timestamp();
    v_not_after timestamptz;
begin
    select * into v_i from outbox.payment_outbox_instructions i where i.outbox_id = p_outbox_id for no key update skip locked;
    if not found then
        detail := outbox.detached_as(p_outbox_id);
        result := case when detail is null then 'BUSY' else 'SKIPPED' end;
        return next;
        return;
    end if;
    select n.generation, n.outbox_id, n.idempotency_key into v_generation, v_last, v_key from outbox.payment_outbox_identities n
     where n.participant_id = v_i.participant_id and n.instruction_id = v_i.instruction_id order by n.generation desc limit 1;
    select a.state, a.attempt_no into v_state, v_attempts from outbox.payment_outbox_attempts a
     where a.outbox_id = p_outbox_id and a.state in ('DISPATCHED', 'FAILED', 'CANCELLED');
    v_all := array(select n.outbox_id from outbox.payment_outbox_identities n
                    where n.participant_id = v_i.participant_id and n.instruction_id = v_i.instruction_id);
    v_first_at := (select min(i.created_at) from outbox.payment_outbox_instructions i where i.outbox_id = any (v_all));
    -- What is not certainly unexecuted: an unknown outcome, a lost lease, what was learned late, and what a failover may have lost.
    select max(d.at) + (r.rail_timeout_ms + r.processing_bound_ms) * interval '1 ms' into v_doubt_until
      from (select a.completed_at as at from outbox.payment_outbox_attempts a
             where a.outbox_id = any (v_all) and a.kind = 'SUBMIT' and a.state in ('IN_DOUBT', 'LEASE_EXPIRED')
            union all
            select l.recorded_at from outbox.payment_outbox_late_outcomes l
             where l.outbox_id = any (v_all) and l.outcome not in ('REFUSED', 'NOT_SENT', 'NOT_EXECUTED', 'THROTTLED', 'RAIL_REFUSED_US')
            union all
            select c.recorded_at + r.lease_duration_ms * interval '1 ms' from outbox.outbox_cluster c, outbox.payment_rails r
             where c.action_id is not null and c.recorded_at > v_first_at and r.rail = v_i.rail) as d
      join outbox.payment_rails r on r.rail = v_i.rail
     group by r.rail;
    select b.* into v_booking from outbox.reconcile_breaks b
     where b.rail = v_i.rail and b.kind = 'UNKNOWN_TO_US' and b.their_amount_minor = v_i.amount_minor and b.their_currency = v_i.currency
       and exists (select from outbox.outbox_cluster c where c.action_id is not null and c.recorded_at > v_first_at)
       and not exists (select from outbox.reconcile_closed c where c.break_id = b.break_id)
       and not exists (select from outbox.reconcile_voidings v where v.statement_id = b.statement_id)
     order by b.break_id limit 1;
    v_not_after := case when p_action.parameters ? 'not_after' then (p_action.parameters ->> 'not_after')::timestamptz else v_i.not_after end;
    result := 'SKIPPED';
    detail := case when v_last <> p_outbox_id then 'it was redriven already, as ' || v_last
                   when coalesce(v_state, '') not in ('DISPATCHED', 'FAILED') then 'it has not ended as dispatched or failed'
                   when v_attempts <> p_attempts_then then 'it had not ended when this was proposed: look at it, and propose it again'
                   when v_state = 'FAILED' and exists (select from outbox.payment_outbox_late_outcomes l where l.outbox_id = p_outbox_id and l.outcome = 'ACCEPTED')
                       then 'the rail said later that it had accepted it'
                   when outbox.is_accepted_elsewhere(p_outbox_id) then 'the rail accepted another payment of its instruction'
                   when outbox.is_paid_by_statement(p_outbox_id) then 'a statement of the rail says that it was paid: void the statement if that is wrong'
                   when v_booking.break_id is not null then 'break ' || v_booking.break_id || ' is a booking of the same money under a key that is not known here, '
                       || 'and a redrive of it may be among what the failover lost: close the break first'
                   when v_doubt_until > p_action.proposed_at then outbox.evidence_too_early(v_doubt_until)
                   when v_doubt_until is not null and p_action.evidence is null then 'an attempt of it may have been executed: that takes evidence that it was not'
                   when p_action.evidence is null and (exists (select from outbox.payment_outbox_attempts a where a.outbox_id = any (v_all) and a.state = 'DISPATCHED')
                                                       or cardinality(v_all) > (select count(*) from outbox.payment_outbox_instructions i where i.outbox_id = any (v_all)))
                       then 'it was dispatched, or an earlier one of its instruction was: that takes evidence that the rail never got it'
                   when v_not_after < v_now then 'its not_after is past: give another' end;
    if detail is not null then
        return next;
        return;
    end if;
    new_outbox_id := outbox.new_outbox_id();
    perform outbox.lock_ordering_keys(array[v_i.rail], array[v_i.ordering_key]);
    insert into outbox.payment_outbox_identities
    values (v_i.participant_id, v_i.instruction_id, v_generation + 1, v_key, new_outbox_id,
            outbox.payment_identity_sha256(v_i.rail, v_i.payload_sha256, v_i.content_type, v_i.amount_minor, v_i.currency, v_i.not_before, v_not_after, v_i.ordering_key));
    insert into outbox.payment_outbox_instructions
    select new_outbox_id, v_i.participant_id, v_i.instruction_id, v_i.rail, v_i.payload, v_i.content_type, v_i.payload_sha256, v_i.amount_minor, v_i.currency,
           v_i.attestation_id, v_i.not_before, v_not_after, v_i.ordering_key, v_i.traceparent, session_user, v_now, outbox.active_policy_version();
    insert into outbox.payment_outbox_pending (outbox_id, rail, participant_id, is_ordered, is_redrive, next_attempt_at, not_after, created_at)
    values (new_outbox_id, v_i.rail, v_i.participant_id, v_i.ordering_key is not null, true, greatest(v_now, v_i.not_before), v_not_after, v_now);
    if v_i.ordering_key is not null then
        perform outbox.enqueue_in_order(array[new_outbox_id], array[v_i.rail], array[v_i.ordering_key]);
    end if;
    result := 'APPLIED';
    return next;
end
$$;

create or replace function outbox.apply_to_payment(p_action outbox.operator_actions, p_outbox_id uuid, p_attempts_then integer)
returns table (result text, detail text, new_outbox_id uuid)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
-- Purpose: what each action does to one payment. Internal to apply_operator_action.
--   HOLD: held REQUESTED; one that is leased is held when its attempt ends without ending it.
--   CANCEL: ends CANCELLED, only if it was certainly never sent.
--   RETRY_NOW: due now, never before not_before.
--   RELEASE: a held payment that was certainly never sent is ready again, and one in doubt on an inquire rail is asked after again;
--     the limits count anew, not_after stays unless the action gives another.
--   RELEASE_AS_RESEND: a held payment that was sent and, by the evidence, not executed is ready again under the same
--     key; the doubt ends, limits and key window begin anew. Not after a late success, nor by evidence from inside the quarantine. It is sent marked as
--     a possible duplicate, and can never be cancelled.
--   RESOLVE_DISPATCHED, RESOLVE_FAILED: a held or doubtful payment ends so, by the evidence; failed not after a late
--     success, nor by evidence from inside the quarantine.
--   REDRIVE: redrive_payment.
-- Parameters: p_attempts_then, how many attempts of it had ended when the action was proposed.
-- Results: APPLIED; SKIPPED with why; BUSY, somebody else has the row.
-- Hazard: a lease in force means that a worker may be sending now: only HOLD touches such a payment. A lost one is settled first, since
--   where nothing is claimed nobody else does.
declare
    v outbox.payment_outbox_pending;
    v_now timestamptz;
    v_fault text;
begin
    if p_action.kind = 'REDRIVE' then
        return query select * from outbox.redrive_payment(p_action, p_outbox_id, p_attempts_then);
        return;
    end if;
    select * into v from outbox.payment_outbox_pending p where p.outbox_id = p_outbox_id for no key update skip locked;
    if not found then
        return query select case when e.there then 'BUSY' else 'SKIPPED' end, case when not e.there then 'it has ended' end, null::uuid
            from (select exists (select from outbox.payment_outbox_pending p where p.outbox_id = p_outbox_id) as there) as e;
        return;
    end if;
    v_now := clock_timestamp();
    if v.lease_expires_at <= v_now then
        perform outbox.settle_lost_leases(array[p_outbox_id], v_now);
        select * into v from outbox.payment_outbox_pending p where p.outbox_id = p_outbox_id;
    end if;
    v_fault := outbox.fault_of_action(p_action, p_attempts_then, v, v_now);
    if v_fault is not null then
        return query select 'SKIPPED', v_fault, null::uuid;
        return;
    end if;
    case
    when p_action.kind = 'HOLD' and v.lease_token is not null then
        update outbox.payment_outbox_pending p set hold_requested = true where p.outbox_id = p_outbox_id;
        return query select 'APPLIED', 'held when its attempt under way has ended', null::uuid;
        return;
    when p_action.kind = 'HOLD' then
        update outbox.payment_outbox_pending p set disposition = 'HELD', hold_reason = 'REQUESTED' where p.outbox_id = p_outbox_id;
    when p_action.kind = 'RETRY_NOW' then
        update outbox.payment_outbox_pending p set next_attempt_at = v_now where p.outbox_id = p_outbox_id;
    when p_action.kind = 'RELEASE' and v.in_doubt_since is not null then
        update outbox.payment_outbox_pending p
           set disposition = 'IN_DOUBT', hold_reason = null, hold_requested = false, crash_count = 0, inquiry_count = 0,
               next_attempt_at = greatest(p.next_attempt_at, v_now)
         where p.outbox_id = p_outbox_id;
    when p_action.kind in ('RELEASE', 'RELEASE_AS_RESEND') then
        if p_action.kind = 'RELEASE_AS_RESEND' then
            perform outbox.record_operator_attempt(p_action, v, 'RETRYABLE', v_now);
        end if;
        update outbox.payment_outbox_pending p
           set disposition = 'READY', hold_reason = null,
               hold_requested = false, send_count = 0, crash_count = 0, inquiry_count = 0, in_doubt_since = null, first_sent_at = null,
               quarantine_until = null, next_attempt_at = greatest(p.next_attempt_at, v_now),
               attempt_count = p.attempt_count + (p_action.kind = 'RELEASE_AS_RESEND')::integer,
               possible_duplicate = p.possible_duplicate or p_action.kind = 'RELEASE_AS_RESEND',
               not_after = case when p_action.parameters ? 'not_after' then (p_action.parameters ->> 'not_after')::timestamptz else p.not_after end
         where p.outbox_id = p_outbox_id;
    else
        perform outbox.record_operator_attempt(p_action, v, case p_action.kind when 'CANCEL' then 'CANCELLED' when 'RESOLVE_FAILED' then 'FAILED'
            else 'DISPATCHED' end, v_now);
        delete from outbox.payment_outbox_pending p where p.outbox_id = p_outbox_id;
        if v.is_ordered then
            perform outbox.unpark_successors(array[p_outbox_id]);
        end if;
    end case;
    return query select 'APPLIED', null::text, null::uuid;
end
$$;

create or replace function outbox.approved_action(p_action_id uuid) returns outbox.operator_actions
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the action, if it may be carried out now. Internal to what carries actions out.
-- Results: or raises OB003 (no such action), OB014 (not approved, or turned down).
-- Locks taken: the action's, until the transaction ends: two who carry it out follow each other.
declare
    v_action outbox.operator_actions;
    v_decision text;
begin
    perform pg_advisory_xact_lock(hashtextextended(p_action_id::text, 1869968485));
    select * into v_action from outbox.operator_actions a where a.action_id = p_action_id;
    if not found then
        raise exception 'there is no action %', p_action_id using errcode = 'OB003';
    end if;
    select d.decision into v_decision from outbox.operator_action_decisions d where d.action_id = p_action_id;
    if coalesce(v_decision, '') <> 'APPROVED' and (v_action.needs_approval or v_decision is not null) then
        raise exception 'action % is %', p_action_id, coalesce(lower(v_decision), 'not approved yet') using errcode = 'OB014',
            hint = 'another login approves it: outboxd approve ID';
    end if;
    return v_action;
end
$$;

create or replace function outbox.refuse_untimely_action(p_action outbox.operator_actions) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: refuses to carry out what was decided without knowing what a failover lost. Internal to apply_operator_action.
-- Results: nothing, or raises OB011: this is another cluster or timeline than on record, and nobody has said what it lacks; or a failover was
--   acknowledged after the action was proposed.
-- Hazards: on a promoted standby a payment that was dispatched can be "certainly never sent", and a redrive that was applied and sent can be
--   waiting to be applied. A hold cannot pay, and is never refused. A disk snapshot that was put back cannot be told here: only
--   dispatchers remember more.
declare
    v_known outbox.outbox_cluster;
begin
    select * into v_known from outbox.outbox_cluster c order by c.epoch_no desc limit 1;
    if not found or p_action.kind = 'HOLD' then
        return;
    end if;
    -- As a dispatcher of this database that has seen nothing: only another cluster is refused.
    perform outbox.refuse_other_epoch(v_known.environment, 0, 0, null, 0);
    if v_known.action_id is not null and p_action.proposed_at < v_known.recorded_at then
        raise exception 'action % was proposed before the failover that was acknowledged at %: it may have been carried out already, and is not known here',
            p_action.action_id, v_known.recorded_at using errcode = 'OB011', hint = 'look for the instruction in the rail''s books, also under a key that is not known here, and propose it again';
    end if;
end
$$;

create or replace function outbox.apply_operator_action(p_action_id uuid, p_limit integer default 1000)
returns table (outbox_id uuid, result text, detail text, new_outbox_id uuid, remaining bigint)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
-- Purpose: carries an action out on at most p_limit of its payments that it has not reached yet.
-- Results: what became of each: APPLIED, or SKIPPED with why. Then one row without outbox_id: how many remain. A
--   payment that somebody else has locked remains; call again. OB011: see refuse_untimely_action.
-- Locks taken: the action's; each payment's row, for no key update, skip locked, in order of id.
declare
    v_action outbox.operator_actions := outbox.approved_action(p_action_id);
    v_id uuid;
    v_attempts integer;
    v_outcome record;
begin
    perform outbox.refuse_untimely_action(v_action);
    for v_id, v_attempts in
        select m.outbox_id, m.attempt_count from outbox.operator_action_members m
         where m.action_id = p_action_id
           and not exists (select from outbox.operator_action_results r where r.action_id = p_action_id and r.outbox_id = m.outbox_id)
         order by m.outbox_id limit p_limit
    loop
        select * into v_outcome from outbox.apply_to_payment(v_action, v_id, v_attempts);
        continue when v_outcome.result = 'BUSY';
        insert into outbox.operator_action_results
        values (p_action_id, v_id, v_outcome.result, v_outcome.detail, v_outcome.new_outbox_id, session_user, clock_timestamp());
        outbox_id := v_id; result := v_outcome.result; detail := v_outcome.detail; new_outbox_id := v_outcome.new_outbox_id;
        return next;
    end loop;
    outbox_id := null; result := null; detail := null; new_outbox_id := null;
    remaining := v_action.member_count - (select count(*) from outbox.operator_action_results r where r.action_id = p_action_id);
    return next;
end
$$;

create or replace function outbox.decide_operator_action(
    p_action_id uuid, p_decision text, p_reason text, p_members_sha256 bytea, p_member_count integer, p_amounts jsonb
) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the second person's word on an action. Maker and checker are different database logins.
-- Parameters: p_decision, APPROVED or REJECTED; hash, count and money as the checker saw them: they bind the approval
--   to the list.
-- Results: nothing, or raises OB012 (the maker's own action), OB013 (decided already), OB003 (another list, no such action).
declare
    v_action outbox.operator_actions;
begin
    select * into v_action from outbox.operator_actions a where a.action_id = p_action_id;
    if not found then
        raise exception 'there is no action %', p_action_id using errcode = 'OB003';
    elsif v_action.proposed_by = session_user then
        raise exception 'action % was proposed by % and needs another person', p_action_id, session_user using errcode = 'OB012',
            hint = 'maker and checker are different database logins';
    elsif p_decision is null or p_decision not in ('APPROVED', 'REJECTED') then
        raise exception 'a decision is APPROVED or REJECTED' using errcode = 'OB003';
    elsif not v_action.needs_approval then
        raise exception 'action % needs no approval', p_action_id using errcode = 'OB003';
    elsif (p_members_sha256, p_member_count, p_amounts) is distinct from (v_action.members_sha256, v_action.member_count, v_action.amounts) then
        raise exception 'action % has % payments of % in sum, not what was to be decided on', p_action_id, v_action.member_count, v_action.amounts
            using errcode = 'OB003', hint = 'look at the action again: outboxd list --action ID';
    end if;
    insert into outbox.operator_action_decisions values (p_action_id, p_decision, p_reason, session_user, clock_timestamp())
        on conflict (action_id) do nothing;
    if not found then
        raise exception 'action % is decided already', p_action_id using errcode = 'OB013';
    end if;
end
$$;

create or replace function outbox.members_sha256(p_outbox_ids uuid[]) returns bytea
language sql immutable parallel safe
as $$
-- Purpose: what an approval is bound to: SHA-256 over the ids, sixteen bytes each, in order.
    select sha256(coalesce(string_agg(uuid_send(c.id), ''::bytea order by c.id), ''::bytea)) from unnest(p_outbox_ids) as c (id)
$$;

create or replace function outbox.propose_operator_action(
    p_kind text, p_outbox_ids uuid[], p_reason text, p_evidence text default null, p_parameters jsonb default '{}'
) returns table (action_id uuid, member_count integer, members_sha256 bytea, amounts jsonb, needs_approval boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
-- Purpose: records what a person wants done with a list of payments, and freezes the list.
-- Parameters: p_kind, see apply_to_payment; p_evidence, what proves it (a reference of the rail, a ticket), required
--   where the rail's word is replaced, and to redrive what was dispatched; p_parameters, `not_after` for RELEASE, RELEASE_AS_RESEND and REDRIVE: the new
--   one, null to drop it; `statement_id` for RESOLVE_DISPATCHED: each payment gets the reference that its break names.
-- Results: what a second person approves: how many, the hash of the ids in order, and the money by currency.
--   OB003: a bad value, or an id that nobody knows, by name.
-- Hazard: an attempt under way has its number already. How many had ended is frozen, so that one that was under way counts as made since.
declare
    v_ids uuid[] := array(select distinct c.id from unnest(p_outbox_ids) as c (id) order by c.id);
    v_unknown uuid;
begin
    p_evidence := nullif(btrim(p_evidence, E' \t\r\n'), '');
    if p_kind is null or p_kind not in ('HOLD', 'CANCEL', 'RETRY_NOW', 'RELEASE', 'RELEASE_AS_RESEND', 'RESOLVE_DISPATCHED', 'RESOLVE_FAILED', 'REDRIVE') then
        raise exception 'an action on payments cannot be %', coalesce(quote_literal(p_kind), 'null') using errcode = 'OB003';
    elsif coalesce(p_reason, '') !~ '\S' then
        raise exception 'an action needs a reason' using errcode = 'OB003', column = 'reason';
    elsif p_kind in ('RELEASE_AS_RESEND', 'RESOLVE_DISPATCHED', 'RESOLVE_FAILED') and p_evidence is null then
        raise exception '% replaces the word of the rail: it needs evidence', p_kind using errcode = 'OB003', column = 'evidence';
    elsif cardinality(v_ids) not between 1 and 100000 or array_position(v_ids, null) is not null then
        raise exception 'an action has 1 to 100000 payments, this one %', cardinality(v_ids) using errcode = 'OB003';
    elsif p_parameters - (case p_kind when 'RESOLVE_DISPATCHED' then array['statement_id'] else array['not_after'] end) <> '{}' then
        raise exception 'these parameters are not known: %', p_parameters using errcode = 'OB003';
    end if;
    perform (p_parameters ->> 'not_after')::timestamptz;
    select c.id into v_unknown from unnest(v_ids) as c (id)
     where not exists (select from outbox.payment_outbox_instructions i where i.outbox_id = c.id) limit 1;
    if found then
        raise exception '%', coalesce(format('payment %s cannot be acted on: ', v_unknown) || outbox.detached_as(v_unknown),
            format('there is no payment %s', v_unknown)) using errcode = 'OB003', column = 'outbox_id';
    end if;
    if p_parameters ? 'statement_id' then
        select c.id into v_unknown from unnest(v_ids) as c (id)
         where (outbox.open_paid_break((p_parameters ->> 'statement_id')::uuid, c.id)).break_id is null limit 1;
        if found then
            raise exception 'no open break of the statement says that % was paid', v_unknown using errcode = 'OB003', column = 'outbox_id';
        end if;
    end if;
    action_id := outbox.new_outbox_id();
    insert into outbox.operator_action_members
    select action_id, c.id, p.disposition, p.hold_reason, p.first_sent_at is not null, coalesce(p.attempt_count - ((p.lease_expires_at > clock_timestamp()) is true)::integer, t.attempt_no, 0), i.amount_minor, i.currency
      from unnest(v_ids) as c (id)
     cross join lateral (select n.amount_minor, n.currency from outbox.payment_outbox_instructions n where n.outbox_id = c.id limit 1) as i
      left join lateral (select q.* from outbox.payment_outbox_pending q where q.outbox_id = c.id limit 1) as p on true
      left join lateral (select a.attempt_no from outbox.payment_outbox_attempts a
                          where a.outbox_id = c.id and a.state in ('DISPATCHED', 'FAILED', 'CANCELLED') limit 1) as t on true;
    member_count := cardinality(v_ids);
    members_sha256 := outbox.members_sha256(v_ids);
    amounts := (select coalesce(jsonb_object_agg(s.currency, s.amount), '{}')
                  from (select m.currency, sum(m.amount_minor) as amount from outbox.operator_action_members m
                         where m.action_id = propose_operator_action.action_id and m.currency is not null group by m.currency) as s);
    needs_approval := outbox.action_needs_approval(p_kind);
    insert into outbox.operator_actions values (action_id, p_kind, null, null, p_parameters, p_reason, p_evidence, needs_approval, member_count,
        members_sha256, amounts, session_user, clock_timestamp());
    return next;
end
$$;

create or replace function outbox.read_outbox_pauses() returns table (
    rail text, participant_id text, paused_by text, paused_at timestamptz, reason text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: what is paused: everything (both null), rails, participants; not what contracts pause.
    select u.rail, u.participant_id, u.paused_by, u.paused_at, a.reason
      from outbox.outbox_pauses u
      join outbox.operator_actions a on a.action_id = u.action_id
     order by u.rail nulls first, u.participant_id nulls first
$$;

create or replace function outbox.set_outbox_pause(p_rail text, p_participant_id text, p_paused boolean, p_reason text) returns uuid
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the kill switch: nothing is claimed any more for a rail (null: all) and a participant (null: all), or it is
--   again. What is under way goes on to its end; what is leased and not begun is given back.
-- Parameters: p_reason, for the record.
-- Results: the action. Parked payments of a participant that goes on come back by unpark_outbox_rows.
-- Locks taken: to let a participant go on, the lock of the pauses, exclusive: it waits for claims under way.
declare
    v_action uuid := outbox.new_outbox_id();
begin
    if coalesce(p_reason, '') !~ '\S' then
        raise exception 'an action needs a reason' using errcode = 'OB003', column = 'reason';
    elsif p_rail is not null and not exists (select from outbox.payment_rails r where r.rail = p_rail) then
        raise exception 'rail % has no contract', p_rail using errcode = 'OB004', column = 'rail';
    end if;
    insert into outbox.operator_actions
    values (v_action, case when p_paused then 'PAUSE' else 'RESUME' end, p_rail, p_participant_id, '{}', p_reason, null, false, 0,
            outbox.members_sha256('{}'), '{}', session_user, clock_timestamp());
    if p_paused then
        insert into outbox.outbox_pauses values (v_action, p_rail, p_participant_id, session_user, clock_timestamp())
            on conflict on constraint one_pause_for_a_scope do nothing;
        return v_action;
    end if;
    perform pg_advisory_xact_lock(outbox.pauses_lock_key());
    delete from outbox.outbox_pauses u where u.rail is not distinct from p_rail and u.participant_id is not distinct from p_participant_id;
    if not found then
        raise exception 'there is no pause of rail % and participant %', coalesce(p_rail, '(all)'), coalesce(p_participant_id, '(all)')
            using errcode = 'OB003', hint = 'a wider or narrower pause is lifted by its own scope: see outboxd status';
    end if;
    if p_participant_id is not null then
        insert into outbox.payment_outbox_unparking (rail, participant_id)
        select r.rail, p_participant_id from outbox.payment_rails r where r.rail = coalesce(p_rail, r.rail);
    end if;
    return v_action;
end
$$;

create or replace function outbox.withdraw_operator_action(p_action_id uuid, p_reason text) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the maker takes an action back that nobody has decided on.
-- Results: nothing, or raises OB012 (another maker's), OB013 (decided already).
begin
    if not exists (select from outbox.operator_actions a where a.action_id = p_action_id and a.proposed_by = session_user) then
        raise exception 'action % is not one that % proposed', p_action_id, session_user using errcode = 'OB012';
    end if;
    insert into outbox.operator_action_decisions values (p_action_id, 'WITHDRAWN', p_reason, session_user, clock_timestamp())
        on conflict (action_id) do nothing;
    if not found then
        raise exception 'action % is decided already', p_action_id using errcode = 'OB013';
    end if;
end
$$;

create or replace function outbox.apply_failover(p_action_id uuid, p_limit integer default 10000)
returns table (doubtful integer, held integer, is_over boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
-- Purpose: marks what may have been sent by the cluster before this one as doubtful, and at the end records the epoch,
--   so that claims go on. On a hold rail it is held, also where the contract lets it go to another endpoint and nobody
--   knows to which it went; else on an inquire rail it is asked after, on a resend rail its key window counts from lost_from.
-- Parameters: at most p_limit payments a call. What became of each payment is recorded; the next call goes on behind the last, whoever
--   makes it: nobody says from where.
-- Results: is_over, the epoch is recorded.
-- Locks taken: the action's; the payments looked at, in order of id. Nothing is claimed meanwhile: the epoch is not the one on record.
-- Hazards: any payment may have been sent after the last commit that arrived here, also one that was parked, held or, since
--   a person may have brought it forward, backing off then; only one that was never tried and is not due could not. A lease in force may have
--   ended and been followed by others. Where it was sent, unless it was in doubt before, nobody knows. A lease that is lost to us may have been granted just
--   before the end, and its worker sends as long as it lets it: the quarantine has a whole lease more. What is enqueued meanwhile
--   behind the place was never with the cluster before.
declare
    v_action outbox.operator_actions := outbox.approved_action(p_action_id);
    v_lost_from timestamptz := (v_action.parameters ->> 'lost_from')::timestamptz;
    v_now timestamptz := clock_timestamp();
    v_after uuid;
    v_ids uuid[];
begin
    if v_action.kind <> 'FAILOVER' then
        raise exception 'action % is no failover', p_action_id using errcode = 'OB003';
    elsif exists (select from outbox.outbox_cluster c where c.action_id = p_action_id) then
        raise exception 'failover % is recorded already', p_action_id using errcode = 'OB013';
    elsif exists (select from outbox.cluster_now() as c where (c.system_identifier::text, c.timeline)
                  is distinct from (v_action.parameters ->> 'system_identifier', (v_action.parameters ->> 'timeline')::integer)) then
        raise exception 'failover % was approved for another cluster or timeline', p_action_id using errcode = 'OB003';
    elsif p_limit is null or p_limit < 1 then
        raise exception 'the limit is %', coalesce(p_limit::text, 'null') using errcode = 'OB003', column = 'limit';
    end if;
    v_after := (select r.outbox_id from outbox.operator_action_results r where r.action_id = p_action_id order by r.outbox_id desc limit 1);
    v_ids := array(select p.outbox_id from outbox.payment_outbox_pending p
                    where p.outbox_id > coalesce(v_after, '00000000-0000-0000-0000-000000000000')
                    order by p.outbox_id limit p_limit for no key update);
    with marked as (
        update outbox.payment_outbox_pending p
           set in_doubt_since = coalesce(p.in_doubt_since, v_now), first_sent_at = least(p.first_sent_at, v_lost_from),
               quarantine_until = greatest(p.quarantine_until, v_now + (r.lease_duration_ms + r.rail_timeout_ms + r.processing_bound_ms) * interval '1 ms'),
               endpoint = case when p.quarantine_until is not null then p.endpoint end,
               hold_requested = p.hold_requested or p.lease_token is not null and p.quarantine_until is null and r.fallback,
               disposition = case when p.lease_token is not null then p.disposition
                                  when p.disposition = 'HELD' or r.on_unknown = 'hold' or r.fallback and p.quarantine_until is null then 'HELD'
                                  when p.disposition = 'PARKED' then 'PARKED' else outbox.disposition_of(r.on_unknown, true) end,
               hold_reason = case when p.disposition = 'HELD' then p.hold_reason
                                  when p.lease_token is null and (r.on_unknown = 'hold' or r.fallback and p.quarantine_until is null) then 'UNKNOWN' end
          from outbox.payment_rails r
         where p.outbox_id = any (v_ids) and r.rail = p.rail
           and (p.attempt_count > 0 or p.next_attempt_at <= v_now or p.disposition = 'HELD')
        returning p.outbox_id, p.disposition
    ), recorded as (
        insert into outbox.operator_action_results
        select p_action_id, c.id, case when m.outbox_id is null then 'SKIPPED' else 'APPLIED' end,
               case when m.outbox_id is null then 'it was never tried, and is not due' else 'it may have been sent' end, null, session_user, v_now
          from unnest(v_ids) as c (id) left join marked m on m.outbox_id = c.id)
    select count(*), count(*) filter (where m.disposition = 'HELD') into doubtful, held from marked m;
    is_over := cardinality(v_ids) < p_limit;
    if is_over then
        insert into outbox.outbox_cluster (system_identifier, timeline, environment, lost_from, action_id, recorded_by, recorded_at)
        select c.system_identifier, c.timeline, v_action.parameters ->> 'environment', v_lost_from, p_action_id, session_user, clock_timestamp()
          from outbox.cluster_now() as c;
    end if;
    return next;
end
$$;

create or replace function outbox.propose_failover(p_lost_from timestamptz, p_environment text, p_reason text) returns uuid
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: records that this cluster is to be dispatched from now on, and from when on what the one before it did may
--   be missing here. A second person approves it (decide_operator_action, with no payments), then apply_failover.
-- Parameters: p_lost_from, the last moment of which nothing is missing: rather too early than too late; p_environment,
--   what the dispatchers are configured for.
-- Results: the action. OB003: a time in the future, or none.
declare
    v_action uuid := outbox.new_outbox_id();
    v_cluster record;
begin
    select * into v_cluster from outbox.cluster_now();
    if p_lost_from is null or not isfinite(p_lost_from) or p_lost_from > clock_timestamp() then
        raise exception 'lost_from must be a time that is past' using errcode = 'OB003', column = 'lost_from';
    elsif coalesce(p_reason, '') !~ '\S' then
        raise exception 'an action needs a reason' using errcode = 'OB003', column = 'reason';
    end if;
    insert into outbox.operator_actions
    values (v_action, 'FAILOVER', null, null,
            jsonb_build_object('lost_from', p_lost_from, 'environment', coalesce(p_environment, ''), 'system_identifier', v_cluster.system_identifier::text,
                               'timeline', v_cluster.timeline), p_reason, null, true, 0, outbox.members_sha256('{}'), '{}', session_user, clock_timestamp());
    return v_action;
end
$$;

create or replace function outbox.read_action_members(p_action_id uuid, p_after uuid default null, p_limit integer default 1000) returns table (
    outbox_id uuid, wire_key uuid, participant_id text, instruction_id text, rail text, amount_minor bigint, currency text, enqueued_at timestamptz,
    disposition_then text, result text, detail text, new_outbox_id uuid, disposition_now text, ended_as text, in_doubt_since timestamptz, age_ms bigint,
    sent boolean, rail_reference text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
-- Purpose: the payments of an action: how each stood, what the action did, and how it stands now; `sent` marks those
--   that may have left since, for a recall. How a redriven payment stands now is how the new one does; of what
--   was detached only the id is known, and the state is DETACHED.
-- Parameters: p_after, the last outbox_id of the page before.
-- Results: wire_key, the key at the rail of the payment whose `sent`, rail_reference and age are told: of a redriven one the new one's.
--   age_ms: since it is in doubt, otherwise since its enqueue. What ended without success is `sent` if the rail said later, or says
--   in a statement, that it had accepted it.
-- Hazard: look-ups are by key, so that all pages together read no table whole.
    select m.outbox_id, k.wire_key, coalesce(i.participant_id, ''), coalesce(i.instruction_id, ''), coalesce(i.rail, ''), m.amount_minor, m.currency, i.created_at,
           coalesce(m.disposition, 'ENDED'), r.result, r.detail, r.new_outbox_id, p.disposition,
           coalesce(t.state, case when i.rail is null then 'DETACHED' end), p.in_doubt_since,
           (extract(epoch from clock_timestamp() - coalesce(p.in_doubt_since, i.created_at)) * 1000)::bigint,
           p.first_sent_at is not null or p.in_doubt_since is not null or coalesce(p.possible_duplicate, t.state = 'DISPATCHED', false)
               or exists (select from outbox.payment_outbox_late_outcomes l where l.outbox_id = k.wire_key and l.outcome = 'ACCEPTED')
               or outbox.is_paid_by_statement(k.wire_key),
           case when t.state = 'DISPATCHED' then t.rail_reference
                else coalesce((select l.rail_reference from outbox.payment_outbox_late_outcomes l
                                where l.outbox_id = k.wire_key and l.outcome = 'ACCEPTED' order by l.recorded_at limit 1), t.rail_reference) end
      from outbox.operator_action_members m
      left join outbox.operator_action_results r on r.action_id = m.action_id and r.outbox_id = m.outbox_id
     cross join lateral (select coalesce(r.new_outbox_id, m.outbox_id) as wire_key) as k
      left join lateral (select n.participant_id, n.instruction_id, n.rail, n.created_at from outbox.payment_outbox_instructions n
                          where n.outbox_id = k.wire_key limit 1) as i on true
      left join outbox.payment_outbox_pending p on p.outbox_id = k.wire_key
      left join lateral (select a.state, a.rail_reference from outbox.payment_outbox_attempts a
                          where a.outbox_id = k.wire_key and a.state in ('DISPATCHED', 'FAILED', 'CANCELLED') limit 1) as t on true
     where m.action_id = p_action_id and m.outbox_id > coalesce(p_after, '00000000-0000-0000-0000-000000000000')
     order by m.outbox_id
     limit p_limit
$$;

create or replace function outbox.read_operator_actions(p_action_id uuid default null, p_limit integer default 100) returns table (
    action_id uuid, kind text, rail text, participant_id text, parameters jsonb, reason text, evidence text, needs_approval boolean,
    member_count integer, members_sha256 bytea, amounts jsonb, proposed_by text, proposed_at timestamptz, decision text, decided_by text,
    decided_at timestamptz, decision_reason text, applied bigint, skipped bigint, standings jsonb)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: what people asked for, who approved it, and how far it got.
-- Parameters: one action, or null for the last p_limit.
-- Results: standings, for one action: how many of its payments stood how when it was proposed.
    select a.action_id, a.kind, a.rail, a.participant_id, a.parameters, a.reason, a.evidence, a.needs_approval, a.member_count, a.members_sha256,
           a.amounts, a.proposed_by, a.proposed_at, d.decision, d.decided_by, d.decided_at, d.reason,
           (select count(*) from outbox.operator_action_results r where r.action_id = a.action_id and r.result = 'APPLIED'),
           (select count(*) from outbox.operator_action_results r where r.action_id = a.action_id and r.result = 'SKIPPED'),
           (select jsonb_object_agg(s.standing, s.payments)
              from (select concat(coalesce(m.disposition, 'ENDED'), ' ' || m.hold_reason, case when m.was_sent then ', may have been sent'
                                  when m.disposition is not null then ', not sent' end) as standing, count(*) as payments
                      from outbox.operator_action_members m where m.action_id = p_action_id group by 1) as s)
      from outbox.operator_actions a
      left join outbox.operator_action_decisions d on d.action_id = a.action_id
     where a.action_id = coalesce(p_action_id, a.action_id)
     order by a.action_id desc
     limit p_limit
$$;

create or replace function outbox.read_outbox_payments(
    p_rail text default null, p_participant_id text default null, p_disposition text default null, p_hold_reason text default null,
    p_ended_as text default null, p_since timestamptz default null, p_until timestamptz default null, p_after uuid default null,
    p_limit integer default 100
) returns table (
    outbox_id uuid, participant_id text, instruction_id text, rail text, amount_minor bigint, currency text, enqueued_at timestamptz,
    disposition text, hold_reason text, ended_as text, in_doubt_since timestamptz, next_attempt_at timestamptz, not_after timestamptz,
    attempts integer, ordering_key text, age_ms bigint, is_leased boolean, is_due boolean, waits_for text, taken_up_by text, action_id uuid)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_sort = off
as $$
#variable_conflict use_column
-- Purpose: lists payments, in order of their outbox_id, which is that of their enqueue.
-- Parameters: what is null does not filter; p_ended_as looks in the ledger (DISPATCHED, FAILED, CANCELLED), otherwise
--   the queue is listed; p_since and p_until bound the time of the enqueue; p_after, the last id of the page before.
-- Results: at most p_limit. Never a payload. age_ms: since it is in doubt, otherwise since its enqueue. is_due: the time of its
--   next attempt has come, whatever keeps it. waits_for: who acts next. The dispatcher; unparking, for another of its ordering key or a
--   pause of its participant; an operator, of what is held or whose rail is stopped; the approver of action_id, the newest action that
--   names it and can still be carried out on it. taken_up_by: who began that action or, of what a person held, that person.
--   OB003: a hold_reason of what has ended.
-- Hazard: pages are read by key, in order, so that all pages together read the queue once: a sort would read it for each.
declare
    v_lo uuid := greatest(outbox.outbox_id_floor(coalesce(p_since, 'epoch')), coalesce(p_after, '00000000-0000-0000-0000-000000000000'));
    v_hi uuid := outbox.outbox_id_floor(coalesce(p_until, '9999-01-01Z'));
    v_now timestamptz := clock_timestamp();
    v_policy integer := outbox.active_policy_version();
    v_stopped text[] := array(select r.rail from outbox.payment_rails r
                               where r.paused or r.policy_version is distinct from v_policy
                                  or exists (select from outbox.outbox_pauses u where u.participant_id is null and coalesce(u.rail, r.rail) = r.rail));
    -- What was proposed before a failover was acknowledged is not carried out.
    v_acknowledged timestamptz := (select max(c.recorded_at) from outbox.outbox_cluster c where c.action_id is not null);
begin
    if p_ended_as is not null and p_hold_reason is not null then
        raise exception 'what has ended is not held: a state of % and a hold reason exclude each other', p_ended_as using errcode = 'OB003', column = 'hold_reason';
    elsif p_ended_as is not null then
        return query
        select a.outbox_id, i.participant_id, i.instruction_id, a.rail, i.amount_minor, i.currency, i.created_at, null::text, null::text, a.state,
               null::timestamptz, null::timestamptz, i.not_after, a.attempt_no, i.ordering_key,
               (extract(epoch from clock_timestamp() - i.created_at) * 1000)::bigint, false, false, null::text, null::text, null::uuid
          from outbox.payment_outbox_attempts a
         cross join lateral (select n.* from outbox.payment_outbox_instructions n
                              where n.outbox_id = a.outbox_id and n.outbox_id > v_lo and n.outbox_id < v_hi
                                and (p_participant_id is null or n.participant_id = p_participant_id) limit 1) as i
         where a.state = p_ended_as and a.state in ('DISPATCHED', 'FAILED', 'CANCELLED') and a.outbox_id > v_lo and a.outbox_id < v_hi
           and (p_rail is null or a.rail = p_rail)
         order by a.outbox_id limit p_limit;
        return;
    end if;
    return query
    select p.outbox_id, p.participant_id, i.instruction_id, p.rail, i.amount_minor, i.currency, i.created_at, p.disposition, p.hold_reason, null::text,
           p.in_doubt_since, p.next_attempt_at, p.not_after, p.attempt_count, i.ordering_key,
           (extract(epoch from clock_timestamp() - coalesce(p.in_doubt_since, i.created_at)) * 1000)::bigint, p.lease_token is not null, p.next_attempt_at <= clock_timestamp(),
           case when p.disposition = 'HELD' then case when o.is_undecided then 'approver' else 'operator' end
                when p.disposition = 'PARKED' then 'unparking'
                when p.lease_token is null and p.rail = any (v_stopped) then 'operator' else 'dispatcher' end,
           coalesce(o.proposed_by, h.proposed_by), o.action_id
      from outbox.payment_outbox_pending p
     cross join lateral (select n.* from outbox.payment_outbox_instructions n
                          where n.outbox_id = p.outbox_id and n.outbox_id > v_lo and n.outbox_id < v_hi limit 1) as i
      left join lateral (select a.action_id, a.proposed_by, a.needs_approval and d.action_id is null as is_undecided
                           from outbox.operator_action_members m join outbox.operator_actions a on a.action_id = m.action_id
                           left join outbox.operator_action_decisions d on d.action_id = m.action_id
                          where m.outbox_id = p.outbox_id and coalesce(d.decision, 'APPROVED') = 'APPROVED'
                            and not exists (select from outbox.operator_action_results r where r.action_id = m.action_id and r.outbox_id = m.outbox_id)
                            and (a.kind = 'HOLD' or v_acknowledged is null or a.proposed_at >= v_acknowledged)
                            and outbox.fault_of_action(a, m.attempt_count, p, v_now) is null
                          order by a.proposed_at desc limit 1) as o on true
      left join lateral (select a.kind, a.proposed_by
                           from outbox.operator_action_results r join outbox.operator_actions a on a.action_id = r.action_id
                          where (p.hold_reason = 'REQUESTED' or p.hold_requested) and r.outbox_id = p.outbox_id and r.result = 'APPLIED'
                            and a.kind in ('HOLD', 'RELEASE', 'RELEASE_AS_RESEND')
                          order by r.applied_at desc limit 1) as h on h.kind = 'HOLD'
     where p.outbox_id > v_lo and p.outbox_id < v_hi
       and (p_rail is null or p.rail = p_rail) and (p_participant_id is null or p.participant_id = p_participant_id)
       and (p_disposition is null or p.disposition = p_disposition) and (p_hold_reason is null or p.hold_reason = p_hold_reason)
     order by p.outbox_id limit p_limit;
end
$$;

create or replace function outbox.oldest_snapshot_age() returns bigint
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the age, in transactions, of the oldest snapshot that keeps dead rows of this database from being removed. Internal
--   to read_outbox_metrics.
-- Results: 0 if there is none. In transactions, for a snapshot's time shows to pg_read_all_stats alone.
    select coalesce(max(age(s.xmin)), 0)::bigint
      from (select a.backend_xmin as xmin from pg_stat_activity a
             where a.pid <> pg_backend_pid() and (a.datid is null or a.datid = (select b.oid from pg_database b where b.datname = current_database()))
             union all select l.xmin from pg_replication_slots l
             union all select x.transaction from pg_prepared_xacts x where x.database = current_database()) as s
$$;

create or replace function outbox.oldest_retrying() returns table (rail text, since timestamptz)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: since when the oldest payment of each rail that was tried, is not in doubt and has not ended could have been sent: what backs off
--   again and again is due only for moments. Internal to read_outbox_metrics. One that people released could be sent since then.
-- Hazard: not_before stands in the instruction, which is looked up: for the thousand of each rail that were enqueued first.
    select c.rail, min(greatest(c.created_at, i.not_before, r.released_at))
      from (select p.rail, p.outbox_id, p.created_at, row_number() over (partition by p.rail order by p.outbox_id) as place
              from outbox.payment_outbox_pending p
             where p.disposition = 'READY' and p.attempt_count > 0 and p.in_doubt_since is null) as c
     cross join lateral (select n.not_before from outbox.payment_outbox_instructions n where n.outbox_id = c.outbox_id limit 1) as i
     cross join lateral (select max(x.applied_at) as released_at from outbox.operator_action_results x
                           join outbox.operator_actions a on a.action_id = x.action_id and a.kind in ('RELEASE', 'RELEASE_AS_RESEND')
                          where x.outbox_id = c.outbox_id and x.result = 'APPLIED') as r
     where c.place <= 1000
     group by c.rail
$$;

create or replace function outbox.read_outbox_metrics(p_rails text[] default '{}', p_horizons_ms bigint[] default '{}') returns table (
    figure text, labels text[], value double precision)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set jit = off
as $$
-- Purpose: what operators watch: figures of rails, money, dispatchers and the database, for a page of metrics.
-- Parameters: p_horizons_ms, for each of p_rails how far ahead a due payment counts as at risk of missing its not_after. At
--   risk are also those whose next attempt comes after it, and parked ones that have waited for longer than is left.
-- Results: a row a figure: its name, the values of its labels in the order of docs/METRICS.md, and the value: seconds,
--   minor units of money, or a count. What does not exist has no row. Sums of money are those of the first 50000 payments
--   looked at: amounts_complete is then 0, and the sums are too small. settled: ended or refused, of all dispatchers, still on record.
-- Locks taken: none beyond reading. Reads the whole queue, twice where money is to be summed.
-- Hazard: the ids' range is a constant for the planner, which leaves out the other months. Look-ups are lateral.
declare
    v_now timestamptz := clock_timestamp();
    v_looked_at_max constant integer := 50000;
    v_ids uuid[]; v_rails text[]; v_kinds text[]; v_reasons text[]; v_lo uuid; v_hi uuid;
begin
    select array_agg(s.outbox_id), array_agg(s.rail), array_agg(s.kind), array_agg(s.hold_reason), (array_agg(s.outbox_id order by s.outbox_id))[1],
           (array_agg(s.outbox_id order by s.outbox_id desc))[1]
      into v_ids, v_rails, v_kinds, v_reasons, v_lo, v_hi
      from (select p.outbox_id, p.rail, p.hold_reason, case p.disposition when 'HELD' then 'held' else 'in_doubt' end as kind
              from outbox.payment_outbox_pending p
             where p.disposition = 'HELD' or p.lease_expires_at <= v_now or (p.lease_token is null and p.in_doubt_since is not null)
             union all
            select p.outbox_id, p.rail, null, 'not_after_at_risk'
              from unnest(p_rails, p_horizons_ms) as h (rail, ahead_ms)
              join outbox.payment_outbox_pending p on p.rail = h.rail
             where p.disposition in ('READY', 'PARKED') and p.lease_token is null
               and (p.not_after < p.next_attempt_at or (p.next_attempt_at <= v_now and (p.not_after <= v_now + h.ahead_ms * interval '1 ms'
                    or (p.disposition = 'PARKED' and p.not_after - v_now < v_now - p.next_attempt_at))))
             limit v_looked_at_max + 1) as s;
    return query
    with parts as materialized (
        select p.rail, p.disposition, p.hold_reason, p.lease_expires_at > v_now as is_leased, p.next_attempt_at <= v_now as is_due, p.in_doubt_since is not null as is_doubted,
               count(*) as payments, min(p.next_attempt_at) as due_at, min(coalesce(p.in_doubt_since, p.lease_expires_at)) as doubted_at,
               min(p.not_after) as not_after, min(p.created_at) as created_at,
               count(*) filter (where p.not_after < p.next_attempt_at or (p.next_attempt_at <= v_now and (p.not_after <= h.until
                    or (p.disposition = 'PARKED' and p.not_after - v_now < v_now - p.next_attempt_at)))) as at_risk
          from outbox.payment_outbox_pending p
          left join (select g.rail, v_now + g.ahead_ms * interval '1 ms' as until from unnest(p_rails, p_horizons_ms) as g (rail, ahead_ms) offset 0) as h
            on h.rail = p.rail
         group by 1, 2, 3, 4, 5, 6
    ), queue as materialized (
        select p.rail,
               sum(p.payments) filter (where p.disposition = 'READY' and p.is_leased is null and p.is_due) as due,
               sum(p.payments) filter (where p.disposition = 'READY' and p.is_leased is null and not p.is_due) as waiting,
               sum(p.payments) filter (where p.is_leased) as leased,
               sum(p.payments) filter (where not p.is_leased or (p.is_leased is null and p.is_doubted and p.disposition <> 'HELD')) as in_doubt,
               sum(p.payments) filter (where p.disposition = 'PARKED') as parked,
               min(p.due_at) filter (where p.disposition = 'READY' and p.is_leased is null and p.is_due) as oldest_due_at,
               min(p.doubted_at) filter (where not p.is_leased or (p.is_leased is null and p.is_doubted and p.disposition <> 'HELD')) as oldest_in_doubt_at,
               min(p.not_after) filter (where p.disposition in ('READY', 'PARKED') and p.is_leased is null) as earliest_not_after,
               sum(p.at_risk) filter (where p.disposition in ('READY', 'PARKED') and p.is_leased is null) as at_risk
          from parts p
         group by p.rail
    ), held as (
        select p.rail, p.hold_reason, sum(p.payments) as payments, min(p.created_at) as oldest_at
          from parts p
         where p.disposition = 'HELD'
         group by p.rail, p.hold_reason
    ), contradicted as materialized (
        select c.rail, count(*) filter (where c.kind = 'FAILED_BUT_ACCEPTED') as failed_but_accepted, count(*) filter (where c.kind = 'ACCEPTED_TWICE') as accepted_twice
          from outbox.contradicted_payments() c
         group by c.rail
    ), retrying as materialized (select * from outbox.oldest_retrying()), money as materialized (
        select c.rail, c.kind, c.reason, i.currency, sum(i.amount_minor) as amount
          from unnest(v_ids, v_rails, v_kinds, v_reasons) as c (id, rail, kind, reason)
         cross join lateral (select n.currency, n.amount_minor from outbox.payment_outbox_instructions n
                              where n.outbox_id = c.id and n.outbox_id between v_lo and v_hi limit 1) as i
         where i.currency is not null
         group by c.rail, c.kind, c.reason, i.currency
    ), dispatcher as materialized (
        select distinct on (split_part(d.worker_id, '/', 1)) split_part(d.worker_id, '/', 1) as name, d.version, d.state, d.lanes, d.heartbeat_at
          from outbox.outbox_dispatchers d
         where d.heartbeat_at > v_now - interval '1 day'
         order by split_part(d.worker_id, '/', 1), d.heartbeat_at desc
    )
    select f.figure, array[r.rail], f.value::double precision
      from outbox.payment_rails r
      left join queue q on q.rail = r.rail
      left join contradicted c on c.rail = r.rail
     cross join lateral (values
           ('payments_due', coalesce(q.due, 0)), ('payments_waiting', coalesce(q.waiting, 0)), ('payments_leased', coalesce(q.leased, 0)),
           ('payments_in_doubt', coalesce(q.in_doubt, 0)), ('payments_parked', coalesce(q.parked, 0)),
           ('payments_failed_but_accepted', coalesce(c.failed_but_accepted, 0)), ('payments_accepted_twice', coalesce(c.accepted_twice, 0)),
           ('oldest_due_age_seconds', coalesce(extract(epoch from v_now - q.oldest_due_at), 0)),
           ('oldest_retrying_age_seconds', coalesce(extract(epoch from v_now - (select o.since from retrying o where o.rail = r.rail)), 0)),
           ('oldest_in_doubt_age_seconds', coalesce(extract(epoch from v_now - q.oldest_in_doubt_at), 0)),
           ('earliest_not_after_timestamp_seconds', extract(epoch from q.earliest_not_after)),
           ('payments_not_after_at_risk', case when r.rail = any (p_rails) then coalesce(q.at_risk, 0) end),
           ('rail_paused', (r.paused or exists (select from outbox.outbox_pauses u where u.participant_id is null and coalesce(u.rail, r.rail) = r.rail))::integer),
           ('settled', (select coalesce(sum(l.settled), 0) from outbox.outbox_dispatchers d cross join unnest(d.lanes, d.settled) as l (rail, settled)
                         where l.rail = r.rail))) as f (figure, value)
     where f.value is not null
    union all
    select f.figure, array[h.rail, h.hold_reason], f.value::double precision
      from held h
     cross join lateral (values ('payments_held', h.payments), ('oldest_held_enqueued_age_seconds', extract(epoch from v_now - h.oldest_at))) as f (figure, value)
    union all
    select m.kind || '_amount_minor', array_remove(array[m.rail, m.reason, m.currency], null), m.amount::double precision from money m
    union all
    select f.figure, array[d.name] || f.more, f.value
      from dispatcher d
     cross join lateral (values ('dispatcher_heartbeat_age_seconds', '{}'::text[], extract(epoch from v_now - d.heartbeat_at)::double precision),
           ('dispatcher_lanes', '{}', cardinality(d.lanes)), ('dispatcher_info', array[d.version, d.state], 1)) as f (figure, more, value)
     where d.state <> 'STOPPED'
    union all
    select f.figure, '{}', f.value::double precision
      from (values ('participants_paused', (select count(distinct u.participant_id) from outbox.outbox_pauses u)),
           ('amounts_complete', (coalesce(cardinality(v_ids), 0) <= v_looked_at_max)::integer),
           ('queue_dead_rows', pg_stat_get_dead_tuples('outbox.payment_outbox_pending'::regclass)),
           ('oldest_snapshot_age_transactions', outbox.oldest_snapshot_age()),
           ('notification_queue_usage_ratio', pg_notification_queue_usage()),
           ('partition_headroom_months', outbox.partition_headroom_months()), ('policy_version', coalesce(outbox.active_policy_version(), 0))) as f (figure, value);
end
$$;

create or replace function outbox.begin_reconcile(
    p_rail text, p_booked_from timestamptz, p_booked_until timestamptz, p_slack_ms bigint, p_file_name text, p_file_sha256 bytea,
    p_line_count bigint, p_lines_sha256 bytea, p_sums jsonb, p_paid_statuses text[], p_reason text
) returns table (statement_id uuid, lines_recorded bigint)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
-- Purpose: puts a statement of a rail on record, before its lines.
-- Parameters: p_booked_from, p_booked_until, the period the statement is of, the end not included; p_slack_ms, by how
--   much a booking may lie before the first byte or after the completion, by the two clocks; p_lines_sha256, see
--   statement_lines_sha256; p_sums, of paid lines by currency; p_paid_statuses, which statuses mean paid.
-- Results: the statement; the same file for the same rail and period is the same statement, with the lines it has, unless it was
--   voided. OB003: a bad value, a period that is not over, or the file was read in another way before. OB004: no such rail.
declare
    v_paid_statuses text[] := array(select distinct u.status from unnest(p_paid_statuses) as u (status) order by 1);
    v_edition integer;
    v_known uuid;
begin
    if not exists (select from outbox.payment_rails r where r.rail = p_rail) then
        raise exception 'there is no rail %', quote_nullable(p_rail) using errcode = 'OB004', column = 'rail';
    elsif coalesce(p_reason, '') !~ '\S' then
        raise exception 'a reconciliation needs a reason' using errcode = 'OB003', column = 'reason';
    elsif not p_booked_from < p_booked_until then
        raise exception 'the period ends before it begins' using errcode = 'OB003', column = 'booked_until';
    elsif p_booked_until > clock_timestamp() then
        raise exception 'the period is not over: what is sent in the rest of it would be taken for missing' using errcode = 'OB003', column = 'booked_until';
    end if;
    v_edition := (select count(*) from outbox.reconcile_statements s join outbox.reconcile_voidings v on v.statement_id = s.statement_id
                   where s.rail = p_rail and s.booked_from = p_booked_from and s.booked_until = p_booked_until and s.file_sha256 = p_file_sha256);
    insert into outbox.reconcile_statements
    values (outbox.new_outbox_id(), p_rail, p_booked_from, p_booked_until, p_slack_ms, p_file_name, p_file_sha256, p_line_count, p_lines_sha256,
            p_sums, v_paid_statuses, p_reason, session_user, clock_timestamp(), v_edition)
    on conflict on constraint statement_is_recorded_once do nothing;
    select s.statement_id into v_known from outbox.reconcile_statements s
     where s.rail = p_rail and s.booked_from = p_booked_from and s.booked_until = p_booked_until and s.file_sha256 = p_file_sha256 and s.edition = v_edition
       and (s.slack_ms, s.line_count, s.lines_sha256, s.sums, s.paid_statuses)
           is distinct from (p_slack_ms, p_line_count, p_lines_sha256, p_sums, v_paid_statuses);
    if found then
        raise exception 'this file is on record for this period with another slack, or other statuses or lines as paid: statement %', v_known
            using errcode = 'OB003', column = 'file_sha256', hint = 'if that was wrong: outboxd reconcile void';
    end if;
    return query
    select s.statement_id, (select count(*) from outbox.reconcile_lines l where l.statement_id = s.statement_id)
      from outbox.reconcile_statements s
     where s.rail = p_rail and s.booked_from = p_booked_from and s.booked_until = p_booked_until and s.file_sha256 = p_file_sha256 and s.edition = v_edition;
end
$$;

create or replace function outbox.reconcile_lock_key() returns bigint
language sql immutable parallel safe
as $$
-- Purpose: the advisory lock of reconciliations that compare: "outf".
    select 1869968486::bigint << 32
$$;

create or replace function outbox.statement_findings(p_statement_id uuid)
returns table (kind text, subject text, outbox_id uuid, wire_key text, rail_reference text, line_no bigint, our_amount_minor bigint,
               our_currency text, their_amount_minor bigint, their_currency text, standing text, booking text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
-- Purpose: how the paid lines of a statement, as they are matched, and our ledger differ; what agrees comes as MATCHED.
--   Internal to finish_reconcile.
-- Results: subject, the payment, or for what is about one booking (UNKNOWN_TO_US, TWICE_AT_RAIL) the booking: what the line says, and
--   the how many of lines alike it is. A payment that another statement had before is booked twice, unless the periods
--   overlap and this one has it under the same reference: then it is the same booking. So is one of which another generation was
--   booked: the instruction was paid twice. The rail's reference is compared only if the
--   statement shows references that we know, and never with what a person wrote. A booking of a payment whose month was detached is one
--   that we do not know any more, and its standing says so.
declare
    s outbox.reconcile_statements;
begin
    select * into s from outbox.reconcile_statements r where r.statement_id = p_statement_id;
    return query
    with lines as materialized (
        select l.line_no, l.wire_key, l.rail_reference, l.amount_minor, l.currency, m.outbox_id, l.outbox_id as named, m.matched_at,
               concat(l.wire_key, '|', l.rail_reference, '|', l.amount_minor, '|', l.currency, '|',
                      row_number() over (partition by l.wire_key, l.rail_reference, l.amount_minor, l.currency order by l.line_no)) as booking
          from outbox.reconcile_lines l
          left join outbox.reconcile_matches m on m.statement_id = l.statement_id and m.line_no = l.line_no
         where l.statement_id = p_statement_id and l.is_paid
    ), known as materialized (
        -- The last attempt, and the queue, of each payment that the statement names.
        select l.*, i.rail, i.amount_minor as our_amount, i.currency as our_currency, t.state, t.rail_reference as our_reference, t.kind,
               case when i.rail <> s.rail then 'ON_RAIL ' || i.rail
                    else coalesce(t.state, p.disposition || coalesce(' ' || p.hold_reason, '')) end as stands,
               row_number() over (partition by l.outbox_id order by l.rail_reference is not distinct from t.rail_reference desc, l.line_no) as occurrence
          from lines l
         cross join lateral (select n.rail, n.amount_minor, n.currency from outbox.payment_outbox_instructions n where n.outbox_id = l.outbox_id limit 1) as i
          left join lateral (select a.state, a.rail_reference, a.kind from outbox.payment_outbox_attempts a
                              where a.outbox_id = l.outbox_id and a.state in ('DISPATCHED', 'FAILED', 'CANCELLED') limit 1) as t on true
          left join outbox.payment_outbox_pending p on p.outbox_id = l.outbox_id
         where l.outbox_id is not null
    ), judged as materialized (
        select k.*, k.occurrence > 1 or exists (
                   select from outbox.reconcile_matches m
                     join outbox.reconcile_counted t on t.statement_id = m.statement_id and t.rail = s.rail
                     join outbox.reconcile_lines l on l.statement_id = m.statement_id and l.line_no = m.line_no
                    where m.outbox_id = k.outbox_id and m.statement_id <> p_statement_id and m.matched_at < k.matched_at
                      and not (t.booked_from < s.booked_until and t.booked_until > s.booked_from
                               and exists (select from outbox.reconcile_matches n
                                             join outbox.reconcile_lines h on h.statement_id = n.statement_id and h.line_no = n.line_no
                                            where n.statement_id = p_statement_id and n.outbox_id = k.outbox_id
                                              and h.rail_reference is not distinct from l.rail_reference)))
               -- Another generation of the instruction was booked: before, or in this statement as an earlier generation.
               or exists (
                   select from outbox.payment_outbox_instructions i
                     join outbox.payment_outbox_identities mine on mine.participant_id = i.participant_id and mine.instruction_id = i.instruction_id
                                                               and mine.outbox_id = i.outbox_id
                     join outbox.payment_outbox_identities other on other.participant_id = i.participant_id and other.instruction_id = i.instruction_id
                                                                and other.generation <> mine.generation
                     join outbox.reconcile_matches m on m.outbox_id = other.outbox_id
                    where i.outbox_id = k.outbox_id
                      and (m.statement_id = p_statement_id and other.generation < mine.generation
                           or m.statement_id <> p_statement_id and m.matched_at < k.matched_at
                              and m.statement_id in (select t.statement_id from outbox.reconcile_counted t))) as is_twice,
               k.our_amount is null or (k.our_amount, k.our_currency) is not distinct from (k.amount_minor, k.currency) as same_money,
               coalesce(btrim(k.wire_key), '') = '' or k.rail_reference is null or k.kind is distinct from 'SUBMIT' and k.kind is distinct from 'INQUIRE'
                   or k.state <> 'DISPATCHED' or k.rail_reference = k.our_reference
                   or not exists (select from known x where x.rail_reference in (select y.our_reference from known y)) as same_reference
          from known k
    )
    select 'UNKNOWN_TO_US', l.booking, null::uuid, l.wire_key, l.rail_reference, l.line_no, null::bigint, null::text, l.amount_minor,
           l.currency, case when outbox.detached_as(l.named) is not null then 'DETACHED' end, l.booking
      from lines l where l.outbox_id is null
    union all
    select f.kind, case f.kind when 'TWICE_AT_RAIL' then k.outbox_id || '|' || k.booking else k.outbox_id::text end, k.outbox_id, k.wire_key,
           coalesce(k.rail_reference, k.our_reference), k.line_no, k.our_amount, k.our_currency, k.amount_minor, k.currency, k.stands, k.booking
      from judged k
     cross join lateral (
        select 'TWICE_AT_RAIL' as kind where k.is_twice
        union all
        select 'AMOUNT_DIFFERS' where not k.same_money and k.occurrence = 1
        union all
        select 'REFERENCE_DIFFERS' where not k.same_reference and not k.is_twice
        union all
        select 'PAID_BUT_NOT_DISPATCHED' where k.stands <> 'DISPATCHED' and k.occurrence = 1
        union all
        select 'MATCHED' where k.stands = 'DISPATCHED' and k.occurrence = 1 and k.same_money and k.same_reference) as f;
end
$$;

create or replace function outbox.match_lines_by_key(p_statement_id uuid, p_now timestamptz) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set jit = off
set plan_cache_mode = force_custom_plan
set enable_nestloop = on
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
-- Purpose: records which payment each paid line is of that has our key, and no payment yet. Internal to match_statement_lines.
-- Hazard: a table that was empty is planned as one page, and this statement fills it: each line would read all that was written so far,
--   100,000 lines in 85 s. So each look-up is by key.
declare
    v_lo uuid;
    v_hi uuid;
begin
    select min(l.outbox_id::text)::uuid, max(l.outbox_id::text)::uuid into v_lo, v_hi from outbox.reconcile_lines l where l.statement_id = p_statement_id;
    insert into outbox.reconcile_matches
    select p_statement_id, l.line_no, i.outbox_id, p_now
      from outbox.reconcile_lines l
      join outbox.payment_outbox_instructions i on i.outbox_id = l.outbox_id and i.outbox_id between v_lo and v_hi
     where l.statement_id = p_statement_id and l.is_paid
       and not exists (select from outbox.reconcile_matches m where m.statement_id = p_statement_id and m.line_no = l.line_no);
end
$$;

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

create or replace function outbox.booked_before(p_statement_id uuid, p_outbox_id uuid, p_reference text) returns integer
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_nestloop = on
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
-- Purpose: whether other statements of the rail that count have a booking of a payment. Internal to match_statement_lines.
-- Hazard: the caller's settings would hold here: a plan for each payment, and whole tables hashed for each.
-- Results: 0, one of an overlapping period has it under this reference, which is the same booking; 1, none has it; 2, others have.
begin
    return coalesce((
        select min(case when t.booked_from < s.booked_until and t.booked_until > s.booked_from and l.rail_reference = p_reference then 0 else 2 end)
          from outbox.reconcile_statements s
          join outbox.reconcile_counted t on t.rail = s.rail
          join outbox.reconcile_matches m on m.statement_id = t.statement_id and m.outbox_id = p_outbox_id
          join outbox.reconcile_lines l on l.statement_id = m.statement_id and l.line_no = m.line_no
         where s.statement_id = p_statement_id and t.statement_id <> p_statement_id), 1);
end
$$;

create or replace function outbox.match_statement_lines(p_statement_id uuid, p_now timestamptz) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set jit = off
set plan_cache_mode = force_custom_plan
set enable_nestloop = off
set enable_seqscan = off
as $$
-- Purpose: records which payment each paid line is of, for lines that have none yet: by the wire key; only a line without one by its
--   reference. Internal to finish_reconcile.
--   Of lines and payments with one reference each line gets another payment: the nth line the nth payment with the same money;
--   what is then left the nth of those left, whose money differs; and a line too many a payment that has a line, so that it is twice.
--   First come payments that an overlapping statement has under this reference, for it is the same booking, then those
--   that no statement has.
-- Hazard: references are in no index of the ledger. They are looked for where attempts ended about the period, and in the
--   whole ledger only for references of which there are fewer payments than lines, which is what we do not know. What the planner
--   takes for one row is a statement: joined by loops, 20,000 lines took 100 s. What is looked up by key has functions of its own.
declare
    s outbox.reconcile_statements;
begin
    select * into s from outbox.reconcile_statements r where r.statement_id = p_statement_id;
    perform outbox.match_lines_by_key(p_statement_id, p_now);
    with lines as materialized (
        select l.line_no, l.rail_reference, l.amount_minor, l.currency,
               row_number() over (partition by l.rail_reference, l.amount_minor, l.currency order by l.line_no) as place
          from outbox.reconcile_lines l
         where l.statement_id = p_statement_id and l.is_paid and coalesce(btrim(l.wire_key), '') = ''
           and not exists (select from outbox.reconcile_matches m where m.statement_id = p_statement_id and m.line_no = l.line_no)
    ), near as materialized (
        select a.rail_reference, a.outbox_id, a.state
          from outbox.payment_outbox_attempts a
         where a.rail = s.rail and a.rail_reference in (select l.rail_reference from lines l)
           and a.completed_at >= s.booked_from - interval '7 days' and a.completed_at < s.booked_until + interval '7 days'
        union all
        select o.rail_reference, o.outbox_id, 'LATE'
          from outbox.payment_outbox_late_outcomes o
          join outbox.payment_outbox_instructions i on i.outbox_id = o.outbox_id and i.rail = s.rail
         where o.rail_reference in (select l.rail_reference from lines l)
    ), scarce as materialized (
        select l.rail_reference
          from (select q.rail_reference, count(*) as how_many from lines q group by q.rail_reference) as l
          left join (select n.rail_reference, count(distinct n.outbox_id) as how_many from near n
                      where not exists (select from outbox.reconcile_matches m where m.statement_id = p_statement_id and m.outbox_id = n.outbox_id)
                      group by n.rail_reference) as n on n.rail_reference = l.rail_reference
         where l.how_many > coalesce(n.how_many, 0)
    ), candidates as materialized (
        select c.rail_reference, c.outbox_id, c.is_dispatched, i.amount_minor, i.currency,
               outbox.booked_before(p_statement_id, c.outbox_id, c.rail_reference) as rank,
               exists (select from outbox.reconcile_matches m where m.statement_id = p_statement_id and m.outbox_id = c.outbox_id) as is_taken
          from (select f.rail_reference, f.outbox_id, bool_or(f.state = 'DISPATCHED') as is_dispatched
                  from (select * from near
                        union all
                        select a.rail_reference, a.outbox_id, a.state
                          from outbox.attempts_by_reference(s.rail, array(select r.rail_reference from scarce r)) as a) as f
                 group by f.rail_reference, f.outbox_id) as c
         cross join lateral (select n.amount_minor, n.currency from outbox.payment_outbox_instructions n where n.outbox_id = c.outbox_id limit 1) as i
    ), placed as materialized (
        select c.*, row_number() over (partition by c.rail_reference, c.amount_minor, c.currency order by c.rank, c.is_dispatched desc, c.outbox_id) as place
          from candidates c where not c.is_taken
    ), alike as materialized (
        select l.line_no, p.rail_reference, p.outbox_id
          from lines l
          join placed p on (p.rail_reference, p.amount_minor, p.currency, p.place) = (l.rail_reference, l.amount_minor, l.currency, l.place)
    ), left_over as materialized (
        select q.line_no, q.rail_reference, q.amount_minor, q.currency, row_number() over (partition by q.rail_reference order by q.line_no) as place
          from lines q where not exists (select from alike x where x.line_no = q.line_no)
    ), other as materialized (
        select l.line_no, p.outbox_id
          from left_over l
          join (select q.rail_reference, q.outbox_id,
                       row_number() over (partition by q.rail_reference order by q.rank, q.is_dispatched desc, q.outbox_id) as place
                  from placed q where not exists (select from alike x where x.rail_reference = q.rail_reference and x.outbox_id = q.outbox_id)) as p
            on (p.rail_reference, p.place) = (l.rail_reference, l.place)
    )
    insert into outbox.reconcile_matches
    select p_statement_id, f.line_no, f.outbox_id, p_now
      from (select x.line_no, x.outbox_id from alike x
            union all
            select x.line_no, x.outbox_id from other x
            union all
            (select distinct on (l.line_no) l.line_no, c.outbox_id
              from left_over l join candidates c on c.rail_reference = l.rail_reference
             where not exists (select from other x where x.line_no = l.line_no)
             order by l.line_no, (c.amount_minor, c.currency) is not distinct from (l.amount_minor, l.currency) desc, c.rank, c.is_dispatched desc,
                      c.outbox_id)) as f;
end
$$;

create or replace function outbox.reconcile_cover(p_rail text, p_statement_id uuid) returns tstzmultirange
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the time that a rail's statements cover, of those that count and of the one that is being compared. Internal to
--   finish_reconcile.
    select coalesce(range_agg(tstzrange(s.booked_from, s.booked_until)), '{}')
      from outbox.reconcile_statements s
     where s.rail = p_rail and (s.statement_id = p_statement_id or s.statement_id in (select c.statement_id from outbox.reconcile_counted c))
$$;

create or replace function outbox.reconcile_judged_until(p_rail text) returns timestamptz
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: of a rail's payments that ended before this, none waits for a statement; null if none was compared. Internal to
--   finish_reconcile and void_reconcile_statement.
    select j.judged_until
      from (select c.judged_until, c.compared_at as at from outbox.reconcile_comparisons c
              join outbox.reconcile_statements s on s.statement_id = c.statement_id and s.rail = p_rail
            union all
            select v.judged_until, v.voided_at from outbox.reconcile_voidings v
              join outbox.reconcile_statements s on s.statement_id = v.statement_id and s.rail = p_rail
             where v.judged_until is not null) as j
     order by j.at desc limit 1
$$;

create or replace function outbox.unbooked_payments(p_rail text, p_statement_id uuid, p_cover tstzmultirange, p_slack interval, p_from timestamptz)
returns table (kind text, outbox_id uuid, rail_reference text, amount_minor bigint, currency text, completed_at timestamptz)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
-- Purpose: the dispatched payments that none of the rail's statements has. Internal to finish_reconcile.
-- Parameters: p_statement_id, the one being compared; p_cover, what the statements cover; p_slack, the largest of theirs; p_from, only
--   what was completed since. The index on completed_at is read from there on, not the whole ledger.
-- Results: MISSING_AT_RAIL if the cover has without a gap all the time in which the rail may have booked it: from the first claim
--   less the slack to the completion plus the slack. AT_THE_EDGE waits for a statement; BEFORE_COVER may have been booked
--   before the first one. What was found missing is not found again, unless the statement that found it was voided.
begin
    return query
    with ours as materialized (
        select a.outbox_id, a.rail_reference, a.completed_at
          from outbox.payment_outbox_attempts a
         where a.rail = p_rail and a.state = 'DISPATCHED' and a.completed_at >= p_from and a.completed_at < upper(p_cover)
           and not exists (select from outbox.reconcile_matches m
                             join outbox.reconcile_statements t on t.statement_id = m.statement_id and t.rail = p_rail
                            where m.outbox_id = a.outbox_id
                              and (t.statement_id = p_statement_id or t.statement_id in (select c.statement_id from outbox.reconcile_counted c)))
           and not exists (select from outbox.reconcile_breaks b
                            where b.rail = p_rail and b.subject = a.outbox_id::text and b.kind = 'MISSING_AT_RAIL'
                              and b.statement_id not in (select v.statement_id from outbox.reconcile_voidings v))
    )
    select case when tstzrange(f.first_at - p_slack, o.completed_at + p_slack, '[]') <@ p_cover then 'MISSING_AT_RAIL'
                when f.first_at - p_slack < lower(p_cover) then 'BEFORE_COVER'
                else 'AT_THE_EDGE' end,
           o.outbox_id, o.rail_reference, i.amount_minor, i.currency, o.completed_at
      from ours o
     cross join lateral (select coalesce(min(e.claimed_at), o.completed_at) as first_at from outbox.payment_outbox_attempts e
                          where e.outbox_id = o.outbox_id and e.kind = 'SUBMIT') as f
     cross join lateral (select n.amount_minor, n.currency from outbox.payment_outbox_instructions n where n.outbox_id = o.outbox_id limit 1) as i;
end
$$;

create or replace function outbox.statement_lines_sha256(p_statement_id uuid) returns bytea
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the hash of a statement's lines as they are recorded, which the program reckons from the file. Internal to finish_reconcile.
-- Results: SHA-256 over the SHA-256 of each line in order. A line is its fields in the order below with U+001F between them,
--   nothing for null, times in microseconds since 1970, t or f.
    select sha256(coalesce(string_agg(sha256(convert_to(concat(l.line_no, e'\x1f', l.wire_key, e'\x1f', l.rail_reference, e'\x1f', l.amount_minor, e'\x1f',
                l.currency, e'\x1f', (extract(epoch from l.booked_at) * 1000000)::bigint, e'\x1f', l.status, e'\x1f', l.is_paid), 'UTF8')),
            '' order by l.line_no), ''))
      from outbox.reconcile_lines l where l.statement_id = p_statement_id
$$;

create or replace function outbox.whole_statement(p_statement_id uuid) returns outbox.reconcile_statements
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: a statement that can be compared: its lines are those that were announced, by number, money and hash. Internal to
--   finish_reconcile.
-- Results: OB003: no such statement, it is void, or its lines are others.
declare
    s outbox.reconcile_statements;
    v_lines bigint := (select count(*) from outbox.reconcile_lines l where l.statement_id = p_statement_id);
    v_sums jsonb := (select coalesce(jsonb_object_agg(c.currency, c.amount), '{}')
                       from (select l.currency, sum(l.amount_minor) as amount from outbox.reconcile_lines l
                              where l.statement_id = p_statement_id and l.is_paid group by l.currency) as c);
begin
    select * into s from outbox.reconcile_statements r where r.statement_id = p_statement_id;
    if not found then
        raise exception 'there is no statement %', p_statement_id using errcode = 'OB003', column = 'statement_id';
    elsif exists (select from outbox.reconcile_voidings v where v.statement_id = p_statement_id) then
        raise exception 'statement % is void', p_statement_id using errcode = 'OB003', column = 'statement_id';
    elsif v_lines <> s.line_count then
        raise exception 'statement % has % lines of %', p_statement_id, v_lines, s.line_count using errcode = 'OB003', column = 'statement_id';
    elsif v_sums <> s.sums then
        raise exception 'the paid lines of statement % are %, not %', p_statement_id, v_sums, s.sums using errcode = 'OB003', column = 'sums';
    elsif outbox.statement_lines_sha256(p_statement_id) <> s.lines_sha256 then
        raise exception 'the lines of statement % are not those of its file', p_statement_id using errcode = 'OB003', column = 'lines_sha256';
    end if;
    return s;
end
$$;

create or replace function outbox.finish_reconcile(p_statement_id uuid, p_breaks_max integer)
returns table (matched bigint, at_the_edge bigint, before_cover bigint, breaks_found integer, breaks_closed integer, open_breaks bigint,
               gaps_from timestamptz[], gaps_until timestamptz[])
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
#variable_conflict use_column
-- Purpose: compares a statement whose lines are all there with our ledger. Records which payment each line is of and the breaks that
--   are not open already, and closes those of the same rail that it shows to agree now. May be called again: the ledger goes on.
-- Parameters: p_breaks_max, refuses to record more: another rail's file differs in every line.
-- Results: what agrees, what waits for another statement, what may have been booked before the first one, breaks found and closed now,
--   those of the rail that are open, and what lies between the statements. OB003: no such statement, it is void, its lines are
--   not those that were announced, or too many breaks.
-- Locks taken: an advisory one for all reconciliations, so that none finds a break that another is about to record.
-- Hazard: a completion may commit after it was seen to be absent. What ended in the last hour is looked at again.
declare
    s outbox.reconcile_statements;
    v_now timestamptz;
    v_cover tstzmultirange;
    v_slack interval;
    v_from timestamptz;
    v_judged_until timestamptz;
begin
    perform pg_advisory_xact_lock(outbox.reconcile_lock_key());
    v_now := clock_timestamp();
    s := outbox.whole_statement(p_statement_id);
    v_cover := outbox.reconcile_cover(s.rail, p_statement_id);
    v_slack := (select max(r.slack_ms) from outbox.reconcile_statements r
                 where r.statement_id = p_statement_id or r.rail = s.rail and r.statement_id in (select c.statement_id from outbox.reconcile_counted c))
               * interval '1 ms';
    v_from := outbox.reconcile_judged_until(s.rail);
    if not exists (select from outbox.reconcile_comparisons c where c.statement_id = p_statement_id) then
        v_from := least(v_from, s.booked_from);
    end if;
    perform outbox.match_statement_lines(p_statement_id, v_now);
    with unbooked as materialized (
        select * from outbox.unbooked_payments(s.rail, p_statement_id, v_cover, v_slack, greatest(v_from, lower(v_cover)))
    ), findings as materialized (
        select * from outbox.statement_findings(p_statement_id)
        union all
        select u.kind, u.outbox_id::text, u.outbox_id, null, u.rail_reference, null, u.amount_minor, u.currency, null, null, 'DISPATCHED', null
          from unbooked u
    ), still_open as materialized (
        select b.*, r.booked_from < s.booked_until and r.booked_until > s.booked_from as is_overlapping,
               exists (select from outbox.reconcile_voidings v where v.statement_id = b.statement_id) as is_void
          from outbox.reconcile_breaks b
          join outbox.reconcile_statements r on r.statement_id = b.statement_id
         where b.rail = s.rail and not exists (select from outbox.reconcile_closed c where c.break_id = b.break_id)
    ), recorded as (
        insert into outbox.reconcile_breaks
        select outbox.new_outbox_id(), p_statement_id, s.rail, f.kind, f.subject, f.outbox_id, f.wire_key, f.rail_reference, f.line_no, f.our_amount_minor,
               f.our_currency, f.their_amount_minor, f.their_currency, f.standing, v_now
          from findings f
         where f.kind not in ('MATCHED', 'AT_THE_EDGE', 'BEFORE_COVER')
           and not exists (select from still_open o
                            where o.kind = f.kind and o.subject = f.subject and not o.is_void
                              and (o.is_overlapping or f.kind in ('MISSING_AT_RAIL', 'PAID_BUT_NOT_DISPATCHED'))
                              and (o.their_amount_minor, o.their_currency) is not distinct from (f.their_amount_minor, f.their_currency))
         order by f.line_no
        -- What a person has resolved is not found again by the same statement.
        on conflict on constraint break_is_found_once_in_a_statement do nothing
        returning 1
    ), agreed as (
        insert into outbox.reconcile_resolutions
        select o.break_id, 'it agrees by statement ' || p_statement_id, null, p_statement_id, session_user, v_now,
               (select count(*) + 1 from outbox.reconcile_resolutions r where r.break_id = o.break_id)
          from still_open o
         where o.kind <> 'TWICE_AT_RAIL' and (o.is_overlapping or o.kind in ('MISSING_AT_RAIL', 'PAID_BUT_NOT_DISPATCHED'))
           and not exists (select from findings f where f.kind = o.kind and f.subject = o.subject)
           and (o.kind = 'UNKNOWN_TO_US' and o.subject in (select f.booking from findings f where f.booking is not null and f.kind <> 'UNKNOWN_TO_US')
                or o.kind <> 'UNKNOWN_TO_US' and o.outbox_id in (select f.outbox_id from findings f where f.booking is not null and f.outbox_id is not null))
        returning 1
    )
    select (select count(*) from findings f where f.kind = 'MATCHED'), (select count(*) from findings f where f.kind = 'AT_THE_EDGE'),
           (select count(*) from findings f where f.kind = 'BEFORE_COVER'), (select count(*) from recorded), (select count(*) from agreed),
           least((select min(u.completed_at) from unbooked u where u.kind = 'AT_THE_EDGE'), upper(v_cover), v_now - interval '1 hour')
      into matched, at_the_edge, before_cover, breaks_found, breaks_closed, v_judged_until;
    if breaks_found > p_breaks_max then
        raise exception 'statement % has % new breaks, more than %', p_statement_id, breaks_found, p_breaks_max
            using errcode = 'OB003', column = 'breaks_max', hint = 'is it the right rail and period? nothing of the comparison is recorded';
    end if;
    insert into outbox.reconcile_comparisons
    values (p_statement_id, (select count(*) + 1 from outbox.reconcile_comparisons c where c.statement_id = p_statement_id),
            finish_reconcile.matched, finish_reconcile.at_the_edge, finish_reconcile.before_cover, breaks_found, breaks_closed, v_judged_until,
            session_user, v_now);
    open_breaks := (select count(*) from outbox.reconcile_breaks b
                     where b.rail = s.rail and not exists (select from outbox.reconcile_closed c where c.break_id = b.break_id));
    select coalesce(array_agg(lower(g.gap) order by g.gap), '{}'), coalesce(array_agg(upper(g.gap) order by g.gap), '{}')
      into gaps_from, gaps_until
      from unnest(tstzmultirange(range_merge(v_cover)) - v_cover) as g (gap);
    return next;
end
$$;

create or replace function outbox.read_reconcile_breaks(
    p_only_open boolean default true, p_rail text default null, p_after uuid default null, p_limit integer default 1000
) returns table (
    break_id uuid, statement_id uuid, rail text, kind text, outbox_id uuid, wire_key text, rail_reference text, line_no bigint,
    our_amount_minor bigint, our_currency text, their_amount_minor bigint, their_currency text, standing text, standing_now text,
    found_at timestamptz, age_ms bigint, resolved_by text, resolved_at timestamptz, resolution text, action_id uuid, is_void boolean,
    resolved_by_statement uuid)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: breaks between statements and our ledger, in the order in which they were found.
-- Parameters: p_only_open; p_rail, null for all; p_after, the last of the page before.
-- Results: standing, how the payment stood when the break was found, and how it stands now; is_void, the statement
--   that found it was voided; resolved_by_statement, the statement that closed it, if no person did.
    select b.break_id, b.statement_id, b.rail, b.kind, b.outbox_id, b.wire_key, b.rail_reference, b.line_no, b.our_amount_minor, b.our_currency,
           b.their_amount_minor, b.their_currency, b.standing, coalesce(t.state, p.disposition || coalesce(' ' || p.hold_reason, ''), case when outbox.detached_as(b.outbox_id) is not null then 'DETACHED' end), b.found_at,
           (extract(epoch from clock_timestamp() - b.found_at) * 1000)::bigint, r.resolved_by, r.resolved_at, r.reason, r.action_id,
           exists (select from outbox.reconcile_voidings v where v.statement_id = b.statement_id), r.statement_id
      from outbox.reconcile_breaks b
      left join outbox.reconcile_closed r on r.break_id = b.break_id
      left join lateral (select a.state from outbox.payment_outbox_attempts a
                          where a.outbox_id = b.outbox_id and a.state in ('DISPATCHED', 'FAILED', 'CANCELLED') limit 1) as t on true
      left join outbox.payment_outbox_pending p on p.outbox_id = b.outbox_id
     where (r.break_id is null or not p_only_open)
       and (p_rail is null or b.rail = p_rail)
       and b.break_id > coalesce(p_after, '00000000-0000-0000-0000-000000000000')
     order by b.break_id
     limit p_limit
$$;

create or replace function outbox.record_statement_lines(
    p_statement_id uuid, p_line_nos bigint[], p_wire_keys text[], p_rail_references text[], p_amounts bigint[], p_currencies text[],
    p_booked_ats timestamptz[], p_statuses text[], p_paid boolean[]
) returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: records lines of a statement. A line that is there already stays as it is, so that an interrupted run goes on.
-- Parameters: arrays of one length; p_line_nos, where the line begins in the file; p_paid, whether its status says that
--   the money has left.
-- Results: how many lines were new. OB003: no such statement, it was compared or voided already or another login began it, or a line
--   that was booked in another period.
declare
    s outbox.reconcile_statements;
    v_recorded integer;
    v_line record;
begin
    select r.* into s from outbox.reconcile_statements r where r.statement_id = p_statement_id
       and not exists (select from outbox.reconcile_comparisons c where c.statement_id = p_statement_id)
       and not exists (select from outbox.reconcile_voidings v where v.statement_id = p_statement_id);
    if not found then
        raise exception 'there is no statement % that takes lines', p_statement_id using errcode = 'OB003', column = 'statement_id';
    elsif s.run_by <> session_user then
        raise exception 'statement % was begun by %, who alone adds its lines', p_statement_id, s.run_by
            using errcode = 'OB003', column = 'statement_id', hint = 'begin it anew after: outboxd reconcile void';
    end if;
    select l.line_no, l.booked_at into v_line from unnest(p_line_nos, p_booked_ats) as l (line_no, booked_at)
     where l.booked_at < s.booked_from - s.slack_ms * interval '1 ms' or l.booked_at >= s.booked_until + s.slack_ms * interval '1 ms'
     order by l.line_no limit 1;
    if found then
        raise exception 'line % was booked at %, outside of the period', v_line.line_no, v_line.booked_at using errcode = 'OB003', column = 'booked_at';
    end if;
    insert into outbox.reconcile_lines
    select p_statement_id, l.line_no, s.rail, l.wire_key,
           -- With its dashes a UUID is longer than the 35 characters of ISO 20022.
           case when btrim(l.wire_key) ~* '^[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}$' then btrim(l.wire_key)::uuid end,
           l.rail_reference, l.amount_minor, l.currency, l.booked_at, l.status, l.is_paid
      from unnest(p_line_nos, p_wire_keys, p_rail_references, p_amounts, p_currencies, p_booked_ats, p_statuses, p_paid)
        as l (line_no, wire_key, rail_reference, amount_minor, currency, booked_at, status, is_paid)
    on conflict do nothing;
    get diagnostics v_recorded = row_count;
    return v_recorded;
end
$$;

create or replace function outbox.audit_guards() returns table (kind text, outbox_id uuid, detail text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the history tables and partitions whose append-only triggers are missing, do not fire for everybody and everything, or do not
--   refuse; the ledger's second line of defence; and whether the active policy is what was approved, and contracts are what it says. Internal to audit_outbox.
-- Hazard: a function of the same name that does nothing leaves the triggers as they were, so its body is compared with its hash.
    select 'HISTORY_UNGUARDED', null::uuid, t.relid::regclass || ': ' || n.name || case
               when g.tgenabled is null then ' is missing' when g.tgenabled <> 'A' then ' is ' || g.tgenabled::text else ' does not refuse' end
      from unnest(array['payment_outbox_identities', 'payment_outbox_instructions', 'payment_outbox_attempts', 'payment_outbox_late_outcomes',
                        'outbox_cluster', 'operator_actions', 'operator_action_members', 'operator_action_decisions', 'operator_action_results',
                        'reconcile_statements', 'reconcile_lines', 'reconcile_matches', 'reconcile_comparisons', 'reconcile_voidings',
                        'reconcile_breaks', 'reconcile_resolutions', 'audit_checkpoints', 'ingress_attestations', 'ingress_requests',
                        'revoked_client_certs', 'revoked_tokens', 'policy_documents', 'policy_decisions', 'policy_activations',
                        'partition_seals', 'partition_receipts']) as h (name)
     cross join lateral (select p.relid from pg_partition_tree(to_regclass('outbox.' || h.name)) as p
                         union select to_regclass('outbox.' || h.name)) as t (relid)
     -- Before each row of an update and a delete; before each truncate.
     cross join (values ('history_is_never_changed', 27), ('history_is_never_truncated', 34)) as n (name, fires)
      left join pg_trigger g on g.tgrelid = t.relid and g.tgname = n.name
     where (g.tgenabled, g.tgtype::integer, g.tgqual is null, g.tgfoid) is distinct from ('A'::"char", n.fires, true, 'outbox.refuse_history_change'::regproc::oid)
    union all
    select 'HISTORY_UNGUARDED', null, 'outbox.refuse_history_change() is not what it was'
      from pg_proc p
     where p.oid = 'outbox.refuse_history_change'::regproc
       and sha256(convert_to(p.prosrc, 'UTF8')) <> '\xb5835e80d2a88cb325a2abd0e2a63e72a1dc4964c2d205f18c214bc7afbe2eea'
    union all
    select 'POLICY_FORGED', null, f.fault from outbox.policy_faults() as f (fault)
    union all
    select 'ENDS_UNGUARDED', null, 'payment_outbox_attempts_one_terminal is missing, or not valid and unique'
     where not exists (select from pg_index x where x.indexrelid = to_regclass('outbox.payment_outbox_attempts_one_terminal')
                          and x.indrelid = 'outbox.payment_outbox_attempts'::regclass and x.indisvalid and x.indisunique
                          and pg_get_expr(x.indpred, x.indrelid) = $p$(state = ANY (ARRAY['DISPATCHED'::text, 'FAILED'::text, 'CANCELLED'::text]))$p$)
$$;

create or replace function outbox.follows_from_cause(a outbox.payment_outbox_attempts) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: whether an attempt is in a state that its outcome leads to, or a person's action that was applied to this payment. Internal
--   to audit_payments.
-- Hazard: what a kind of attempt cannot end in is recorded as it was reported, and counts as unknown (after_attempt).
    select case
        when a.kind = 'OPERATOR' then a.outcome is null and exists (
            select from outbox.operator_actions c
              join outbox.operator_action_members m on m.action_id = c.action_id and m.outbox_id = a.outbox_id
              join outbox.operator_action_results r on r.action_id = c.action_id and r.outbox_id = a.outbox_id and r.result = 'APPLIED'
             where c.action_id = a.lease_token
               and a.state = case c.kind when 'CANCEL' then 'CANCELLED' when 'RELEASE_AS_RESEND' then 'RETRYABLE'
                                         when 'RESOLVE_DISPATCHED' then 'DISPATCHED' when 'RESOLVE_FAILED' then 'FAILED' end)
        when a.state = 'LEASE_EXPIRED' then a.outcome is null
        else coalesce((select a.state in (outbox.attempt_state_after(e.outcome, false, false, true), outbox.attempt_state_after(e.outcome, false, true, true),
                                          outbox.attempt_state_after(e.outcome, true, false, false))
                         from (select case when a.kind = 'SUBMIT' and a.outcome in ('NOT_FOUND', 'INCONCLUSIVE')
                                             or a.kind = 'INQUIRE' and a.outcome in ('NOT_EXECUTED', 'KEY_REUSED')
                                           then 'UNKNOWN' else a.outcome end as outcome) as e), false)
    end
$$;

create or replace function outbox.audit_payments(p_from timestamptz, p_slice integer, p_swept_from uuid, p_swept_to uuid)
returns table (kind text, outbox_id uuid, detail text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
-- Purpose: the promises that payments break, in the snapshot of the caller's statement. Internal to audit_outbox.
-- Parameters: p_from, examines what has left the queue since the last audit, what was broken then, and what was enqueued or has ended an
--   attempt since; null, all. Besides, of what changed by itself nothing: p_slice, a sixtieth of the queue; p_swept_*, history.
-- Results: nothing of months that have left by receipt, which audit_receipts looks at; one row for each broken promise; EXAMINED for each payment that was looked at; FAILED_BUT_ACCEPTED and ACCEPTED_TWICE, which
--   break none of ours.
-- Hazard: each look-up below is by key and cannot become a join that reads a whole table. What is in the queue and was at the last audit
--   has changed only with an attempt: to look at all of it each time costs minutes where the queue is long.
declare
    v_lo uuid := outbox.outbox_id_floor(coalesce(p_from, 'epoch'));
begin
    return query
    with gone as materialized (
        select g.ids_from, g.ids_before from outbox.detached_id_ranges() as g
    ), suspects as materialized (
        select o.outbox_id from outbox.audit_open o left join outbox.payment_outbox_pending p on p.outbox_id = o.outbox_id
         where o.is_broken or p.outbox_id is null
        union select p.outbox_id from outbox.payment_outbox_pending p where p_from is null or get_byte(uuid_send(p.outbox_id), 15) % 60 = p_slice
        union select i.outbox_id from outbox.payment_outbox_instructions i where i.outbox_id >= v_lo
        union select a.outbox_id from outbox.payment_outbox_attempts a where a.outbox_id >= v_lo
        union select a.outbox_id from outbox.payment_outbox_attempts a where a.completed_at >= p_from
        union select i.outbox_id from outbox.payment_outbox_instructions i where i.outbox_id > p_swept_from and i.outbox_id <= p_swept_to
        union select a.outbox_id from outbox.payment_outbox_attempts a where a.outbox_id > p_swept_from and a.outbox_id <= p_swept_to
        union select d.outbox_id from outbox.payment_outbox_identities d where p_from is null
    ), seen as materialized (
        select s.outbox_id, i.rail is not null as is_instructed, sha256(i.payload) = i.payload_sha256 as is_true, d.identity_sha256 is not null as is_identified,
               outbox.payment_identity_sha256(i.rail, sha256(i.payload), i.content_type, i.amount_minor, i.currency, i.not_before, i.not_after, i.ordering_key)
                   = d.identity_sha256 as is_itself,
               i.attestation_id is not null as is_attested, t.allows,
               exists (select from outbox.partition_receipts r where r.holds = 'ATTESTATIONS' and i.attestation_id >= r.ids_from and i.attestation_id < r.ids_before)
                   as is_attested_elsewhere,
               p.rail is not null as is_pending, p.attempt_count, p.lease_token is not null as is_leased, l.*
          from (select t.outbox_id from suspects t
                 where not exists (select from gone g where t.outbox_id >= g.ids_from and t.outbox_id < g.ids_before)) as s
          left join lateral (select n.* from outbox.payment_outbox_instructions n where n.outbox_id = s.outbox_id limit 1) as i on true
          left join lateral (select e.identity_sha256 from outbox.payment_outbox_identities e
                              where e.participant_id = i.participant_id and e.instruction_id = i.instruction_id
                                and e.outbox_id = s.outbox_id limit 1) as d on true
          left join lateral (select n.decision = 'ACCEPTED' and n.participant_id = i.participant_id and n.instruction_id = i.instruction_id
                                    and n.payload_sha256 = i.payload_sha256 as allows
                               from outbox.ingress_attestations n
                              where i.attestation_id is not null and n.attestation_id = i.attestation_id limit 1) as t on true
          left join lateral (select q.rail, q.attempt_count, q.lease_token from outbox.payment_outbox_pending q
                              where q.outbox_id = s.outbox_id limit 1) as p on true
         cross join lateral (
             select count(*) as attempts, min(a.attempt_no) as first_no, max(a.attempt_no) as last_no,
                    count(*) filter (where a.state in ('DISPATCHED', 'FAILED', 'CANCELLED')) as ends,
                    max(a.attempt_no) filter (where a.state in ('DISPATCHED', 'FAILED', 'CANCELLED')) as end_no,
                    count(*) filter (where a.state = 'DISPATCHED' and coalesce(a.rail_reference, '') = '') as unreferenced,
                    min(a.attempt_no) filter (where not outbox.follows_from_cause(a)) as uncaused_no
               from outbox.payment_outbox_attempts a where a.outbox_id = s.outbox_id) as l
    )
    select b.kind, s.outbox_id, b.detail
      from seen s
     cross join lateral (values
        ('EXAMINED', true, null),
        ('LOST', not s.is_pending and s.ends = 0, 'neither pending nor ended'),
        ('PENDING_AND_ENDED', s.is_pending and s.ends > 0, 'ended by attempt ' || s.end_no),
        ('ENDED_TWICE', s.ends > 1, s.ends || ' terminal attempts'),
        ('ENDED_BEFORE_LAST', s.end_no < s.last_no, 'ended by attempt ' || s.end_no || ' of ' || s.last_no),
        ('ATTEMPTS_WITH_GAPS', s.attempts > 0 and (s.first_no <> 1 or s.attempts <> s.last_no),
            s.attempts || ' attempts from ' || s.first_no || ' to ' || s.last_no),
        ('LEDGER_AND_FENCE_DIFFER', s.is_pending and s.attempt_count <> coalesce(s.last_no, 0) + s.is_leased::integer,
            'attempt_count ' || s.attempt_count || ', last attempt ' || coalesce(s.last_no, 0)),
        ('WITHOUT_INSTRUCTION', not s.is_instructed, 'there is no instruction'),
        ('WITHOUT_IDENTITY', s.is_instructed and not s.is_identified, 'there is no identity'),
        ('PAYLOAD_DIFFERS', not s.is_true, 'the payload is not what payload_sha256 says'),
        ('INSTRUCTION_DIFFERS', s.is_true and not s.is_itself, 'rail, payload, amount, currency, times or key are not those of the enqueue'),
        ('ATTESTATION_DIFFERS', s.is_attested and not coalesce(s.allows, s.is_attested_elsewhere),
            'its attestation is not there, or is of a rejected request or of another participant, instruction or payload'),
        ('STATE_WITHOUT_CAUSE', s.uncaused_no is not null,
            'attempt ' || s.uncaused_no || ': no outcome leads to its state, or no person''s action'),
        ('DISPATCHED_WITHOUT_REFERENCE', s.unreferenced > 0, 'dispatched, and no reference')) as b (kind, is_so, detail)
     where b.is_so
    union all
    select c.kind, c.outbox_id, c.detail from outbox.contradicted_payments() c
    union all
    select 'CANCELLED_BUT_ACCEPTED', c.outbox_id, 'it was cancelled as certainly never sent, and the rail accepted it'
      from outbox.contradicted_payments() c
     where c.kind = 'FAILED_BUT_ACCEPTED'
       and exists (select from outbox.payment_outbox_attempts a where a.outbox_id = c.outbox_id and a.state = 'CANCELLED');
end
$$;

create or replace function outbox.audit_outbox(p_full boolean default false, p_findings_max integer default 1000) returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
-- Purpose: looks whether the promises hold, for what may have changed since the audits before, or for everything. Records that it did.
-- Parameters: p_full, everything, as the first audit always does; p_findings_max, how many are listed; all are counted.
-- Results: a document with `breaches`, how many promises are broken, and `findings`. What is broken is looked at again by every
--   audit until it is mended. Where the rail contradicts our books is a finding of every audit, and no breach.
-- Locks taken: one of its own, so that audits follow each other.
--   A run that is not full looks besides at a sixtieth of the queue and at the next thousand payments of history, so that in time all is
--   looked at again.
-- Hazards: where to begin is told by transactions, not by the clock alone. What the last audit did not see has an id of
--   at least its snapshot's xmin; an earlier audit whose own id is below that ran before those transactions wrote anything. A
--   clock is read up to a minute before the first write. Without such an audit, an hour is taken for the longest transaction.
declare
    v_from timestamptz;
    v_at timestamptz;
    v_last outbox.audit_checkpoints;
    v_swept_to uuid;
    v_identities bigint;
    v_missing bigint := 0;
    v_result jsonb;
begin
    perform pg_advisory_xact_lock(1869968487::bigint << 32);
    select * into v_last from outbox.audit_checkpoints l order by l.checkpoint_no desc limit 1;
    if not p_full and found then
        v_from := coalesce((select max(c.audited_at) - interval '1 minute' from outbox.audit_checkpoints c where c.xact_id < v_last.snapshot_xmin),
                           v_last.audited_at - interval '1 hour');
        v_swept_to := (select max(h.outbox_id::text)::uuid from (select i.outbox_id from outbox.payment_outbox_instructions i
                        where i.outbox_id > coalesce(v_last.swept_to, '00000000-0000-0000-0000-000000000000') order by i.outbox_id limit 1000) as h);
    end if;
    -- Before the snapshot that the next audits reckon from.
    v_at := clock_timestamp();
    if v_from is null then
        -- Below a time that is past identities can only become more. Those that are gone stay missing.
        select greatest(c.identities - (select count(*) from outbox.payment_outbox_identities d where d.outbox_id < outbox.outbox_id_floor(c.audited_at)), 0)
          into v_missing from outbox.audit_checkpoints c where c.identities is not null order by c.checkpoint_no desc limit 1;
        v_missing := coalesce(v_missing, 0);
        v_identities := v_missing + (select count(*) from outbox.payment_outbox_identities d where d.outbox_id < outbox.outbox_id_floor(v_at));
    end if;
    with found as materialized (
        select * from outbox.audit_payments(v_from, coalesce(v_last.checkpoint_no, 0) % 60,
                                            coalesce(v_last.swept_to, '00000000-0000-0000-0000-000000000000'), v_swept_to)
        union all
        select * from outbox.audit_guards()
        union all
        select * from outbox.audit_receipts(v_from is null)
        union all
        select 'FEWER_THAN_BEFORE', null, v_missing || ' identities are gone' where v_missing > 0
    ), broken as materialized (
        select * from found f where f.kind not in ('EXAMINED', 'FAILED_BUT_ACCEPTED', 'ACCEPTED_TWICE', 'ACCEPTED_WHEN_DETACHED')
    ), open as materialized (
        select p.outbox_id, exists (select from broken b where b.outbox_id = p.outbox_id) as is_broken from outbox.payment_outbox_pending p
        union
        select b.outbox_id, true from broken b where b.outbox_id is not null
    ), forgotten as (
        delete from outbox.audit_open o where not exists (select from open n where n.outbox_id = o.outbox_id)
    ), kept as (
        insert into outbox.audit_open
        select n.outbox_id, n.is_broken from open n left join outbox.audit_open o on o.outbox_id = n.outbox_id
         where o.is_broken is distinct from n.is_broken
        on conflict (outbox_id) do update set is_broken = excluded.is_broken
    ), checkpoint as (
        insert into outbox.audit_checkpoints (is_full, changed_from, snapshot_xmin, xact_id, examined, pending, identities, detached, swept_to, breaches,
                                              audited_by, audited_at)
        select v_from is null, coalesce(v_from, '-infinity'), pg_snapshot_xmin(pg_current_snapshot()), pg_current_xact_id(),
               (select count(*) from found f where f.kind = 'EXAMINED'), (select count(*) from outbox.payment_outbox_pending),
               v_identities, (select coalesce(sum(r.payment_count), 0) from outbox.partition_receipts r
                                where r.parent_name = 'payment_outbox_instructions' and outbox.detached_as(r.ids_from) is not null), v_swept_to, (select count(*) from broken), session_user, v_at
        returning *
    )
    select jsonb_build_object('at', c.audited_at, 'is_full', c.is_full, 'from', v_from, 'examined', c.examined, 'pending', c.pending,
               'identities', c.identities, 'detached', c.detached, 'breaches', c.breaches,
               'findings', (select coalesce(jsonb_agg(to_jsonb(l)), '[]')
                              from (select f.kind, f.outbox_id, f.detail, f.kind not in ('FAILED_BUT_ACCEPTED', 'ACCEPTED_TWICE', 'ACCEPTED_WHEN_DETACHED') as is_breach
                                      from found f where f.kind <> 'EXAMINED'
                                     order by f.kind in ('FAILED_BUT_ACCEPTED', 'ACCEPTED_TWICE', 'ACCEPTED_WHEN_DETACHED'), f.kind, f.outbox_id limit p_findings_max) as l))
      into v_result from checkpoint c;
    return v_result;
end
$$;

create or replace function outbox.check_epoch(p_environment text, p_seen_epoch_us bigint, p_seen_log_position bigint, p_memory_id uuid, p_seen_beat bigint)
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: whether a claim would be refused because this is not the cluster on record or is older than it was, without
--   claiming.
-- Parameters: p_environment, what the dispatcher is configured for; null counts as ''; the rest, what the dispatcher
--   remembers, as in a claim; 0, 0, null, 0: nothing.
-- Results: nothing, or raises OB011 or OB015 as a claim would.
begin
    perform outbox.refuse_other_epoch(p_environment, p_seen_epoch_us, p_seen_log_position, p_memory_id, p_seen_beat);
end
$$;

create or replace function outbox.read_outbox_health() returns table (running text[], lanes text[], silent text[], partition_headroom_months integer)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: who dispatches, and for how long payments can be enqueued, in one row; no payment is read.
-- Results: running, the dispatchers that claim and have missed no three heartbeats; lanes, their rails; silent, those that
--   missed three within a day and were not stopped.
    with shown as materialized (
        select d.worker_id, d.state, d.lanes, d.heartbeat_at,
               d.heartbeat_at < clock_timestamp() - 3 * d.heartbeat_interval_ms * interval '1 ms' as is_late
          from outbox.outbox_dispatchers d
    )
    select array(select s.worker_id from shown s where s.state = 'RUNNING' and not s.is_late order by 1),
           array(select distinct l.rail from shown s cross join unnest(s.lanes) as l (rail)
                  where s.state = 'RUNNING' and not s.is_late order by 1),
           array(select s.worker_id from shown s
                  where s.state <> 'STOPPED' and s.is_late and s.heartbeat_at > clock_timestamp() - interval '1 day' order by 1),
           outbox.partition_headroom_months()
$$;

create or replace function outbox.resolve_reconcile_breaks(p_break_ids uuid[], p_reason text, p_action_id uuid default null) returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: a person closes breaks, all or none.
-- Parameters: p_reason, how they were cleared; p_action_id, the operator action that cleared them, and was applied to each payment.
-- Results: how many. OB003: a bad value, no such break or action, one that is closed already, or whose payment the action was not
--   applied to. OB012: the login that ran the statement does not close what it found.
declare
    v_ids uuid[] := array(select distinct u.id from unnest(p_break_ids) as u (id) order by 1);
    v_id uuid;
    v_closed integer;
begin
    if coalesce(p_reason, '') !~ '\S' then
        raise exception 'a resolution needs a reason' using errcode = 'OB003', column = 'reason';
    elsif p_action_id is not null and not exists (select from outbox.operator_actions a where a.action_id = p_action_id) then
        raise exception 'there is no action %', p_action_id using errcode = 'OB003', column = 'action_id';
    end if;
    select u.id into v_id from unnest(v_ids) as u (id) where not exists (select from outbox.reconcile_breaks b where b.break_id = u.id) limit 1;
    if found then
        raise exception 'there is no break %', v_id using errcode = 'OB003', column = 'break_id';
    end if;
    select b.break_id into v_id from outbox.reconcile_breaks b
      join outbox.reconcile_statements s on s.statement_id = b.statement_id and s.run_by = session_user
     where b.break_id = any (v_ids) limit 1;
    if found then
        raise exception 'break % was found by a statement that % ran: another login closes it', v_id, session_user
            using errcode = 'OB012', column = 'break_id';
    end if;
    select b.break_id into v_id from outbox.reconcile_breaks b
     where b.break_id = any (v_ids) and p_action_id is not null
       and not exists (select from outbox.operator_action_results r
                        where r.action_id = p_action_id and r.outbox_id = b.outbox_id and r.result = 'APPLIED') limit 1;
    if found then
        raise exception 'action % was not applied to the payment of break %', p_action_id, v_id using errcode = 'OB003', column = 'action_id';
    end if;
    insert into outbox.reconcile_resolutions
    select u.id, p_reason, p_action_id, null, session_user, clock_timestamp(),
           (select count(*) + 1 from outbox.reconcile_resolutions r where r.break_id = u.id)
      from unnest(v_ids) as u (id)
     where not exists (select from outbox.reconcile_closed c where c.break_id = u.id)
    on conflict do nothing;
    get diagnostics v_closed = row_count;
    if v_closed <> cardinality(v_ids) then
        raise exception '% of % breaks are closed already', cardinality(v_ids) - v_closed, cardinality(v_ids) using errcode = 'OB003', column = 'break_id';
    end if;
    return v_closed;
end
$$;

create or replace function outbox.void_reconcile_statement(p_statement_id uuid, p_reason text) returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: a statement that should not have been recorded counts no more: not for the cover, not as the other booking of a payment, not
--   for what it closed. What it judged is judged again, and statements that overlap are compared again. Its breaks stay open, for a
--   person to close: voiding hides nothing.
-- Results: how many breaks that it had closed are open again. OB003: a bad value, no such statement, or it is void already.
-- Locks taken: the one of comparisons.
-- Hazard: a payment may end a little before its booking by the two clocks, and was looked for up to 7 days around it.
declare
    s outbox.reconcile_statements;
    v_judged_until timestamptz;
begin
    perform pg_advisory_xact_lock(outbox.reconcile_lock_key());
    select * into s from outbox.reconcile_statements r where r.statement_id = p_statement_id;
    if not found then
        raise exception 'there is no statement %', p_statement_id using errcode = 'OB003', column = 'statement_id';
    elsif coalesce(p_reason, '') !~ '\S' then
        raise exception 'a voiding needs a reason' using errcode = 'OB003', column = 'reason';
    end if;
    if exists (select from outbox.reconcile_comparisons c where c.statement_id = p_statement_id) then
        v_judged_until := least(outbox.reconcile_judged_until(s.rail), s.booked_from - interval '7 days');
    end if;
    insert into outbox.reconcile_voidings values (p_statement_id, p_reason, v_judged_until, session_user, clock_timestamp()) on conflict do nothing;
    if not found then
        raise exception 'statement % is void already', p_statement_id using errcode = 'OB003', column = 'statement_id';
    end if;
    -- What it had found stood for the same in statements that overlap: they have to find it themselves.
    perform outbox.finish_reconcile(t.statement_id, 2147483647) from outbox.reconcile_counted t
      where t.rail = s.rail and t.booked_from < s.booked_until and t.booked_until > s.booked_from;
    return (select count(*) from outbox.reconcile_resolutions r where r.statement_id = p_statement_id);
end
$$;

create or replace function outbox.credential_revoked_at(p_fingerprint bytea, p_key_id text, p_jwt_iss text, p_jti text) returns timestamptz
language sql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
-- Purpose: since when one of the names of a credential is on a deny list; null if none is. Internal to record_ingress_attestation,
--   enqueue and the timelines.
-- Parameters: the SHA-256 of a client certificate, the id of a key, the issuer of a token, the id of a token; null for what there is not. An entry for
--   one issuer counts for a credential without one, too.
-- Hazard: asked for each payment that comes with an attestation, so it goes by the index whatever the planner believes of the lists.
    select min(r.revoked_at)
      from (select c.revoked_at, c.expires_at from outbox.revoked_client_certs c where c.fingerprint = p_fingerprint
            union all
            select t.revoked_at, t.expires_at from outbox.revoked_tokens t where t.jti = p_jti and coalesce(t.jwt_iss = p_jwt_iss, true)
            union all
            select k.revoked_at, k.expires_at from outbox.revoked_tokens k where k.key_id = p_key_id and coalesce(k.jwt_iss = p_jwt_iss, true)) as r
     where r.expires_at is null or r.expires_at > clock_timestamp()
$$;

create or replace function outbox.refuse_bad_attestation(p_a outbox.ingress_attestations) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: refuses an attestation that has a bad value, naming the column. Internal to record_ingress_attestation.
-- Results: nothing, or raises OB003.
-- Hazard: a whole token (RFC 7519, RFC 7515: three parts, the first beginning with eyJ) is a secret, or carries the payload. No
--   column takes one: a token is named by its jti, and of a JWS only the signature is kept, or the detached form.
declare
    c_token constant text := '^eyJ[-_A-Za-z0-9]*\.[-_A-Za-z0-9]+\.[-_A-Za-z0-9]*$';
    v_bad record;
begin
    select f.place, case when f.value ~ c_token then 'must not be a token: name it by its id'
                         else format('must have %s to %s characters', f.low, f.high) end as fault into v_bad
      from (values ('request_id', p_a.request_id, 1, 200), ('participant_id', p_a.participant_id, 1, 200),
                   ('instruction_id', coalesce(p_a.instruction_id, '-'), 1, 200), ('tenant_id', coalesce(p_a.tenant_id, '-'), 1, 200),
                   ('key_id', coalesce(p_a.key_id, '-'), 1, 200), ('jwt_iss', coalesce(p_a.jwt_iss, '-'), 1, 256),
                   ('jti', coalesce(p_a.jti, '-'), 1, 256), ('signature_alg', coalesce(p_a.signature_alg, '-'), 1, 64),
                   ('policy_version', coalesce(p_a.policy_version, '-'), 1, 128)) as f (place, value, low, high)
     where coalesce(length(f.value), 0) not between f.low and f.high or f.value ~ c_token
     limit 1;
    if not found then
        select f.place, f.fault into v_bad
          from (values
            ('received_at', case when not coalesce(isfinite(p_a.received_at), false) then 'must be a finite time' end),
            ('payload_sha256', case when coalesce(octet_length(p_a.payload_sha256), 0) <> 32 then 'must have 32 bytes' end),
            ('client_cert_fingerprint', case when octet_length(p_a.client_cert_fingerprint) <> 32 then 'must be the SHA-256 of the certificate, 32 bytes' end),
            ('signature', case when octet_length(p_a.signature) not between 1 and 4096 then 'must have 1 to 4096 bytes'
                               when encode(p_a.signature, 'escape') ~ c_token then 'must not be a whole token: it carries what was signed' end),
            ('auth_method', case when coalesce(p_a.auth_method, '') not in ('MTLS', 'JWS', 'JWT', 'HTTPSIG', 'HMAC', 'APIKEY', 'SSH', 'NONE')
                                 then 'must be MTLS, JWS, JWT, HTTPSIG, HMAC, APIKEY, SSH or NONE' end),
            ('decision', case when coalesce(p_a.decision, '') not in ('ACCEPTED', 'REJECTED') then 'must be ACCEPTED or REJECTED' end),
            ('reason_code', case when p_a.reason_code !~ '^[A-Z][A-Z0-9_]{0,63}$' then 'must be 1 to 64 of A-Z, 0-9 and _, beginning with a letter'
                                 when p_a.decision = 'REJECTED' and p_a.reason_code is null then 'is required for what is rejected' end),
            ('instruction_id', case when p_a.decision = 'ACCEPTED' and p_a.instruction_id is null then 'is required for what is accepted' end),
            ('auth_method', case when p_a.decision = 'ACCEPTED' and p_a.auth_method = 'NONE' then 'is NONE: nothing is accepted without a proof' end),
            ('client_cert_fingerprint', case when p_a.decision = 'ACCEPTED' and p_a.auth_method = 'MTLS' and p_a.client_cert_fingerprint is null
                                             then 'is required: what has no name cannot be revoked' end),
            ('jti', case when p_a.decision = 'ACCEPTED' and p_a.auth_method = 'JWT' and num_nonnulls(p_a.jti, p_a.key_id) = 0
                         then 'or key_id is required: what has no name cannot be revoked' end),
            ('key_id', case when p_a.decision = 'ACCEPTED' and p_a.auth_method not in ('MTLS', 'JWT', 'NONE') and p_a.key_id is null
                            then 'is required: what has no name cannot be revoked' end)) as f (place, fault)
         where f.fault is not null
         limit 1;
    end if;
    if found then
        raise exception 'attestation: % %', v_bad.place, v_bad.fault
            using errcode = 'OB003', column = v_bad.place, schema = 'outbox', hint = 'nothing is recorded';
    end if;
end
$$;

create or replace function outbox.record_ingress_attestation(
    p_request_id text, p_participant_id text, p_instruction_id text, p_received_at timestamptz, p_payload_sha256 bytea,
    p_auth_method text, p_decision text, p_reason_code text default null, p_tenant_id text default null,
    p_client_cert_fingerprint bytea default null, p_key_id text default null, p_jwt_iss text default null, p_jti text default null,
    p_signature_alg text default null, p_signature bytea default null, p_policy_version text default null
) returns table (attestation_id uuid, decision text, reason_code text, created boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
-- Purpose: records whose request was let in or turned away at the entrance, and by which proof. In the caller's transaction.
-- Parameters: p_payload_sha256, over the bytes that are enqueued; p_client_cert_fingerprint, SHA-256 of the certificate (DER);
--   p_policy_version, the entrance's own, else the active one is recorded; p_signature, at most 4096 bytes, without what was signed. Never a payload, never a token, key or password.
-- Results: the decision, which is REJECTED for the reason REVOKED where the credential is on a deny list, whatever the caller said.
--   The same participant, request and content returns the first row, but for received_at, which a repetition brings anew; if its
--   credential was revoked since, the answer is REJECTED and the row stays as it was. OB020: the request with other content. OB003: a bad value.
-- Locks taken: the request's identity.
-- Hazard: "look first, then insert" records twice under concurrency. The primary key of ingress_requests decides, as for enqueue.
declare
    v_now timestamptz := clock_timestamp();
    v_id uuid := outbox.new_outbox_id();
    v_revoked boolean := outbox.credential_revoked_at(p_client_cert_fingerprint, p_key_id, p_jwt_iss, p_jti) is not null;
    v_content bytea := (select sha256(string_agg(coalesce(int4send(octet_length(f.value)) || f.value, int4send(-1)), ''::bytea order by f.place))
                          from (values (1, convert_to(p_instruction_id, 'UTF8')), (2, convert_to(p_tenant_id, 'UTF8')), (3, p_payload_sha256),
                                       (4, convert_to(p_auth_method, 'UTF8')), (5, p_client_cert_fingerprint), (6, convert_to(p_key_id, 'UTF8')),
                                       (7, convert_to(p_jwt_iss, 'UTF8')), (8, convert_to(p_jti, 'UTF8')), (9, convert_to(p_signature_alg, 'UTF8')),
                                       (10, p_signature), (11, convert_to(p_decision, 'UTF8')), (12, convert_to(p_reason_code, 'UTF8')),
                                       (13, convert_to(p_policy_version, 'UTF8'))) as f (place, value));
    v_row outbox.ingress_attestations;
    v_first record;
begin
    v_row := row(v_id, p_request_id, p_instruction_id, p_participant_id, p_tenant_id, p_received_at, p_payload_sha256, p_auth_method,
                 p_client_cert_fingerprint, p_key_id, p_jwt_iss, p_jti, p_signature_alg, p_signature, p_decision, p_reason_code, coalesce(p_policy_version, outbox.active_policy_version()::text),
                 session_user, v_now);
    perform outbox.refuse_bad_attestation(v_row);
    insert into outbox.ingress_requests values (p_participant_id, p_request_id, v_id, v_content)
        on conflict on constraint ingress_requests_pkey do nothing;
    -- A new statement: it sees what a concurrent caller committed while the insert waited for it.
    select q.attestation_id, q.content_sha256 into v_first from outbox.ingress_requests q
     where q.participant_id = p_participant_id and q.request_id = p_request_id;
    if v_first.content_sha256 <> v_content then
        raise exception 'request % is already recorded with other content, as %', quote_literal(p_request_id), v_first.attestation_id
            using errcode = 'OB020', column = 'request_id', hint = 'another request needs another request_id';
    end if;
    created := v_first.attestation_id = v_id;
    if created then
        if v_revoked then
            v_row.decision := 'REJECTED';
            v_row.reason_code := 'REVOKED';
        end if;
        insert into outbox.ingress_attestations values (v_row.*);
    else
        v_id := v_first.attestation_id;
        select a.* into v_row from outbox.ingress_attestations a where a.attestation_id = v_id;
        if not found then
            raise exception 'request % is already recorded, and its attestation is kept no more', quote_literal(p_request_id)
                using errcode = 'OB020', column = 'request_id', hint = 'another request needs another request_id';
        end if;
    end if;
    attestation_id := v_id;
    decision := case when v_revoked then 'REJECTED' else v_row.decision end;
    reason_code := case when v_revoked and v_row.decision = 'ACCEPTED' then 'REVOKED' else v_row.reason_code end;
    return next;
end
$$;

create or replace function outbox.refuse_unattested_payments(
    p_ids uuid[], p_first_ids uuid[], p_participant_ids text[], p_instruction_ids text[], p_rails text[], p_payloads bytea[], p_attestation_ids uuid[]
) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
as $$
-- Purpose: refuses a batch in which a new payment lacks an attestation that its rail requires, or has one that does not allow it, naming the
--   first. Internal to enqueue, and not called where no rail requires one and none is given.
-- Parameters: p_ids, p_first_ids: alike for what is new. What is recorded already is not judged again: who repeats an enqueue after a lost
--   reply has to hear that the payment is there, whatever was revoked since.
-- Results: nothing, or raises OB021 (none that allows this payment) or OB022 (its credential is revoked).
-- Hazard: the ids are given by a caller: a constant range of them lets the plan open the months it needs and no others.
declare
    v_sorted uuid[] := array(select a.id from unnest(p_attestation_ids) as a (id) where a.id is not null order by a.id);
    v_lo uuid := v_sorted[1];
    v_hi uuid := v_sorted[cardinality(v_sorted)];
    v_bad record;
begin
    select c.ordinal, f.fault into v_bad
      from unnest(p_ids, p_first_ids, p_participant_ids, p_instruction_ids, p_rails, p_payloads, p_attestation_ids) with ordinality
           as c (id, first_id, participant_id, instruction_id, rail, payload, attestation_id, ordinal)
      left join lateral (select n.attestation_id, n.participant_id, n.instruction_id, n.payload_sha256, n.decision,
                                n.client_cert_fingerprint, n.key_id, n.jwt_iss, n.jti
                           from outbox.ingress_attestations n
                          where n.attestation_id = c.attestation_id and n.attestation_id between v_lo and v_hi limit 1) as a on true
     cross join lateral (select case
         when c.attestation_id is null then (select 'is required by the contract of the rail' from outbox.payment_rails r
                                              where r.rail = c.rail and r.require_attestation)
         when a.attestation_id is null then 'names no attestation that is recorded'
         when a.decision <> 'ACCEPTED' then 'names a request that was rejected'
         when a.participant_id <> c.participant_id then 'is of another participant'
         when a.instruction_id <> c.instruction_id then 'is of another instruction'
         when a.payload_sha256 <> sha256(c.payload) then 'is of another payload'
         when outbox.credential_revoked_at(a.client_cert_fingerprint, a.key_id, a.jwt_iss, a.jti) is not null then 'rests on a credential that is revoked'
         end) as f (fault)
     where c.id = c.first_id and f.fault is not null
     order by c.ordinal
     limit 1;
    if found then
        raise exception 'payment % of the batch: attestation_id %', v_bad.ordinal, v_bad.fault
            using errcode = case when v_bad.fault like '%revoked' then 'OB022' else 'OB021' end, column = 'attestation_id', schema = 'outbox',
                  hint = 'nothing of the batch is recorded; see record_ingress_attestation';
    end if;
end
$$;

create or replace function outbox.revoke_client_cert(p_fingerprint bytea, p_reason text, p_expires_at timestamptz default null)
returns table (revocation_id uuid, revoked_at timestamptz, created boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
-- Purpose: puts a client certificate on the deny list, beside what its PKI says of it. From its commit on no request is accepted by it, no
--   attestation that rests on it lets a payment in, and a dispatcher that shows it leaves its rail alone.
-- Parameters: p_fingerprint, SHA-256 of the certificate (DER); p_expires_at, until when the entry counts: not before the certificate itself
--   ends; null, for ever. No entry is taken back.
-- Results: the entry; not created if one that counts as long is there already.
begin
    if coalesce(octet_length(p_fingerprint), 0) <> 32 then
        raise exception 'a fingerprint is the SHA-256 of the certificate, 32 bytes' using errcode = 'OB003', column = 'fingerprint';
    elsif coalesce(p_reason, '') !~ '\S' or length(p_reason) > 1000 then
        raise exception 'a revocation needs a reason of at most 1000 characters' using errcode = 'OB003', column = 'reason';
    elsif p_expires_at <= clock_timestamp() or not isfinite(p_expires_at) then
        raise exception 'expires_at is past, or no time' using errcode = 'OB003', column = 'expires_at';
    end if;
    select c.revocation_id, c.revoked_at into revocation_id, revoked_at from outbox.revoked_client_certs c
     where c.fingerprint = p_fingerprint and (c.expires_at is null or c.expires_at >= p_expires_at) order by c.revoked_at limit 1;
    created := not found;
    if created then
        revocation_id := outbox.new_outbox_id();
        revoked_at := clock_timestamp();
        insert into outbox.revoked_client_certs values (revocation_id, p_fingerprint, revoked_at, p_reason, session_user, p_expires_at);
    end if;
    return next;
end
$$;

create or replace function outbox.revoke_token(p_jti text, p_key_id text, p_jwt_iss text, p_reason text, p_expires_at timestamptz default null)
returns table (revocation_id uuid, revoked_at timestamptz, created boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
-- Purpose: puts a token, or a key with all that it signs, on the deny list, beside what its issuer says of it. See revoke_client_cert.
-- Parameters: p_jti or p_key_id, one of them; p_jwt_iss, of this issuer only, null for any: an id may be unique for its issuer alone;
--   p_expires_at, not before the token itself ends; null, for ever.
-- Results: the entry; not created if one that counts as long, for as many issuers, is there already.
begin
    if num_nonnulls(p_jti, p_key_id) <> 1 or length(coalesce(p_jti, p_key_id)) not between 1 and 256 or length(p_jwt_iss) not between 1 and 256 then
        raise exception 'a revocation names either the id of a token or the id of a key, of 1 to 256 characters' using errcode = 'OB003', column = 'jti';
    elsif coalesce(p_reason, '') !~ '\S' or length(p_reason) > 1000 then
        raise exception 'a revocation needs a reason of at most 1000 characters' using errcode = 'OB003', column = 'reason';
    elsif p_expires_at <= clock_timestamp() or not isfinite(p_expires_at) then
        raise exception 'expires_at is past, or no time' using errcode = 'OB003', column = 'expires_at';
    end if;
    select r.revocation_id, r.revoked_at into revocation_id, revoked_at
      from (select t.* from outbox.revoked_tokens t where t.jti = p_jti
            union all select k.* from outbox.revoked_tokens k where k.key_id = p_key_id) as r
     where (r.expires_at is null or r.expires_at >= p_expires_at) and (r.jwt_iss is null or r.jwt_iss = p_jwt_iss) order by r.revoked_at limit 1;
    created := not found;
    if created then
        revocation_id := outbox.new_outbox_id();
        revoked_at := clock_timestamp();
        insert into outbox.revoked_tokens values (revocation_id, p_jti, p_key_id, p_jwt_iss, revoked_at, p_reason, session_user, p_expires_at);
    end if;
    return next;
end
$$;

create or replace function outbox.read_revoked_client_certs(p_fingerprints bytea[]) returns table (
    fingerprint bytea, revoked_at timestamptz, revoked_by text, reason text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
-- Purpose: which of these client certificates are revoked, each with its first entry that counts. Dispatchers ask for their own.
    select r.fingerprint, r.revoked_at, r.revoked_by, r.reason
      from unnest(p_fingerprints) as g (fingerprint)
     cross join lateral (select c.* from outbox.revoked_client_certs c
                          where c.fingerprint = g.fingerprint and (c.expires_at is null or c.expires_at > clock_timestamp())
                          order by c.revoked_at limit 1) as r
$$;

create or replace function outbox.actions_on_payment(p_outbox_id uuid, p_participant_id text, p_instruction_id text) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: what people did to a payment, or want to: each action that names it, with the second person's word and what came of it, oldest
--   first; and the redrive of an earlier generation of the instruction that made it. Internal to read_payment_timelines.
    select coalesce(jsonb_agg(jsonb_build_object(
               'action_id', o.action_id, 'kind', o.kind, 'reason', o.reason, 'evidence', o.evidence, 'needs_approval', o.needs_approval,
               'proposed_by', o.proposed_by, 'proposed_at', o.proposed_at, 'decision', d.decision, 'decision_reason', d.reason,
               'decided_by', d.decided_by, 'decided_at', d.decided_at, 'result', s.result, 'detail', s.detail, 'new_outbox_id', s.new_outbox_id,
               'applied_by', s.applied_by, 'applied_at', s.applied_at) order by o.proposed_at, o.action_id), '[]')
      from outbox.operator_action_members m
      join outbox.operator_actions o on o.action_id = m.action_id
      left join outbox.operator_action_decisions d on d.action_id = m.action_id
      left join outbox.operator_action_results s on s.action_id = m.action_id and s.outbox_id = m.outbox_id
     where m.outbox_id = any (array(select n.outbox_id from outbox.payment_outbox_identities n
                                     where n.participant_id = p_participant_id and n.instruction_id = p_instruction_id))
       and (m.outbox_id = p_outbox_id or s.new_outbox_id = p_outbox_id)
$$;
create or replace function outbox.propose_policy(p_document text, p_reason text)
returns table (version integer, checksum text, base_version integer)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
-- Purpose: records a policy that a person wants, against the one that is active now. Nothing changes yet.
-- Parameters: p_document, canonical JSON (docs/OPERATIONS.md, The policy): outboxd checks and writes it; what the database acts by is checked here.
-- Locks taken: proposals follow each other, so that versions are 1..n without gaps.
-- Results: its version, the checksum that an approval repeats, and the version that is active. OB003: a bad value, by name.
declare
    v_document jsonb := p_document::jsonb;
    v_columns text[] := array(select c.name from jsonb_object_keys(to_jsonb(jsonb_populate_record(null::outbox.payment_rails, '{}'))) as c (name)
                               where c.name not in ('rail', 'changed_at', 'changed_by', 'policy_version') order by c.name);
    v_bad record;
begin
    if coalesce(p_reason, '') !~ '\S' then
        raise exception 'a policy needs a reason' using errcode = 'OB003', column = 'reason';
    elsif coalesce(jsonb_typeof(v_document), '') <> 'object' or v_document -> 'format' is distinct from '1' or coalesce(jsonb_typeof(v_document -> 'rails'), '') <> 'object'
          or v_document -> 'rails' = '{}' then
        raise exception 'a policy is an object with format 1 and at least one of rails' using errcode = 'OB003', column = 'document';
    end if;
    select r.rail, m.name into v_bad
      from jsonb_each(v_document -> 'rails') as r (rail, decisions)
      left join unnest(v_columns) as m (name) on not coalesce(r.decisions -> 'contract' ? m.name, false)
     where m.name is not null or coalesce(jsonb_typeof(r.decisions -> 'contract'), '') <> 'object'
     order by 1, 2 limit 1;
    if found then
        raise exception 'rail %: the contract has no %', v_bad.rail, coalesce(v_bad.name, 'values') using errcode = 'OB003', column = 'document';
    end if;
    -- Every value has the type of its column; whether it is one that the column takes is found out by the activation.
    perform from outbox.policy_contracts(p_document);
    lock table outbox.policy_documents in share row exclusive mode;
    insert into outbox.policy_documents as d (version, document, checksum, base_version, reason, proposed_by, proposed_at)
    values ((select count(*) + 1 from outbox.policy_documents), p_document, sha256(convert_to(p_document, 'UTF8')), outbox.active_policy_version(), p_reason, session_user, clock_timestamp())
    returning d.version, encode(d.checksum, 'hex'), d.base_version into version, checksum, base_version;
    return next;
end
$$;

create or replace function outbox.decide_policy(p_version integer, p_decision text, p_checksum text, p_reason text) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the second person's word on a policy. Maker and checker are different database logins.
-- Parameters: p_decision, APPROVED or REJECTED; p_checksum, in hexadecimal, of the document that the checker saw: it binds the decision to it.
-- Results: nothing, or raises OB012 (the maker's own), OB013 (decided already), OB016 (another is active than when it was proposed), OB003
--   (another document, no such version, no reason).
declare
    v_policy outbox.policy_documents;
begin
    select * into v_policy from outbox.policy_documents d where d.version = p_version;
    if not found then
        raise exception 'there is no policy version %', p_version using errcode = 'OB003';
    elsif v_policy.proposed_by = session_user then
        raise exception 'policy version % was proposed by % and needs another person', p_version, session_user using errcode = 'OB012',
            hint = 'maker and checker are different database logins';
    elsif p_decision is null or p_decision not in ('APPROVED', 'REJECTED') then
        raise exception 'a decision is APPROVED or REJECTED' using errcode = 'OB003';
    elsif coalesce(p_reason, '') !~ '\S' then
        raise exception 'a decision needs a reason' using errcode = 'OB003', column = 'reason';
    elsif p_checksum is distinct from encode(sha256(convert_to(v_policy.document, 'UTF8')), 'hex') then
        raise exception 'policy version % is not the document that was to be decided on', p_version using errcode = 'OB003',
            hint = 'look at it again: outboxd policy show VERSION';
    elsif p_decision = 'APPROVED' and v_policy.base_version is distinct from outbox.active_policy_version() then
        raise exception 'policy version % was proposed against %, which is not active any more', p_version, coalesce('version ' || v_policy.base_version, 'none')
            using errcode = 'OB016', hint = 'compare it with the active one, and propose it again: outboxd policy propose';
    end if;
    insert into outbox.policy_decisions values (p_version, p_decision, v_policy.checksum, p_reason, session_user, clock_timestamp())
        on conflict (version) do nothing;
    if not found then
        raise exception 'policy version % is decided already', p_version using errcode = 'OB013';
    end if;
end
$$;

create or replace function outbox.activate_policy(p_version integer, p_reason text) returns table (rail text, is_governed boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
-- Purpose: puts an approved policy in force: writes each contract of it into payment_rails, and takes the stamp from every other rail, which
--   is claimed no more.
-- Results: every rail, and whether the policy has it. OB003 (no such version, no reason), OB012 (maker and checker are one login), OB014 (not approved), OB016
--   (another is active than when it was proposed), 23514 (a value that a contract does not take, by the name of what it breaks).
-- Locks taken: the place behind the active version, until the transaction ends: of two activations the second is refused; each rail's row.
-- Hazard: whoever can set a contract decides about double payments. The rails are those of the document whose checksum was approved.
declare
    v_policy outbox.policy_documents;
    v_decision outbox.policy_decisions;
    v_now timestamptz := clock_timestamp();
begin
    select * into v_policy from outbox.policy_documents d where d.version = p_version;
    select * into v_decision from outbox.policy_decisions c where c.version = p_version;
    if v_policy.version is null then
        raise exception 'there is no policy version %', p_version using errcode = 'OB003';
    elsif coalesce(p_reason, '') !~ '\S' then
        raise exception 'an activation needs a reason' using errcode = 'OB003', column = 'reason';
    elsif v_decision.decision is distinct from 'APPROVED' or v_decision.checksum <> sha256(convert_to(v_policy.document, 'UTF8')) then
        raise exception 'policy version % is %', p_version, coalesce(lower(nullif(v_decision.decision, 'APPROVED')), 'not approved yet') using errcode = 'OB014',
            hint = 'another login approves it: outboxd policy approve VERSION';
    elsif v_decision.decided_by = v_policy.proposed_by then
        raise exception 'policy version % was proposed and approved by %', p_version, v_policy.proposed_by using errcode = 'OB012';
    elsif v_policy.base_version is distinct from outbox.active_policy_version() then
        raise exception 'policy version % was proposed against %, which is not active any more', p_version, coalesce('version ' || v_policy.base_version, 'none')
            using errcode = 'OB016', hint = 'compare it with the active one, and propose it again: outboxd policy propose';
    end if;
    insert into outbox.policy_activations (version, base_version, checksum, reason, activated_by, activated_at)
    values (p_version, v_policy.base_version, v_policy.checksum, p_reason, session_user, v_now) on conflict do nothing;
    if not found then
        raise exception 'another policy has been activated meanwhile' using errcode = 'OB016';
    end if;
    select c.rail into rail
      from outbox.policy_contracts(v_policy.document) as c join outbox.payment_rails r on r.rail = c.rail and r.fallback and not c.fallback
     where exists (select from outbox.payment_outbox_pending p where p.rail = c.rail and p.endpoint is null and (p.in_doubt_since is not null or p.late_success))
     limit 1;
    if found then
        raise exception 'rail % has payments in doubt of which nobody knows the endpoint: resolve them before fallback ends', rail using errcode = 'OB003', column = 'fallback';
    end if;
    update outbox.payment_rails r set policy_version = null where r.policy_version is not null;
    -- Every column of a contract.
    insert into outbox.payment_rails as r (rail, on_unknown, idempotency_window_ms, not_found_is_final, rail_timeout_ms, processing_bound_ms, amount_required,
        max_sends, max_inquiries, max_crashes, backoff_base_ms, backoff_cap_ms, lease_duration_ms, max_sends_per_s, fallback, paused, require_attestation,
        changed_at, changed_by, policy_version)
    select c.rail, c.on_unknown, c.idempotency_window_ms, c.not_found_is_final, c.rail_timeout_ms, c.processing_bound_ms, c.amount_required,
           c.max_sends, c.max_inquiries, c.max_crashes, c.backoff_base_ms, c.backoff_cap_ms, c.lease_duration_ms, c.max_sends_per_s, c.fallback, c.paused, c.require_attestation,
           v_now, session_user, p_version
      from outbox.policy_contracts(v_policy.document) as c
        on conflict (rail) do update set on_unknown = excluded.on_unknown, idempotency_window_ms = excluded.idempotency_window_ms,
           not_found_is_final = excluded.not_found_is_final, rail_timeout_ms = excluded.rail_timeout_ms, processing_bound_ms = excluded.processing_bound_ms,
           amount_required = excluded.amount_required, max_sends = excluded.max_sends, max_inquiries = excluded.max_inquiries,
           max_crashes = excluded.max_crashes, backoff_base_ms = excluded.backoff_base_ms, backoff_cap_ms = excluded.backoff_cap_ms,
           lease_duration_ms = excluded.lease_duration_ms, max_sends_per_s = excluded.max_sends_per_s, fallback = excluded.fallback,
           paused = excluded.paused, require_attestation = excluded.require_attestation, changed_at = excluded.changed_at, changed_by = excluded.changed_by, policy_version = excluded.policy_version;
    return query select r.rail, r.policy_version is not null from outbox.payment_rails r order by r.rail;
end
$$;

create or replace function outbox.read_active_policy(p_known bytea default null)
returns table (active_version integer, document text, checksum bytea, approved_checksum bytea, activated_checksum bytea)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the active policy, with the checksum as it is on record in each of its three rows. Whether they fit the document is judged by the reader.
-- Parameters: p_known, the SHA-256 of the document that the caller has; of that one the text is left out.
-- Results: a row, or none: no policy is active.
    select a.version, case when sha256(convert_to(d.document, 'UTF8')) is distinct from p_known then d.document end, d.checksum, c.checksum, a.checksum
      from (select * from outbox.policy_activations l order by l.activation_no desc limit 1) as a
      left join outbox.policy_documents d on d.version = a.version
      left join outbox.policy_decisions c on c.version = a.version and c.decision = 'APPROVED' and c.decided_by <> d.proposed_by
$$;

create or replace function outbox.read_policy_versions(p_version integer default null, p_limit integer default 100) returns setof jsonb
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: the policies that were proposed, who decided on them, and which is active.
-- Parameters: one version, or null for the last p_limit.
-- Results: a document each, the newest first; that of one version has its text too, as `document`.
    select to_jsonb(v) || jsonb_build_object('reason', d.reason, 'decision_reason', c.reason, 'activation_reason', a.reason)
           || case when p_version is null then '{}' else jsonb_build_object('document', d.document) end
      from outbox.policy_versions v
      join outbox.policy_documents d on d.version = v.version
      left join outbox.policy_decisions c on c.version = v.version
      left join outbox.policy_activations a on a.version = v.version
     where v.version = coalesce(p_version, v.version)
     order by v.version desc
     limit p_limit
$$;

-- EXECUTE is nobody's by default (see 0001). The dispatcher's login executes these and touches no table.
grant execute on function
    outbox.enqueue_payment_outbox(text, text, text, text, bytea, text, bigint, text, timestamptz, timestamptz, text, text, uuid, boolean),
    outbox.enqueue_payment_outbox_text(text, text, text, text, text, text, bigint, text, timestamptz, timestamptz, text, text, uuid, boolean),
    outbox.enqueue_payment_outbox_batch(text[], text[], text[], text[], bytea[], text[], bigint[], text[], timestamptz[], timestamptz[],
        text[], text[], uuid[], boolean),
    outbox.record_ingress_attestation(text, text, text, timestamptz, bytea, text, text, text, text, bytea, text, text, text, text, bytea, text)
    to outbox_ingest;
grant execute on function
    outbox.claim_outbox_batch(text, text, integer, bigint, integer, timestamptz, uuid, text, text, bigint, bigint, uuid, bigint, integer),
    outbox.expire_outbox_leases(text, integer, timestamptz, uuid),
    outbox.unpark_outbox_rows(text, integer),
    outbox.renew_outbox_leases(text, uuid[], integer[], uuid[]),
    outbox.release_outbox_leases(text, uuid[], integer[], uuid[]),
    outbox.complete_outbox_batch(text, uuid[], integer[], uuid[], text[], bigint[], timestamptz[], timestamptz[], text[], bytea[], bytea[],
        text[], text[], text[], text[]),
    outbox.dispatcher_heartbeat(text, text, integer, text, text[], integer, bigint, text, bigint[], bigint, bigint, uuid, bigint),
    outbox.dispatcher_preflight(),
    outbox.excess_privilege_of(name),
    outbox.try_wakeup_lock(text),
    outbox.release_wakeup_lock(text),
    outbox.check_epoch(text, bigint, bigint, uuid, bigint)
    to outbox_dispatcher;
grant execute on function outbox.read_outbox_health() to outbox_dispatcher, outbox_monitor;
grant execute on function outbox.read_payment_rails() to outbox_ingest, outbox_dispatcher, outbox_operator, outbox_approver, outbox_auditor, outbox_monitor;
grant execute on function outbox.read_api_range() to outbox_ingest, outbox_dispatcher, outbox_operator, outbox_approver, outbox_auditor, outbox_monitor;
grant execute on function outbox.set_payment_rail(text, text, bigint, bigint, bigint, boolean, integer, integer, bigint, bigint, bigint, boolean, boolean, integer, integer, boolean, boolean)
    to outbox_operator;
grant execute on function outbox.revoke_client_cert(bytea, text, timestamptz), outbox.revoke_token(text, text, text, text, timestamptz) to outbox_operator;
grant execute on function outbox.read_revoked_client_certs(bytea[]) to outbox_dispatcher, outbox_operator, outbox_approver, outbox_auditor, outbox_monitor;
grant execute on function outbox.read_outbox_status(timestamptz), outbox.read_blocked_keys(integer) to outbox_operator, outbox_approver, outbox_auditor, outbox_monitor;
grant execute on function outbox.read_payment_timelines(text, text) to outbox_operator, outbox_approver, outbox_auditor;
grant execute on function outbox.read_outbox_metrics(text[], bigint[]) to outbox_dispatcher, outbox_monitor;
grant execute on function outbox.read_outbox_pauses() to outbox_dispatcher, outbox_operator, outbox_approver, outbox_auditor, outbox_monitor;
grant execute on function
    outbox.propose_operator_action(text, uuid[], text, text, jsonb),
    outbox.withdraw_operator_action(uuid, text),
    outbox.set_outbox_pause(text, text, boolean, text),
    outbox.propose_failover(timestamptz, text, text)
    to outbox_operator;
grant execute on function outbox.apply_operator_action(uuid, integer), outbox.apply_failover(uuid, integer) to outbox_operator, outbox_approver;
grant execute on function outbox.decide_operator_action(uuid, text, text, bytea, integer, jsonb) to outbox_approver;
grant execute on function outbox.read_operator_actions(uuid, integer), outbox.read_action_members(uuid, uuid, integer)
    to outbox_operator, outbox_approver, outbox_auditor;
grant execute on function outbox.read_outbox_payments(text, text, text, text, text, timestamptz, timestamptz, uuid, integer)
    to outbox_operator, outbox_approver, outbox_auditor;
grant execute on function
    outbox.begin_reconcile(text, timestamptz, timestamptz, bigint, text, bytea, bigint, bytea, jsonb, text[], text),
    outbox.record_statement_lines(uuid, bigint[], text[], text[], bigint[], text[], timestamptz[], text[], boolean[]),
    outbox.finish_reconcile(uuid, integer),
    outbox.void_reconcile_statement(uuid, text)
    to outbox_operator;
grant execute on function outbox.resolve_reconcile_breaks(uuid[], text, uuid) to outbox_operator, outbox_approver;
grant execute on function outbox.read_reconcile_breaks(boolean, text, uuid, integer) to outbox_operator, outbox_approver, outbox_auditor;
grant execute on function outbox.audit_outbox(boolean, integer) to outbox_auditor;
grant execute on function outbox.propose_policy(text, text) to outbox_operator;
grant execute on function outbox.decide_policy(integer, text, text, text) to outbox_approver;
grant execute on function outbox.activate_policy(integer, text) to outbox_operator, outbox_approver;
grant execute on function outbox.read_active_policy(bytea) to outbox_dispatcher, outbox_operator, outbox_approver, outbox_auditor, outbox_monitor;
grant execute on function outbox.read_policy_versions(integer, integer) to outbox_operator, outbox_approver, outbox_auditor;
grant execute on function outbox.read_outbox_partitions() to outbox_auditor, outbox_monitor;
