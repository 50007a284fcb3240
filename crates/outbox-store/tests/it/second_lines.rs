//! What the functions never do, the tables refuse as well: constraints as a second line, and rights as a third.

use crate::sql::{refused, run};
use crate::world::World;

/// A row of the ledger as a completion writes it, with this state and reference.
fn attempt(id: outbox_core::OutboxId, state: &str, reference: &str) -> String {
    format!(
        "insert into outbox.payment_outbox_attempts (outbox_id, attempt_no, rail, kind, state, outcome, worker_id, lease_token, claimed_at, \
         completed_at, rail_reference) values ('{id}', 1, 'wire', 'SUBMIT', '{state}', 'ACCEPTED', 'w', gen_random_uuid(), now(), now(), {reference})"
    )
}

#[tokio::test]
async fn ledger_takes_no_dispatched_attempt_without_a_reference_from_anybody() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    for reference in ["null", "''"] {
        let refusal = refused(&mut world.dba, &attempt(id, "DISPATCHED", reference)).await;
        assert!(refusal.code == "23514" && refusal.message.contains("dispatched_has_a_reference"), "{refusal:?}");
    }
    run(&mut world.dba, &attempt(id, "DISPATCHED", "'R1'")).await;
}

#[tokio::test]
async fn queue_takes_no_lease_on_a_payment_that_is_held_or_parked_and_no_half_of_one() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    world.worker("w").claim_one().await;
    for (assignments, constraint) in [
        ("disposition = 'HELD', hold_reason = 'UNKNOWN'", "only_claimable_rows_are_leased"),
        ("disposition = 'PARKED'", "only_claimable_rows_are_leased"),
        ("lease_token = null", "lease_is_whole"),
    ] {
        let text = format!("update outbox.payment_outbox_pending set {assignments} where outbox_id = '{id}'");
        let refusal = refused(&mut world.dba, &text).await;
        assert!(refusal.code == "23514" && refusal.message.contains(constraint), "{refusal:?}");
    }
}

#[tokio::test]
async fn contract_without_a_key_window_resends_nothing_and_no_lease_is_shorter_than_an_exchange() {
    let mut world = World::new().await;
    for (assignments, constraint) in [
        ("idempotency_window_ms = null", "resend_has_key_window"),
        ("lease_duration_ms = rail_timeout_ms", "lease_outlasts_rail_timeout"),
    ] {
        let text = format!("update outbox.payment_rails set {assignments} where rail = 'wire'");
        let refusal = refused(&mut world.dba, &text).await;
        assert!(refusal.code == "23514" && refusal.message.contains(constraint), "{refusal:?}");
    }
}

#[tokio::test]
async fn dispatchers_login_can_neither_read_nor_change_the_queue_but_by_functions() {
    let world = World::new().await;
    world.enqueue("a", 1).await;
    let mut dispatcher = world.db.connect_as("t_dispatcher").await.unwrap();
    for text in [
        "select outbox_id from outbox.payment_outbox_pending",
        "update outbox.payment_outbox_pending set lease_expires_at = null",
        "delete from outbox.payment_outbox_pending",
        "insert into outbox.payment_rails (rail) values ('mine')",
    ] {
        assert_eq!(refused(&mut dispatcher, text).await.code, "42501", "{text}");
    }
}
