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
