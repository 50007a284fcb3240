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
