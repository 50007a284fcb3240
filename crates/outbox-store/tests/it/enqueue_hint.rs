//! The wake-up hint: sent exactly when a lane is asleep, and never where NOTIFY is not allowed.

use outbox_core::RailName;
use outbox_store::{Hint, WakeupListener, enqueue_batch};
use sqlx::postgres::{PgListener, PgPoolOptions};

use crate::enqueue_identity::enqueue_sql;
use crate::sql::{refused, run, scalar};
use crate::world::{RAIL, World, payment};

/// An enqueue of one payment as each form has it.
fn forms(instruction: &str, hint: bool) -> [String; 2] {
    let batch = format!(
        "select * from outbox.enqueue_payment_outbox_batch(array['acme'], array['{instruction} in a batch'], array['k'], array['wire'], \
         array['a'::bytea], array['application/xml'], array[100], array['EUR'], array[null::timestamptz], array[null::timestamptz], \
         array[null], array[null], array[null::uuid], p_hint => {hint})"
    );
    [enqueue_sql(instruction, "k", "a", &format!(", p_hint => {hint}")), batch]
}

/// A lane's listener that holds or does not hold the wake-up lock, and an ear that hears everything.
async fn lane_and_ear(world: &World) -> (WakeupListener, PgListener, RailName) {
    let rail = RailName::new(RAIL).unwrap();
    let lane = WakeupListener::connect(&world.settings("t_dispatcher"), std::slice::from_ref(&rail)).await.unwrap();
    let pool =
        PgPoolOptions::new().max_connections(1).connect_with(world.db.connect_options("postgres")).await.unwrap();
    let mut ear = PgListener::connect_with(&pool).await.unwrap();
    ear.listen("outbox_wire").await.unwrap();
    (lane, ear, rail)
}

/// What was notified up to now: a marker of our own ends the list, since the server keeps the order.
async fn heard(world: &mut World, ear: &mut PgListener) -> usize {
    run(&mut world.dba, "notify outbox_wire, 'marker'").await;
    let mut count = 0;
    while ear.recv().await.unwrap().payload() != "marker" {
        count += 1;
    }
    count
}

#[tokio::test]
async fn hint_is_sent_exactly_while_a_lane_holds_its_wake_up_lock() {
    let mut world = World::new().await;
    let (mut lane, mut ear, rail) = lane_and_ear(&world).await;
    let mut ingest = world.db.connect_as("t_ingest").await.unwrap();

    for place in 0..2 {
        run(&mut ingest, &forms("awake", true)[place]).await;
        assert_eq!(heard(&mut world, &mut ear).await, 0);
        assert!(lane.try_wakeup_lock(&rail).await.unwrap());
        run(&mut ingest, &forms("asleep", true)[place]).await;
        assert_eq!(lane.next().await.unwrap(), Some(rail.clone()));
        assert_eq!(heard(&mut world, &mut ear).await, 1);
        run(&mut ingest, &forms("quiet", false)[place]).await;
        assert_eq!(heard(&mut world, &mut ear).await, 0);
        assert!(lane.release_wakeup_lock(&rail).await.unwrap());
        run(&mut ingest, &forms("awake again", true)[place]).await;
        assert_eq!(heard(&mut world, &mut ear).await, 0);
    }
}

#[tokio::test]
async fn a_program_says_of_each_batch_whether_a_sleeping_lane_is_woken() {
    let mut world = World::new().await;
    let (mut lane, mut ear, rail) = lane_and_ear(&world).await;
    assert!(lane.try_wakeup_lock(&rail).await.unwrap());
    let mut session = world.session("t_ingest");
    for (instruction, hint, hints) in [("quiet", Hint::Quiet, 0), ("loud", Hint::Wake, 1)] {
        enqueue_batch(&mut session, &[payment(instruction)], hint).await.unwrap();
        assert_eq!(heard(&mut world, &mut ear).await, hints, "{hint:?}");
    }
}

#[tokio::test]
async fn sleeping_lane_of_one_rail_is_not_woken_by_another() {
    let mut world = World::new().await;
    run(&mut world.dba, "select outbox.set_payment_rail('other', 'hold')").await;
    let (mut lane, mut ear, rail) = lane_and_ear(&world).await;
    ear.listen("outbox_other").await.unwrap();
    assert!(lane.try_wakeup_lock(&rail).await.unwrap());
    let mut ingest = world.db.connect_as("t_ingest").await.unwrap();
    run(&mut ingest, &enqueue_sql("i", "k", "a", "").replace("'wire'", "'other'")).await;
    assert_eq!(heard(&mut world, &mut ear).await, 0);
}

#[tokio::test]
async fn lane_does_not_get_its_lock_while_an_enqueue_is_uncommitted_and_does_not_wait() {
    let world = World::new().await;
    let (mut lane, _ear, rail) = lane_and_ear(&world).await;
    let mut ingest = world.db.connect_as("t_ingest").await.unwrap();
    run(&mut ingest, "begin").await;
    run(&mut ingest, &enqueue_sql("i", "k", "a", "")).await;
    assert!(!lane.try_wakeup_lock(&rail).await.unwrap());
    run(&mut ingest, "commit").await;
    assert!(lane.try_wakeup_lock(&rail).await.unwrap());
}

#[tokio::test]
async fn enqueue_without_hint_can_be_prepared_while_a_lane_sleeps() {
    let mut world = World::new().await;
    let (mut lane, _ear, rail) = lane_and_ear(&world).await;
    assert!(lane.try_wakeup_lock(&rail).await.unwrap());
    let gid = world.db.name().to_owned();
    let mut ingest = world.db.connect_as("t_ingest").await.unwrap();

    run(&mut ingest, "begin").await;
    run(&mut ingest, &enqueue_sql("loud", "k", "a", "")).await;
    let refusal = refused(&mut ingest, &format!("prepare transaction '{gid}'")).await;
    assert_eq!(refusal.code, "0A000", "the hint was expected to stand in the way of two-phase commit");

    run(&mut ingest, "begin").await;
    for quiet in forms("quiet", false) {
        run(&mut ingest, &quiet).await;
    }
    run(&mut ingest, &format!("prepare transaction '{gid}'")).await;
    let mut worker = world.worker("w");
    assert!(worker.claim(10).await.leased.is_empty(), "claimed before the commit");
    run(&mut ingest, &format!("commit prepared '{gid}'")).await;
    assert_eq!(worker.claim(10).await.leased.len(), 2);
    let loud = "select count(*) from outbox.payment_outbox_instructions where instruction_id = 'loud'";
    assert_eq!(scalar::<i64>(&mut world.dba, loud).await, 0);
}
