-- The append-only triggers, and the first partitions.

set local lock_timeout = '2s';

create trigger history_is_never_changed before update or delete on outbox.payment_outbox_identities
    for each row execute function outbox.refuse_history_change();
create trigger history_is_never_changed before update or delete on outbox.payment_outbox_instructions
    for each row execute function outbox.refuse_history_change();
create trigger history_is_never_changed before update or delete on outbox.payment_outbox_attempts
    for each row execute function outbox.refuse_history_change();
create trigger history_is_never_changed before update or delete on outbox.payment_outbox_late_outcomes
    for each row execute function outbox.refuse_history_change();
-- ENABLE ALWAYS: session_replication_role = replica does not go round it. A partition gets its row
-- trigger, and its ENABLE ALWAYS, from the parent.
create trigger history_is_never_changed before update or delete on outbox.outbox_cluster
    for each row execute function outbox.refuse_history_change();
alter table outbox.outbox_cluster enable always trigger history_is_never_changed;
create trigger history_is_never_changed before update or delete on outbox.operator_actions
    for each row execute function outbox.refuse_history_change();
alter table outbox.operator_actions enable always trigger history_is_never_changed;
create trigger history_is_never_changed before update or delete on outbox.operator_action_members
    for each row execute function outbox.refuse_history_change();
alter table outbox.operator_action_members enable always trigger history_is_never_changed;
create trigger history_is_never_changed before update or delete on outbox.operator_action_decisions
    for each row execute function outbox.refuse_history_change();
alter table outbox.operator_action_decisions enable always trigger history_is_never_changed;
create trigger history_is_never_changed before update or delete on outbox.operator_action_results
    for each row execute function outbox.refuse_history_change();
alter table outbox.operator_action_results enable always trigger history_is_never_changed;
alter table outbox.payment_outbox_identities enable always trigger history_is_never_changed;
alter table outbox.payment_outbox_instructions enable always trigger history_is_never_changed;
alter table outbox.payment_outbox_attempts enable always trigger history_is_never_changed;
alter table outbox.payment_outbox_late_outcomes enable always trigger history_is_never_changed;

do $$
declare
    v_table text;
begin
    foreach v_table in array array['reconcile_statements', 'reconcile_lines', 'reconcile_matches', 'reconcile_comparisons', 'reconcile_voidings',
        'reconcile_breaks', 'reconcile_resolutions', 'audit_checkpoints', 'ingress_attestations', 'ingress_requests', 'revoked_client_certs',
        'revoked_tokens', 'policy_documents', 'policy_decisions', 'policy_activations', 'partition_seals', 'partition_receipts'] loop
        execute format('create trigger history_is_never_changed before update or delete on outbox.%I '
                       'for each row execute function outbox.refuse_history_change()', v_table);
        execute format('alter table outbox.%I enable always trigger history_is_never_changed', v_table);
        perform outbox.guard_history_table(format('outbox.%I', v_table)::regclass);
    end loop;
end
$$;

select outbox.guard_history_table('outbox.outbox_cluster');
select outbox.guard_history_table('outbox.operator_actions');
select outbox.guard_history_table('outbox.operator_action_members');
select outbox.guard_history_table('outbox.operator_action_decisions');
select outbox.guard_history_table('outbox.operator_action_results');
select outbox.guard_history_table('outbox.payment_outbox_identities');
select outbox.guard_history_table('outbox.payment_outbox_instructions');
select outbox.guard_history_table('outbox.payment_outbox_attempts');
select outbox.guard_history_table('outbox.payment_outbox_late_outcomes');

do $$
declare
    v_parent text;
    v_name text;
begin
    foreach v_parent in array array['payment_outbox_identities', 'ingress_requests'] loop
        for v_part in 0..15 loop
            v_name := format('%s_h%s', v_parent, lpad(v_part::text, 2, '0'));
            execute format('create table outbox.%I (like outbox.%I including defaults including constraints)', v_name, v_parent);
            perform outbox.guard_history_table(format('outbox.%I', v_name)::regclass);
            execute format('alter table outbox.%I attach partition outbox.%I for values with (modulus 16, remainder %s)', v_parent, v_name, v_part);
        end loop;
    end loop;
end
$$;
select outbox.ensure_outbox_partitions();

-- The auditor reads history, not payloads.
grant select on outbox.outbox_cluster, outbox.operator_actions, outbox.operator_action_members, outbox.operator_action_decisions,
    outbox.operator_action_results, outbox.payment_outbox_identities, outbox.payment_outbox_attempts, outbox.payment_outbox_late_outcomes to outbox_auditor;
grant select (outbox_id, participant_id, instruction_id, rail, content_type, payload_sha256, amount_minor, currency, attestation_id, not_before,
              not_after, ordering_key, traceparent, enqueued_by, created_at, policy_version)
    on outbox.payment_outbox_instructions to outbox_auditor;
grant select on outbox.reconcile_statements, outbox.reconcile_lines, outbox.reconcile_matches, outbox.reconcile_comparisons,
    outbox.reconcile_voidings, outbox.reconcile_breaks, outbox.reconcile_resolutions, outbox.audit_checkpoints, outbox.partition_seals, outbox.partition_receipts to outbox_auditor;
grant select on outbox.ingress_attestations, outbox.ingress_requests, outbox.revoked_client_certs, outbox.revoked_tokens to outbox_auditor;
grant select on outbox.policy_documents, outbox.policy_decisions, outbox.policy_activations, outbox.policy_versions to outbox_auditor;
-- Which migrations were applied belongs to the evidence of an audit.
grant select on outbox.schema_migrations to outbox_auditor;
