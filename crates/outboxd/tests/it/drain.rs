//! How the daemon ends when it is told to: what is not sent goes back, what is sent is waited for, and what
//! does not end in time is recorded as unknown, never as unsent.

use std::time::{Duration, Instant};

use outbox_testkit::wait_until;
use rail_sim::Point;

use crate::deaf_rail::FullRail;
use crate::rig::{HOLD, LIMIT, RAILS, RESEND, Rig};

const EACH: usize = 3;

async fn parked_after_execution(rig: &Rig, rails: &[&str]) {
    for rail in rails {
        let parked = rig.sim(rail).wait_for_parked(Point::AfterExecution, EACH as u64);
        tokio::time::timeout(LIMIT, parked).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_sent_is_given_back_and_what_was_sent_is_waited_for() {
    let rig = Rig::start().await;
    rig.contract(RESEND, "p_rail_timeout_ms => 4000, p_lease_duration_ms => 8000").await;
    rig.contract(HOLD, "p_rail_timeout_ms => 4000, p_lease_duration_ms => 8000").await;
    for rail in RAILS {
        rig.enqueue(rail, EACH).await;
    }
    rig.hold.park(Point::AfterExecution);
    let full = FullRail::new().await;
    let [deaf, _] = full.settings();
    let settings = [deaf.as_str(), "rails.resend.timeout=4s", "rails.hold.timeout=4s", "dispatcher.drain_timeout=5s"];
    let mut daemon = rig.daemon_with("a", rig.proxy.address(), &settings);
    wait_until("connects that hang", LIMIT, async || full.hanging_connects() == EACH).await.unwrap();
    parked_after_execution(&rig, &[HOLD]).await;
    daemon.terminate();
    daemon.logged("daemon.stopping", 1).await;
    // From now on the one rail would take payments, and the other answers.
    let received = full.accept_and_count();
    rig.hold.release();
    assert_eq!(daemon.ended().await, Some(0));
    assert_eq!(received.bytes(), 0, "sent after the stop");
    assert_eq!((rig.count(HOLD, "DISPATCHED").await, rig.count(RESEND, "RELEASED").await), (3, 3));
    let ready = "select count(*) from outbox.payment_outbox_pending \
                 where disposition = 'READY' and lease_token is null and first_sent_at is null and in_doubt_since is null";
    assert_eq!(rig.value::<i64>(ready).await, 3);
    rig.conserved().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_outlasts_the_drain_is_recorded_as_unknown() {
    let rig = Rig::start().await;
    for rail in RAILS {
        rig.contract(rail, "p_rail_timeout_ms => 20000, p_lease_duration_ms => 30000").await;
        rig.sim(rail).park(Point::AfterExecution);
        rig.enqueue(rail, EACH).await;
    }
    let settings = ["rails.resend.timeout=20s", "rails.hold.timeout=20s", "dispatcher.drain_timeout=1s"];
    let mut daemon = rig.daemon_with("a", rig.proxy.address(), &settings);
    parked_after_execution(&rig, &RAILS).await;
    daemon.terminate();
    assert_eq!(daemon.ended().await, Some(0));
    daemon.logged("drain.timed_out", 1).await;
    for rail in RAILS {
        assert_eq!((rig.count(rail, "IN_DOUBT").await, rig.count(rail, "RELEASED").await), (3, 0), "{rail}");
        rig.sim(rail).release();
    }
    assert_eq!(rig.held(HOLD).await, ["UNKNOWN 3"]);
    let heir = rig.daemon("heir");
    rig.settled().await;
    rig.conserved().await;
    assert_eq!((rig.count(RESEND, "DISPATCHED").await, rig.hold.stats().requests), (3, 3));
    heir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_result_that_was_not_recorded_is_counted_at_the_end() {
    let rig = Rig::start().await;
    for rail in RAILS {
        rig.contract(rail, "null, p_lease_duration_ms => 8000").await;
        rig.sim(rail).park(Point::AfterExecution);
        rig.enqueue(rail, EACH).await;
    }
    // The call that hangs with the first results outlasts the drain: the others come after it.
    let settings = ["dispatcher.drain_timeout=1s", "dispatcher.completion_budget=4100ms", "database.call_timeout=4s"];
    let mut daemon = rig.daemon_with("a", rig.proxy.address(), &settings);
    parked_after_execution(&rig, &RAILS).await;
    let completion = rig.proxy.intercept("complete_outbox_batch");
    rig.hold.release();
    completion.reached(LIMIT).await.unwrap();
    rig.proxy.black_hole();
    rig.resend.release();
    daemon.logged("send.finished", 2 * EACH).await;
    daemon.terminate();
    assert_eq!(daemon.ended().await, Some(69));
    assert_eq!(daemon.logged("daemon.stopped", 1).await["exit_code"], 69);
    let counts: Vec<_> = daemon.events("daemon.stopped").iter().map(|event| event["unrecorded"].clone()).collect();
    assert_eq!(counts[0], 2 * EACH, "{counts:?}");
    assert!(daemon.child.log().contains("6 results could not be recorded"), "{}", daemon.child.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn results_that_no_database_takes_end_the_daemon_with_69_and_lose_nothing() {
    let rig = Rig::start().await;
    for rail in RAILS {
        rig.sim(rail).park(Point::AfterExecution);
        rig.enqueue(rail, EACH).await;
    }
    let mut daemon = rig.daemon_with("a", rig.proxy.address(), &["dispatcher.drain_timeout=1s"]);
    parked_after_execution(&rig, &RAILS).await;
    rig.proxy.black_hole();
    for rail in RAILS {
        rig.sim(rail).release();
    }
    daemon.logged("send.finished", 2 * EACH).await;
    let told = Instant::now();
    daemon.terminate();
    assert_eq!(daemon.ended().await, Some(69));
    // Twice the drain for results, and the timeouts of the calls that say goodbye.
    assert!(told.elapsed() < Duration::from_secs(15), "{:?}", told.elapsed());
    rig.proxy.cut_all();
    rig.proxy.wait_for_connections(0, LIMIT).await.unwrap();
    rig.proxy.forward();
    let heir = rig.daemon("heir");
    rig.settled().await;
    rig.conserved().await;
    assert_eq!((rig.count(RESEND, "DISPATCHED").await, rig.held(HOLD).await), (3, vec!["UNKNOWN 3".to_owned()]));
    heir.stop().await;
}
