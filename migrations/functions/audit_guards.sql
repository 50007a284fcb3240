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
