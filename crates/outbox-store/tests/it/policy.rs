//! Policies: who may make one binding, what it changes, what records it, and what of a forged one is seen. How `outboxd`
//! writes a document and what a daemon does with it is not tested here.

use outbox_core::{Outcome, PolicyVersion, RailName};
use outbox_store::{
    ClaimBatch, ClaimRequest, PolicyDecision, PolicyProposal, Session, StoreError, activate_policy, claim,
    decide_policy, propose_policy, read_policy_versions, read_rules,
};
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;

use crate::sql::{column, fetch, refused, run, scalar};
use crate::world::{RAIL, Worker, World, lease};

/// The contract of the rail `wire` with these changes, as a document has it.
pub(crate) async fn contract(world: &mut World, changes: Value) -> Value {
    let text: String = scalar(
        &mut world.dba,
        "select (to_jsonb(r) - array['rail', 'changed_at', 'changed_by', 'policy_version'])::text \
         from outbox.payment_rails r where rail = 'wire'",
    )
    .await;
    let mut contract: Value = serde_json::from_str(&text).unwrap();
    for (name, value) in changes.as_object().unwrap() {
        contract[name] = value.clone();
    }
    contract
}

pub(crate) fn document(rail: &str, contract: &Value) -> String {
    json!({"format": 1, "rails": {rail: {"contract": contract}}}).to_string()
}

/// A maker's and a checker's session.
pub(crate) struct Office {
    maker: Session,
    checker: Session,
}

impl Office {
    pub(crate) fn of(world: &World) -> Self {
        Self { maker: world.session("t_operator"), checker: world.session("t_approver") }
    }

    async fn proposes(&mut self, document: &str) -> PolicyProposal {
        propose_policy(&mut self.maker, document, "why").await.unwrap()
    }

    async fn approves(&mut self, proposal: &PolicyProposal) {
        let PolicyProposal { version, checksum, .. } = proposal;
        decide_policy(&mut self.checker, *version, PolicyDecision::Approved, checksum, "looked at it").await.unwrap();
    }

    /// Puts a document in force, and returns its version.
    pub(crate) async fn activates(&mut self, document: &str) -> PolicyVersion {
        let proposal = self.proposes(document).await;
        self.approves(&proposal).await;
        activate_policy(&mut self.maker, proposal.version, "now").await.unwrap();
        proposal.version
    }
}

/// The world with a policy of the rail `wire`, and its version.
async fn governed() -> (World, Office, PolicyVersion) {
    let mut world = World::new().await;
    let mut office = Office::of(&world);
    let same = contract(&mut world, json!({})).await;
    let version = office.activates(&document(RAIL, &same)).await;
    (world, office, version)
}

fn under(worker: &Worker, version: PolicyVersion) -> ClaimRequest {
    ClaimRequest { policy_version: Some(version), ..worker.request(10) }
}

/// Claims as a dispatcher that has read this version.
async fn claim_under(worker: &mut Worker, version: PolicyVersion) -> Result<ClaimBatch, StoreError> {
    let request = under(worker, version);
    claim(&mut worker.session, &request).await
}

async fn active(dba: &mut PgConnection) -> Vec<i32> {
    column(dba, "select version from outbox.policy_versions where is_active").await
}

async fn statuses(dba: &mut PgConnection) -> Vec<String> {
    column(dba, "select status from outbox.policy_versions order by version").await
}

fn code<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    result.unwrap_err().sqlstate().unwrap_or_default()
}

#[tokio::test]
async fn maker_cannot_approve_their_own_policy_and_only_an_approved_one_is_activated() {
    let mut world = World::new().await;
    run(
        &mut world.dba,
        "do $$ begin create role t_both login; exception when duplicate_object or unique_violation then null; end $$; \
                         grant outbox_operator, outbox_approver to t_both",
    )
    .await;
    let same = contract(&mut world, json!({})).await;
    let text = document(RAIL, &same);
    let mut both = world.session("t_both");
    let own = propose_policy(&mut both, &text, "why").await.unwrap();
    let approved = PolicyDecision::Approved;
    assert_eq!(code(decide_policy(&mut both, own.version, approved, &own.checksum, "r").await), "OB012");
    assert_eq!(code(activate_policy(&mut both, own.version, "r").await), "OB014");
    // Nobody else's word on another document, and none twice.
    let mut office = Office::of(&world);
    let other = "00".repeat(32);
    assert_eq!(code(decide_policy(&mut office.checker, own.version, approved, &other, "r").await), "OB003");
    assert_eq!(code(decide_policy(&mut office.checker, own.version, approved, &own.checksum, "\t").await), "OB003");
    let rejected = office.proposes(&text).await;
    decide_policy(&mut office.checker, rejected.version, PolicyDecision::Rejected, &rejected.checksum, "no")
        .await
        .unwrap();
    assert_eq!(
        code(decide_policy(&mut office.checker, rejected.version, approved, &rejected.checksum, "r").await),
        "OB013"
    );
    let turned_down = activate_policy(&mut office.maker, rejected.version, "r").await.unwrap_err();
    assert!(turned_down.to_string().contains("is rejected"), "{turned_down}");
    let mut monitor = world.db.connect_as("t_monitor").await.unwrap();
    let figure = "select value::integer from outbox.read_outbox_metrics() where figure = 'policy_version'";
    assert_eq!(active(&mut world.dba).await, Vec::<i32>::new(), "a fresh database has none");
    assert_eq!(column::<i32>(&mut monitor, figure).await, [0]);
    office.approves(&own).await;
    activate_policy(&mut office.checker, own.version, "now").await.unwrap();
    assert_eq!(active(&mut world.dba).await, [own.version.0]);
    assert_eq!(column::<i32>(&mut monitor, figure).await, [own.version.0]);
    assert_eq!(statuses(&mut world.dba).await, ["ACTIVE", "REJECTED"]);
}

#[tokio::test]
async fn one_policy_is_active_and_follows_the_one_that_it_was_proposed_against() {
    let (mut world, mut office, first) = governed().await;
    let text = document(RAIL, &contract(&mut world, json!({"max_sends": 7})).await);
    let (second, stale) = (office.proposes(&text).await, office.proposes(&text).await);
    for proposal in [&second, &stale] {
        assert_eq!(proposal.base_version, Some(first));
        office.approves(proposal).await;
    }
    let late = office.proposes(&text).await;
    activate_policy(&mut office.maker, second.version, "now").await.unwrap();
    // What was approved against the first would undo the second.
    assert_eq!(code(activate_policy(&mut office.maker, stale.version, "now").await), "OB016");
    assert_eq!(code(activate_policy(&mut office.maker, second.version, "again").await), "OB016");
    let approved = PolicyDecision::Approved;
    assert_eq!(code(decide_policy(&mut office.checker, late.version, approved, &late.checksum, "r").await), "OB016");
    assert_eq!(active(&mut world.dba).await, [second.version.0]);
    assert_eq!(statuses(&mut world.dba).await, ["RETIRED", "ACTIVE", "RETIRED", "RETIRED"]);
    // Nor can a superuser give a version two successors.
    let fork = format!(
        "insert into outbox.policy_activations (version, base_version, checksum, reason, activated_by, activated_at) \
         values ({}, {first}, '', 'r', 'x', now())",
        stale.version
    );
    assert_eq!(refused(&mut world.dba, &fork).await.code, "23505");
}

#[tokio::test]
async fn of_two_activations_at_once_the_second_waits_and_is_refused() {
    let (mut world, mut office, first) = governed().await;
    let text = document(RAIL, &contract(&mut world, json!({})).await);
    let (one, two) = (office.proposes(&text).await, office.proposes(&text).await);
    office.approves(&one).await;
    office.approves(&two).await;
    run(&mut world.dba, "begin").await;
    fetch(&mut world.dba, &format!("select * from outbox.activate_policy({}, 'r')", one.version)).await;
    let mut other = world.session("t_operator");
    let waiting = tokio::spawn(async move { code(activate_policy(&mut other, two.version, "r").await) });
    let mut watcher = world.db.connect_as("postgres").await.unwrap();
    let waits =
        "select count(*) = 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    outbox_testkit::wait_until("the second to wait", std::time::Duration::from_secs(60), async || {
        scalar::<bool>(&mut watcher, waits).await
    })
    .await
    .unwrap();
    run(&mut world.dba, "commit").await;
    assert_eq!(waiting.await.unwrap(), "OB016");
    assert_eq!(active(&mut world.dba).await, [one.version.0]);
    assert!(one.version > first);
}

#[tokio::test]
async fn activation_sets_contracts_and_rails_that_the_policy_has_not_are_claimed_no_more() {
    let (mut world, mut office, first) = governed().await;
    world.enqueue("a", 1).await;
    let mut worker = world.worker("w");
    let changed =
        contract(&mut world, json!({"on_unknown": "hold", "max_sends": 3, "max_sends_per_s": 5, "paused": false}))
            .await;
    let text = document("other", &changed);
    let second = office.activates(&text).await;
    let stamps: Vec<String> = column(
        &mut world.dba,
        "select concat_ws(' ', rail, on_unknown, max_sends, max_sends_per_s, policy_version) from outbox.payment_rails order by rail",
    )
    .await;
    assert_eq!(stamps, [format!("other hold 3 5 {second}"), "wire resend 10".to_owned()]);
    let refusal = claim_under(&mut worker, second).await.unwrap_err();
    assert_eq!(refusal.refusal(), Some("OB004"), "{refusal}");
    assert!(refusal.to_string().contains(&format!("rail wire is not in policy version {second}")), "{refusal}");
    let other = ClaimRequest { rail: RailName::new("other").unwrap(), ..under(&worker, second) };
    claim(&mut worker.session, &other).await.unwrap();
    assert!(first < second);
}

#[tokio::test]
async fn dispatcher_that_has_read_another_policy_claims_nothing() {
    let (mut world, mut office, first) = governed().await;
    world.enqueue("a", 1).await;
    let mut worker = world.worker("w");
    let request = worker.request(1);
    assert_eq!(code(claim(&mut worker.session, &request).await), "OB016");
    let text = document(RAIL, &contract(&mut world, json!({})).await);
    let second = office.activates(&text).await;
    assert_eq!(code(claim_under(&mut worker, first).await), "OB016");
    let unborn = PolicyVersion(second.0 + 1);
    assert_eq!(code(claim_under(&mut worker, unborn).await), "OB016");
    assert_eq!(claim_under(&mut worker, second).await.unwrap().leased.len(), 1);
    // Without a policy, one that believes in one is as wrong.
    let bare = World::new().await;
    bare.enqueue("a", 1).await;
    let mut worker = bare.worker("w");
    assert_eq!(code(claim_under(&mut worker, first).await), "OB016");
    assert_eq!(worker.claim(1).await.leased.len(), 1);
    assert_eq!(scalar::<i64>(&mut world.dba, "select count(*) from outbox.payment_outbox_attempts").await, 0);
}

#[tokio::test]
async fn instructions_and_attempts_record_the_policy_of_their_enqueue_and_of_their_claim() {
    let mut world = World::new().await;
    let before = world.enqueue("before", 1).await[0];
    let mut office = Office::of(&world);
    let text = document(RAIL, &contract(&mut world, json!({})).await);
    let first = office.activates(&text).await;
    let ids = world.enqueue("after", 2).await;
    let mut worker = world.worker("w");
    let claimed = claim_under(&mut worker, first).await.unwrap().leased;
    assert_eq!(claimed.len(), 3);
    // The next policy changes nothing about leases that are out.
    let second = office.activates(&text).await;
    worker.complete_one(lease(&claimed[0]), Outcome::Accepted).await;
    worker.complete_one(lease(&claimed[1]), Outcome::NotExecuted).await;
    world.lose_lease(claimed[2].outbox_id).await;
    let taken_over = claim_under(&mut worker, second).await.unwrap();
    assert_eq!(taken_over.summary.expired, 1);
    let again = [taken_over.leased, claim_under(&mut worker, second).await.unwrap().leased].concat();
    assert_eq!(again.len(), 2);
    for claimed in &again {
        worker.complete_one(lease(claimed), Outcome::Accepted).await;
    }
    let attempts: Vec<String> = column(
        &mut world.dba,
        "select concat_ws(' ', state, policy_version) from outbox.payment_outbox_attempts order by state, policy_version",
    )
    .await;
    let of = |state, version| format!("{state} {version}");
    assert_eq!(
        attempts,
        [
            of("DISPATCHED", first),
            of("DISPATCHED", second),
            of("DISPATCHED", second),
            of("LEASE_EXPIRED", first),
            of("RETRYABLE", first)
        ]
    );
    let enqueued = async |dba: &mut PgConnection, id| {
        let text = format!("select policy_version from outbox.payment_outbox_instructions where outbox_id = '{id}'");
        scalar::<Option<i32>>(dba, &text).await
    };
    assert_eq!(enqueued(&mut world.dba, before).await, None);
    assert_eq!(enqueued(&mut world.dba, ids[0]).await, Some(first.0));
    let timeline: String =
        scalar(&mut world.dba, &format!("select t::text from outbox.read_payment_timelines('{}') as t", ids[0])).await;
    let timeline: Value = serde_json::from_str(&timeline).unwrap();
    assert_eq!(timeline["policy_version"], first.0);
    assert_eq!(timeline["attempts"][0]["policy_version"], first.0);
}

#[tokio::test]
async fn lease_that_ends_unsent_leaves_the_version_in_the_ledger_and_not_in_the_queue() {
    let (mut world, _, version) = governed().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let claimed = claim_under(&mut worker, version).await.unwrap().leased.remove(0);
    let queued = format!("select policy_version from outbox.payment_outbox_pending where outbox_id = '{id}'");
    assert_eq!(scalar::<Option<i32>>(&mut world.dba, &queued).await, Some(version.0));
    outbox_store::release_leases(&mut worker.session, &worker.id, &[lease(&claimed)]).await.unwrap();
    assert_eq!(scalar::<Option<i32>>(&mut world.dba, &queued).await, None);
    let recorded = "select policy_version from outbox.payment_outbox_attempts where state = 'RELEASED'";
    assert_eq!(scalar::<Option<i32>>(&mut world.dba, recorded).await, Some(version.0));
}

#[tokio::test]
async fn version_on_the_leased_row_leaves_claims_hot() {
    let (mut world, _, version) = governed().await;
    world.enqueue("a", 2_000).await;
    let mut worker = world.worker("w");
    for _ in 0..4 {
        let request = ClaimRequest { limit: 500, ..under(&worker, version) };
        assert_eq!(claim(&mut worker.session, &request).await.unwrap().leased.len(), 500);
    }
    worker.session.close().await;
    let text = "select n_tup_upd >= 2000 and n_tup_hot_upd * 100 >= n_tup_upd * 95 from pg_stat_user_tables \
                where relname = 'payment_outbox_pending'";
    let hot = outbox_testkit::wait_until("HOT claims", std::time::Duration::from_secs(20), async || {
        run(&mut world.dba, "select pg_stat_clear_snapshot()").await;
        scalar::<bool>(&mut world.dba, text).await
    });
    hot.await.unwrap();
}

#[tokio::test]
async fn contract_is_not_set_by_one_person_under_a_policy() {
    let (mut world, _, version) = governed().await;
    let mut operator = world.db.connect_as("t_operator").await.unwrap();
    for rail in ["wire", "new"] {
        let set = format!("select outbox.set_payment_rail('{rail}', 'resend', p_idempotency_window_ms => 1)");
        let refusal = refused(&mut operator, &set).await;
        assert_eq!(refusal.code, "OB016");
        assert_eq!(refusal.message, format!("policy version {version} is active: use outboxd policy propose"));
    }
    assert_eq!(scalar::<i64>(&mut world.dba, "select count(*) from outbox.payment_rails").await, 1);
}

#[tokio::test]
async fn policies_are_history() {
    let (mut world, _, _) = governed().await;
    for login in ["postgres", "t_migrator"] {
        let mut session = world.db.connect_as(login).await.unwrap();
        for table in ["policy_documents", "policy_decisions", "policy_activations"] {
            for change in [
                format!("delete from outbox.{table}"),
                format!("truncate outbox.{table}"),
                format!("update outbox.{table} set reason = 'another'"),
                format!("set session_replication_role = origin; delete from outbox.{table}"),
            ] {
                let code = refused(&mut session, &change).await.code;
                assert!(code == "OB009" || (login == "t_migrator" && code == "42501"), "{login}: {change}: {code}");
            }
        }
    }
    assert_eq!(active(&mut world.dba).await.len(), 1);
}

/// Statements with the append-only triggers of a table out of the way, as nobody but its owner can.
async fn forge(world: &mut World, table: &str, statement: &str) {
    run(
        &mut world.dba,
        &format!(
            "alter table outbox.{table} disable trigger all; {statement}; \
             alter table outbox.{table} enable always trigger history_is_never_changed; \
             alter table outbox.{table} enable always trigger history_is_never_truncated"
        ),
    )
    .await;
}

async fn faults(world: &mut World) -> Vec<String> {
    let report: String = scalar(&mut world.dba, "select outbox.audit_outbox(true)::text").await;
    let report: Value = serde_json::from_str(&report).unwrap();
    let findings = report["findings"].as_array().unwrap();
    findings
        .iter()
        .map(|one| format!("{} {}", one["kind"].as_str().unwrap(), one["detail"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn audit_tells_of_a_document_that_was_not_approved_and_of_a_contract_that_it_does_not_have() {
    let (mut world, _, version) = governed().await;
    assert_eq!(faults(&mut world).await, Vec::<String>::new());
    world.contract("max_sends = 9").await;
    let differs = format!("POLICY_FORGED rail wire has another contract than policy version {version}");
    assert_eq!(faults(&mut world).await, [differs]);
    world.contract("max_sends = 10").await;
    // The constraint alone keeps a document to its checksum.
    let change = "update outbox.policy_documents set document = replace(document, '10', '11')";
    run(&mut world.dba, "alter table outbox.policy_documents disable trigger all").await;
    assert_eq!(refused(&mut world.dba, change).await.code, "23514");
    let with_checksum = format!("{change}, checksum = sha256(convert_to(replace(document, '10', '11'), 'UTF8'))");
    forge(&mut world, "policy_documents", &with_checksum).await;
    let not_approved = format!("POLICY_FORGED policy version {version} is not the document that was approved");
    assert!(faults(&mut world).await.contains(&not_approved), "{:?}", faults(&mut world).await);
    // What a dispatcher reads says the same of it, in three checksums.
    let mut session = world.session("t_dispatcher");
    let policy = read_rules(&mut session, &[], None).await.unwrap().policy.unwrap();
    let [of_document, approved, activated] = policy.checksums;
    assert!(of_document.is_some() && of_document != approved && approved == activated);
}

#[tokio::test]
async fn document_is_sent_to_a_dispatcher_once() {
    let (world, _, version) = governed().await;
    let mut session = world.session("t_dispatcher");
    let first = read_rules(&mut session, &[], None).await.unwrap();
    let policy = first.policy.unwrap();
    assert_eq!((policy.version, first.rails[0].policy_version), (version, Some(version)));
    let known: [u8; 32] = policy.checksums[0].as_deref().unwrap().try_into().unwrap();
    assert!(policy.document.unwrap().contains("\"wire\""));
    let again = read_rules(&mut session, &[], Some(known)).await.unwrap();
    assert_eq!((again.policy.unwrap().document, again.rails.len()), (None, 1));
}

#[tokio::test]
async fn bad_policies_are_refused_by_name() {
    let mut world = World::new().await;
    let good = contract(&mut world, json!({})).await;
    let mut lacking = good.clone();
    lacking.as_object_mut().unwrap().remove("max_sends");
    let mut office = Office::of(&world);
    let wrap = |rails: Value| json!({"format": 1, "rails": rails}).to_string();
    for (text, word) in [
        ("{}".to_owned(), "format 1"),
        ("[]".to_owned(), "format 1"),
        (json!({"format": 2, "rails": {"wire": {"contract": good}}}).to_string(), "format 1"),
        (wrap(json!({})), "at least one of rails"),
        (wrap(json!({"wire": {}})), "rail wire: the contract has no"),
        (wrap(json!({"wire": {"contract": 5}})), "rail wire: the contract has no"),
        (wrap(json!({"wire": {"contract": lacking}})), "rail wire: the contract has no max_sends"),
    ] {
        let refusal = propose_policy(&mut office.maker, &text, "r").await.unwrap_err();
        assert!(refusal.refusal() == Some("OB003") && refusal.to_string().contains(word), "{text}: {refusal}");
    }
    assert_eq!(code(propose_policy(&mut office.maker, &document(RAIL, &good), " ").await), "OB003");
    let no_number = contract(&mut world, json!({"max_sends": "many"})).await;
    assert_eq!(code(propose_policy(&mut office.maker, &document(RAIL, &no_number), "r").await), "22P02");
    // What the contract's own constraints refuse changes nothing.
    let short_lease = contract(&mut world, json!({"lease_duration_ms": 5})).await;
    let proposal = office.proposes(&document(RAIL, &short_lease)).await;
    office.approves(&proposal).await;
    assert_eq!(code(activate_policy(&mut office.maker, proposal.version, "r").await), "23514");
    assert_eq!(active(&mut world.dba).await, Vec::<i32>::new());
    assert_eq!(statuses(&mut world.dba).await, ["APPROVED"]);
}

#[tokio::test]
async fn fallback_does_not_end_while_nobody_knows_where_a_payment_in_doubt_was_sent() {
    let mut world = World::new().await;
    world.contract("fallback = true").await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let claimed = worker.claim_one().await;
    worker.complete_one(lease(&claimed), Outcome::Unknown).await;
    world.tamper(id, "endpoint = null").await;
    let mut office = Office::of(&world);
    let proposal = office.proposes(&document(RAIL, &contract(&mut world, json!({"fallback": false})).await)).await;
    office.approves(&proposal).await;
    assert_eq!(code(activate_policy(&mut office.maker, proposal.version, "r").await), "OB003");
    let still = office.proposes(&document(RAIL, &contract(&mut world, json!({})).await)).await;
    office.approves(&still).await;
    activate_policy(&mut office.maker, still.version, "r").await.unwrap();
}

#[tokio::test]
async fn everybody_who_may_look_reads_who_proposed_decided_and_activated() {
    let (world, mut office, version) = governed().await;
    for login in ["t_operator", "t_approver", "t_auditor"] {
        let mut session = world.session(login);
        let all = read_policy_versions(&mut session, None, 10).await.unwrap();
        let one: Value = serde_json::from_str(&all[0]).unwrap();
        assert_eq!((&one["status"], &one["proposed_by"]), (&json!("ACTIVE"), &json!("t_operator")));
        assert_eq!((&one["decided_by"], &one["activated_by"]), (&json!("t_approver"), &json!("t_operator")));
        assert_eq!(one.get("document"), None);
    }
    let text = &read_policy_versions(&mut office.maker, Some(version), 1).await.unwrap()[0];
    let one: Value = serde_json::from_str(text).unwrap();
    assert!(one["document"].as_str().unwrap().contains("\"wire\""), "{text}");
    let mut auditor = world.db.connect_as("t_auditor").await.unwrap();
    assert_eq!(active(&mut auditor).await, [version.0]);
}
