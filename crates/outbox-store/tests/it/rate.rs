//! The rate of a rail, over all dispatchers, and the endpoint that a payment in doubt is bound to.

use outbox_core::{OutboxId, Outcome};
use outbox_store::{ClaimBatch, ClaimRequest, claim};
use sqlx::Row as _;
use time::OffsetDateTime;

use crate::conservation::assert_conserved;
use crate::sql::{fetch, run, scalar};
use crate::world::{World, lease};

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
async fn rail_without_a_rate_takes_no_lock_and_writes_no_row_for_it() {
    let mut world = World::new().await;
    world.enqueue("a", 5).await;
    world.worker("w").claim(5).await;
    assert_eq!(scalar::<i64>(&mut world.dba, "select count(*) from outbox.payment_rail_rates").await, 0);
}

async fn claim_at(world: &World, endpoint: &str) -> ClaimBatch {
    let mut worker = world.worker("w");
    let request = ClaimRequest { endpoint: Some(endpoint.to_owned()), ..worker.request(10) };
    claim(&mut worker.session, &request).await.unwrap()
}

async fn endpoint_of(world: &mut World, id: OutboxId) -> Option<String> {
    world.pending(id).await.unwrap().get("endpoint")
}

#[tokio::test]
async fn payment_in_doubt_stays_at_the_endpoint_it_was_sent_to_and_one_that_is_not_follows_the_lane() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    for (endpoint, expected, outcome) in [
        ("first", "first", Some(Outcome::NotSent)),
        ("second", "second", Some(Outcome::NotExecuted)),
        ("first", "first", Some(Outcome::Unknown)),
        ("second", "first", Some(Outcome::NotSent)),
        ("second", "first", None),
        ("second", "first", Some(Outcome::Accepted)),
    ] {
        let batch = claim_at(&world, endpoint).await;
        assert_eq!(batch.leased[0].endpoint.as_deref(), Some(expected), "before {outcome:?}");
        match outcome {
            Some(outcome) => {
                worker.id = outbox_core::WorkerId::new("w", uuid::Uuid::new_v4()).unwrap();
                worker.complete_one(lease(&batch.leased[0]), outcome).await;
            }
            None => {
                world.lose_lease(id).await;
                claim_at(&world, endpoint).await;
                assert_eq!(endpoint_of(&mut world, id).await.as_deref(), Some("first"));
            }
        }
    }
    let lost =
        fetch(&mut world.dba, "select endpoint from outbox.payment_outbox_attempts where state = 'LEASE_EXPIRED'")
            .await;
    assert_eq!(lost[0].get::<Option<String>, _>("endpoint").as_deref(), Some("first"));
}
