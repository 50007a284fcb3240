//! What must not happen on the way into and out of the order: parked by an old look, brought back too early or as what it
//! is not, or paid anew out of turn.

use outbox_core::{OutboxId, Outcome, RailName};
use outbox_store::{ActionKind, Hint, NewPayment, enqueue_batch, set_pause, unpark};
use sqlx::Row as _;

use crate::control::Desk;
use crate::sql::{run, scalar};
use crate::steps::Actor;
use crate::world::{RAIL, World, lease, payment};

const CLAIM: &str = "select kind from outbox.claim_outbox_batch('wire', 'w', 10, 1, 0)";
const RESUME: &str = "select outbox.set_outbox_pause(null, 'acme', false, 'go')";

impl World {
    async fn in_order(&self, names: &[&str]) -> Vec<OutboxId> {
        let under = |name: &&str| NewPayment { ordering_key: Some("account".to_owned()), ..payment(name) };
        let payments: Vec<NewPayment> = names.iter().map(under).collect();
        let done = enqueue_batch(&mut self.session("t_ingest"), &payments, Hint::Wake).await.unwrap();
        done.into_iter().map(|one| one.outbox_id).collect()
    }

    async fn disposition_of(&mut self, id: OutboxId) -> String {
        self.pending(id).await.unwrap().get("disposition")
    }

    async fn unpark_once(&self) {
        let rail = RailName::new(RAIL).unwrap();
        unpark(&mut self.session("t_dispatcher"), &rail, 100).await.unwrap();
    }
}

#[tokio::test]
async fn parked_payment_in_doubt_comes_back_to_be_asked_after_and_not_before_its_time() {
    let mut world = World::new().await;
    world.contract("on_unknown = 'inquire'").await;
    let ids = world.in_order(&["a", "b"]).await;
    // As a failover leaves one that was parked.
    world.tamper(ids[1], "in_doubt_since = clock_timestamp(), next_attempt_at = '2999-01-01'").await;
    let mut worker = world.worker("w");
    let first = lease(&worker.claim_one().await);
    worker.complete_one(first, Outcome::Accepted).await;
    assert_eq!(world.disposition_of(ids[1]).await, "IN_DOUBT");
    let waits: bool =
        scalar(&mut world.dba, "select next_attempt_at = '2999-01-01' from outbox.payment_outbox_pending").await;
    assert!(waits, "brought back before its time");
}

#[tokio::test]
async fn claim_that_parks_holds_up_a_resume_until_it_has_committed() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    set_pause(&mut world.session("t_operator"), None, Some("acme"), true, "stop").await.unwrap();
    let mut claimer = Actor::enter(&world.db, "t_dispatcher", "claimer").await;
    let mut operator = Actor::enter(&world.db, "t_operator", "operator").await;
    claimer.does("begin").await;
    claimer.asks(CLAIM).await;
    // A resume that came through now, and the pass after it, would see nothing parked.
    operator.starts(RESUME);
    operator.waits(&mut world.dba).await;
    claimer.does("commit").await;
    operator.ends().await.unwrap();
    assert_eq!(world.disposition_of(id).await, "PARKED");
    world.unpark_once().await;
    assert_eq!(world.disposition_of(id).await, "READY");
}

#[tokio::test]
async fn claim_that_meets_a_resume_puts_off_instead_of_parking() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    set_pause(&mut world.session("t_operator"), None, Some("acme"), true, "stop").await.unwrap();
    let mut operator = Actor::enter(&world.db, "t_operator", "operator").await;
    operator.does("begin").await;
    operator.asks(RESUME).await;
    let batch = world.worker("w").claim(10).await;
    assert!(batch.leased.is_empty() && batch.summary.parked == 1, "{batch:?}");
    assert_eq!(world.disposition_of(id).await, "READY");
    operator.does("commit").await;
}

/// Makes the lock of an ordering key wait for a person of the test, in sessions that say so: a stop between a claim's first
/// look at the order and the one that counts.
const STOP: &str = "create or replace function outbox.ordering_lock_key(p_rail text, p_ordering_key text) returns bigint \
    language plpgsql volatile as $$ begin \
    if current_setting('outbox.stops', true) = 'here' then perform pg_advisory_lock(4711); perform pg_advisory_unlock(4711); end if; \
    return (1869968483::bigint << 32) | (hashtext(p_rail || ' ' || p_ordering_key)::bigint & 4294967295); end $$";

#[tokio::test]
async fn payment_whose_predecessor_ends_between_two_looks_of_a_claim_is_not_parked() {
    let mut world = World::new().await;
    run(&mut world.dba, STOP).await;
    let ids = world.in_order(&["a", "b"]).await;
    let mut worker = world.worker("w");
    let first = lease(&worker.claim_one().await);
    // It was let go by a person, and stands in the queue behind the first.
    world.tamper(ids[1], "disposition = 'READY'").await;
    let mut claimer = Actor::enter(&world.db, "t_dispatcher", "claimer").await;
    let mut stopper = Actor::enter(&world.db, "postgres", "stopper").await;
    stopper.does("select pg_advisory_lock(4711)").await;
    claimer.does("set outbox.stops = 'here'").await;
    claimer.starts(CLAIM);
    claimer.waits(&mut world.dba).await;
    worker.complete_one(first, Outcome::Accepted).await;
    stopper.does("select pg_advisory_unlock(4711)").await;
    claimer.ends().await.unwrap();
    assert_eq!(world.disposition_of(ids[1]).await, "READY", "nobody would bring it back");
}

#[tokio::test]
async fn payments_of_a_participant_that_is_paused_again_are_not_brought_back() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut operator = world.session("t_operator");
    set_pause(&mut operator, None, Some("acme"), true, "stop").await.unwrap();
    world.worker("w").claim(10).await;
    set_pause(&mut operator, None, Some("acme"), false, "go").await.unwrap();
    set_pause(&mut operator, None, Some("acme"), true, "stop again").await.unwrap();
    world.unpark_once().await;
    assert_eq!(world.disposition_of(id).await, "PARKED");
}

#[tokio::test]
async fn payment_that_is_paid_anew_waits_for_its_turn() {
    let mut world = World::new().await;
    let ids = world.in_order(&["a", "b"]).await;
    let mut worker = world.worker("w");
    let first = lease(&worker.claim_one().await);
    worker.complete_one(first, Outcome::Refused).await;
    let second = worker.claim_one().await;
    assert_eq!(second.outbox_id, ids[1]);
    let redriven = Desk::of(&world).does(ActionKind::Redrive, &ids[..1]).await.remove(0);
    let anew = redriven.new_outbox_id.unwrap_or_else(|| panic!("{redriven:?}"));
    assert_eq!(world.disposition_of(anew).await, "PARKED");
    worker.complete_one(lease(&second), Outcome::Accepted).await;
    assert_eq!(worker.claim_one().await.outbox_id, anew);
}

#[tokio::test]
async fn payment_whose_key_cannot_be_had_is_put_off_for_a_tenth_of_a_second() {
    let mut world = World::new().await;
    let ids = world.in_order(&["a", "b"]).await;
    world.tamper(ids[1], "disposition = 'READY'").await;
    let mut producer = Actor::enter(&world.db, "postgres", "producer").await;
    producer.does("select pg_advisory_lock(outbox.ordering_lock_key('wire', 'account'))").await;
    let batch = world.worker("w").claim(10).await;
    assert_eq!(batch.leased.iter().map(|one| one.outbox_id).collect::<Vec<_>>(), ids[..1]);
    let until: time::OffsetDateTime = world.pending(ids[1]).await.unwrap().get("next_attempt_at");
    assert_eq!(until, batch.summary.db_now + time::Duration::milliseconds(100));
}

#[tokio::test]
async fn participant_that_goes_on_gets_the_first_of_each_key_back_and_no_other() {
    let mut world = World::new().await;
    let ids = world.in_order(&["a", "b"]).await;
    let mut operator = world.session("t_operator");
    set_pause(&mut operator, None, Some("acme"), true, "stop").await.unwrap();
    world.worker("w").claim(10).await;
    assert_eq!(world.disposition_of(ids[0]).await, "PARKED");
    set_pause(&mut operator, None, Some("acme"), false, "go").await.unwrap();
    world.unpark_once().await;
    assert_eq!(
        (world.disposition_of(ids[0]).await, world.disposition_of(ids[1]).await),
        ("READY".into(), "PARKED".into())
    );
}
