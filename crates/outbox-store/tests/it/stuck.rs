//! What waits in the queue says who acts next, and which person has taken it up.

use outbox_core::{OutboxId, Outcome};
use outbox_store::{
    ActionKind, NewPayment, PaymentFilter, apply_action, decide_action, read_payments, withdraw_action,
};
use serde_json::Value;

use crate::control::Desk;
use crate::world::{World, completion, lease, payment};

/// How the payment is listed: state, amount, who acts next, who has taken it up, the action that names it.
async fn listed(desk: &mut Desk, id: OutboxId) -> (String, i64, String, Option<String>, Option<String>) {
    let all = read_payments(&mut desk.maker, &PaymentFilter::default(), 100).await.unwrap();
    let all = all.iter().map(|text| serde_json::from_str::<Value>(text).unwrap());
    let one = all.into_iter().find(|one| one["outbox_id"] == id.to_string()).expect("it is not listed");
    assert!(one["age_ms"].as_i64().is_some(), "{one}");
    let text = |name: &str| one[name].as_str().map(str::to_owned);
    (
        text("disposition").unwrap(),
        one["amount_minor"].as_i64().unwrap(),
        text("waits_for").unwrap(),
        text("taken_up_by"),
        text("action_id"),
    )
}

fn row(
    disposition: &str,
    waits_for: &str,
    by: Option<&str>,
    action: Option<uuid::Uuid>,
) -> (String, i64, String, Option<String>, Option<String>) {
    (disposition.to_owned(), 1_250, waits_for.to_owned(), by.map(str::to_owned), action.map(|id| id.to_string()))
}

#[tokio::test]
async fn a_stuck_payment_waits_for_an_operator_and_then_for_whom_the_operator_asked() {
    let mut world = World::new().await;
    world.contract("on_unknown = 'hold'").await;
    let id = world.enqueue("a", 1).await[0];
    let mut desk = Desk::of(&world);
    assert_eq!(listed(&mut desk, id).await, row("READY", "dispatcher", None, None));
    let mut worker = world.worker("w");
    let claimed = worker.claim_one().await;
    worker.complete(&[completion(lease(&claimed), Outcome::Unknown)]).await;
    assert_eq!(listed(&mut desk, id).await, row("HELD", "operator", None, None));
    // Proposed, and withdrawn: nobody's again.
    let first = desk.propose(ActionKind::ResolveFailed, &[id]).await;
    assert_eq!(listed(&mut desk, id).await, row("HELD", "approver", Some("t_operator"), Some(first.action_id)));
    withdraw_action(&mut desk.maker, first.action_id, "the books say otherwise").await.unwrap();
    assert_eq!(listed(&mut desk, id).await, row("HELD", "operator", None, None));
    // Rejected as well; approved and not carried out, whoever asked for it is to go on.
    let second = desk.propose(ActionKind::ResolveFailed, &[id]).await;
    decide_action(&mut desk.checker, &second, false, "no").await.unwrap();
    assert_eq!(listed(&mut desk, id).await, row("HELD", "operator", None, None));
    world.tamper(id, "quarantine_until = now() - interval '1 s'").await;
    let third = desk.propose(ActionKind::ReleaseAsResend, &[id]).await;
    decide_action(&mut desk.checker, &third, true, "checked").await.unwrap();
    assert_eq!(listed(&mut desk, id).await, row("HELD", "operator", Some("t_operator"), Some(third.action_id)));
    apply_action(&mut desk.maker, third.action_id, 10).await.unwrap();
    assert_eq!(listed(&mut desk, id).await, row("READY", "dispatcher", None, None));
}

#[tokio::test]
async fn what_a_person_holds_is_taken_up_by_that_person_until_it_is_released() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut desk = Desk::of(&world);
    desk.does(ActionKind::Hold, &[id]).await;
    assert_eq!(listed(&mut desk, id).await, row("HELD", "operator", Some("t_operator"), None));
    desk.does(ActionKind::Release, &[id]).await;
    assert_eq!(listed(&mut desk, id).await, row("READY", "dispatcher", None, None));
    // Held again, by what the rail said: whoever held it before has nothing to do with it.
    let mut worker = world.worker("w");
    let claimed = worker.claim_one().await;
    world.contract("on_unknown = 'hold'").await;
    worker.complete(&[completion(lease(&claimed), Outcome::Unknown)]).await;
    assert_eq!(listed(&mut desk, id).await, row("HELD", "operator", None, None));
}

#[tokio::test]
async fn what_is_behind_another_of_its_key_waits_for_that() {
    let world = World::new().await;
    let keyed = |name: &str| NewPayment { ordering_key: Some("account".to_owned()), ..payment(name) };
    let mut ingest = world.session("t_ingest");
    let both = [keyed("a"), keyed("b")];
    let ids = outbox_store::enqueue_batch(&mut ingest, &both, outbox_store::Hint::Quiet).await.unwrap();
    let mut desk = Desk::of(&world);
    assert_eq!(listed(&mut desk, ids[0].outbox_id).await, row("READY", "dispatcher", None, None));
    assert_eq!(listed(&mut desk, ids[1].outbox_id).await, row("PARKED", "unparking", None, None));
}
