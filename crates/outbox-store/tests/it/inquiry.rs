//! What an answer to an inquiry proves, and for how long.

use outbox_core::{AttemptKind, AttemptState, HoldReason, OutboxId, Outcome};
use outbox_store::{ClaimRequest, ClaimedPayment, CompletionVerdict, claim};
use sqlx::Row as _;

use crate::conservation::assert_conserved;
use crate::world::{Worker, World, lease};

const INQUIRE: &str = "on_unknown = 'inquire', not_found_is_final = true";

/// A payment in doubt whose quarantine is over and that was first sent so long ago, under an inquiry.
async fn asked_after(world: &mut World, worker: &mut Worker, sent_ago: &str) -> (OutboxId, ClaimedPayment) {
    let id = world.enqueue("a", 1).await[0];
    let sent = worker.claim_one().await;
    worker.complete_one(lease(&sent), Outcome::Unknown).await;
    let over = "quarantine_until = clock_timestamp() - interval '1 ms'";
    world.tamper(id, &format!("{over}, first_sent_at = clock_timestamp() - interval '{sent_ago}'")).await;
    (id, worker.claim_one().await)
}

fn state_and_reason(verdict: CompletionVerdict) -> (AttemptState, Option<HoldReason>) {
    let CompletionVerdict::Applied { state, held, .. } = verdict else { panic!("{verdict:?}") };
    (state, held)
}

#[tokio::test]
async fn not_found_from_a_rail_that_has_forgotten_the_key_leads_to_no_send() {
    let mut world = World::new().await;
    world.contract(&format!("{INQUIRE}, idempotency_window_ms = 61000")).await;
    let mut worker = world.worker("w");
    let (id, asked) = asked_after(&mut world, &mut worker, "1 day").await;
    let verdict = worker.complete_one(lease(&asked), Outcome::NotFound).await;
    assert_eq!(state_and_reason(verdict), (AttemptState::InDoubt, Some(HoldReason::KeyWindow)));
    assert!(worker.claim(10).await.leased.is_empty());
    assert_eq!(world.attempts(id).await, ["1 IN_DOUBT UNKNOWN", "2 IN_DOUBT NOT_FOUND"]);
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn payment_found_to_be_free_in_time_is_not_sent_once_the_key_window_is_past() {
    let mut world = World::new().await;
    world.contract(&format!("{INQUIRE}, idempotency_window_ms = 86400000")).await;
    let mut worker = world.worker("w");
    let (id, asked) = asked_after(&mut world, &mut worker, "1 hour").await;
    let verdict = worker.complete_one(lease(&asked), Outcome::NotFound).await;
    assert_eq!(state_and_reason(verdict), (AttemptState::Retryable, None));
    world.tamper(id, "first_sent_at = first_sent_at - interval '1 day'").await;
    let batch = worker.claim(10).await;
    assert!(batch.leased.is_empty(), "sent: {batch:?}");
    assert_eq!(batch.held.iter().map(|held| held.reason).collect::<Vec<_>>(), [HoldReason::KeyWindow]);
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn not_found_counts_however_late_where_the_contract_has_no_key_window() {
    let mut world = World::new().await;
    world.contract(&format!("{INQUIRE}, idempotency_window_ms = null")).await;
    let mut worker = world.worker("w");
    let (_, asked) = asked_after(&mut world, &mut worker, "1 year").await;
    let verdict = worker.complete_one(lease(&asked), Outcome::NotFound).await;
    assert_eq!(state_and_reason(verdict), (AttemptState::Retryable, None));
    assert!(worker.claim_one().await.is_resend);
}

#[tokio::test]
async fn what_a_late_success_is_known_of_is_asked_after_where_it_was_sent_and_without_its_payload() {
    let mut world = World::new().await;
    world.contract(INQUIRE).await;
    let id = world.enqueue("a", 1).await[0];
    // Nothing else of it is known: neither doubt nor quarantine.
    world.tamper(id, "late_success = true, endpoint = 'first', not_after = clock_timestamp() - interval '1 h'").await;
    let mut worker = world.worker("w");
    let request = ClaimRequest { endpoint: Some("second".to_owned()), ..worker.request(10) };
    let batch = claim(&mut worker.session, &request).await.unwrap();
    assert!(batch.held.is_empty(), "{batch:?}");
    let asked = &batch.leased[0];
    assert_eq!((asked.kind, asked.endpoint.as_deref()), (AttemptKind::Inquire, Some("first")));
    assert!(asked.payload.is_empty(), "an inquiry that has the payment's bytes could send them");
}

#[tokio::test]
async fn payment_found_to_be_free_is_sent_where_it_was_sent_before() {
    let mut world = World::new().await;
    world.contract(&format!("{INQUIRE}, idempotency_window_ms = null")).await;
    let mut worker = world.worker("w");
    let (id, asked) = asked_after(&mut world, &mut worker, "1 hour").await;
    world.tamper(id, "endpoint = 'first'").await;
    worker.complete_one(lease(&asked), Outcome::NotFound).await;
    let request = ClaimRequest { endpoint: Some("second".to_owned()), ..worker.request(10) };
    let batch = claim(&mut worker.session, &request).await.unwrap();
    assert_eq!((batch.leased[0].kind, batch.leased[0].endpoint.as_deref()), (AttemptKind::Submit, Some("first")));
}

#[tokio::test]
async fn lost_lease_on_an_inquire_rail_waits_to_be_asked_after() {
    let mut world = World::new().await;
    world.contract(INQUIRE).await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    worker.claim_one().await;
    world.lose_lease(id).await;
    assert!(worker.claim(10).await.leased.is_empty());
    assert_eq!(world.pending(id).await.unwrap().get::<String, _>("disposition"), "IN_DOUBT");
    assert_eq!(worker.claim_one().await.kind, AttemptKind::Inquire);
}

#[tokio::test]
async fn worker_that_is_lost_while_it_asks_prolongs_no_quarantine() {
    let mut world = World::new().await;
    world.contract(&format!("{INQUIRE}, idempotency_window_ms = null")).await;
    let mut worker = world.worker("w");
    let (id, _) = asked_after(&mut world, &mut worker, "1 hour").await;
    let until =
        async |world: &mut World| world.pending(id).await.unwrap().get::<time::OffsetDateTime, _>("quarantine_until");
    let before = until(&mut world).await;
    world.lose_lease(id).await;
    assert_eq!(worker.claim(10).await.summary.expired, 1);
    assert_eq!(until(&mut world).await, before, "a lost inquiry sends nothing late");
}
