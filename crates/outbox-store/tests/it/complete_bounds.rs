//! What a completion writes besides its verdict: who held the lease, since when there is doubt, until when a send may be on its
//! way; and what a report from outside of a lease may change.

use outbox_core::{AttemptKind, AttemptState, OutboxId, Outcome, WorkerId};
use outbox_store::{Completion, CompletionVerdict, HeldLease, complete, expire_leases};
use sqlx::Row as _;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::conservation::assert_conserved;
use crate::sql::{column, scalar};
use crate::steps::Actor;
use crate::world::{Worker, World, completion, forged_lease, lease};

const INQUIRE: &str = "on_unknown = 'inquire', not_found_is_final = true, idempotency_window_ms = null";

/// A payment whose only attempt ended certainly unsent, and the lease of that attempt.
async fn given_back(world: &mut World, worker: &mut Worker, name: &str) -> (OutboxId, HeldLease) {
    let id = world.enqueue(name, 1).await[0];
    let held = lease(&worker.claim_one().await);
    worker.complete_one(held, Outcome::NotSent).await;
    (id, held)
}

#[tokio::test]
async fn ledger_names_who_was_granted_the_lease_whoever_reports() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let held = lease(&worker.claim_one().await);
    let other = WorkerId::new("other", Uuid::new_v4()).unwrap();
    complete(&mut worker.session, &other, &[&completion(held, Outcome::NotExecuted)]).await.unwrap();
    let text = format!("select worker_id from outbox.payment_outbox_attempts where outbox_id = '{id}'");
    assert_eq!(scalar::<String>(&mut world.dba, &text).await, worker.id.as_str());
}

#[tokio::test]
async fn result_under_a_token_that_was_never_granted_is_no_repetition_and_is_kept() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let held = lease(&worker.claim_one().await);
    worker.complete_one(held, Outcome::Accepted).await;
    // The same result in every other respect.
    assert_eq!(worker.complete_one(forged_lease(id, 1), Outcome::Accepted).await, CompletionVerdict::Fenced);
    let kept: Vec<String> = column(&mut world.dba, "select outcome from outbox.payment_outbox_late_outcomes").await;
    assert_eq!(kept, ["ACCEPTED"]);
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn send_may_be_on_its_way_for_an_exchange_and_as_long_as_the_rail_may_execute_it() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let held = lease(&worker.claim_one().await);
    worker.complete_one(held, Outcome::Unknown).await;
    let text = "select p.quarantine_until = a.completed_at + interval '90 s' and p.in_doubt_since = a.completed_at \
                  from outbox.payment_outbox_pending p join outbox.payment_outbox_attempts a using (outbox_id)";
    assert!(scalar::<bool>(&mut world.dba, text).await, "rail timeout (30 s) and processing bound (60 s)");
    // The doubt is as old as its first cause.
    world.tamper(id, "in_doubt_since = '2026-01-01'").await;
    let held = lease(&worker.claim_one().await);
    worker.complete_one(held, Outcome::Unknown).await;
    let since: OffsetDateTime = world.pending(id).await.unwrap().get("in_doubt_since");
    assert_eq!(since, time::macros::datetime!(2026-01-01 0:00 UTC));
}

#[tokio::test]
async fn late_report_leaves_a_doubt_exactly_if_it_says_that_something_may_have_been_executed() {
    let mut world = World::new().await;
    let mut worker = world.worker("w");
    for outcome in Outcome::ALL.into_iter().filter(|outcome| *outcome != Outcome::NotSent) {
        let (id, stale) = given_back(&mut world, &mut worker, outcome.name()).await;
        assert_eq!(worker.complete_one(stale, outcome).await, CompletionVerdict::Fenced, "{outcome:?}");
        let row = world.pending(id).await.unwrap();
        let doubtful = matches!(
            outcome,
            Outcome::Accepted | Outcome::Interim | Outcome::Unknown | Outcome::KeyReused | Outcome::Inconclusive
        );
        for place in ["in_doubt_since", "first_sent_at", "quarantine_until"] {
            assert_eq!(row.get::<Option<OffsetDateTime>, _>(place).is_some(), doubtful, "{outcome:?}: {place}");
        }
        assert_eq!(row.get::<bool, _>("late_success"), outcome == Outcome::Accepted);
        world.tamper(id, "next_attempt_at = '2999-01-01'").await;
    }
}

#[tokio::test]
async fn late_report_of_a_send_counts_from_its_first_byte_and_may_be_on_its_way_from_now_on() {
    let mut world = World::new().await;
    world.contract(INQUIRE).await;
    let mut worker = world.worker("w");
    let (id, stale) = given_back(&mut world, &mut worker, "a").await;
    let sent_at = time::macros::datetime!(2026-01-01 0:00 UTC);
    let late = Completion { first_byte_at: Some(sent_at), ..completion(stale, Outcome::Unknown) };
    worker.complete(&[late]).await;
    let row = world.pending(id).await.unwrap();
    assert_eq!(row.get::<OffsetDateTime, _>("first_sent_at"), sent_at);
    assert_eq!(row.get::<String, _>("disposition"), "IN_DOUBT");
    let text = "select p.quarantine_until = l.recorded_at + interval '90 s' \
                  from outbox.payment_outbox_pending p join outbox.payment_outbox_late_outcomes l using (outbox_id)";
    assert!(scalar::<bool>(&mut world.dba, text).await);
    assert_eq!(worker.claim_one().await.kind, AttemptKind::Inquire);
}

#[tokio::test]
async fn late_report_does_not_turn_a_send_under_way_into_an_inquiry() {
    let mut world = World::new().await;
    world.contract(INQUIRE).await;
    let mut worker = world.worker("w");
    let (id, stale) = given_back(&mut world, &mut worker, "a").await;
    let current = worker.claim_one().await;
    assert_eq!(current.kind, AttemptKind::Submit);
    worker.complete_one(stale, Outcome::Unknown).await;
    worker.complete_one(lease(&current), Outcome::Accepted).await;
    let text = format!("select kind from outbox.payment_outbox_attempts where outbox_id = '{id}' order by attempt_no");
    assert_eq!(column::<String>(&mut world.dba, &text).await, ["SUBMIT", "SUBMIT"]);
}

#[tokio::test]
async fn repeated_report_brings_no_doubt_back_that_the_rail_has_ended() {
    let mut world = World::new().await;
    world.contract(INQUIRE).await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let sent = lease(&worker.claim_one().await);
    worker.complete_one(sent, Outcome::Unknown).await;
    world.tamper(id, "quarantine_until = clock_timestamp() - interval '1 ms'").await;
    let asked = lease(&worker.claim_one().await);
    let verdict = worker.complete_one(asked, Outcome::NotFound).await;
    assert!(matches!(verdict, CompletionVerdict::Applied { state: AttemptState::Retryable, .. }), "{verdict:?}");
    assert_eq!(worker.complete_one(sent, Outcome::Unknown).await, CompletionVerdict::AlreadyApplied);
    let row = world.pending(id).await.unwrap();
    assert_eq!(row.get::<Option<OffsetDateTime>, _>("in_doubt_since"), None);
    assert_eq!(worker.claim_one().await.kind, AttemptKind::Submit);
}

#[tokio::test]
async fn lost_lease_that_somebody_has_locked_is_passed_over_and_settled_later() {
    let mut world = World::new().await;
    let ids = world.enqueue("a", 2).await;
    let mut worker = world.worker("w");
    worker.claim(10).await;
    for id in &ids {
        world.lose_lease(*id).await;
    }
    let mut somebody = Actor::enter(&world.db, "postgres", "somebody").await;
    somebody.does("begin").await;
    somebody
        .asks(&format!("select 1 from outbox.payment_outbox_pending where outbox_id = '{}' for update", ids[0]))
        .await;
    let mut session = world.session("t_dispatcher");
    let rail = worker.request(1).rail;
    let settled = expire_leases(&mut session, &rail, 100, None).await.unwrap();
    assert_eq!(settled.due_again.len(), 1, "{settled:?}");
    somebody.does("commit").await;
    let settled = expire_leases(&mut session, &rail, 100, None).await.unwrap();
    assert_eq!(settled.due_again.len(), 1, "{settled:?}");
}
