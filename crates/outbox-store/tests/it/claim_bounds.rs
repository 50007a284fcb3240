//! What a claim leaves alone: what is not due, what is another rail's, and what is another worker's for a little longer.

use outbox_core::{AttemptKind, HoldReason, Outcome, RailName};
use outbox_store::{
    ClaimRequest, CompletionVerdict, ContractChange, HeldLease, Hint, NewPayment, claim, enqueue_batch,
    release_leases as release, set_payment_rail,
};

use crate::sql::{run, scalar};
use crate::world::{World, lease, payment};

#[tokio::test]
async fn payment_is_claimed_when_it_is_due_and_not_before() {
    let mut world = World::new().await;
    let all = world.enqueue("a", 2).await;
    world.tamper(all[0], "next_attempt_at = clock_timestamp() + interval '1 h'").await;
    let mut worker = world.worker("w");
    let batch = worker.claim(10).await;
    assert_eq!(batch.leased.iter().map(|claimed| claimed.outbox_id).collect::<Vec<_>>(), [all[1]]);
    world.tamper(all[0], "next_attempt_at = clock_timestamp()").await;
    assert_eq!(worker.claim_one().await.outbox_id, all[0]);
}

#[tokio::test]
async fn setting_a_contract_says_whether_the_rail_is_new() {
    let world = World::new().await;
    let mut session = world.session("t_operator");
    let rail = RailName::new("sepa").unwrap();
    let change = ContractChange { on_unknown: Some("hold".to_owned()), ..ContractChange::default() };
    for is_new in [true, false] {
        assert_eq!(set_payment_rail(&mut session, &rail, &change).await.unwrap(), is_new);
    }
}

#[tokio::test]
async fn claim_leases_payments_of_its_own_rail_alone() {
    let mut world = World::new().await;
    run(&mut world.dba, "select outbox.set_payment_rail('sepa', 'hold')").await;
    let here = world.enqueue("a", 2).await;
    let sepa = RailName::new("sepa").unwrap();
    let other = NewPayment { rail: sepa.clone(), ..payment("b-1") };
    let there = enqueue_batch(&mut world.session("t_ingest"), &[other], Hint::Wake).await.unwrap().remove(0).outbox_id;
    let mut worker = world.worker("w");
    let mut got: Vec<_> = worker.claim(10).await.leased.iter().map(|claimed| claimed.outbox_id).collect();
    got.sort();
    assert_eq!(got, here);
    let request = ClaimRequest { rail: sepa, ..worker.request(10) };
    let batch = claim(&mut worker.session, &request).await.unwrap();
    assert_eq!(batch.leased.iter().map(|claimed| claimed.outbox_id).collect::<Vec<_>>(), [there]);
}

#[tokio::test]
async fn lease_belongs_to_its_worker_until_its_last_moment() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    world.worker("w").claim_one().await;
    // Long enough for a busy machine, and less than the whole lease.
    world.tamper(id, "lease_expires_at = clock_timestamp() + interval '30 s'").await;
    let batch = world.worker("x").claim(10).await;
    assert!(batch.leased.is_empty() && batch.summary.expired == 0, "{batch:?}");
    let expired = "select count(*) from outbox.expire_outbox_leases('wire', 10) where outbox_id is not null";
    assert_eq!(scalar::<i64>(&mut world.dba, expired).await, 0);
    assert_eq!(world.attempts(id).await, Vec::<String>::new());
}

#[tokio::test]
async fn each_lease_has_a_token_of_its_own_and_that_of_an_earlier_one_completes_nothing() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let first = lease(&worker.claim_one().await);
    release(&mut worker.session, &worker.id, &[first]).await.unwrap();
    let second = lease(&worker.claim_one().await);
    assert_ne!(first.lease_token, second.lease_token);
    let stale = HeldLease { lease_token: first.lease_token, ..second };
    assert_eq!(worker.complete_one(stale, Outcome::Accepted).await, CompletionVerdict::Fenced);
    assert_eq!(world.attempts(id).await, ["1 RELEASED RELEASED"]);
}

#[tokio::test]
async fn payment_that_was_asked_after_as_often_as_the_contract_allows_is_held_and_not_asked_after_again() {
    let mut world = World::new().await;
    world.contract("on_unknown = 'inquire', max_inquiries = 2").await;
    let id = world.enqueue("a", 1).await[0];
    let doubt = "disposition = 'IN_DOUBT', in_doubt_since = clock_timestamp(), attempt_count = 3";
    world.tamper(id, &format!("{doubt}, inquiry_count = 1")).await;
    let mut worker = world.worker("w");
    let asked = worker.claim_one().await;
    assert_eq!(asked.kind, AttemptKind::Inquire);
    release(&mut worker.session, &worker.id, &[lease(&asked)]).await.unwrap();
    // The contract allows fewer now.
    world.contract("max_inquiries = 1").await;
    let batch = worker.claim(10).await;
    assert!(batch.leased.is_empty(), "{batch:?}");
    assert_eq!(batch.held.iter().map(|held| held.reason).collect::<Vec<_>>(), [HoldReason::Exhausted]);
}

#[tokio::test]
async fn lease_that_is_given_back_at_a_limit_holds_nothing_and_the_next_claim_does() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let held = lease(&worker.claim_one().await);
    world.contract("max_sends = 1").await;
    world.tamper(id, "send_count = 1").await;
    let verdict = release(&mut worker.session, &worker.id, &[held]).await.unwrap().remove(0);
    assert!(matches!(verdict, CompletionVerdict::Applied { held: None, .. }), "{verdict:?}");
    let batch = worker.claim(10).await;
    assert_eq!(batch.held.iter().map(|held| held.reason).collect::<Vec<_>>(), [HoldReason::Exhausted]);
}

#[tokio::test]
async fn cursor_is_the_last_that_the_claim_looked_at() {
    let mut world = World::new().await;
    let all = world.enqueue("a", 3).await;
    world.tamper(all[0], "next_attempt_at = created_at - interval '1 s'").await;
    let cursor = world.worker("w").claim(2).await.summary.cursor.map(|cursor| cursor.outbox_id);
    assert_eq!(cursor, Some(all[1]), "the earliest, and the first of those after it");
}
