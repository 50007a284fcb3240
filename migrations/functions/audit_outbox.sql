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
-- Hazards: where to begin is told by transactions, not by the clock alone. What the last audit did not see has an id of
--   at least its snapshot's xmin; an earlier audit whose own id is below that ran before those transactions wrote anything. A
--   clock is read up to a minute before the first write. Without such an audit, an hour is taken for the longest transaction.
declare
    v_from timestamptz;
    v_at timestamptz;
    v_result jsonb;
begin
    perform pg_advisory_xact_lock(1869968487::bigint << 32);
    if not p_full then
        select coalesce((select max(c.audited_at) - interval '1 minute' from outbox.audit_checkpoints c where c.xact_id < l.snapshot_xmin),
                        l.audited_at - interval '1 hour')
          into v_from
          from outbox.audit_checkpoints l order by l.checkpoint_no desc limit 1;
    end if;
    -- Before the snapshot that the next audits reckon from.
    v_at := clock_timestamp();
    with seen as materialized (
        select * from outbox.audit_payments(v_from)
        union all
        select * from outbox.audit_guards()
        union all
        select 'FEWER_THAN_BEFORE', null, 'there were ' || c.identities || ' identities'
          from (select max(m.identities) as identities from outbox.audit_checkpoints m) as c
         where v_from is null and c.identities > (select count(*) from outbox.payment_outbox_identities)
    ), found as materialized (
        select s.*, s.kind not in ('EXAMINED', 'PENDING', 'FAILED_BUT_ACCEPTED', 'ACCEPTED_TWICE') as is_breach from seen s
    ), forgotten as (
        delete from outbox.audit_open o
         where not exists (select from found f where f.outbox_id = o.outbox_id and (f.is_breach or f.kind = 'PENDING'))
    ), kept as (
        insert into outbox.audit_open
        select distinct f.outbox_id from found f where f.outbox_id is not null and (f.is_breach or f.kind = 'PENDING')
        on conflict do nothing
    ), checkpoint as (
        insert into outbox.audit_checkpoints (is_full, changed_from, snapshot_xmin, xact_id, examined, pending, identities, breaches,
                                              audited_by, audited_at)
        select v_from is null, coalesce(v_from, '-infinity'), pg_snapshot_xmin(pg_current_snapshot()), pg_current_xact_id(),
               (select count(*) from found f where f.kind = 'EXAMINED'), (select count(*) from found f where f.kind = 'PENDING'),
               case when v_from is null then (select count(*) from outbox.payment_outbox_identities) end, (select count(*) from found f where f.is_breach),
               session_user, v_at
        returning *
    )
    select jsonb_build_object('at', c.audited_at, 'is_full', c.is_full, 'from', v_from, 'examined', c.examined, 'pending', c.pending,
               'identities', c.identities, 'breaches', c.breaches,
               'findings', (select coalesce(jsonb_agg(to_jsonb(l)), '[]')
                              from (select f.kind, f.outbox_id, f.detail, f.is_breach
                                      from found f where f.kind not in ('EXAMINED', 'PENDING')
                                     order by f.is_breach desc, f.kind, f.outbox_id limit p_findings_max) as l))
      into v_result from checkpoint c;
    return v_result;
end
$$;
