create or replace function outbox.refuse_other_epoch(p_environment text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Purpose: refuses to claim on a cluster that is not the one on record: a promoted standby, a restore or a clone may
--   have lost attempts that were made. Internal to claim.
-- Parameters: p_environment, what the dispatcher is configured for; null counts as ''.
-- Results: nothing, or raises OB011. As long as no epoch is on record, nothing has been dispatched.
-- Hazard: an asynchronous standby granted attempt 1 a second time, with an empty ledger.
declare
    v_known outbox.outbox_cluster;
    v_now record;
begin
    select * into v_now from outbox.cluster_now();
    select * into v_known from outbox.outbox_cluster c order by c.epoch_no desc limit 1;
    if not found then
        return;
    elsif v_known.environment <> coalesce(p_environment, '') then
        raise exception 'this database is of the environment %, the dispatcher of %', quote_literal(v_known.environment),
            quote_literal(coalesce(p_environment, '')) using errcode = 'OB011',
            hint = 'a copy of a database must not be dispatched; where it is meant to be, acknowledge it: outboxd failover acknowledge';
    elsif v_known.system_identifier <> v_now.system_identifier or v_known.timeline <> v_now.timeline then
        raise exception 'this is cluster % on timeline %, on record is % on %: what was sent may be missing here', v_now.system_identifier,
            v_now.timeline, v_known.system_identifier, v_known.timeline using errcode = 'OB011',
            hint = 'find out from when on commits may be lost, then: outboxd failover acknowledge --lost-from TIME';
    end if;
end
$$;
