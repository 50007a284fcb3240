//! The overlaps of complete and claim that came out wrong when each was one statement: every step of two
//! sessions by name. A statement that skips a locked row ends at once, one that waits is seen waiting; the
//! result must be right either way.

use outbox_core::{OutboxId, Outcome};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::conservation::assert_conserved;
use crate::sql::scalar;
use crate::steps::Actor;
use crate::world::{RAIL, Worker, World, lease};

/// A completion as one statement.
pub(crate) fn complete_sql(lease: outbox_store::HeldLease, outcome: Outcome, reference: Option<&str>) -> String {
    let (id, no, token) = (lease.outbox_id, lease.attempt_no, lease.lease_token.0);
    let reference = reference.map_or_else(|| "null".to_owned(), |text| format!("'{text}'"));
    format!(
        "select * from outbox.complete_outbox_batch('steps', array['{id}'::uuid], array[{no}], array['{token}'::uuid], \
         array['{}'], array[0::bigint], array[null::timestamptz], array[null::timestamptz], array[null::text], \
         array[null::bytea], array[null::bytea], array[{reference}::text], array[null::text], array[null::text], \
         array[null::text])",
        outcome.name()
    )
}

fn claim_sql(limit: u32) -> String {
    format!("select * from outbox.claim_outbox_batch('{RAIL}', 'steps', {limit}, 1, 0)")
}

fn verdict(rows: &[PgRow]) -> String {
    rows[0].get("verdict")
}

fn kinds(rows: &[PgRow]) -> Vec<String> {
    rows.iter().map(|row| row.get("kind")).collect()
}

/// Two sessions of the dispatcher's login and one that can stop a table.
async fn actors(world: &World) -> (Actor, Actor, Actor) {
    (
        Actor::enter(&world.db, "t_dispatcher", "first").await,
        Actor::enter(&world.db, "t_dispatcher", "second").await,
        Actor::enter(&world.db, "postgres", "stopper").await,
    )
}

#[tokio::test]
async fn retry_that_overlaps_its_own_first_completion_is_never_fenced() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let claimed = world.worker("w").claim_one().await;
    let (mut first, mut second, _) = actors(&world).await;
    let text = complete_sql(lease(&claimed), Outcome::Accepted, Some("R1"));

    first.does("begin").await;
    assert_eq!(verdict(&first.asks(&text).await), "applied");
    second.starts(&text);
    second.settles(&mut world.dba).await;
    first.does("commit").await;
    let overlapped = verdict(&second.ends().await.unwrap());
    assert!(["busy", "already_applied"].contains(&overlapped.as_str()), "{overlapped}");
    assert_eq!(verdict(&second.asks(&text).await), "already_applied");

    assert_eq!(world.attempts(id).await, ["1 DISPATCHED ACCEPTED"]);
    let late: i64 = scalar(&mut world.dba, "select count(*) from outbox.payment_outbox_late_outcomes").await;
    assert_eq!(late, 0);
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn retry_stopped_between_its_lock_and_its_look_sees_the_first_completion() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let claimed = world.worker("w").claim_one().await;
    let (mut first, mut second, mut stopper) = actors(&world).await;
    let text = complete_sql(lease(&claimed), Outcome::Accepted, Some("R1"));

    first.does("begin").await;
    assert_eq!(verdict(&first.asks(&text).await), "applied");
    // The contracts are read by the step that judges, which an acceptance under a lease does not need: the second session waits
    // for the stopper past its locking step.
    stopper.does("begin").await;
    stopper.does("lock table outbox.payment_rails in access exclusive mode").await;
    second.starts(&text);
    second.waits(&mut world.dba).await;
    first.does("commit").await;
    stopper.does("rollback").await;
    assert_eq!(verdict(&second.ends().await.unwrap()), "already_applied");
    assert_eq!(world.attempts(id).await, ["1 DISPATCHED ACCEPTED"]);
    assert_conserved(&mut world.dba).await;
}

/// A payment whose first lease was lost, and the lost lease.
async fn with_lost_lease(world: &mut World, worker: &mut Worker) -> (OutboxId, outbox_store::HeldLease) {
    let id = world.enqueue("a", 1).await[0];
    let lost = lease(&worker.claim_one().await);
    world.lose_lease(id).await;
    let takeover = worker.claim(10).await;
    assert!(takeover.leased.is_empty());
    assert_eq!(takeover.summary.expired, 1);
    (id, lost)
}

#[tokio::test]
async fn late_success_in_an_open_transaction_is_not_missed_by_a_completion() {
    let mut world = World::new().await;
    let mut worker = world.worker("w");
    let (id, lost) = with_lost_lease(&mut world, &mut worker).await;
    let second_lease = lease(&worker.claim_one().await);
    let (mut first, mut second, _) = actors(&world).await;
    let unknown = complete_sql(second_lease, Outcome::Unknown, None);

    first.does("begin").await;
    assert_eq!(verdict(&first.asks(&complete_sql(lost, Outcome::Accepted, Some("R1"))).await), "fenced");
    second.starts(&unknown);
    second.settles(&mut world.dba).await;
    first.does("commit").await;
    if verdict(&second.ends().await.unwrap()) == "busy" {
        assert_eq!(verdict(&second.asks(&unknown).await), "applied");
    }
    let row = world.pending(id).await.unwrap();
    assert_eq!(row.get::<Option<String>, _>("hold_reason").as_deref(), Some("LATE_SUCCESS"));
    assert_eq!(world.attempts(id).await, ["1 LEASE_EXPIRED", "2 IN_DOUBT UNKNOWN"]);
}

#[tokio::test]
async fn late_success_in_an_open_transaction_is_not_missed_by_a_claim() {
    let mut world = World::new().await;
    let mut worker = world.worker("w");
    let (id, lost) = with_lost_lease(&mut world, &mut worker).await;
    let (mut first, mut second, _) = actors(&world).await;

    first.does("begin").await;
    assert_eq!(verdict(&first.asks(&complete_sql(lost, Outcome::Accepted, Some("R1"))).await), "fenced");
    second.starts(&claim_sql(10));
    second.settles(&mut world.dba).await;
    first.does("commit").await;
    let overlapped = kinds(&second.ends().await.unwrap());
    assert!(!overlapped.contains(&"SUBMIT".to_owned()), "sent again after a success: {overlapped:?}");
    let swept = kinds(&second.asks(&claim_sql(10)).await);
    assert!(!swept.contains(&"SUBMIT".to_owned()), "sent again after a success: {swept:?}");
    let row = world.pending(id).await.unwrap();
    assert_eq!(row.get::<Option<String>, _>("hold_reason").as_deref(), Some("LATE_SUCCESS"));
}

#[tokio::test]
async fn late_success_that_meets_a_claim_holding_the_lock_is_busy_and_then_stops_the_resend() {
    let mut world = World::new().await;
    let mut worker = world.worker("w");
    let (id, lost) = with_lost_lease(&mut world, &mut worker).await;
    let (mut claimer, mut latecomer, mut stopper) = actors(&world).await;
    let late = complete_sql(lost, Outcome::Accepted, Some("R1"));

    // The claim has locked the row and wants the instructions.
    stopper.does("begin; lock table outbox.payment_outbox_instructions in access exclusive mode").await;
    claimer.starts(&claim_sql(10));
    claimer.waits(&mut world.dba).await;
    assert_eq!(verdict(&latecomer.asks(&late).await), "busy");
    stopper.does("rollback").await;
    let rows = claimer.ends().await.unwrap();
    assert_eq!(kinds(&rows), ["SUBMIT", "SUMMARY"]);
    assert_eq!(verdict(&latecomer.asks(&late).await), "fenced");

    let granted = outbox_store::HeldLease {
        outbox_id: id,
        attempt_no: outbox_core::AttemptNo(rows[0].get("attempt_no")),
        lease_token: outbox_core::LeaseToken(rows[0].get("lease_token")),
    };
    assert_eq!(verdict(&claimer.asks(&complete_sql(granted, Outcome::Unknown, None)).await), "applied");
    let row = world.pending(id).await.unwrap();
    assert_eq!(row.get::<Option<String>, _>("hold_reason").as_deref(), Some("LATE_SUCCESS"));
}

#[tokio::test]
async fn lost_lease_of_a_claim_that_had_not_committed_gets_its_own_attempt_number() {
    let mut world = World::new().await;
    world.contract("rail_timeout_ms = 1, lease_duration_ms = 2").await;
    let id = world.enqueue("a", 1).await[0];
    let (mut first, mut second, _) = actors(&world).await;

    first.does("begin").await;
    let granted = first.asks(&claim_sql(1)).await;
    assert_eq!(granted[0].get::<i32, _>("attempt_no"), 1);
    // The lease lasts 2 ms; the transaction that granted it is still open when it has run out.
    let granted_at: time::OffsetDateTime = granted.last().unwrap().get("db_now");
    let over = format!("select clock_timestamp() > '{granted_at}'::timestamptz + interval '2 ms'");
    let deadline = std::time::Duration::from_secs(10);
    let dba = &mut world.dba;
    outbox_testkit::wait_until("the lease running out", deadline, async || scalar(dba, &over).await).await.unwrap();
    second.starts(&claim_sql(1));
    second.settles(&mut world.dba).await;
    first.does("commit").await;
    second.ends().await.unwrap();
    second.asks(&claim_sql(1)).await;
    assert_eq!(world.attempts(id).await, ["1 LEASE_EXPIRED"]);
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn completion_that_holds_the_lock_keeps_a_claim_from_settling_its_lease() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let claimed = world.worker("w").claim_one().await;
    let (mut completer, mut claimer, _) = actors(&world).await;

    completer.does("begin").await;
    assert_eq!(verdict(&completer.asks(&complete_sql(lease(&claimed), Outcome::NotExecuted, None)).await), "applied");
    // Meanwhile the lease would have run out; only the completer sees that it is settled.
    claimer.starts(&claim_sql(10));
    claimer.settles(&mut world.dba).await;
    completer.does("commit").await;
    claimer.ends().await.unwrap();
    let second = claimer.asks(&claim_sql(10)).await;
    let numbers: Vec<Option<i32>> = second.iter().map(|row| row.get("attempt_no")).collect();
    assert!(numbers.iter().flatten().all(|no| *no == 2), "{numbers:?}");
    assert_eq!(world.attempts(id).await, ["1 RETRYABLE NOT_EXECUTED"]);
    assert_conserved(&mut world.dba).await;
}
