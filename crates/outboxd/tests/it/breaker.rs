//! The circuit breaker of a lane, on the real daemon: what a rail that fails is spared, what a rail that is back
//! gets, and what goes on meanwhile. How the breaker itself moves is tested in the core.

use outbox_testkit::wait_until;
use rail_sim::{Fault, Point, Profile};

use crate::rig::{Daemon, HOLD, LIMIT, RESEND, Rig};
use crate::wakeup::{RARELY, asleep, locks_are, locks_stay};

/// Failures that open the breaker, if a test says nothing else.
const FAILURES: i64 = 10;
/// Sends at once.
const CONCURRENCY: i64 = 8;

/// A daemon whose breakers open after [`FAILURES`], for half of `open` at least and `open` at most.
fn daemon(rig: &Rig, open: &str, settings: &[&str]) -> Daemon {
    let mut all: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
    for rail in [RESEND, HOLD] {
        all.push(format!("rails.{rail}.concurrency={CONCURRENCY}"));
        all.push(format!("rails.{rail}.breaker.open_min={open}"));
        all.push(format!("rails.{rail}.breaker.open_max={open}"));
    }
    rig.daemon_with("a", rig.proxy.address(), &all)
}

async fn attempts(rig: &Rig, rail: &str) -> i64 {
    rig.value(&format!("select count(*) from outbox.payment_outbox_attempts where rail = '{rail}'")).await
}

/// Every request on which the rail answers with this.
fn only(fault: Fault) -> Profile {
    Profile::new([(fault, 1000)])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rail_that_is_down_is_spared_while_another_goes_on_and_gets_everything_when_it_is_back() {
    let rig = Rig::start().await;
    rig.resend.set_down(true).await.unwrap();
    rig.enqueue(RESEND, 300).await;
    let daemon = daemon(&rig, "6s", &[&format!("rails.resend.breaker.failures={FAILURES}")]);
    let opened = daemon.logged("breaker.opened", 1).await;
    assert_eq!(
        (&opened["rail"], &opened["reason"], &opened["level"]),
        (&RESEND.into(), &"connect".into(), &"WARN".into())
    );
    rig.enqueue(HOLD, 100).await;
    let done = format!("select not exists (select from outbox.payment_outbox_pending where rail = '{HOLD}')");
    rig.until("the other rail's end", &done).await;
    assert_eq!(rig.count(HOLD, "DISPATCHED").await, 100);
    let ready = daemon.ready().await;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    // The probe fails as well, and the rail is left alone again.
    daemon.logged("breaker.opened", 2).await;
    let tried = attempts(&rig, RESEND).await;
    assert!(
        (FAILURES + 1..=FAILURES + CONCURRENCY + 1).contains(&tried),
        "{tried} attempts before the end of the probe"
    );
    rig.resend.set_down(false).await.unwrap();
    rig.settled().await;
    rig.all_dispatched().await;
    daemon.logged("breaker.recovering", 1).await;
    daemon.logged("breaker.closed", 1).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rail_that_is_back_gets_a_probe_alone_and_then_one_more_at_once_for_each_answer() {
    let rig = Rig::start().await;
    rig.resend.set_down(true).await.unwrap();
    rig.enqueue(RESEND, 60).await;
    let daemon = daemon(&rig, "500ms", &[]);
    daemon.logged("breaker.opened", 2).await;
    // Answers take so long that requests that need not wait for them would show.
    rig.resend.set_profile(only(Fault::Slow)).unwrap();
    rig.resend.set_down(false).await.unwrap();
    rig.settled().await;
    rig.all_dispatched().await;
    rig.resend.wait_for_answers(60).await;
    let answered: Vec<u64> = rig.resend.answers().unwrap().iter().map(|answer| answer.at_us).collect();
    let mut arrived: Vec<u64> = rig.resend.received().unwrap().iter().map(|received| received.at_us).collect();
    arrived.sort_unstable();
    let mut at_once_max = 0;
    for (before, at) in arrived.iter().enumerate() {
        let answers = answered.iter().filter(|answer| *answer <= at).count();
        let at_once = before + 1 - answers;
        assert!(at_once <= answers + 1, "{at_once} at once after {answers} answers");
        at_once_max = at_once_max.max(at_once);
    }
    assert_eq!(at_once_max as i64, CONCURRENCY, "the rail never got all that is configured");
    daemon.logged("breaker.closed", 1).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_open_the_breaker_at_once_and_use_up_no_payment() {
    let rig = Rig::start().await;
    rig.contract(RESEND, "null, p_max_sends => 1, p_rail_timeout_ms => 30000, p_lease_duration_ms => 60000").await;
    rig.resend.set_profile(only(Fault::Unauthorized)).unwrap();
    rig.enqueue(RESEND, 60).await;
    let daemon = daemon(&rig, "5s", &["rails.resend.breaker.failures=1000", "rails.resend.timeout=30s"]);
    assert_eq!(daemon.logged("breaker.opened", 1).await["reason"], "RAIL_REFUSED_US");
    daemon.logged("breaker.opened", 2).await;
    let tried = attempts(&rig, RESEND).await;
    assert!((2..=CONCURRENCY + 1).contains(&tried), "{tried} attempts before the end of the probe");
    let counted = "select count(*) from outbox.payment_outbox_pending where send_count > 0 or disposition <> 'READY'";
    assert_eq!(rig.value::<i64>(counted).await, 0);
    rig.resend.set_profile(Profile::default()).unwrap();
    rig.settled().await;
    rig.all_dispatched().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_payments_open_no_breaker() {
    let rig = Rig::start().await;
    rig.resend.set_profile(only(Fault::Refuse)).unwrap();
    rig.enqueue(RESEND, 60).await;
    let daemon = daemon(&rig, "1h", &["rails.resend.breaker.failures=1"]);
    rig.settled().await;
    assert_eq!(rig.count(RESEND, "FAILED").await, 60);
    assert_eq!(daemon.events("breaker.opened"), Vec::<serde_json::Value>::new());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_payments_are_held_in_doubt_than_open_the_breaker_and_were_under_way() {
    let rig = Rig::start().await;
    rig.hold.set_profile(only(Fault::ErrorAfter)).unwrap();
    rig.enqueue(HOLD, 200).await;
    let daemon = daemon(&rig, "5s", &[]);
    assert_eq!(daemon.logged("breaker.opened", 1).await["reason"], "UNKNOWN");
    // One more: the probe's own payment.
    daemon.logged("breaker.opened", 2).await;
    rig.hold.set_profile(Profile::default()).unwrap();
    rig.settled().await;
    rig.conserved().await;
    let held = 200 - rig.count(HOLD, "DISPATCHED").await;
    assert!((FAILURES + 1..=FAILURES + CONCURRENCY + 1).contains(&held), "{held} held");
    assert_eq!(rig.held(HOLD).await, [format!("UNKNOWN {held}")]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_leases_of_a_lane_whose_breaker_is_open_are_settled() {
    let rig = Rig::start().await;
    rig.resend.park(Point::BeforeExecution);
    rig.enqueue(RESEND, 3).await;
    let mut gone = rig.daemon("gone");
    tokio::time::timeout(LIMIT, rig.resend.wait_for_parked(Point::BeforeExecution, 3)).await.unwrap();
    gone.kill();
    rig.resend.set_down(true).await.unwrap();
    rig.enqueue(RESEND, 1).await;
    let daemon = daemon(&rig, "1h", &["rails.resend.breaker.failures=1"]);
    daemon.logged("breaker.opened", 1).await;
    rig.until(
        "settled leases",
        "select count(*) = 3 from outbox.payment_outbox_attempts where state = 'LEASE_EXPIRED'",
    )
    .await;
    assert_eq!(daemon.logged("lease.expired_taken_over", 1).await["count"], 3);
    assert_eq!(daemon.events("send.finished").len(), 1, "sent to a rail that is to be left alone");
    let leased = "select count(*) from outbox.payment_outbox_pending where lease_token is not null";
    assert_eq!(rig.value::<i64>(leased).await, 0);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_sleeps_when_nothing_is_due_for_a_probe_and_not_before() {
    let rig = Rig::start().await;
    let settings: Vec<String> = ["failures=1", "open_min=6s", "open_max=6s"]
        .iter()
        .map(|setting| format!("rails.{HOLD}.breaker.{setting}"))
        .collect();
    let mut all: Vec<&str> = settings.iter().map(String::as_str).collect();
    all.push(RARELY);
    let daemon = asleep(&rig, &all).await;
    rig.hold.set_profile(only(Fault::ErrorBefore)).unwrap();
    rig.enqueue(HOLD, 1).await;
    daemon.logged("breaker.opened", 1).await;
    // Whoever says that it sleeps is woken, and could do nothing.
    locks_stay(&rig, &[RESEND]).await;
    rig.until("the lane asleep", &locks_are(&[RESEND, HOLD])).await;
    let open = async || daemon.ready().await.contains("\"open\":[{\"reason\":\"UNKNOWN\",\"subject\":\"rail hold\"}]");
    assert!(open().await, "without a probe nothing is known of the rail");
    rig.hold.set_profile(Profile::default()).unwrap();
    rig.enqueue(HOLD, 20).await;
    rig.until("the payments", "select count(*) = 1 from outbox.payment_outbox_pending").await;
    wait_until("a breaker that is shown as closed", LIMIT, async || !open().await).await.unwrap();
    assert_eq!(rig.held(HOLD).await, ["UNKNOWN 1"]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_is_the_rails_however_many_dispatchers_there_are() {
    let rig = Rig::start().await;
    rig.contract(RESEND, "null, p_max_sends_per_s => 40").await;
    rig.enqueue(RESEND, 120).await;
    let daemons = ["a", "b", "c"].map(|name| rig.daemon(name));
    rig.settled().await;
    rig.all_dispatched().await;
    let mut arrived: Vec<u64> = rig.resend.received().unwrap().iter().map(|received| received.at_us).collect();
    arrived.sort_unstable();
    let took_us = arrived.last().unwrap() - arrived.first().unwrap();
    // A tenth of a second's worth may go at once: 4, and 116 at 40 a second.
    assert!(took_us >= 2_900_000 - 100_000, "120 sends at 40 a second took {took_us} us");
    for daemon in daemons {
        daemon.stop().await;
    }
}
