//! Results are recorded in batches, by size and by time, and payments under way are bounded by the rail's places.

use rail_sim::Point;

use crate::rig::{Daemon, HOLD, RESEND, Rig};

/// Two rails whose sends and leases last longer than any test, and a daemon with these settings.
async fn patient(settings: &[&str]) -> (Rig, Daemon) {
    let rig = Rig::start().await;
    for rail in [RESEND, HOLD] {
        rig.contract(rail, "null, p_rail_timeout_ms => 30000, p_lease_duration_ms => 120000").await;
    }
    let fixed = ["rails.resend.timeout=30s", "rails.hold.timeout=30s"];
    let daemon = rig.daemon_with("a", rig.proxy.address(), &[&fixed, settings].concat());
    daemon.becomes_ready(true).await;
    (rig, daemon)
}

/// Has `count` payments executed, and answers them all at once. How many calls recorded them, and how long after the answers, in
/// seconds.
async fn answered_at_once(rig: &Rig, count: u64) -> (i64, f64) {
    rig.resend.park(Point::AfterExecution);
    rig.enqueue(RESEND, count.try_into().unwrap()).await;
    rig.sim(RESEND).wait_for_parked(Point::AfterExecution, count).await;
    let answered: f64 = rig.value("select extract(epoch from clock_timestamp())::float8").await;
    rig.resend.release();
    rig.settled().await;
    let calls = rig.value("select count(distinct completed_at) from outbox.payment_outbox_attempts").await;
    let last: f64 =
        rig.value("select extract(epoch from max(completed_at))::float8 from outbox.payment_outbox_attempts").await;
    (calls, last - answered)
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_recorded_in_one_call_as_soon_as_a_batch_is_full() {
    let full = [
        "dispatcher.completion_batch_size=4",
        "dispatcher.completion_flush_interval=10s",
        "dispatcher.completion_budget=40s",
    ];
    let (rig, daemon) = patient(&full).await;
    let (calls, after_s) = answered_at_once(&rig, 4).await;
    assert_eq!(calls, 1);
    assert!(after_s < 10.0, "{after_s} s: it waited for the interval");
    rig.all_dispatched().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_that_fill_no_batch_are_recorded_when_the_interval_is_over() {
    let never_full = [
        "dispatcher.completion_batch_size=100",
        "dispatcher.completion_flush_interval=2s",
        "dispatcher.completion_budget=40s",
    ];
    let (rig, daemon) = patient(&never_full).await;
    let (calls, after_s) = answered_at_once(&rig, 3).await;
    // Two clocks: this process's, and the database's. Nobody waits for ten intervals, however busy the machine is.
    assert!((1.9..20.0).contains(&after_s), "{after_s} s");
    assert_eq!(calls, 1);
    rig.all_dispatched().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_payments_are_under_way_than_the_rail_has_places() {
    let (rig, daemon) = patient(&["rails.resend.concurrency=3"]).await;
    rig.resend.park(Point::AfterExecution);
    rig.enqueue(RESEND, 20).await;
    rig.sim(RESEND).wait_for_parked(Point::AfterExecution, 3).await;
    // Hints, and a whole life of other payments meanwhile.
    rig.enqueue(RESEND, 1).await;
    rig.enqueue(HOLD, 5).await;
    let others = "select count(*) = 5 from outbox.payment_outbox_attempts where rail = 'hold' and state = 'DISPATCHED'";
    outbox_testkit::wait_until("the other rail's payments", crate::rig::LIMIT, async || {
        rig.value::<bool>(others).await
    })
    .await
    .unwrap();
    let leased = "select count(*) from outbox.payment_outbox_pending where rail = 'resend' and lease_token is not null";
    assert_eq!((rig.value::<i64>(leased).await, rig.resend.stats().requests), (3, 3));
    rig.resend.release();
    rig.settled().await;
    rig.all_dispatched().await;
    daemon.stop().await;
}
