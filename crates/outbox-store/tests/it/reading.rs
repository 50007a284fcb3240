//! What people and monitors read: the status of the rails and the timeline of a payment.

use outbox_core::Outcome;
use outbox_store::{Hint, enqueue_batch, read_status, read_timelines};

use crate::sql::{run, scalar};
use crate::world::{World, lease, payment};

#[tokio::test]
async fn status_counts_what_is_due_waiting_in_flight_in_doubt_held_and_done() {
    let mut world = World::new().await;
    let all = world.enqueue("a", 7).await;
    let mut worker = world.worker("w");
    let claimed = worker.claim(5).await.leased;
    let of = |id| lease(claimed.iter().find(|one| one.outbox_id == id).unwrap());
    worker.complete_one(of(all[0]), Outcome::Accepted).await;
    worker.complete_one(of(all[1]), Outcome::Refused).await;
    worker.complete_one(of(all[2]), Outcome::KeyReused).await;
    world.lose_lease(all[3]).await;
    world.tamper(all[6], "next_attempt_at = '2999-01-01'").await;
    let status = read_status(&mut world.session("t_monitor"), None).await.unwrap().remove(0);
    let counts =
        [status.due, status.waiting, status.in_flight, status.in_doubt, status.held, status.dispatched, status.failed];
    assert_eq!(counts, [1, 1, 1, 1, 1, 1, 1], "{status:?}");
    assert!(status.oldest_due.is_some() && status.oldest_in_doubt.is_some());
}

#[tokio::test]
async fn payment_that_failed_and_was_accepted_after_all_is_counted_by_status() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let stale = lease(&worker.claim_one().await);
    world.lose_lease(id).await;
    worker.claim(1).await;
    let current = lease(&worker.claim_one().await);
    worker.complete_one(current, Outcome::Refused).await;
    let mut monitor = world.session("t_monitor");
    assert_eq!(read_status(&mut monitor, None).await.unwrap()[0].failed_but_accepted, 0);
    worker.complete_one(stale, Outcome::Accepted).await;
    let status = read_status(&mut monitor, None).await.unwrap().remove(0);
    assert_eq!((status.failed, status.failed_but_accepted, status.late_successes), (1, 1, 0));
}

#[tokio::test]
async fn age_of_the_oldest_doubt_is_that_of_the_doubts_that_are_counted() {
    let mut world = World::new().await;
    let held = world.enqueue("a", 1).await[0];
    world
        .tamper(held, "disposition = 'HELD', hold_reason = 'UNKNOWN', in_doubt_since = now() - interval '1 day'")
        .await;
    let status = read_status(&mut world.session("t_monitor"), None).await.unwrap().remove(0);
    assert_eq!((status.in_doubt, status.oldest_in_doubt, status.held), (0, None, 1));
}

#[tokio::test]
async fn payment_is_found_by_an_instruction_id_that_looks_like_an_outbox_id() {
    let world = World::new().await;
    let name = uuid::Uuid::new_v4().to_string();
    let mut ingest = world.session("t_ingest");
    let done = enqueue_batch(&mut ingest, &[payment(&name)], Hint::Wake).await.unwrap();
    let mut auditor = world.session("t_auditor");
    for id in [&name, &done[0].outbox_id.to_string(), &name.to_uppercase()] {
        let found = read_timelines(&mut auditor, id, None).await.unwrap();
        assert_eq!(found.len(), usize::from(id != &name.to_uppercase()), "{id}: {found:?}");
    }
}

#[tokio::test]
async fn id_bounds_do_not_depend_on_how_a_session_reads_string_literals() {
    let mut world = World::new().await;
    let bound = "select outbox.outbox_id_floor('2026-01-01')::text";
    let usual: String = scalar(&mut world.dba, bound).await;
    run(&mut world.dba, "set standard_conforming_strings = off; set escape_string_warning = off").await;
    let unusual: String = scalar(&mut world.dba, bound).await;
    assert_eq!(unusual, usual);
}
