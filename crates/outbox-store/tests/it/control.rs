//! What people do to payments: two of them where a payment may leave or end, and nothing behind the back of an
//! attempt under way.

use outbox_core::{OutboxId, Outcome, RailName};
use outbox_store::{
    ActionKind, ActionResult, PaymentFilter, Proposal, Session, StoreError, apply_action, decide_action,
    propose_action, read_action_members, read_actions, read_pauses, read_payments, set_pause, unpark, withdraw_action,
};
use serde_json::Value;
use sqlx::Row as _;

use crate::conservation::assert_conserved;
use crate::sql::{refused, run, scalar};
use crate::world::{RAIL, World, lease};

const NEEDS_EVIDENCE: [ActionKind; 3] =
    [ActionKind::ReleaseAsResend, ActionKind::ResolveDispatched, ActionKind::ResolveFailed];

/// Maker and checker.
pub(crate) struct Desk {
    pub(crate) maker: Session,
    pub(crate) checker: Session,
}

impl Desk {
    pub(crate) fn of(world: &World) -> Self {
        Self { maker: world.session("t_operator"), checker: world.session("t_approver") }
    }

    pub(crate) async fn propose(&mut self, kind: ActionKind, ids: &[OutboxId]) -> Proposal {
        let evidence = NEEDS_EVIDENCE.contains(&kind).then_some("BANK-REF-7");
        propose_action(&mut self.maker, kind, ids, "a ticket", evidence, "{}").await.unwrap()
    }

    /// Proposes, approves where that is needed, and carries out.
    pub(crate) async fn does(&mut self, kind: ActionKind, ids: &[OutboxId]) -> Vec<ActionResult> {
        let proposal = self.propose(kind, ids).await;
        if proposal.needs_approval {
            decide_action(&mut self.checker, &proposal, true, "checked").await.unwrap();
        }
        let report = apply_action(&mut self.maker, proposal.action_id, 1_000).await.unwrap();
        assert_eq!(report.remaining, 0);
        report.results
    }

    /// The same for one payment, with evidence.
    pub(crate) async fn does_by(&mut self, kind: ActionKind, id: OutboxId, evidence: &str) -> ActionResult {
        let proposal = propose_action(&mut self.maker, kind, &[id], "a ticket", Some(evidence), "{}").await.unwrap();
        self.carry_out(&proposal).await
    }

    /// Approves and carries out what was proposed for one payment.
    pub(crate) async fn carry_out(&mut self, proposal: &Proposal) -> ActionResult {
        decide_action(&mut self.checker, proposal, true, "checked").await.unwrap();
        apply_action(&mut self.maker, proposal.action_id, 1_000).await.unwrap().results.remove(0)
    }

    /// Why the action does not touch the only payment.
    pub(crate) async fn refuses(&mut self, kind: ActionKind, id: OutboxId) -> String {
        let result = self.does(kind, &[id]).await.remove(0);
        assert!(!result.applied, "{kind:?} was done to {id}");
        result.detail.unwrap()
    }
}

fn code_of<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    result.unwrap_err().refusal().expect("not refused by a function").to_owned()
}

impl World {
    async fn held(&mut self, id: OutboxId, reason: &str) {
        self.tamper(id, &format!("disposition = 'HELD', hold_reason = '{reason}'")).await;
    }

    async fn in_doubt(&mut self, id: OutboxId) {
        let doubt = "first_sent_at = now() - interval '1 hour', in_doubt_since = now() - interval '1 hour', \
                     quarantine_until = now() - interval '1 s', disposition = 'HELD', hold_reason = 'UNKNOWN'";
        self.tamper(id, doubt).await;
    }

    async fn stands(&mut self, id: OutboxId) -> String {
        let row = self.pending(id).await;
        row.map_or_else(|| "ENDED".to_owned(), |row| row.get("disposition"))
    }
}

#[tokio::test]
async fn maker_cannot_approve_their_own_action_and_nothing_is_done_before_somebody_else_has() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    world.in_doubt(id).await;
    // A login that may do both is still one person.
    run(&mut world.dba, "do $$ begin create role t_both login in role outbox_operator, outbox_approver; exception when duplicate_object then null; end $$").await;
    let mut both = world.session("t_both");
    for kind in [
        ActionKind::ReleaseAsResend,
        ActionKind::ResolveDispatched,
        ActionKind::ResolveFailed,
        ActionKind::Release,
        ActionKind::Redrive,
    ] {
        let evidence = NEEDS_EVIDENCE.contains(&kind).then_some("E");
        let proposal = propose_action(&mut both, kind, &[id], "why", evidence, "{}").await.unwrap();
        assert!(proposal.needs_approval, "{kind:?}");
        assert_eq!(code_of(apply_action(&mut both, proposal.action_id, 10).await), "OB014");
        assert_eq!(code_of(decide_action(&mut both, &proposal, true, "mine").await), "OB012");
        let mut checker = world.session("t_approver");
        decide_action(&mut checker, &proposal, false, "no").await.unwrap();
        assert_eq!(code_of(decide_action(&mut checker, &proposal, true, "yes").await), "OB013");
        assert_eq!(code_of(apply_action(&mut both, proposal.action_id, 10).await), "OB014");
    }
    assert_eq!(world.stands(id).await, "HELD");
}

#[tokio::test]
async fn approval_is_bound_to_the_list_its_size_and_its_money() {
    let mut world = World::new().await;
    let ids = world.enqueue("a", 3).await;
    for id in &ids {
        world.held(*id, "REQUESTED").await;
    }
    let mut desk = Desk::of(&world);
    let proposal = desk.propose(ActionKind::Release, &ids).await;
    assert_eq!((proposal.member_count, proposal.amounts.as_str()), (3, "{\"EUR\": 3750}"));
    let other = desk.propose(ActionKind::Release, &ids[..2]).await;
    for changed in [
        Proposal { members_sha256: other.members_sha256.clone(), ..proposal.clone() },
        Proposal { member_count: 2, ..proposal.clone() },
        Proposal { amounts: other.amounts.clone(), ..proposal.clone() },
    ] {
        assert_eq!(code_of(decide_action(&mut desk.checker, &changed, true, "ok").await), "OB003");
    }
    decide_action(&mut desk.checker, &proposal, true, "ok").await.unwrap();
    // In steps, and never twice.
    let first = apply_action(&mut desk.maker, proposal.action_id, 2).await.unwrap();
    assert_eq!((first.results.len(), first.remaining), (2, 1));
    let rest = apply_action(&mut desk.checker, proposal.action_id, 2).await.unwrap();
    assert_eq!((rest.results.len(), rest.remaining), (1, 0));
    assert!(apply_action(&mut desk.maker, proposal.action_id, 2).await.unwrap().results.is_empty());
    assert_eq!(world.worker("w").claim(10).await.leased.len(), 3);
}

#[tokio::test]
async fn withdrawn_action_is_never_carried_out_and_only_its_maker_withdraws_it() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut desk = Desk::of(&world);
    let proposal = desk.propose(ActionKind::Hold, &[id]).await;
    run(&mut world.dba, "do $$ begin create role t_other_operator login in role outbox_operator; exception when duplicate_object then null; end $$").await;
    assert_eq!(
        code_of(withdraw_action(&mut world.session("t_other_operator"), proposal.action_id, "no").await),
        "OB012"
    );
    withdraw_action(&mut desk.maker, proposal.action_id, "mistake").await.unwrap();
    assert_eq!(code_of(apply_action(&mut desk.maker, proposal.action_id, 10).await), "OB014");
    assert_eq!(world.stands(id).await, "READY");
}

#[tokio::test]
async fn dispatchers_login_can_do_none_of_it_and_no_login_can_write_an_action_by_itself() {
    let world = World::new().await;
    let calls = [
        "select outbox.propose_operator_action('HOLD', array[gen_random_uuid()], 'r')",
        "select outbox.decide_operator_action(gen_random_uuid(), 'APPROVED', 'r', '', 0, '{}')",
        "select outbox.withdraw_operator_action(gen_random_uuid(), 'r')",
        "select outbox.apply_operator_action(gen_random_uuid())",
        "select outbox.set_outbox_pause(null, null, false, 'r')",
        "select outbox.propose_failover(now(), '', 'r')",
        "select outbox.apply_failover(gen_random_uuid())",
        "select outbox.read_outbox_payments()",
    ];
    for login in ["t_dispatcher", "t_ingest", "t_monitor"] {
        let mut session = world.db.connect_as(login).await.unwrap();
        for call in calls {
            assert_eq!(refused(&mut session, call).await.code, "42501", "{login}: {call}");
        }
    }
    // The checker makes nothing, and nobody writes the tables.
    let mut checker = world.db.connect_as("t_approver").await.unwrap();
    assert_eq!(refused(&mut checker, calls[0]).await.code, "42501");
    let mut maker = world.db.connect_as("t_operator").await.unwrap();
    assert_eq!(refused(&mut maker, calls[1]).await.code, "42501");
    for table in [
        "operator_actions",
        "operator_action_decisions",
        "operator_action_results",
        "operator_action_members",
        "outbox_cluster",
    ] {
        assert_eq!(refused(&mut maker, &format!("delete from outbox.{table}")).await.code, "42501");
    }
}

#[tokio::test]
async fn actions_are_history() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    Desk::of(&world).does(ActionKind::Hold, &[id]).await;
    for table in ["operator_actions", "operator_action_members", "operator_action_results"] {
        for change in ["delete from", "truncate"] {
            assert_eq!(refused(&mut world.dba, &format!("{change} outbox.{table}")).await.code, "OB009", "{table}");
        }
    }
    for change in [
        "update outbox.operator_actions set reason = 'x'",
        "truncate outbox.operator_action_decisions",
        "truncate outbox.outbox_cluster",
    ] {
        assert_eq!(refused(&mut world.dba, change).await.code, "OB009", "{change}");
    }
}

#[tokio::test]
async fn bad_proposals_are_refused_by_name() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut session = world.db.connect_as("t_operator").await.unwrap();
    let ids = format!("array['{id}'::uuid]");
    for (call, word) in [
        (format!("'PAY', {ids}, 'r'"), "'PAY'"),
        (format!("'FAILOVER', {ids}, 'r'"), "'FAILOVER'"),
        (format!("'HOLD', {ids}, ' '"), "reason"),
        (format!("'RESOLVE_FAILED', {ids}, 'r'"), "evidence"),
        (format!("'RELEASE_AS_RESEND', {ids}, 'r', ''"), "evidence"),
        (format!("'RELEASE_AS_RESEND', {ids}, 'r', E' \\t\\n'"), "evidence"),
        (format!("'RELEASE', {ids}, E'\\t'"), "reason"),
        ("'HOLD', '{}', 'r'".to_owned(), "1 to 100000 payments, this one 0"),
        ("'HOLD', array['00000000-0000-7000-8000-000000000000'::uuid], 'r'".to_owned(), "there is no payment 0000"),
        (format!("'RELEASE', {ids}, 'r', null, '{{\"when\": 1}}'"), "not known"),
    ] {
        let refusal = refused(&mut session, &format!("select outbox.propose_operator_action({call})")).await;
        assert!(refusal.code == "OB003" && refusal.message.contains(word), "{call}: {refusal:?}");
    }
    let bad_time =
        format!("select outbox.propose_operator_action('RELEASE', {ids}, 'r', null, '{{\"not_after\": \"soon\"}}')");
    assert_eq!(refused(&mut session, &bad_time).await.code, "22007");
    assert_eq!(scalar::<i64>(&mut world.dba, "select count(*) from outbox.operator_actions").await, 0);
}

#[tokio::test]
async fn hold_stops_what_waits_and_what_is_under_way_stops_when_it_has_ended() {
    let mut world = World::new().await;
    let ids = world.enqueue("a", 3).await;
    let mut worker = world.worker("w");
    let mut desk = Desk::of(&world);
    assert!(desk.does(ActionKind::Hold, &[ids[0]]).await[0].applied);
    let claimed = worker.claim(10).await.leased;
    assert_eq!(claimed.len(), 2);
    let results = desk.does(ActionKind::Hold, &ids).await;
    assert_eq!(results.iter().map(|one| one.applied).collect::<Vec<_>>(), [false, true, true]);
    // One ends without ending the payment, the other ends it.
    for (claimed, outcome) in claimed.iter().zip([Outcome::NotExecuted, Outcome::Accepted]) {
        worker.complete_one(lease(claimed), outcome).await;
    }
    assert!(worker.claim(10).await.leased.is_empty());
    let stands = [world.stands(claimed[0].outbox_id).await, world.stands(claimed[1].outbox_id).await];
    assert_eq!(stands, ["HELD", "ENDED"]);
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn only_what_was_certainly_never_sent_is_cancelled() {
    let mut world = World::new().await;
    let ids = world.enqueue("a", 4).await;
    let mut worker = world.worker("w");
    let claimed = worker.claim(2).await.leased;
    let mut desk = Desk::of(&world);
    assert!(desk.refuses(ActionKind::Cancel, ids[0]).await.contains("under way"));
    worker.complete_one(lease(&claimed[0]), Outcome::Unknown).await;
    worker.complete_one(lease(&claimed[1]), Outcome::NotSent).await;
    assert!(desk.refuses(ActionKind::Cancel, claimed[0].outbox_id).await.contains("may have been sent"));
    for id in [claimed[1].outbox_id, ids[2]] {
        assert!(desk.does(ActionKind::Cancel, &[id]).await[0].applied);
    }
    assert_eq!(world.attempts(ids[2]).await, ["1 CANCELLED"]);
    assert_eq!(world.attempts(claimed[1].outbox_id).await, ["1 RETRYABLE NOT_SENT", "2 CANCELLED"]);
    assert_eq!(desk.refuses(ActionKind::Cancel, ids[2]).await, "it has ended");
    // A late success is seen too.
    world.tamper(ids[3], "late_success = true").await;
    assert!(desk.refuses(ActionKind::Cancel, ids[3]).await.contains("may have been sent"));
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn release_is_for_what_was_never_sent_and_a_resend_takes_evidence_and_the_end_of_the_quarantine() {
    let mut world = World::new().await;
    let ids = world.enqueue("a", 2).await;
    let mut desk = Desk::of(&world);
    assert_eq!(desk.refuses(ActionKind::Release, ids[0]).await, "it is not held");
    world.in_doubt(ids[0]).await;
    assert!(desk.refuses(ActionKind::Release, ids[0]).await.contains("RELEASE_AS_RESEND"));
    world.tamper(ids[0], "quarantine_until = now() + interval '1 hour'").await;
    for kind in [ActionKind::ReleaseAsResend, ActionKind::ResolveFailed] {
        assert!(desk.refuses(kind, ids[0]).await.contains("still be under way"), "{kind:?}");
    }
    world.tamper(ids[0], "quarantine_until = now(), late_success = true").await;
    for kind in [ActionKind::ReleaseAsResend, ActionKind::ResolveFailed] {
        assert!(desk.refuses(kind, ids[0]).await.contains("had accepted"), "{kind:?}");
    }
    world.tamper(ids[0], "late_success = false, send_count = 9, crash_count = 3, inquiry_count = 4").await;
    assert!(desk.does(ActionKind::ReleaseAsResend, &[ids[0]]).await[0].applied);
    let row = world.pending(ids[0]).await.unwrap();
    let counts = ["send_count", "crash_count", "inquiry_count", "attempt_count"].map(|name| row.get::<i32, _>(name));
    assert_eq!(counts, [0, 0, 0, 1]);
    assert!(row.get::<Option<time::OffsetDateTime>, _>("first_sent_at").is_none());
    assert_eq!(world.attempts(ids[0]).await, ["1 RETRYABLE"]);
    let claimed = world.worker("w").claim(10).await.leased;
    assert_eq!(claimed.len(), 2);
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn missed_window_is_released_only_with_another_not_after() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    world.tamper(id, "not_after = now() - interval '1 s'").await;
    let mut worker = world.worker("w");
    assert_eq!(worker.claim(1).await.held.len(), 1);
    let mut desk = Desk::of(&world);
    assert!(desk.refuses(ActionKind::Release, id).await.contains("not_after is past"));
    for not_after in ["{\"not_after\": null}", "{\"not_after\": \"2999-01-01T00:00:00Z\"}"] {
        world.held(id, "MISSED_WINDOW").await;
        let proposal =
            propose_action(&mut desk.maker, ActionKind::Release, &[id], "late", None, not_after).await.unwrap();
        decide_action(&mut desk.checker, &proposal, true, "ok").await.unwrap();
        assert!(apply_action(&mut desk.maker, proposal.action_id, 10).await.unwrap().results[0].applied, "{not_after}");
    }
    assert_eq!(worker.claim_one().await.not_after, Some(time::macros::datetime!(2999-01-01 0:00 UTC)));
}

#[tokio::test]
async fn doubts_are_resolved_by_evidence_that_stands_in_the_ledger() {
    let mut world = World::new().await;
    let ids = world.enqueue("a", 3).await;
    let mut desk = Desk::of(&world);
    assert!(desk.refuses(ActionKind::ResolveDispatched, ids[0]).await.contains("neither held nor in doubt"));
    world.in_doubt(ids[0]).await;
    world.in_doubt(ids[1]).await;
    assert!(desk.does(ActionKind::ResolveDispatched, &[ids[0]]).await[0].applied);
    assert!(desk.does(ActionKind::ResolveFailed, &[ids[1]]).await[0].applied);
    let ledger: String = scalar(
        &mut world.dba,
        "select string_agg(concat_ws(' ', state, kind, worker_id, rail_reference, error_class), ', ' order by outbox_id) from outbox.payment_outbox_attempts",
    )
    .await;
    assert_eq!(
        ledger,
        "DISPATCHED OPERATOR t_operator BANK-REF-7 resolve_dispatched, FAILED OPERATOR t_operator resolve_failed"
    );
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn redrive_pays_an_ended_payment_again_as_the_next_generation_once() {
    let mut world = World::new().await;
    let ids = world.enqueue("a", 2).await;
    let mut worker = world.worker("w");
    let mut desk = Desk::of(&world);
    assert!(desk.refuses(ActionKind::Redrive, ids[0]).await.contains("has not ended"));
    for claimed in worker.claim(10).await.leased {
        let outcome = if claimed.outbox_id == ids[0] { Outcome::Refused } else { Outcome::Accepted };
        worker.complete_one(lease(&claimed), outcome).await;
    }
    // What was dispatched takes evidence that the rail never got it.
    assert!(desk.refuses(ActionKind::Redrive, ids[1]).await.contains("takes evidence"));
    let result = desk.does(ActionKind::Redrive, &[ids[0]]).await.remove(0);
    let again = result.new_outbox_id.unwrap();
    assert_eq!(worker.claim_one().await.outbox_id, again);
    assert!(desk.refuses(ActionKind::Redrive, ids[0]).await.contains("redriven already"));
    let generations: String = scalar(
        &mut world.dba,
        "select string_agg(generation || ' ' || idempotency_key, ', ' order by generation) from outbox.payment_outbox_identities where instruction_id = 'a-1'",
    )
    .await;
    assert_eq!(generations, "0 key-a-1, 1 key-a-1");
    // An enqueue repeated by the producer still finds the first.
    assert_eq!(world.enqueue("a", 1).await, [ids[0]]);
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn failed_payment_that_the_rail_accepted_after_all_is_not_redriven() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let stale = lease(&worker.claim_one().await);
    world.lose_lease(id).await;
    worker.claim(1).await;
    let current = lease(&worker.claim_one().await);
    worker.complete_one(current, Outcome::Refused).await;
    worker.complete_one(stale, Outcome::Accepted).await;
    assert!(Desk::of(&world).refuses(ActionKind::Redrive, id).await.contains("had accepted it"));
}

#[tokio::test]
async fn retry_now_ends_a_wait_but_not_before_not_before() {
    let mut world = World::new().await;
    let ids = world.enqueue("a", 2).await;
    let mut desk = Desk::of(&world);
    assert_eq!(desk.refuses(ActionKind::RetryNow, ids[0]).await, "it is due already");
    world.tamper(ids[0], "next_attempt_at = now() + interval '1 hour'").await;
    assert!(desk.does(ActionKind::RetryNow, &[ids[0]]).await[0].applied);
    let mut ingest = world.db.connect_as("t_ingest").await.unwrap();
    let text = crate::enqueue_identity::enqueue_sql("later", "k", "a", ", p_not_before => now() + interval '1 hour'");
    let id: uuid::Uuid = crate::sql::fetch(&mut ingest, &text).await[0].get("outbox_id");
    assert!(desk.refuses(ActionKind::RetryNow, OutboxId(id)).await.contains("not_before"));
    assert_eq!(world.worker("w").claim(10).await.leased.len(), 2);
}

#[tokio::test]
async fn pauses_stop_everything_a_rail_or_a_participant_and_let_the_others_go_on() {
    let mut world = World::new().await;
    world.enqueue("a", 3).await;
    let rail = RailName::new(RAIL).unwrap();
    let mut operator = world.session("t_operator");
    let mut worker = world.worker("w");
    for scope in [None, Some(&rail)] {
        set_pause(&mut operator, scope, None, true, "stop").await.unwrap();
        let batch = worker.claim(10).await;
        assert!(batch.leased.is_empty() && batch.summary.paused, "{scope:?}");
        set_pause(&mut operator, scope, None, false, "go").await.unwrap();
        assert!(!worker.claim(1).await.summary.paused);
    }
    let mut other = crate::world::payment("other");
    other.participant_id = "umbrella".to_owned();
    outbox_store::enqueue_batch(&mut world.session("t_ingest"), &[other], outbox_store::Hint::Wake).await.unwrap();
    set_pause(&mut operator, Some(&rail), Some("acme"), true, "fraud").await.unwrap();
    let batch = worker.claim(10).await;
    assert_eq!((batch.leased.len(), batch.leased[0].participant_id.as_str(), batch.summary.parked), (1, "umbrella", 1));
    assert!(worker.claim(10).await.leased.is_empty());
    let pauses = read_pauses(&mut world.session("t_monitor")).await.unwrap();
    assert_eq!(
        (pauses.len(), pauses[0].participant_id.as_deref(), pauses[0].reason.as_str()),
        (1, Some("acme"), "fraud")
    );
    // A pause is lifted by its own scope, and what it parked comes back.
    assert_eq!(code_of(set_pause(&mut operator, None, Some("acme"), false, "go").await), "OB003");
    set_pause(&mut operator, Some(&rail), Some("acme"), false, "go").await.unwrap();
    assert_eq!(unpark(&mut world.session("t_dispatcher"), &rail, 100).await.unwrap().keys, 1);
    assert_eq!(worker.claim(10).await.leased.len(), 1);
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn list_pages_by_key_and_shows_the_members_of_an_action_for_a_recall() {
    let mut world = World::new().await;
    let ids = world.enqueue("a", 5).await;
    for id in &ids {
        world.held(*id, "REQUESTED").await;
    }
    let mut desk = Desk::of(&world);
    let filter = PaymentFilter { disposition: Some("HELD".to_owned()), ..PaymentFilter::default() };
    let page = read_payments(&mut desk.maker, &filter, 3).await.unwrap();
    let id_of = |text: &String| serde_json::from_str::<Value>(text).unwrap()["outbox_id"].as_str().unwrap().to_owned();
    let last = OutboxId(id_of(&page[2]).parse().unwrap());
    let rest = read_payments(&mut desk.maker, &PaymentFilter { after: Some(last), ..filter }, 3).await.unwrap();
    let all: Vec<String> = page.iter().chain(&rest).map(id_of).collect();
    assert_eq!(all, ids.iter().map(ToString::to_string).collect::<Vec<_>>());

    let proposal = desk.propose(ActionKind::Release, &ids).await;
    decide_action(&mut desk.checker, &proposal, true, "ok").await.unwrap();
    apply_action(&mut desk.maker, proposal.action_id, 100).await.unwrap();
    // The wrong batch: two have left before anybody noticed.
    let mut worker = world.worker("w");
    for claimed in worker.claim(2).await.leased {
        worker.complete_one(lease(&claimed), Outcome::Accepted).await;
    }
    let members = read_action_members(&mut desk.maker, proposal.action_id, None, 100).await.unwrap();
    let sent = members.iter().filter(|text| serde_json::from_str::<Value>(text).unwrap()["sent"] == true).count();
    assert_eq!((members.len(), sent), (5, 2));
    let held = desk.does(ActionKind::Hold, &ids).await;
    assert_eq!(held.iter().filter(|one| one.applied).count(), 3);
    let actions = read_actions(&mut desk.checker, None, 10).await.unwrap();
    let newest: Value = serde_json::from_str(&actions[0]).unwrap();
    assert_eq!(
        (newest["kind"].as_str(), newest["applied"].as_i64(), newest["skipped"].as_i64()),
        (Some("HOLD"), Some(3), Some(2))
    );
    let ended = PaymentFilter { ended_as: Some("DISPATCHED".to_owned()), ..PaymentFilter::default() };
    assert_eq!(read_payments(&mut desk.maker, &ended, 10).await.unwrap().len(), 2);
    // A filter that did not count would choose more than was said.
    let both = PaymentFilter { hold_reason: Some("UNKNOWN".to_owned()), ..ended };
    assert_eq!(code_of(read_payments(&mut desk.maker, &both, 10).await), "OB003");
}
