//! Which function of the schema the sequences call, and why they leave the others out. A function that is on neither list fails the
//! test at the end, and so does one that is on a list and not in the schema.

use std::collections::BTreeSet;

use outbox_testkit::TestDb;

use crate::sql::column;

/// Called by a step of its own.
const DRIVEN: [&str; 15] = [
    "apply_operator_action",
    "claim_outbox_batch",
    "complete_outbox_batch",
    "decide_operator_action",
    "dispatcher_heartbeat",
    "enqueue_payment_outbox",
    "enqueue_payment_outbox_batch",
    "enqueue_payment_outbox_text",
    "expire_outbox_leases",
    "propose_operator_action",
    "release_outbox_leases",
    "renew_outbox_leases",
    "set_outbox_pause",
    "set_payment_rail",
    "withdraw_operator_action",
];

/// Called by those, or by `unpark_outbox_rows`, which is driven too.
const INTERNAL: &str = "
    unpark_outbox_rows action_needs_approval active_policy_version after_attempt apply_to_payment approved_action attempt_kind_of
    attempt_state_after choose_payments cluster_now detached_as disposition_of enqueue_in_order epoch_fault epoch_us evidence_too_early fault_of_action
    hint_outbox_lane hint_outbox_lanes hold_reason_after hold_reason_before is_accepted_elsewhere is_behind_another is_paid_by_statement is_plain_payment
    lock_ordering_keys members_sha256 new_outbox_id open_paid_break outbox_id_at ordering_lock_key park_unclaimable paused_participants
    pauses_lock_key payment_identity_sha256 rail_to_claim record_acceptances record_first_epoch record_operator_attempt
    record_outcomes redrive_payment refuse_bad_completions refuse_bad_payments refuse_other_epoch refuse_untimely_action settle_lost_leases unpark_first
    unpark_successors wakeup_lock_key";

/// Not called, each group with its reason.
const LEFT_OUT: [(&str, &str); 9] = [
    (
        "reads, which change nothing",
        "actions_on_payment attempts_by_reference audit_guards audit_outbox audit_payments audit_receipts check_epoch
         contradicted_payments credential_revoked_at dispatcher_preflight excess_privilege_of follows_from_cause month_tables
         oldest_retrying oldest_snapshot_age outbox_id_floor partition_headroom_months read_action_members read_active_policy
         read_api_range read_blocked_keys read_operator_actions read_outbox_health read_outbox_metrics read_outbox_partitions
         read_outbox_pauses read_outbox_payments read_outbox_status read_payment_rails read_payment_timelines
         read_policy_versions read_reconcile_breaks read_revoked_client_certs",
    ),
    ("wake-up, which saves latency and moves no payment", "release_wakeup_lock try_wakeup_lock"),
    (
        "a rate is kept in fractions of a second, in which the order of two calls is not told: `rate`",
        "rate_allowance rate_used",
    ),
    (
        "policy, of all rails of a database at once: `policy`",
        "activate_policy decide_policy policy_contracts policy_faults propose_policy",
    ),
    ("failover, of a whole cluster: `epoch`, `failover`", "apply_failover propose_failover"),
    (
        "attestation and revocation, which end before a payment begins: `attestation`, `attested_payments`, `revocation`",
        "record_ingress_attestation refuse_bad_attestation refuse_unattested_payments revoke_client_cert revoke_token",
    ),
    (
        "statements of rails, each a file of its own: `reconcile`, `reconcile_control`, `generations`",
        "begin_reconcile booked_before finish_reconcile match_lines_by_key match_statement_lines reconcile_cover
         reconcile_judged_until reconcile_lock_key record_statement_lines resolve_reconcile_breaks statement_findings
         statement_lines_sha256 unbooked_payments void_reconcile_statement whole_statement",
    ),
    (
        "retention, of whole months: `retention`, `detaching`, `partitions`, `old_month`",
        "detached_id_ranges ensure_outbox_partitions hash_table_chunk next_partition_step open_in_month
         record_partition_receipts seal_outbox_month",
    ),
    (
        "the guards of history, which are off here so that time can pass: `history`, `detaching`",
        "guard_history_table refuse_history_change refuse_sealed_change",
    ),
];

#[tokio::test]
async fn each_function_of_the_schema_is_in_the_random_lives_or_left_out_for_a_reason() {
    let db = TestDb::create().await.unwrap();
    let mut dba = db.connect_as("postgres").await.unwrap();
    let of_schema = "select proname::text from pg_proc where pronamespace = 'outbox'::regnamespace";
    let there: BTreeSet<String> = column(&mut dba, of_schema).await.into_iter().collect();
    let left_out = LEFT_OUT.iter().flat_map(|(_, names)| names.split_whitespace());
    let listed: Vec<&str> = DRIVEN.into_iter().chain(INTERNAL.split_whitespace()).chain(left_out).collect();
    let known: BTreeSet<String> = listed.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(known.len(), listed.len(), "a function is listed twice");
    let forgotten: Vec<_> = there.difference(&known).collect();
    let gone: Vec<_> = known.difference(&there).collect();
    assert!(
        forgotten.is_empty() && gone.is_empty(),
        "in no sequence and on no list: {forgotten:?}; on a list and not there: {gone:?}"
    );
}

/// What is called driven is called: by its name, in the statements of the sequences.
#[test]
fn each_function_that_is_called_driven_is_in_a_statement() {
    let statements = [include_str!("asking.rs"), include_str!("system.rs")].concat();
    for name in DRIVEN.into_iter().chain(["unpark_outbox_rows"]) {
        assert!(statements.contains(name), "{name} is in no statement");
    }
}
