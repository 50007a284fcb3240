//! The rate of a rail, over all dispatchers.

use std::time::Duration;

use outbox_testkit::wait_until;
use time::OffsetDateTime;

use crate::conservation::assert_conserved;
use crate::sql::{run, scalar};
use crate::world::World;

#[tokio::test]
async fn rate_is_the_rails_whoever_claims_and_the_summary_says_when_the_next_may_go() {
    let mut world = World::new().await;
    run(&mut world.dba, "select outbox.set_payment_rail('wire', p_max_sends_per_s => 20)").await;
    world.enqueue("a", 200).await;
    let began: OffsetDateTime = scalar(&mut world.dba, "select clock_timestamp()").await;
    let mut workers = [world.worker("v"), world.worker("w")];
    let mut leased = 0;
    let mut last = began;
    while leased < 20 {
        for worker in &mut workers {
            let batch = worker.claim(50).await;
            leased += batch.leased.len();
            last = batch.summary.db_now;
            if batch.leased.is_empty() {
                let next = batch.summary.next_due_at.expect("a wait without an end");
                assert!(next > last && next - last <= time::Duration::milliseconds(100), "{}", next - last);
            }
        }
    }
    // A tenth of a second's worth at once, and then no faster than the rate.
    let allowed = (last - began).as_seconds_f64() * 20.0 + 2.0 + 1.0;
    assert!(leased as f64 <= allowed, "{leased} in {}", last - began);
    run(&mut world.dba, "select outbox.set_payment_rail('wire', p_max_sends_per_s => 0)").await;
    assert_eq!(workers[0].claim(100).await.leased.len(), 100);
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn rate_that_was_used_by_a_clock_ahead_stops_the_rail_for_no_longer_than_its_burst() {
    let mut world = World::new().await;
    run(&mut world.dba, "select outbox.set_payment_rail('wire', p_max_sends_per_s => 20)").await;
    world.enqueue("a", 10).await;
    let mut worker = world.worker("w");
    assert_eq!(worker.claim(1).await.leased.len(), 1);
    // As a server leaves it whose clock went back by an hour.
    run(&mut world.dba, "update outbox.payment_rail_rates set next_at = next_at + interval '1 h'").await;
    let batch = worker.claim(1).await;
    let wait = batch.summary.next_due_at.expect("nothing is allowed, until a time") - batch.summary.db_now;
    assert!(batch.leased.is_empty() && wait <= time::Duration::milliseconds(200), "{wait}");
    let due = "select clock_timestamp() > next_at - interval '50 ms' from outbox.payment_rail_rates";
    wait_until("the end of the burst", Duration::from_secs(10), async || scalar::<bool>(&mut world.dba, due).await)
        .await
        .unwrap();
    assert_eq!(worker.claim(1).await.leased.len(), 1);
}

#[tokio::test]
async fn rail_without_a_rate_takes_no_lock_and_writes_no_row_for_it() {
    let mut world = World::new().await;
    world.enqueue("a", 5).await;
    world.worker("w").claim(5).await;
    assert_eq!(scalar::<i64>(&mut world.dba, "select count(*) from outbox.payment_rail_rates").await, 0);
}
