//! What a lease is good for: it lets no first byte leave when the payment's time is over, it lasts while its
//! result waits to be recorded, and it is found when its dispatcher is gone though nobody else is busy.

use outbox_testkit::wait_until;
use rail_sim::Point;

use crate::deaf_rail::FullRail;
use crate::inquiry::ASKED;
use crate::rig::{HOLD, LEASE_MS, LIMIT, RAILS, RESEND, Rig};

const EACH: usize = 3;

/// Of a rail that is waited for 6 s.
const LONG_LEASE_MS: i64 = 9_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_whose_time_ran_out_while_it_connected_is_not_sent() {
    let rig = Rig::start().await;
    rig.contract(HOLD, "null, p_rail_timeout_ms => 20000, p_lease_duration_ms => 60000").await;
    let full = FullRail::new().await;
    let [_, deaf] = full.settings();
    let settings = [deaf.as_str(), "rails.hold.timeout=20s", "rails.hold.connect_timeout=20s"];
    let daemon = rig.daemon_with("a", rig.proxy.address(), &settings);
    daemon.logged("lane.on", 2).await;
    rig.run(
        "select outbox.enqueue_payment_outbox('p', 'short', 'short', 'hold', 'x', 'text/plain', \
         p_not_after => clock_timestamp() + interval '2 s')",
    )
    .await;
    wait_until("a connect that hangs", LIMIT, async || full.hanging_connects() == 1).await.unwrap();
    let over = "select clock_timestamp() > not_after + interval '100 ms' from outbox.payment_outbox_pending";
    rig.until("the end of the payment's time", over).await;
    // The kernel tries again a second after the last time, and the lease would do for a minute.
    let received = full.accept_and_count();
    let withheld = daemon.logged("send.withheld", 1).await;
    assert_eq!((&withheld["lease_allows"], &withheld["in_time"]), (&true.into(), &false.into()), "{withheld}");
    rig.settled().await;
    assert_eq!((rig.count(HOLD, "RELEASED").await, rig.held(HOLD).await), (1, vec!["MISSED_WINDOW 1".to_owned()]));
    assert_eq!(received.bytes(), 0, "sent when its time was over");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_paused_after_its_claim_and_before_its_first_byte_is_given_back() {
    for pause in pauses(&["null, null", "'hold', null", "'hold', 'p'"]) {
        let rig = Rig::start().await;
        rig.contract(HOLD, "null, p_rail_timeout_ms => 20000, p_lease_duration_ms => 60000").await;
        let full = FullRail::new().await;
        let [_, deaf] = full.settings();
        let daemon = rig.daemon_with("a", rig.proxy.address(), &[&[deaf.as_str()], &PATIENT[..]].concat());
        rig.run("select outbox.enqueue_payment_outbox('p', 'i', 'i', 'hold', 'x', 'text/plain')").await;
        wait_until("a connect that hangs", LIMIT, async || full.hanging_connects() == 1).await.unwrap();
        paused_for_a_second(&rig, &pause).await;
        let received = full.accept_and_count();
        let withheld = daemon.logged("send.withheld", 1).await;
        assert_eq!(
            (&withheld["paused"], &withheld["lease_allows"]),
            (&true.into(), &true.into()),
            "{pause}: {withheld}"
        );
        daemon.logged("complete.applied", 1).await;
        assert_eq!((rig.count(HOLD, "RELEASED").await, received.bytes()), (1, 0), "{pause}");
        daemon.stop().await;
    }
}

/// A dispatcher that waits long for a connection, and that reads everything but the pauses seldom.
const PATIENT: [&str; 3] =
    ["rails.hold.timeout=20s", "rails.hold.connect_timeout=20s", "dispatcher.heartbeat_interval=1m"];

/// The statements that stop each of these scopes, and the one that stops the rail by its contract.
fn pauses(scopes: &[&str]) -> Vec<String> {
    let of_scope = scopes.iter().map(|scope| format!("select outbox.set_outbox_pause({scope}, true, 'drill')"));
    of_scope.chain(["select outbox.set_payment_rail('hold', null, p_paused => true)".to_owned()]).collect()
}

async fn paused_for_a_second(rig: &Rig, pause: &str) {
    rig.run(pause).await;
    let now: f64 = rig.value("select extract(epoch from clock_timestamp())::float8").await;
    let seen = format!("select clock_timestamp() > to_timestamp({now}) + interval '1 s'");
    rig.until("a second since the pause", &seen).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_question_leaves_for_a_paused_rail_and_those_about_a_paused_participants_payments_do() {
    let about_a_participant = "select outbox.set_outbox_pause('hold', 'p', true, 'drill')".to_owned();
    for pause in pauses(&["null, null", "'hold', null"]).into_iter().chain([about_a_participant.clone()]) {
        let rig = Rig::start().await;
        rig.contract(HOLD, "'inquire', p_rail_timeout_ms => 20000, p_lease_duration_ms => 60000").await;
        let full = FullRail::new().await;
        let [_, deaf] = full.settings();
        let settings = [&[deaf.as_str()], &PATIENT[..], &ASKED[..]].concat();
        let daemon = rig.daemon_with("a", rig.proxy.address(), &settings);
        rig.run(
            "select outbox.enqueue_payment_outbox('p', 'i', 'i', 'hold', 'x', 'text/plain'); \
             update outbox.payment_outbox_pending set disposition = 'IN_DOUBT', in_doubt_since = now(), first_sent_at = now()",
        )
        .await;
        wait_until("a connect that hangs", LIMIT, async || full.hanging_connects() == 1).await.unwrap();
        paused_for_a_second(&rig, &pause).await;
        let received = full.accept_and_count();
        if pause == about_a_participant {
            wait_until("the question", LIMIT, async || received.bytes() > 0).await.unwrap();
        } else {
            assert_eq!(daemon.logged("send.withheld", 1).await["paused"], true, "{pause}");
            daemon.logged("complete.applied", 1).await;
            assert_eq!((rig.count(HOLD, "RELEASED").await, received.bytes()), (1, 0), "{pause}");
        }
        daemon.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_leases_are_settled_whatever_keeps_their_lane_from_claiming() {
    for stop in [
        "select outbox.set_outbox_pause(null, null, true, 'drill')",
        "select outbox.set_outbox_pause('resend', null, true, 'drill')",
        "select outbox.set_payment_rail('resend', null, p_paused => true)",
        // Shorter than a dispatcher needs.
        "select outbox.set_payment_rail('resend', null, p_lease_duration_ms => 1600)",
        // There is no way to ask it.
        "select outbox.set_payment_rail('resend', 'inquire')",
    ] {
        let rig = Rig::start().await;
        rig.resend.park(Point::BeforeExecution);
        rig.enqueue(RESEND, EACH).await;
        let mut gone = rig.daemon("gone");
        tokio::time::timeout(LIMIT, rig.resend.wait_for_parked(Point::BeforeExecution, EACH as u64)).await.unwrap();
        gone.kill();
        rig.run(stop).await;
        let daemon = rig.daemon("a");
        let settled = "select count(*) = 3 from outbox.payment_outbox_attempts where state = 'LEASE_EXPIRED'";
        rig.until(&format!("settled leases after {stop}"), settled).await;
        assert_eq!(daemon.logged("lease.expired_taken_over", 1).await["count"], EACH, "{stop}");
        assert_eq!(rig.resend.stats().requests, EACH as u64, "{stop}");
        daemon.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_of_a_vanished_dispatcher_are_settled_while_every_slot_waits_for_a_silent_rail() {
    let rig = Rig::start().await;
    let patient = format!("null, p_rail_timeout_ms => 6000, p_lease_duration_ms => {LONG_LEASE_MS}");
    rig.contract(RESEND, &patient).await;
    rig.resend.park(Point::BeforeExecution);
    rig.enqueue(RESEND, EACH).await;
    let mut gone = rig.daemon_with("gone", rig.proxy.address(), &[format!("rails.{RESEND}.timeout=6s")]);
    tokio::time::timeout(LIMIT, rig.resend.wait_for_parked(Point::BeforeExecution, EACH as u64)).await.unwrap();
    let narrow = ["rails.resend.timeout=6s", "rails.resend.concurrency=1", "dispatcher.maintenance_interval=10m"];
    let daemon = rig.daemon_with("a", rig.proxy.address(), &narrow);
    daemon.logged("lane.on", 2).await;
    gone.kill();
    let nearly = "select clock_timestamp() > max(lease_expires_at) - interval '1 s' from outbox.payment_outbox_pending";
    rig.until("the last second of the leases", nearly).await;
    let one = "select outbox.enqueue_payment_outbox('p', 'one', 'one', 'resend', 'x', 'text/plain')";
    rig.run(one).await;
    tokio::time::timeout(LIMIT, rig.resend.wait_for_parked(Point::BeforeExecution, EACH as u64 + 1)).await.unwrap();
    let settled = "select count(*) = 3 from outbox.payment_outbox_attempts where state = 'LEASE_EXPIRED'";
    rig.until("settled leases", settled).await;
    assert_eq!(daemon.events("send.finished"), Vec::<serde_json::Value>::new(), "a slot was free again before");
    rig.resend.release();
    rig.settled().await;
    rig.conserved().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dispatcher_of_another_environment_claims_nothing_and_says_why() {
    let rig = Rig::start().await;
    let ours = rig.daemon_with("a", rig.proxy.address(), &["dispatcher.environment=production"]);
    rig.until("the epoch", "select count(*) = 1 from outbox.outbox_cluster where environment = 'production'").await;
    ours.stop().await;
    rig.enqueue(RESEND, EACH).await;
    let copy = rig.daemon_with("b", rig.proxy.address(), &["dispatcher.environment=staging"]);
    let failed = copy.logged("claim.failed", 1).await;
    assert!(failed["error"].as_str().unwrap().contains("'production'"), "{failed}");
    copy.becomes_ready(false).await;
    assert_eq!(rig.resend.stats().requests, 0);
    copy.stop().await;
    let ours = rig.daemon_with("c", rig.proxy.address(), &["dispatcher.environment=production"]);
    rig.settled().await;
    rig.all_dispatched().await;
    ours.stop().await;
}

/// The ledger takes no successes, as if its disk were full; everything else goes on.
const FULL: &str = "create function public.disk_is_full() returns trigger language plpgsql as \
                    $$ begin raise exception 'no space left' using errcode = '53100'; end $$; \
                    create trigger disk_is_full before insert on outbox.payment_outbox_attempts \
                    for each row when (new.state = 'DISPATCHED') execute function public.disk_is_full()";

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_lasts_as_long_as_its_result_waits_to_be_recorded() {
    let rig = Rig::start().await;
    rig.run(FULL).await;
    for rail in RAILS {
        rig.enqueue(rail, EACH).await;
    }
    let first = rig.daemon("a");
    first.logged("send.finished", 2 * EACH).await;
    first.logged("complete.failed", 1).await;
    // Another one, with nothing to record, would take over whatever ran out.
    let second = rig.daemon("b");
    let over = format!(
        "select clock_timestamp() > max(claimed_at) + interval '{} ms' from outbox.payment_outbox_pending",
        2 * LEASE_MS
    );
    rig.until("twice the lease", &over).await;
    let lasting = "select count(*) from outbox.payment_outbox_pending where lease_expires_at > clock_timestamp()";
    assert_eq!(rig.value::<i64>(lasting).await, 2 * EACH as i64);
    rig.run("drop trigger disk_is_full on outbox.payment_outbox_attempts").await;
    rig.settled().await;
    rig.all_dispatched().await;
    let attempts: i64 = rig.value("select count(*) from outbox.payment_outbox_attempts").await;
    assert_eq!(attempts, 2 * EACH as i64, "a lease ran out while its holder lived");
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_of_a_dispatcher_that_fell_silent_is_found_by_one_that_has_nothing_to_do() {
    let rig = Rig::start().await;
    // The first waits for its answers until the second is up, however slowly that starts.
    let patient = format!("null, p_rail_timeout_ms => 6000, p_lease_duration_ms => {LONG_LEASE_MS}");
    rig.contract(RESEND, &patient).await;
    rig.resend.park(Point::BeforeExecution);
    rig.enqueue(RESEND, EACH).await;
    let mut silent = rig.daemon_with("silent", rig.proxy.address(), &[format!("rails.{RESEND}.timeout=6s")]);
    tokio::time::timeout(LIMIT, rig.resend.wait_for_parked(Point::BeforeExecution, EACH as u64)).await.unwrap();
    // It polls 1, 3, 7 and 15 s after its start: before the leases run out, and long after.
    let lazy = ["dispatcher.poll_min=1s", "dispatcher.poll_max=60s", "dispatcher.maintenance_interval=10m"];
    let other = rig.daemon_with("other", rig.proxy.address(), &lazy);
    other.logged("lane.on", 2).await;
    silent.kill();
    rig.resend.release();
    rig.settled().await;
    rig.conserved().await;
    assert_eq!((rig.count(RESEND, "LEASE_EXPIRED").await, rig.count(RESEND, "DISPATCHED").await), (3, 3));
    let found_after_ms: i32 = rig
        .value(
            "select max(extract(epoch from completed_at - claimed_at) * 1000)::integer \
             from outbox.payment_outbox_attempts where state = 'LEASE_EXPIRED'",
        )
        .await;
    // A heartbeat's time and a look at it later than the lease.
    assert!(i64::from(found_after_ms) < LONG_LEASE_MS + 4_000, "found after {found_after_ms} ms");
    other.logged("dispatcher.silent", 1).await;
    other.stop().await;
}
