//! Rails that are down, hang, refuse us, forget keys, or kill whoever sends one payment. None of it fails
//! a payment, and a payment that may have been executed is never executed twice.

use std::time::Duration;

use outbox_testkit::wait_until;
use rail_sim::{Fault, Point, Profile, Script};
use sqlx::Row as _;
use uuid::Uuid;

use crate::rig::{HOLD, LIMIT, RAILS, RESEND, Rig};

/// How many requests for a payment arrived whole.
fn requests_of(rig: &Rig, rail: &str, id: Uuid) -> usize {
    let key = id.to_string();
    rig.sim(rail).received().unwrap().iter().filter(|received| received.key.as_ref() == Some(&key)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_kills_every_worker_is_held_alone() {
    let rig = Rig::start().await;
    rig.contract(RESEND, "p_lease_duration_ms => 3000, p_max_crashes => 3").await;
    let ids = rig.enqueue(RESEND, 5).await;
    let poison = ids[2];
    // All hang twice, so that the first two crashes take all of them along; the poison hangs for ever.
    let hangs = |times| vec![Fault::Hang; times];
    let script = ids.iter().fold(Script::default(), |script, id| script.with_key(&id.to_string(), hangs(2)));
    rig.resend.script(script.with_key(&poison.to_string(), hangs(100)));
    for crash in 1..=3 {
        let mut daemon = rig.daemon(&format!("victim_{crash}"));
        let arrived = async || {
            let all = if crash < 3 { &ids[..] } else { &ids[2..3] };
            all.iter().all(|id| requests_of(&rig, RESEND, *id) == crash)
        };
        wait_until("the requests before a crash", LIMIT, arrived).await.unwrap();
        daemon.kill();
    }
    let leased: Vec<Uuid> = rig
        .rows("select outbox_id from outbox.payment_outbox_pending where lease_token is not null")
        .await
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(leased, [poison], "in the lane at the third crash");
    let daemon = rig.daemon("survivor");
    rig.settled().await;
    rig.conserved().await;
    assert_eq!(rig.held(RESEND).await, ["EXHAUSTED 1"]);
    assert_eq!(rig.attempts(poison).await, ["LEASE_EXPIRED"; 3]);
    assert_eq!(rig.count(RESEND, "DISPATCHED").await, 4);
    daemon.stop().await;
}

/// Enqueues payments that may be sent twice at most, waits until each was tried more often than that and
/// nothing is lost by it, lets `mended` bring the rails back, and sees everything dispatched.
async fn outlasts(rig: &Rig, mended: impl AsyncFnOnce()) {
    for rail in RAILS {
        rig.contract(rail, "p_max_sends => 2").await;
        rig.enqueue(rail, 5).await;
    }
    let daemon = rig.daemon("a");
    rig.until(
        "three tries of each",
        "select count(*) = 10 from (select outbox_id from outbox.payment_outbox_attempts group by outbox_id \
         having count(*) filter (where state = 'RETRYABLE') >= 3) as tried",
    )
    .await;
    let counted: i64 = rig
        .value("select count(*) from outbox.payment_outbox_pending where send_count > 0 or disposition <> 'READY'")
        .await;
    assert_eq!((counted, rig.value::<i64>("select count(*) from outbox.payment_outbox_pending").await), (0, 10));
    mended().await;
    rig.settled().await;
    rig.all_dispatched().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rail_that_is_down_for_the_whole_run_fails_and_holds_nothing() {
    let rig = Rig::start().await;
    for rail in RAILS {
        rig.sim(rail).set_down(true).await.unwrap();
    }
    outlasts(&rig, async || {
        for rail in RAILS {
            rig.sim(rail).set_down(false).await.unwrap();
        }
    })
    .await;
}

async fn outlasts_fault(fault: Fault) -> Rig {
    let rig = Rig::start().await;
    for rail in RAILS {
        rig.sim(rail).set_profile(Profile::new([(fault, 1000)])).unwrap();
    }
    outlasts(&rig, async || {
        for rail in RAILS {
            rig.sim(rail).set_profile(Profile::default()).unwrap();
        }
    })
    .await;
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rail_that_does_not_know_us_fails_and_holds_nothing() {
    outlasts_fault(Fault::Unauthorized).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rail_that_throttles_us_is_left_alone_for_as_long_as_it_asks_and_fails_nothing() {
    let rig = outlasts_fault(Fault::Throttle).await;
    let hasty: i64 = rig
        .value(
            "select count(*) from outbox.payment_outbox_attempts a join outbox.payment_outbox_attempts b \
             on b.outbox_id = a.outbox_id and b.attempt_no = a.attempt_no + 1 \
             where a.outcome = 'THROTTLED' and b.claimed_at < a.completed_at + interval '1 second'",
        )
        .await;
    assert_eq!(hasty, 0, "sent again before the second that the rail asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rail_that_hangs_with_a_long_queue_does_not_hold_up_another() {
    let rig = Rig::start().await;
    rig.contract(RESEND, "p_max_sends => 1000").await;
    rig.resend.park(Point::BeforeExecution);
    rig.enqueue(RESEND, 500).await;
    let daemon = rig.daemon("a");
    tokio::time::timeout(LIMIT, rig.resend.wait_for_parked(Point::BeforeExecution, 32)).await.unwrap();
    rig.enqueue(HOLD, 300).await;
    rig.until(
        "the healthy rail's end",
        &format!("select not exists (select from outbox.payment_outbox_pending where rail = '{HOLD}')"),
    )
    .await;
    assert_eq!((rig.count(HOLD, "DISPATCHED").await, rig.count(RESEND, "DISPATCHED").await), (300, 0));
    rig.resend.release();
    rig.settled().await;
    rig.all_dispatched().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_that_outlives_the_rails_memory_of_the_key_is_held() {
    let rig = Rig::start_with_key_window(Duration::from_secs(7)).await;
    // For three seconds it may be sent again: a send that is claimed then ends within the window.
    rig.contract(RESEND, "p_idempotency_window_ms => 7000, p_max_sends => 1000").await;
    let ids = rig.enqueue(RESEND, 1).await;
    rig.resend.script(Script::default().with_key(&ids[0].to_string(), vec![Fault::Hang; 100]));
    let daemon = rig.daemon("a");
    rig.settled().await;
    rig.conserved().await;
    assert_eq!(rig.held(RESEND).await, ["KEY_WINDOW 1"]);
    let sends = requests_of(&rig, RESEND, ids[0]);
    assert!(sends >= 2, "it was not sent again within the window");
    assert_eq!(rig.resend.effects().unwrap().len(), 1);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resend_that_is_held_up_after_its_claim_does_not_begin_past_the_key_window() {
    let rig = Rig::start_with_key_window(Duration::from_millis(6_500)).await;
    rig.contract(RESEND, "p_idempotency_window_ms => 6000, p_lease_duration_ms => 15000").await;
    let ids = rig.enqueue(RESEND, 1).await;
    rig.resend.script(Script::default().with_key(&ids[0].to_string(), [Fault::Hang]));
    let patient = ["database.call_timeout=7s", "dispatcher.completion_budget=7100ms"];
    let daemon = rig.daemon_with("a", rig.proxy.address(), &patient);
    rig.until("the first outcome", "select send_count = 1 from outbox.payment_outbox_pending").await;
    let second = "select lease_token is not null as leased, disposition = 'HELD' as held \
                  from outbox.payment_outbox_pending";
    loop {
        let claim = rig.proxy.intercept("claim_outbox_batch");
        claim.reached(LIMIT).await.unwrap();
        let rows = rig.rows(second).await;
        let leased = rows.first().is_some_and(|row| row.get("leased"));
        if leased {
            rig.until(
                "the end of the key window",
                "select first_sent_at + interval '6600 ms' < clock_timestamp() from outbox.payment_outbox_pending",
            )
            .await;
        }
        claim.release();
        if leased || rows.first().is_none_or(|row| row.get("held")) {
            break;
        }
    }
    rig.settled().await;
    rig.conserved().await;
    assert_eq!(rig.held(RESEND).await, ["KEY_WINDOW 1"]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rails_with_every_fault_get_the_same_bytes_each_time_and_lose_no_payment() {
    let rig = Rig::start().await;
    rig.contract(RESEND, "p_max_sends => 1000").await;
    // No refusals: every payment can be dispatched.
    let faults = [
        Fault::Throttle,
        Fault::ErrorBefore,
        Fault::Unavailable,
        Fault::ResetBefore,
        Fault::ErrorAfter,
        Fault::Reset,
        Fault::Truncate,
        Fault::Interim,
        Fault::Unauthorized,
        Fault::Garbage,
        Fault::Oversize,
    ];
    for rail in RAILS {
        rig.sim(rail).set_profile(Profile::new(faults.map(|fault| (fault, 50)))).unwrap();
        rig.enqueue(rail, 150).await;
    }
    let daemon = rig.daemon("a");
    rig.settled().await;
    rig.conserved().await;
    assert_eq!(rig.count(RESEND, "DISPATCHED").await, 150);
    // Held is only what the rail itself knows to have left in doubt.
    let unknown = rail_sim::unknown_answers(&rig.hold.answers().unwrap(), &rig.hold.received().unwrap());
    let held = 150 - rig.count(HOLD, "DISPATCHED").await;
    assert!(0 < held && held <= unknown as i64, "{held} held, {unknown} left in doubt");
    daemon.stop().await;
}
