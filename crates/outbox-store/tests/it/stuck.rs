//! What waits in the queue says who acts next, and which person has taken it up.

use outbox_core::{OutboxId, Outcome, RailName};
use outbox_store::{
    ActionKind, NewPayment, PaymentFilter, apply_action, decide_action, read_payments, set_pause, withdraw_action,
};
use serde_json::Value;

use crate::control::Desk;
use crate::sql::run;
use crate::world::{RAIL, World, completion, lease, payment};

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
    // A proposal by evidence from inside the quarantine is never carried out.
    let early = desk.propose(ActionKind::ResolveFailed, &[id]).await;
    assert_eq!(listed(&mut desk, id).await, row("HELD", "operator", None, None));
    withdraw_action(&mut desk.maker, early.action_id, "too early").await.unwrap();
    world.tamper(id, "quarantine_until = now() - interval '1 s'").await;
    // Proposed, and withdrawn: nobody's again.
    let first = desk.propose(ActionKind::ResolveFailed, &[id]).await;
    assert_eq!(listed(&mut desk, id).await, row("HELD", "approver", Some("t_operator"), Some(first.action_id)));
    withdraw_action(&mut desk.maker, first.action_id, "the books say otherwise").await.unwrap();
    assert_eq!(listed(&mut desk, id).await, row("HELD", "operator", None, None));
    // Rejected as well; approved and not carried out, whoever asked for it is to go on.
    let second = desk.propose(ActionKind::ResolveFailed, &[id]).await;
    decide_action(&mut desk.checker, &second, false, "no").await.unwrap();
    assert_eq!(listed(&mut desk, id).await, row("HELD", "operator", None, None));
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

#[tokio::test]
async fn an_action_that_can_do_nothing_any_more_is_nobodys() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut desk = Desk::of(&world);
    desk.does(ActionKind::Hold, &[id]).await;
    let (first, second) =
        (desk.propose(ActionKind::Release, &[id]).await, desk.propose(ActionKind::Release, &[id]).await);
    assert_eq!(listed(&mut desk, id).await, row("HELD", "approver", Some("t_operator"), Some(second.action_id)));
    decide_action(&mut desk.checker, &first, true, "checked").await.unwrap();
    apply_action(&mut desk.maker, first.action_id, 10).await.unwrap();
    assert_eq!(listed(&mut desk, id).await, row("READY", "dispatcher", None, None));
    // Nor is it anybody's once the payment was sent and is in doubt: the second was proposed before that.
    world.contract("on_unknown = 'hold'").await;
    let mut worker = world.worker("w");
    let claimed = worker.claim_one().await;
    worker.complete(&[completion(lease(&claimed), Outcome::Unknown)]).await;
    assert_eq!(listed(&mut desk, id).await, row("HELD", "operator", None, None));
    // What was approved before a failover is not carried out after it.
    world.tamper(id, "quarantine_until = now() - interval '1 s'").await;
    let third = desk.propose(ActionKind::ReleaseAsResend, &[id]).await;
    decide_action(&mut desk.checker, &third, true, "checked").await.unwrap();
    assert_eq!(listed(&mut desk, id).await, row("HELD", "operator", Some("t_operator"), Some(third.action_id)));
    run(
        &mut world.dba,
        "insert into outbox.outbox_cluster (system_identifier, timeline, environment, action_id, recorded_by, recorded_at) \
         select c.system_identifier, p.timeline_id, 'production', gen_random_uuid(), 'dba', clock_timestamp() \
         from pg_control_system() c, pg_control_checkpoint() p",
    )
    .await;
    assert_eq!(listed(&mut desk, id).await, row("HELD", "operator", None, None));
}

#[tokio::test]
async fn what_a_person_stopped_waits_for_an_operator_and_what_is_leased_meanwhile_for_its_dispatcher() {
    let mut world = World::new().await;
    let ids = world.enqueue("a", 2).await;
    let mut worker = world.worker("w");
    let leased = worker.claim(1).await.leased.remove(0).outbox_id;
    let other = ids.into_iter().find(|id| *id != leased).unwrap();
    let mut desk = Desk::of(&world);
    for rail in [None, Some(RailName::new(RAIL).unwrap())] {
        set_pause(&mut desk.maker, rail.as_ref(), None, true, "r").await.unwrap();
        assert_eq!(listed(&mut desk, other).await, row("READY", "operator", None, None), "{rail:?}");
        assert_eq!(listed(&mut desk, leased).await, row("READY", "dispatcher", None, None), "{rail:?}");
        set_pause(&mut desk.maker, rail.as_ref(), None, false, "r").await.unwrap();
        assert_eq!(listed(&mut desk, other).await, row("READY", "dispatcher", None, None), "{rail:?}");
    }
    world.contract("paused = true").await;
    assert_eq!(listed(&mut desk, other).await, row("READY", "operator", None, None));
    world.contract("paused = false, policy_version = 7").await;
    assert_eq!(
        listed(&mut desk, other).await,
        row("READY", "operator", None, None),
        "the rail is not in the active policy"
    );
}

#[tokio::test]
async fn a_hold_that_waits_for_the_end_of_an_attempt_has_its_person_and_a_failovers_has_none() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut desk = Desk::of(&world);
    let mut worker = world.worker("w");
    let claimed = worker.claim_one().await;
    desk.does(ActionKind::Hold, &[id]).await;
    assert_eq!(listed(&mut desk, id).await, row("READY", "dispatcher", Some("t_operator"), None));
    worker.complete(&[completion(lease(&claimed), Outcome::NotSent)]).await;
    assert_eq!(listed(&mut desk, id).await, row("HELD", "operator", Some("t_operator"), None));
    desk.does(ActionKind::Release, &[id]).await;
    // As apply_failover leaves a payment that is under way at a rail with several endpoints.
    world.tamper(id, "disposition = 'HELD', hold_reason = 'REQUESTED'").await;
    assert_eq!(listed(&mut desk, id).await, row("HELD", "operator", None, None));
}
