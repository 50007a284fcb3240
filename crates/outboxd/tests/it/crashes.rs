//! The daemon is killed or stopped at a named point, and another goes on. Each time no payment is lost,
//! the rail that executes every request is asked at most once, and what was lost is found soon.

use outbox_testkit::wait_until;
use rail_sim::{Point, Sim};
use sqlx::Row as _;

use crate::deaf_rail::{FullRail, HalfReader};
use crate::rig::{Daemon, HOLD, LEASE_MS, LIMIT, RAILS, RECOVERY_MS, RESEND, Rig};

/// Payments of each rail in a test: more than one, so that batches are batches.
const EACH: usize = 3;

/// Lost leases of paused lanes are left alone for as long as a test lasts.
const NO_MAINTENANCE: &str = "dispatcher.maintenance_interval=10m";

/// Another daemon goes on where one was killed: what it left behind is found within two seconds of the lease's
/// end, or of this daemon's start if that is later, by the database's own times, and ends as the contracts say.
async fn recover(rig: &Rig, lost_each: i64, settings: &[String]) -> Daemon {
    let started: String = rig.value("select clock_timestamp()::text").await;
    let heir = rig.daemon_with("heir", rig.proxy.address(), settings);
    rig.settled().await;
    rig.conserved().await;
    for rail in RAILS {
        assert_eq!(rig.count(rail, "LEASE_EXPIRED").await, lost_each, "{rail}");
    }
    let late = |until: &str| {
        format!(
            "select coalesce(max(extract(epoch from {until} - greatest(lost.claimed_at + interval '{LEASE_MS} ms', \
             timestamptz '{started}')) * 1000)::integer, 0) from outbox.payment_outbox_attempts lost \
             left join outbox.payment_outbox_attempts next \
             on next.outbox_id = lost.outbox_id and next.attempt_no = lost.attempt_no + 1 where lost.state = 'LEASE_EXPIRED'"
        )
    };
    let found: i32 = rig.value(&late("lost.completed_at")).await;
    assert!(i64::from(found) <= RECOVERY_MS, "found {found} ms late");
    // What may be sent again is not only found, but sent.
    let resent: i32 = rig.value(&late("next.claimed_at")).await;
    assert!(i64::from(resent) <= RECOVERY_MS, "sent again {resent} ms late");
    let too_early: i64 = rig
        .value(&format!(
            "select count(*) from outbox.payment_outbox_attempts \
             where state = 'LEASE_EXPIRED' and completed_at < claimed_at + interval '{LEASE_MS} ms'"
        ))
        .await;
    assert_eq!(too_early, 0, "leases that had not run out");
    heir
}

/// Both rails' payments are lost with their workers: one rail gets them again, the other must not.
async fn ends_as_the_contracts_say(rig: &Rig) {
    ends_as_the_contracts_say_at(rig, &[]).await;
}

/// The same with an heir whose rails are where these settings say.
async fn ends_as_the_contracts_say_at(rig: &Rig, settings: &[String]) {
    let heir = recover(rig, EACH as i64, settings).await;
    assert_eq!(rig.count(RESEND, "DISPATCHED").await, EACH as i64);
    assert_eq!(rig.held(HOLD).await, [format!("UNKNOWN {EACH}")]);
    heir.stop().await;
}

async fn enqueue_both(rig: &Rig) {
    for rail in RAILS {
        rig.enqueue(rail, EACH).await;
    }
}

async fn parked(sim: &Sim, point: Point, count: usize) {
    tokio::time::timeout(LIMIT, sim.wait_for_parked(point, count as u64)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_its_claim_was_committed_and_before_it_knew() {
    let rig = Rig::start().await;
    enqueue_both(&rig).await;
    // Each lane's first claim: a lane whose claim is not answered makes no second one.
    let claims = [rig.proxy.intercept("claim_outbox_batch"), rig.proxy.intercept("claim_outbox_batch")];
    let mut daemon = rig.daemon("a");
    for claim in &claims {
        claim.reached(LIMIT).await.unwrap();
    }
    for rail in RAILS {
        rig.leased(rail, EACH).await;
    }
    daemon.kill();
    rig.proxy.cut_all();
    ends_as_the_contracts_say(&rig).await;
    assert_eq!(rig.resend.stats().requests, EACH as u64, "sent from the claim that nobody saw");
    assert_eq!(rig.hold.stats().requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_rail_took_its_connection() {
    let rig = Rig::start().await;
    enqueue_both(&rig).await;
    let full = FullRail::new().await;
    let mut daemon = rig.daemon_with("a", rig.proxy.address(), &full.settings());
    wait_until("connects that hang", LIMIT, async || full.hanging_connects() == 2 * EACH).await.unwrap();
    daemon.kill();
    full.becomes(&rig.resend);
    ends_as_the_contracts_say_at(&rig, &full.settings()).await;
    assert_eq!((rig.resend.stats().requests, rig.hold.stats().requests), (EACH as u64, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_the_body() {
    let rig = Rig::start().await;
    for rail in RAILS {
        rig.enqueue_sized(rail, EACH, 1 << 20).await;
    }
    let mut reader = HalfReader::new().await;
    let mut daemon = rig.daemon_with("a", rig.proxy.address(), &reader.settings());
    reader.half_read(2 * EACH).await;
    daemon.kill();
    reader.becomes(&rig.resend);
    ends_as_the_contracts_say_at(&rig, &reader.settings()).await;
    // On a busy machine a large payment may take longer than its timeout: then it is asked again, and in the ledger.
    let sends = EACH as u64 + u64::try_from(rig.count(RESEND, "IN_DOUBT").await).unwrap();
    let requests = rig.resend.stats().requests;
    assert!((EACH as u64..=sends).contains(&requests), "{requests} requests of {sends} sends");
    assert_eq!(rig.hold.stats().requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_the_rail_executed() {
    let rig = Rig::start().await;
    enqueue_both(&rig).await;
    for rail in RAILS {
        rig.sim(rail).park(Point::AfterExecution);
    }
    let mut daemon = rig.daemon("a");
    for rail in RAILS {
        parked(rig.sim(rail), Point::AfterExecution, EACH).await;
    }
    daemon.kill();
    for rail in RAILS {
        rig.sim(rail).release();
    }
    ends_as_the_contracts_say(&rig).await;
    for rail in RAILS {
        assert_eq!(rig.sim(rail).effects().unwrap().len(), EACH, "{rail}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_its_completion_reached_the_database() {
    let rig = Rig::start().await;
    enqueue_both(&rig).await;
    for rail in RAILS {
        rig.sim(rail).park(Point::AfterExecution);
    }
    let mut daemon = rig.daemon("a");
    for rail in RAILS {
        parked(rig.sim(rail), Point::AfterExecution, EACH).await;
    }
    rig.proxy.black_hole();
    for rail in RAILS {
        rig.sim(rail).release();
    }
    daemon.logged("send.finished", 2 * EACH).await;
    daemon.kill();
    // What hangs in the black hole is lost, and not delivered after all.
    rig.proxy.cut_all();
    rig.proxy.wait_for_connections(0, LIMIT).await.unwrap();
    rig.proxy.forward();
    ends_as_the_contracts_say(&rig).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_its_completion_was_committed_and_before_it_knew() {
    let rig = Rig::start().await;
    for (rail, name) in [(RESEND, "a"), (HOLD, "b")] {
        let ids = rig.enqueue(rail, 1).await;
        let completion = rig.proxy.intercept("complete_outbox_batch");
        let mut daemon = rig.daemon(name);
        completion.reached(LIMIT).await.unwrap();
        daemon.kill();
        rig.proxy.cut_all();
        assert_eq!(rig.attempts(ids[0]).await, ["DISPATCHED ACCEPTED"], "{rail}");
    }
    let heir = recover(&rig, 0, &[]).await;
    rig.all_dispatched().await;
    assert_eq!((rig.resend.stats().requests, rig.hold.stats().requests), (1, 1));
    heir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_from_a_claim_whose_reply_is_lost() {
    let rig = Rig::start().await;
    enqueue_both(&rig).await;
    let claims = [rig.proxy.intercept("claim_outbox_batch"), rig.proxy.intercept("claim_outbox_batch")];
    let daemon = rig.daemon("a");
    for claim in &claims {
        claim.reached(LIMIT).await.unwrap();
        claim.cut();
    }
    daemon.logged("claim.failed", 2).await;
    rig.settled().await;
    rig.conserved().await;
    assert_eq!(rig.held(HOLD).await, [format!("UNKNOWN {EACH}")]);
    assert_eq!((rig.resend.stats().requests, rig.hold.stats().requests), (EACH as u64, 0));
    // The lost leases were waited for, by the daemon that had them itself.
    let early: i64 = rig
        .value(&format!(
            "select count(*) from outbox.payment_outbox_attempts where state = 'LEASE_EXPIRED' \
             and completed_at not between claimed_at + interval '{LEASE_MS} ms' and claimed_at + interval '{} ms'",
            LEASE_MS + RECOVERY_MS
        ))
        .await;
    assert_eq!((early, rig.count(RESEND, "LEASE_EXPIRED").await), (0, EACH as i64));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_whose_reply_is_lost_is_repeated_and_applied_once() {
    let rig = Rig::start().await;
    for rail in RAILS {
        let ids = rig.enqueue(rail, 1).await;
        let completion = rig.proxy.intercept("complete_outbox_batch");
        let daemon = rig.daemon(&format!("to_{rail}"));
        completion.reached(LIMIT).await.unwrap();
        completion.cut();
        daemon.logged("complete.already_applied", 1).await;
        assert_eq!(rig.attempts(ids[0]).await, ["DISPATCHED ACCEPTED"], "{rail}");
        assert_eq!(rig.sim(rail).stats().requests, 1, "{rail}");
        daemon.stop().await;
    }
    rig.all_dispatched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_stopped_before_it_saw_its_claim_sends_nothing_under_the_lease_that_ran_out() {
    let rig = Rig::start().await;
    enqueue_both(&rig).await;
    let claims = [rig.proxy.intercept("claim_outbox_batch"), rig.proxy.intercept("claim_outbox_batch")];
    // Nobody settles the lost leases, so that whatever is sent is sent under the old ones.
    let mut daemon = rig.daemon_with("a", rig.proxy.address(), &[NO_MAINTENANCE]);
    for claim in &claims {
        claim.reached(LIMIT).await.unwrap();
    }
    pause(&rig, true).await;
    daemon.freeze().await;
    for claim in &claims {
        claim.release();
    }
    rig.leases_over().await;
    daemon.thaw();
    // A reply that comes with its own timeout may be read or not; if it was, its leases go back unsent.
    let gave_up = async || daemon.events("claim.failed").len() * EACH + daemon.events("complete.fenced").len();
    wait_until("the end of both claims", LIMIT, async || gave_up().await >= 2 * EACH).await.unwrap();
    assert!(daemon.events("complete.fenced").iter().all(|event| event["outcome"] == "RELEASED"));
    assert_eq!((rig.resend.stats().requests, rig.hold.stats().requests), (0, 0));
    pause(&rig, false).await;
    ends_as_the_contracts_say(&rig).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_stopped_while_it_connects_sends_nothing_under_the_lease_that_ran_out() {
    let rig = Rig::start().await;
    enqueue_both(&rig).await;
    let full = FullRail::new().await;
    let settings = full.settings().into_iter().chain([NO_MAINTENANCE.to_owned()]).collect::<Vec<_>>();
    let mut daemon = rig.daemon_with("a", rig.proxy.address(), &settings);
    wait_until("connects that hang", LIMIT, async || full.hanging_connects() == 2 * EACH).await.unwrap();
    daemon.freeze().await;
    pause(&rig, true).await;
    // The kernel finishes the connects while the daemon stands still.
    let received = full.accept_and_count();
    rig.leases_over().await;
    wait_until("connects that are through", LIMIT, async || full.hanging_connects() == 0).await.unwrap();
    daemon.thaw();
    daemon.logged("complete.fenced", 2 * EACH).await;
    daemon.kill();
    assert_eq!(received.bytes(), 0, "the rail got bytes under a lease that had run out");
    pause(&rig, false).await;
    full.becomes(&rig.resend);
    ends_as_the_contracts_say_at(&rig, &full.settings()).await;
}

/// A lease that leaves half a second between the claim and the first byte.
async fn hurry(rig: &Rig, rail_timeout_ms: u32, lease_ms: u32) {
    for rail in RAILS {
        let text = format!("p_rail_timeout_ms => {rail_timeout_ms}, p_lease_duration_ms => {lease_ms}");
        rig.contract(rail, &text).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_reply_came_too_late_is_given_back_unsent() {
    let rig = Rig::start().await;
    hurry(&rig, 1_000, 4_600).await;
    enqueue_both(&rig).await;
    let claims = [rig.proxy.intercept("claim_outbox_batch"), rig.proxy.intercept("claim_outbox_batch")];
    let patient = ["database.call_timeout=3s", "dispatcher.completion_budget=3100ms"];
    let daemon = rig.daemon_with("a", rig.proxy.address(), &patient);
    for claim in &claims {
        claim.reached(LIMIT).await.unwrap();
    }
    rig.until(
        "the time by which a send had to begin",
        "select clock_timestamp() > max(claimed_at) + interval '600 ms' from outbox.payment_outbox_pending",
    )
    .await;
    for claim in &claims {
        claim.release();
    }
    rig.settled().await;
    rig.all_dispatched().await;
    for rail in RAILS {
        assert_eq!(rig.count(rail, "RELEASED").await, EACH as i64, "{rail}");
        assert_eq!(rig.sim(rail).stats().requests, EACH as u64, "{rail}");
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_that_took_longer_than_the_lease_leaves_is_not_sent_on() {
    let rig = Rig::start().await;
    hurry(&rig, 2_500, 4_600).await;
    enqueue_both(&rig).await;
    let full = FullRail::new().await;
    let timeouts = RAILS.map(|rail| format!("rails.{rail}.timeout=2500ms"));
    let settings = full.settings().into_iter().chain(timeouts).collect::<Vec<_>>();
    let mut daemon = rig.daemon_with("a", rig.proxy.address(), &settings);
    wait_until("connects that hang", LIMIT, async || full.hanging_connects() == 2 * EACH).await.unwrap();
    // What is given back is not claimed again.
    pause(&rig, true).await;
    // The kernel tries again a second after it began. The lease is renewed by then, which gives no more time.
    let received = full.accept_and_count();
    daemon.logged("send.withheld", 2 * EACH).await;
    let released =
        format!("select count(*) = {} from outbox.payment_outbox_attempts where state = 'RELEASED'", 2 * EACH);
    rig.until("leases that were given back", &released).await;
    assert_eq!(received.bytes(), 0, "the rail got bytes that might have outlasted the lease");
    daemon.kill();
    rig.conserved().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_that_comes_after_the_lease_is_kept_and_stops_any_resend() {
    let rig = Rig::start().await;
    enqueue_both(&rig).await;
    for rail in RAILS {
        rig.sim(rail).park(Point::AfterExecution);
    }
    let mut daemon = rig.daemon_with("a", rig.proxy.address(), &[NO_MAINTENANCE]);
    for rail in RAILS {
        parked(rig.sim(rail), Point::AfterExecution, EACH).await;
    }
    daemon.freeze().await;
    // Until the success is there nobody takes over: which of the two comes first is not the question here.
    pause(&rig, true).await;
    for rail in RAILS {
        rig.sim(rail).release();
        tokio::time::timeout(LIMIT, rig.sim(rail).wait_for_answers(EACH as u64)).await.unwrap();
    }
    rig.leases_over().await;
    daemon.thaw();
    daemon.logged("complete.fenced", 2 * EACH).await;
    pause(&rig, false).await;
    rig.settled().await;
    rig.conserved().await;
    for rail in RAILS {
        assert_eq!(rig.held(rail).await, [format!("LATE_SUCCESS {EACH}")], "{rail}");
        assert_eq!(rig.sim(rail).stats().requests, EACH as u64, "{rail}: sent again");
        let effects = rig.sim(rail).effects().unwrap();
        let kept = rig.rows("select outbox_id::text, rail_reference from outbox.payment_outbox_late_outcomes").await;
        for effect in effects {
            let known = kept.iter().any(|row| {
                (row.get::<&str, _>(0), row.get::<Option<&str>, _>(1)) == (&effect.key, Some(&effect.reference))
            });
            assert!(known, "{rail}: the reference of {} is lost", effect.key);
        }
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_that_comes_after_another_daemon_took_over_is_kept() {
    let rig = Rig::start().await;
    enqueue_both(&rig).await;
    for rail in RAILS {
        rig.sim(rail).park(Point::AfterExecution);
    }
    let mut daemon = rig.daemon("a");
    for rail in RAILS {
        parked(rig.sim(rail), Point::AfterExecution, EACH).await;
    }
    daemon.freeze().await;
    for rail in RAILS {
        rig.sim(rail).release();
    }
    ends_as_the_contracts_say(&rig).await;
    daemon.thaw();
    daemon.logged("complete.fenced", 2 * EACH).await;
    rig.conserved().await;
    let kept: i64 = rig
        .value("select count(*) from outbox.payment_outbox_late_outcomes where outcome = 'ACCEPTED' and rail_reference <> ''")
        .await;
    assert_eq!((kept, rig.hold.stats().requests), (2 * EACH as i64, EACH as u64));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_share_a_queue_and_a_third_goes_on_for_the_one_that_is_killed() {
    let rig = Rig::start().await;
    for rail in RAILS {
        rig.enqueue(rail, 1_000).await;
    }
    let (mut first, second) = (rig.daemon("a"), rig.daemon("b"));
    for daemon in [&first, &second] {
        daemon.logged("complete.applied", 50).await;
    }
    first.kill();
    let third = rig.daemon("c");
    rig.settled().await;
    rig.conserved().await;
    // Only what the killed one had in flight is in doubt: the others lost nothing.
    assert!(!second.events("complete.applied").is_empty() && !third.events("complete.applied").is_empty());
    let lost_by_others: i64 = rig
        .value(
            "select count(*) from outbox.payment_outbox_attempts where state = 'LEASE_EXPIRED' and worker_id not like 'a/%'",
        )
        .await;
    assert_eq!(lost_by_others, 0);
    assert_eq!(rig.count(RESEND, "DISPATCHED").await, 1_000);
    let doubts = rig.count(HOLD, "LEASE_EXPIRED").await + rig.timed_out(HOLD).await;
    assert_eq!(rig.count(HOLD, "DISPATCHED").await + doubts, 1_000);
    for daemon in [second, third] {
        daemon.stop().await;
    }
}

async fn pause(rig: &Rig, paused: bool) {
    for rail in RAILS {
        rig.run(&format!("update outbox.payment_rails set paused = {paused} where rail = '{rail}'")).await;
    }
}
