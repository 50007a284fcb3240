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
