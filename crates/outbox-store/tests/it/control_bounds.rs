//! What people's actions need and where they end: whose word, evidence of when, and what stands in the queue afterwards.

use outbox_core::{HoldReason, OutboxId, Outcome};
use outbox_store::{
    ActionKind, ActionResult, Completion, CompletionVerdict, Hint, NewPayment, decide_action, enqueue_batch,
    propose_action,
};
use sqlx::Row as _;
use time::OffsetDateTime;

use crate::control::Desk;
use crate::sql::{refused, run};
use crate::world::{World, completion, lease, payment};

/// A payment on a hold rail whose send has an unknown outcome, held for that.
async fn held_in_doubt(world: &mut World) -> OutboxId {
    world.contract("on_unknown = 'hold'").await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let held = lease(&worker.claim_one().await);
    worker.complete_one(held, Outcome::Unknown).await;
    id
}

#[tokio::test]
async fn whatever_sends_again_or_ends_a_payment_by_evidence_takes_two_people() {
    let world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut desk = Desk::of(&world);
    for (kind, needs_approval) in [
        (ActionKind::Hold, false),
        (ActionKind::Cancel, false),
        (ActionKind::RetryNow, false),
        (ActionKind::Release, true),
        (ActionKind::ReleaseAsResend, true),
        (ActionKind::ResolveDispatched, true),
        (ActionKind::ResolveFailed, true),
        (ActionKind::Redrive, true),
    ] {
        assert_eq!(desk.propose(kind, &[id]).await.needs_approval, needs_approval, "{kind:?}");
    }
}

#[tokio::test]
async fn payment_that_the_rail_would_not_take_was_sent_and_is_not_cancelled() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let held = lease(&worker.claim_one().await);
    worker.complete_one(held, Outcome::Throttled).await;
    assert_eq!(world.pending(id).await.unwrap().get::<Option<OffsetDateTime>, _>("in_doubt_since"), None);
    assert_eq!(Desk::of(&world).refuses(ActionKind::Cancel, id).await, "it may have been sent");
}

#[tokio::test]
async fn evidence_of_inside_the_quarantine_does_not_count_when_the_quarantine_is_over() {
    let mut world = World::new().await;
    let id = held_in_doubt(&mut world).await;
    let mut desk = Desk::of(&world);
    let proposal = desk.propose(ActionKind::ReleaseAsResend, &[id]).await;
    world.tamper(id, "quarantine_until = clock_timestamp()").await;
    let done = desk.carry_out(&proposal).await;
    assert!(!done.applied && done.detail.is_some_and(|why| why.contains("may still be under way")));
}

#[tokio::test]
async fn payment_that_is_sent_again_by_evidence_is_out_of_doubt_and_keeps_its_wait() {
    let mut world = World::new().await;
    let id = held_in_doubt(&mut world).await;
    world.tamper(id, "quarantine_until = clock_timestamp(), next_attempt_at = '2999-01-01'").await;
    assert!(Desk::of(&world).does(ActionKind::ReleaseAsResend, &[id]).await[0].applied);
    let row = world.pending(id).await.unwrap();
    for place in ["in_doubt_since", "first_sent_at", "quarantine_until"] {
        assert_eq!(row.get::<Option<OffsetDateTime>, _>(place), None, "{place}");
    }
    assert_eq!(row.get::<OffsetDateTime, _>("next_attempt_at"), time::macros::datetime!(2999-01-01 0:00 UTC));
    world.tamper(id, "next_attempt_at = clock_timestamp()").await;
    assert!(world.worker("w").claim_one().await.is_resend, "a possible duplicate");
}

#[tokio::test]
async fn payment_that_a_person_ends_makes_way_for_the_next_of_its_key() {
    let mut world = World::new().await;
    world.contract("on_unknown = 'hold'").await;
    let under = |name: &str| NewPayment { ordering_key: Some("account".to_owned()), ..payment(name) };
    let done = enqueue_batch(&mut world.session("t_ingest"), &[under("a"), under("b")], Hint::Wake).await.unwrap();
    let mut worker = world.worker("w");
    let first = lease(&worker.claim_one().await);
    worker.complete_one(first, Outcome::Unknown).await;
    assert!(worker.claim(10).await.leased.is_empty());
    assert!(Desk::of(&world).does(ActionKind::ResolveDispatched, &[first.outbox_id]).await[0].applied);
    assert_eq!(worker.claim_one().await.outbox_id, done[1].outbox_id);
}

#[tokio::test]
async fn payment_is_not_paid_anew_past_its_not_after() {
    let world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let held = lease(&worker.claim_one().await);
    worker.complete_one(held, Outcome::Refused).await;
    let mut desk = Desk::of(&world);
    let past = "{\"not_after\": \"2020-01-01T00:00:00Z\"}";
    let proposal = propose_action(&mut desk.maker, ActionKind::Redrive, &[id], "again", None, past).await.unwrap();
    let done = desk.carry_out(&proposal).await;
    assert_eq!((done.applied, done.detail.as_deref()), (false, Some("its not_after is past: give another")));
}

#[tokio::test]
async fn doubt_about_an_earlier_generation_takes_evidence_for_a_later_one() {
    let mut world = World::new().await;
    // The rail answers the second send with its first result: the payment fails out of a doubt.
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    for outcome in [Outcome::Unknown, Outcome::Refused] {
        let held = lease(&worker.claim_one().await);
        worker.complete_one(held, outcome).await;
    }
    world.long_ago(id).await;
    let mut desk = Desk::of(&world);
    assert!(!desk.does(ActionKind::Redrive, &[id]).await[0].applied, "it may have been executed");
    let anew = desk.does_by(ActionKind::Redrive, id, "BANK-REF-7").await.new_outbox_id.unwrap();
    let held = lease(&worker.claim_one().await);
    assert_eq!(held.outbox_id, anew);
    worker.complete_one(held, Outcome::Refused).await;
    let done: ActionResult = desk.does(ActionKind::Redrive, &[anew]).await.remove(0);
    assert!(!done.applied && done.detail.is_some_and(|why| why.contains("takes evidence")));
}

#[tokio::test]
async fn hold_that_was_asked_for_counts_at_once_when_the_lease_is_lost() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    worker.claim_one().await;
    assert!(Desk::of(&world).does(ActionKind::Hold, &[id]).await[0].applied);
    world.lose_lease(id).await;
    let batch = worker.claim(10).await;
    assert_eq!(batch.held.iter().map(|held| held.reason).collect::<Vec<_>>(), [HoldReason::Requested]);
    assert_eq!(world.pending(id).await.unwrap().get::<String, _>("disposition"), "HELD");
}

#[tokio::test]
async fn fallback_does_not_end_by_one_persons_word_while_nobody_knows_where_a_payment_in_doubt_was_sent() {
    let mut world = World::new().await;
    world.contract("on_unknown = 'inquire', fallback = true").await;
    let id = world.enqueue("a", 1).await[0];
    world.tamper(id, "in_doubt_since = now(), disposition = 'IN_DOUBT'").await;
    let ends = "select outbox.set_payment_rail('wire', p_fallback => false)";
    let refusal = refused(&mut world.dba, ends).await;
    assert_eq!((refusal.code.as_str(), refusal.column.as_deref()), ("OB003", Some("fallback")));
    world.tamper(id, "endpoint = 'first'").await;
    run(&mut world.dba, ends).await;
}

#[tokio::test]
async fn decision_on_what_needs_none_is_refused() {
    let world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut desk = Desk::of(&world);
    let proposal = desk.propose(ActionKind::Hold, &[id]).await;
    let error = decide_action(&mut desk.checker, &proposal, true, "checked").await.unwrap_err();
    assert_eq!(error.refusal(), Some("OB003"));
}

#[tokio::test]
async fn what_the_rail_says_of_a_dispatched_payment_later_counts_against_the_next_generation() {
    let world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let held = lease(&worker.claim_one().await);
    worker.complete_one(held, Outcome::Accepted).await;
    let anew = Desk::of(&world).does_by(ActionKind::Redrive, id, "BANK-REF-7").await.new_outbox_id.unwrap();
    // It was executed after all, and that was not known to who had the evidence.
    let again = Completion { rail_reference: Some("R2".to_owned()), ..completion(held, Outcome::Accepted) };
    assert_eq!(worker.complete(&[again]).await, [CompletionVerdict::Fenced]);
    let batch = worker.claim(10).await;
    assert!(batch.leased.is_empty(), "paid twice: {batch:?}");
    let reasons: Vec<_> = batch.held.iter().map(|held| (held.outbox_id, held.reason)).collect();
    assert_eq!(reasons, [(anew, HoldReason::LateSuccess)]);
}
