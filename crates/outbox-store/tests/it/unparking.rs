//! What is owed to parked payments: that it comes back whoever holds a row, and that nobody's share waits for another's.

use outbox_core::{OutboxId, Outcome, RailName};
use outbox_store::{Hint, NewPayment, enqueue_batch, set_pause, unpark};
use sqlx::Row as _;

use crate::sql::{run, scalar};
use crate::steps::Actor;
use crate::world::{RAIL, World, lease, payment};

impl World {
    /// Payments of a participant that were parked while it was paused; it goes on now.
    async fn parked_and_resumed(&mut self, participant: &str, count: usize) -> Vec<OutboxId> {
        let named = |n| NewPayment { participant_id: participant.to_owned(), ..payment(&format!("{participant}-{n}")) };
        let payments: Vec<NewPayment> = (0..count).map(named).collect();
        let done = enqueue_batch(&mut self.session("t_ingest"), &payments, Hint::Wake).await.unwrap();
        let mut operator = self.session("t_operator");
        set_pause(&mut operator, None, Some(participant), true, "stop").await.unwrap();
        assert_eq!(self.worker("w").claim(1_000).await.summary.parked as usize, count);
        set_pause(&mut operator, None, Some(participant), false, "go").await.unwrap();
        done.into_iter().map(|one| one.outbox_id).collect()
    }

    /// One pass: how many keys and payments it looked at.
    async fn pass(&mut self, limit: u32) -> u32 {
        let rail = RailName::new(RAIL).unwrap();
        unpark(&mut self.session("t_dispatcher"), &rail, limit).await.unwrap().keys
    }

    async fn parked(&mut self, participant: &str) -> i64 {
        let text = format!(
            "select count(*) from outbox.payment_outbox_pending where disposition = 'PARKED' and participant_id = '{participant}'"
        );
        scalar(&mut self.dba, &text).await
    }
}

#[tokio::test]
async fn payment_that_somebody_has_locked_holds_up_no_other_and_comes_back_when_it_is_let_go() {
    let mut world = World::new().await;
    let ids = world.parked_and_resumed("acme", 3).await;
    let mut somebody = Actor::enter(&world.db, "postgres", "somebody").await;
    somebody.does("begin").await;
    let lock = format!("select 1 from outbox.payment_outbox_pending where outbox_id = '{}' for update", ids[1]);
    somebody.asks(&lock).await;
    assert_eq!(world.pass(100).await, 2);
    assert_eq!(world.parked("acme").await, 1);
    assert_eq!(world.pass(100).await, 0, "it is locked still");
    somebody.does("commit").await;
    assert_eq!(world.pass(100).await, 1);
    assert_eq!(world.parked("acme").await, 0);
    let owed: i64 = scalar(&mut world.dba, "select count(*) from outbox.payment_outbox_unparking").await;
    assert_eq!(owed, 0);
}

#[tokio::test]
async fn locked_payment_is_not_forgotten_when_those_behind_it_take_more_than_one_pass() {
    let mut world = World::new().await;
    let ids = world.parked_and_resumed("acme", 25).await;
    let mut somebody = Actor::enter(&world.db, "postgres", "somebody").await;
    somebody.does("begin").await;
    let lock = format!("select 1 from outbox.payment_outbox_pending where outbox_id = '{}' for update", ids[3]);
    somebody.asks(&lock).await;
    for left in [16, 6, 1, 1] {
        world.pass(10).await;
        assert_eq!(world.parked("acme").await, left);
    }
    somebody.does("commit").await;
    world.pass(10).await;
    assert_eq!(world.parked("acme").await, 0);
}

#[tokio::test]
async fn key_that_is_owed_after_a_participants_many_payments_comes_back_in_the_same_pass() {
    let mut world = World::new().await;
    let under = |name: &str| NewPayment { ordering_key: Some("account".to_owned()), ..payment(name) };
    let keyed =
        enqueue_batch(&mut world.session("t_ingest"), &[under("first"), under("second")], Hint::Wake).await.unwrap();
    let mut worker = world.worker("w");
    let first = worker.claim_one().await;
    world.parked_and_resumed("umbrella", 50).await;
    worker.complete_one(lease(&first), Outcome::Accepted).await;
    // As if a producer had had the key when the first ended.
    let id = keyed[1].outbox_id;
    world.tamper(id, "disposition = 'PARKED'").await;
    let owe = "insert into outbox.payment_outbox_unparking (rail, ordering_key) values ('wire', 'account')";
    run(&mut world.dba, owe).await;
    world.pass(10).await;
    assert_eq!(world.pending(id).await.unwrap().get::<String, _>("disposition"), "READY");
    assert_eq!(world.parked("umbrella").await, 40);
}

#[tokio::test]
async fn participants_that_go_on_together_share_each_pass() {
    let mut world = World::new().await;
    world.parked_and_resumed("acme", 50).await;
    world.parked_and_resumed("umbrella", 50).await;
    world.pass(10).await;
    assert_eq!((world.parked("acme").await, world.parked("umbrella").await), (45, 45));
}

#[tokio::test]
async fn many_parked_payments_of_a_participant_come_back_in_bounded_passes() {
    let world = World::new().await;
    world.enqueue("a", 25).await;
    let mut operator = world.session("t_operator");
    set_pause(&mut operator, None, Some("acme"), true, "stop").await.unwrap();
    let mut worker = world.worker("w");
    assert_eq!(worker.claim(100).await.summary.parked, 25);
    set_pause(&mut operator, None, Some("acme"), false, "go").await.unwrap();
    let rail = RailName::new(RAIL).unwrap();
    let mut session = world.session("t_dispatcher");
    let mut passes = Vec::new();
    for _ in 0..4 {
        let pass = unpark(&mut session, &rail, 10).await.unwrap();
        passes.push((pass.keys, pass.is_full));
    }
    assert_eq!(passes, [(10, true), (10, true), (5, false), (0, false)]);
    assert_eq!(worker.claim(100).await.leased.len(), 25);
}
