//! Renewing, giving back, and settling leases; and the heartbeat that shows who has fallen silent.

use outbox_core::{AttemptNo, AttemptState, HoldReason, LeaseToken, Millis, Outcome, RailName};
use outbox_store::{
    CompletionVerdict, DispatcherState, Heartbeat, HeldLease, LaneBeat, Memory, RenewVerdict, dispatcher_heartbeat,
    expire_leases, release_leases, renew_leases,
};
use sqlx::Row as _;
use uuid::Uuid;

use crate::conservation::assert_conserved;
use crate::sql::{column, run, scalar};
use crate::steps::Actor;
use crate::world::{RAIL, Worker, World, lease};

async fn renew(worker: &mut Worker, leases: &[HeldLease]) -> Vec<RenewVerdict> {
    renew_leases(&mut worker.session, &worker.id, leases).await.unwrap()
}

async fn release(worker: &mut Worker, leases: &[HeldLease]) -> Vec<CompletionVerdict> {
    release_leases(&mut worker.session, &worker.id, leases).await.unwrap()
}

#[tokio::test]
async fn renewed_lease_lasts_as_long_as_a_new_one() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let held = lease(&worker.claim_one().await);
    world.tamper(id, "lease_expires_at = clock_timestamp() + interval '5 s'").await;
    let before: time::OffsetDateTime = scalar(&mut world.dba, "select clock_timestamp()").await;
    world.contract("lease_duration_ms = 45000").await;
    assert_eq!(renew(&mut worker, &[held]).await, [RenewVerdict::Renewed(Millis(45_000))]);
    let row = world.pending(id).await.unwrap();
    assert!(row.get::<time::OffsetDateTime, _>("lease_expires_at") >= before + time::Duration::seconds(45));
    assert_eq!(row.get::<i32, _>("attempt_count"), 1);
    assert!(worker.claim(10).await.leased.is_empty());
}

#[tokio::test]
async fn renewal_of_a_lease_that_ran_out_brings_nothing_back() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let held = lease(&worker.claim_one().await);
    world.lose_lease(id).await;
    assert_eq!(renew(&mut worker, &[held]).await, [RenewVerdict::Fenced]);
    assert_eq!(worker.claim(10).await.summary.expired, 1);
}

#[tokio::test]
async fn renewal_is_fenced_by_worker_token_and_number_and_skips_a_locked_row() {
    let world = World::new().await;
    world.enqueue("a", 3).await;
    let mut worker = world.worker("w");
    let held: Vec<HeldLease> = worker.claim(3).await.leased.iter().map(lease).collect();
    let mut namesake = world.worker("w");
    assert_eq!(renew(&mut namesake, &held[..1]).await, [RenewVerdict::Fenced]);
    let mut person = Actor::enter(&world.db, "postgres", "person").await;
    let locked = held[1].outbox_id;
    person
        .does(&format!("begin; select from outbox.payment_outbox_pending where outbox_id = '{locked}' for update"))
        .await;
    let other_token = HeldLease { lease_token: LeaseToken(Uuid::new_v4()), ..held[0] };
    let other_number = HeldLease { attempt_no: AttemptNo(2), ..held[0] };
    let verdicts = renew(&mut worker, &[held[0], held[1], held[2], other_token, other_number]).await;
    let good = RenewVerdict::Renewed(Millis(60_000));
    assert_eq!(verdicts, [good, RenewVerdict::Busy, good, RenewVerdict::Fenced, RenewVerdict::Fenced]);
}

#[tokio::test]
async fn no_renewal_shortens_a_lease() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let held = lease(&worker.claim_one().await);
    // Claimed before the database's clock was put back by a minute and a half.
    world.tamper(id, "lease_expires_at = lease_expires_at + interval '90 s'").await;
    let end = world.pending(id).await.unwrap().get::<time::OffsetDateTime, _>("lease_expires_at");
    assert_eq!(renew(&mut worker, &[held]).await, [RenewVerdict::Renewed(Millis(60_000))]);
    assert_eq!(world.pending(id).await.unwrap().get::<time::OffsetDateTime, _>("lease_expires_at"), end);
}

#[tokio::test]
async fn released_payment_keeps_its_place_and_counts_nothing() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    world.tamper(id, "next_attempt_at = '2026-01-01'").await;
    let mut worker = world.worker("w");
    let held = lease(&worker.claim_one().await);
    let verdicts = release(&mut worker, &[held]).await;
    assert_eq!(
        verdicts,
        [CompletionVerdict::Applied { state: AttemptState::Released, held: None, next_attempt_at: None }]
    );
    let row = world.pending(id).await.unwrap();
    assert_eq!(row.get::<time::OffsetDateTime, _>("next_attempt_at"), time::macros::datetime!(2026-01-01 0:00 UTC));
    assert_eq!((row.get::<i32, _>("send_count"), row.get::<i32, _>("crash_count")), (0, 0));
    assert!(row.get::<Option<time::OffsetDateTime>, _>("first_sent_at").is_none(), "it was certainly never sent");
    assert_eq!(release(&mut worker, &[held]).await, [CompletionVerdict::AlreadyApplied]);
    assert_eq!(worker.claim_one().await.attempt_no.0, 2);
    assert_eq!(world.attempts(id).await, ["1 RELEASED RELEASED"]);
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn release_and_not_sent_do_not_forget_an_earlier_send() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let first = worker.claim_one().await;
    worker.complete_one(lease(&first), Outcome::Unknown).await;
    let sent_at: time::OffsetDateTime = world.pending(id).await.unwrap().get("first_sent_at");
    assert_eq!(sent_at, first.db_now);
    let second = lease(&worker.claim_one().await);
    release(&mut worker, &[second]).await;
    let third = lease(&worker.claim_one().await);
    worker.complete_one(third, Outcome::NotSent).await;
    let row = world.pending(id).await.unwrap();
    assert_eq!(row.get::<Option<time::OffsetDateTime>, _>("first_sent_at"), Some(sent_at));
    assert!(row.get::<Option<time::OffsetDateTime>, _>("in_doubt_since").is_some(), "a doubt is not forgotten");
    assert_eq!(row.get::<i32, _>("send_count"), 1);
    assert_eq!(world.attempts(id).await, ["1 IN_DOUBT UNKNOWN", "2 RELEASED RELEASED", "3 RETRYABLE NOT_SENT"]);
}

#[tokio::test]
async fn stale_release_is_fenced() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let held = lease(&worker.claim_one().await);
    world.lose_lease(id).await;
    assert_eq!(release(&mut worker, &[held]).await, [CompletionVerdict::Fenced]);
    assert_eq!(worker.claim(10).await.summary.expired, 1);
    assert_eq!(world.attempts(id).await, ["1 LEASE_EXPIRED"]);
}

#[tokio::test]
async fn lost_leases_of_a_paused_rail_are_settled_in_bounded_steps() {
    let mut world = World::new().await;
    let all = world.enqueue("a", 10).await;
    let mut worker = world.worker("w");
    assert_eq!(worker.claim(6).await.leased.len(), 6);
    world.contract("paused = true").await;
    run(
        &mut world.dba,
        "update outbox.payment_outbox_pending set lease_expires_at = clock_timestamp() where lease_token is not null",
    )
    .await;
    for id in &all[..2] {
        world.tamper(*id, "lease_expires_at = clock_timestamp() + interval '1 hour'").await;
    }
    assert!(worker.claim(10).await.summary.paused);
    let rail = RailName::new(RAIL).unwrap();
    let (mut next, mut settled, mut passes) = (None, Vec::new(), 0);
    loop {
        let report = expire_leases(&mut worker.session, &rail, 3, next).await.unwrap();
        assert!(report.held.is_empty() && report.due_again.len() <= 3);
        settled.extend(report.due_again);
        passes += 1;
        next = report.next;
        if next.is_none() {
            break;
        }
    }
    settled.sort();
    assert_eq!((settled, passes), (all[2..6].to_vec(), 4));
    let leased: i64 = scalar(&mut world.dba, "select count(lease_token) from outbox.payment_outbox_pending").await;
    assert_eq!(leased, 2, "leases that hold are left alone");
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn expired_leases_on_a_hold_rail_are_reported_held() {
    let mut world = World::new().await;
    world.contract("on_unknown = 'hold', paused = false").await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    worker.claim_one().await;
    world.lose_lease(id).await;
    let report = expire_leases(&mut worker.session, &RailName::new(RAIL).unwrap(), 10, None).await.unwrap();
    assert_eq!(
        report.held.iter().map(|h| (h.outbox_id, h.attempt_no.0, h.reason)).collect::<Vec<_>>(),
        [(id, 1, HoldReason::Unknown)]
    );
    assert!(report.due_again.is_empty() && report.next.is_none());
    assert_eq!(world.attempts(id).await, ["1 LEASE_EXPIRED"]);
}

#[tokio::test]
async fn heartbeat_reports_the_silent_and_prunes_the_long_gone() {
    let mut world = World::new().await;
    let mut session = world.session("t_dispatcher");
    let beat = |name: &str, state| Heartbeat {
        worker_id: world.worker(name).id,
        version: "1.0.0".to_owned(),
        state,
        lanes: vec![LaneBeat { rail: RailName::new(RAIL).unwrap(), settled: 7 }],
        in_flight: 3,
        interval: Millis(1_000),
        environment: None,
        seen: Memory::default(),
    };
    let names = ["me", "alive", "silent", "stopped", "gone", "ancient"];
    let beats: Vec<Heartbeat> = names
        .iter()
        .map(|name| beat(name, if *name == "stopped" { DispatcherState::Stopped } else { DispatcherState::Running }))
        .collect();
    for one in &beats {
        assert!(dispatcher_heartbeat(&mut session, one).await.unwrap().silent.is_empty());
    }
    for (name, age) in
        [("alive", "2 s"), ("silent", "4 s"), ("stopped", "4 s"), ("gone", "2 days"), ("ancient", "8 days")]
    {
        let text = format!(
            "update outbox.outbox_dispatchers set heartbeat_at = clock_timestamp() - interval '{age}' where worker_id like '{name}/%'"
        );
        run(&mut world.dba, &text).await;
    }
    let silent = dispatcher_heartbeat(&mut session, &beats[0]).await.unwrap().silent;
    assert_eq!(silent.len(), 1, "{silent:?}");
    assert_eq!(silent[0].worker_id, beats[2].worker_id.as_str());
    assert!(silent[0].silent_for >= Millis(4_000) && silent[0].interval == Millis(1_000));
    assert_eq!(silent[0].lanes, [RAIL]);
    let left: Vec<String> =
        column(&mut world.dba, "select split_part(worker_id, '/', 1) from outbox.outbox_dispatchers order by 1").await;
    assert_eq!(left, ["alive", "gone", "me", "silent", "stopped"]);
}
