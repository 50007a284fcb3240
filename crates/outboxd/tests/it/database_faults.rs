//! The database dies, loses sessions, does not answer, has no connection to spare, or shows a wrong time.
//! The daemon goes on when it can; nothing is lost or sent twice meanwhile.

use std::process::Command;
use std::time::{Duration, Instant};

use outbox_testkit::{PgServer, PgVersion, ServerClock, ServerSettings, wait_until};
use rail_sim::Point;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::launch::says;
use crate::rig::{HOLD, LEASE_MS, LIMIT, RAILS, RECOVERY_MS, RESEND, Rig, standing_still};

fn server(settings: &ServerSettings) -> PgServer {
    PgServer::start_with(PgVersion::from_environment().unwrap(), settings).unwrap()
}

async fn enqueue_both(rig: &Rig, count: usize) {
    for rail in RAILS {
        rig.enqueue(rail, count).await;
    }
}

/// Everything ended as the contracts say: what was leased when the database went may be in doubt, and on
/// the rail that must not be asked again that is held. A success that came after its lease is held too.
async fn nothing_but_lost_leases_is_held(rig: &Rig, count: i64) {
    rig.settled().await;
    rig.conserved().await;
    for rail in RAILS {
        let held = count - rig.count(rail, "DISPATCHED").await;
        let doubts = rig.count(rail, "LEASE_EXPIRED").await + rig.timed_out(rail).await;
        assert!(held <= doubts, "{rail}: {:?}", rig.held(rail).await);
    }
    let reasons = rig.held(RESEND).await;
    assert!(reasons.iter().all(|reason| reason.starts_with("LATE_SUCCESS ")), "{reasons:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_under_load_and_comes_back_has_lost_no_payment() {
    let mut rig = Rig::start_on(server(&ServerSettings::default())).await;
    enqueue_both(&rig, 400).await;
    let daemon = rig.daemon("a");
    daemon.logged("complete.applied", 100).await;
    rig.server.as_mut().unwrap().stop_immediate().unwrap();
    daemon.becomes_ready(false).await;
    rig.server.as_mut().unwrap().restart().unwrap();
    nothing_but_lost_leases_is_held(&rig, 400).await;
    daemon.becomes_ready(true).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_whose_sessions_are_ended_again_and_again_goes_on_each_time() {
    let rig = Rig::start().await;
    enqueue_both(&rig, 1_000).await;
    let daemon = rig.daemon("a");
    for round in 1..=12 {
        // Each time in the middle of its work: it has recorded more than before.
        daemon.logged("complete.applied", round * 40).await;
        rig.run(
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where usename = 't_dispatcher' and datname = current_database()",
        )
        .await;
    }
    nothing_but_lost_leases_is_held(&rig, 1_000).await;
    daemon.becomes_ready(true).await;
    daemon.stop().await;
}

/// A call whose last message is in the black hole has run, is not committed, and keeps its rows locked: nobody
/// finds their leases, lost or not. None of the server's limits ends it, but keepalives do, 11 s after the route
/// was lost, so that the bound is max(lease, 11 s) + 2 s. Over a socket of this machine there are none: the
/// test ends the calls at once, and what it can show is the rest of the bound, from there on.
async fn end_half_sent_calls(rig: &Rig) {
    let sql = "select count(*) = 0 from (select case when wait_event = 'ClientRead' then pg_terminate_backend(pid) end \
               from pg_stat_activity where usename = 't_dispatcher' and datname = current_database() \
               and state = 'active') as half_sent";
    rig.until("calls that are over", sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_half_open_connection_took_along_is_found_soon_once_the_server_gives_it_up_and_not_sent_twice() {
    let rig = Rig::start().await;
    enqueue_both(&rig, 300).await;
    let cut_off = rig.daemon("a");
    cut_off.logged("complete.applied", 40).await;
    rig.proxy.black_hole();
    end_half_sent_calls(&rig).await;
    let other = rig.daemon_with("b", rig.db.address(), &[] as &[&str]);
    nothing_but_lost_leases_is_held(&rig, 300).await;
    let late: i64 = rig
        .value(&format!(
            "select count(*) from outbox.payment_outbox_attempts where state = 'LEASE_EXPIRED' \
             and completed_at > claimed_at + interval '{} ms'",
            LEASE_MS + RECOVERY_MS
        ))
        .await;
    assert_eq!(late, 0, "lost leases lay about");
    assert!(rig.count(RESEND, "LEASE_EXPIRED").await > 0, "nothing was in flight");
    rig.proxy.forward();
    // What the first learned comes late, and is evidence.
    cut_off.becomes_ready(true).await;
    cut_off.stop().await;
    rig.conserved().await;
    other.stop().await;
}

/// A server process that stands still, until this is dropped.
struct Frozen(i32);

impl Frozen {
    async fn new(pid: i32) -> Self {
        signal("-STOP", pid);
        let frozen = Self(pid);
        standing_still(pid.unsigned_abs()).await;
        frozen
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        signal("-CONT", self.0);
    }
}

fn signal(signal: &str, pid: i32) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

/// Waits until `count` lanes are asleep, by the locks that say so; returns the listeners' processes.
async fn asleep(rig: &Rig, count: usize) -> Vec<i32> {
    let locks = "from pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock' and granted \
                 and database = (select oid from pg_database where datname = current_database())";
    rig.until("sleeping lanes", &format!("select count(*) = {count} {locks}")).await;
    rig.rows(&format!("select distinct pid {locks}")).await.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_hears_nothing_delays_a_payment_by_no_more_than_a_poll() {
    let rig = Rig::start().await;
    let daemon = rig.daemon("a");
    let listeners = asleep(&rig, 2).await;
    let frozen = Frozen::new(listeners[0]).await;
    enqueue_both(&rig, 1).await;
    assert!(daemon.events("listener.lost").is_empty(), "the daemon knew");
    rig.settled().await;
    rig.all_dispatched().await;
    let delay: i32 = rig
        .value(
            "select max(extract(epoch from a.completed_at - n.created_at) * 1000)::integer \
             from outbox.payment_outbox_attempts a join outbox.payment_outbox_instructions n using (outbox_id)",
        )
        .await;
    assert!(delay <= 1_500, "delivered after {delay} ms");
    // It is found out, and replaced while the old one still hangs.
    daemon.logged("listener.lost", 1).await;
    daemon.logged("listener.connected", 2).await;
    drop(frozen);
    let gone = format!("select not exists (select from pg_stat_activity where pid = {})", listeners[0]);
    rig.until("the end of the old listener", &gone).await;
    // So is one that nobody asks for anything: both lanes sleep, and only the probe speaks.
    let frozen = Frozen::new(asleep(&rig, 2).await[0]).await;
    daemon.logged("listener.lost", 2).await;
    daemon.logged("listener.connected", 3).await;
    drop(frozen);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_idle_daemons_on_the_same_rails_ask_little_of_the_database() {
    let rig = Rig::start().await;
    let daemons = [rig.daemon("a"), rig.daemon("b")];
    for daemon in &daemons {
        daemon.logged("lane.on", 2).await;
    }
    asleep(&rig, 2).await;
    let calls = "select (xact_commit + xact_rollback)::bigint from pg_stat_database where datname = current_database()";
    let before: i64 = rig.value(calls).await;
    let began = Instant::now();
    wait_until("a window to count in", LIMIT, async || began.elapsed() > Duration::from_secs(4)).await.unwrap();
    let asked = rig.value::<i64>(calls).await - before;
    // Each second, for each of two daemons: two polls of two lanes, as many wishes to sleep, two calls of a
    // heartbeat, a probe.
    assert!(asked < 200, "{asked} transactions in {:?}", began.elapsed());
    for daemon in daemons {
        daemon.stop().await;
    }
}

/// What `/readyz` says of a lane that is off.
const HOLD_IS_OFF: &str = r#""subject":"rail hold""#;

async fn delete_contract(rig: &Rig, rail: &str) {
    rig.run(&format!("delete from outbox.payment_rails where rail = '{rail}'")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_goes_off_while_its_claims_fail_leaves_the_daemon_ready_for_the_others() {
    let rig = Rig::start().await;
    let daemon = rig.daemon("a");
    daemon.becomes_ready(true).await;
    rig.proxy.refuse();
    rig.proxy.cut_all();
    says(&daemon, "claims of rail hold").await;
    delete_contract(&rig, HOLD).await;
    rig.proxy.forward();
    says(&daemon, HOLD_IS_OFF).await;
    daemon.becomes_ready(true).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_goes_off_while_the_clock_is_wrong_leaves_the_daemon_ready_for_the_others() {
    let clock = ServerClock::new().unwrap();
    let rig = Rig::start_on(server(&ServerSettings { clock: Some(clock.clone()), ..ServerSettings::default() })).await;
    let daemon = rig.daemon("a");
    asleep(&rig, 2).await;
    daemon.becomes_ready(true).await;
    clock.move_to(20).unwrap();
    says(&daemon, "database clock of rail hold").await;
    delete_contract(&rig, HOLD).await;
    daemon.logged("lane.off", 1).await;
    clock.move_to(0).unwrap();
    daemon.becomes_ready(true).await;
    says(&daemon, HOLD_IS_OFF).await;
    daemon.stop().await;
}

/// Takes every connection that the server still gives to ordinary logins.
async fn hoard(rig: &Rig, hoarded: &mut Vec<PgConnection>) {
    wait_until("the last connection", LIMIT, async || match rig.db.connect_as("t_monitor").await {
        Ok(connection) => {
            hoarded.push(connection);
            false
        }
        Err(_) => true,
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_connection_to_spare_claims_wait_and_results_are_recorded() {
    let few = ServerSettings { configuration: vec!["max_connections = 20".to_owned()], ..ServerSettings::default() };
    let rig = Rig::start_on(server(&few)).await;
    for rail in RAILS {
        rig.contract(rail, "p_rail_timeout_ms => 10000, p_lease_duration_ms => 13000").await;
        rig.sim(rail).park(Point::AfterExecution);
    }
    enqueue_both(&rig, 6).await;
    let settings = RAILS.map(|rail| [format!("rails.{rail}.timeout=10s"), format!("rails.{rail}.concurrency=4")]);
    let daemon = rig.daemon_with("a", rig.proxy.address(), &settings.concat());
    for rail in RAILS {
        tokio::time::timeout(LIMIT, rig.sim(rail).wait_for_parked(Point::AfterExecution, 4)).await.unwrap();
    }
    let mut hoarded = Vec::new();
    hoard(&rig, &mut hoarded).await;
    // The lanes lose theirs and find none; the completer has its own, though it has not needed it yet.
    rig.run(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = 't_dispatcher' \
         and datname = current_database() and query like '%claim_outbox_batch%'",
    )
    .await;
    hoard(&rig, &mut hoarded).await;
    for rail in RAILS {
        rig.sim(rail).release();
    }
    daemon.logged("claim.failed", 4).await;
    daemon.logged("complete.applied", 8).await;
    for rail in RAILS {
        assert_eq!(rig.count(rail, "DISPATCHED").await, 4, "{rail}: more than was in flight, or less");
    }
    drop(hoarded);
    rig.settled().await;
    rig.all_dispatched().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_databases_clock_is_wrong_nothing_is_sent() {
    let clock = ServerClock::new().unwrap();
    let rig = Rig::start_on(server(&ServerSettings { clock: Some(clock.clone()), ..ServerSettings::default() })).await;
    let daemon = rig.daemon("a");
    asleep(&rig, 2).await;
    for (round, offset_s) in [(1, -60), (2, 20)] {
        daemon.becomes_ready(true).await;
        for rail in RAILS {
            rig.contract(rail, "p_paused => true").await;
        }
        enqueue_both(&rig, 2).await;
        clock.move_to(offset_s).unwrap();
        if offset_s < 0 {
            rig.run(&format!(
                "update outbox.payment_outbox_pending set next_attempt_at = next_attempt_at + interval '{offset_s} s'"
            ))
            .await;
        }
        for rail in RAILS {
            rig.contract(rail, "p_paused => false").await;
        }
        daemon.logged("clock.fault", 2 * round).await;
        daemon.becomes_ready(false).await;
        rig.until("leases given back", "select bool_and(lease_token is null) from outbox.payment_outbox_pending").await;
        let sent = (rig.resend.stats().requests, rig.hold.stats().requests);
        let before = 2 * (round as u64 - 1);
        assert_eq!(sent, (before, before), "sent by a clock that is {offset_s} s off");
        clock.move_to(0).unwrap();
        rig.settled().await;
        rig.all_dispatched().await;
    }
    // It looks at the clock, and does not claim and give back for as long as that is wrong.
    let released = rig.count(RESEND, "RELEASED").await + rig.count(HOLD, "RELEASED").await;
    assert!(released <= 2 * 2 * 2, "{released} attempts of nothing");
    daemon.becomes_ready(true).await;
    daemon.stop().await;
}

/// A clock that was ahead, by less than is noticed, and is set right never is again where it would have been.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_put_back_for_good_holds_up_claims_until_its_old_time_is_past_and_no_longer() {
    let clock = ServerClock::new().unwrap();
    clock.move_to(4).unwrap();
    let rig = Rig::start_on(server(&ServerSettings { clock: Some(clock.clone()), ..ServerSettings::default() })).await;
    let daemon = rig.daemon("a");
    enqueue_both(&rig, 2).await;
    rig.settled().await;
    clock.move_to(0).unwrap();
    daemon.logged("clock.fault", 2).await;
    enqueue_both(&rig, 2).await;
    rig.settled().await;
    rig.all_dispatched().await;
    daemon.becomes_ready(true).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_too_slow_for_a_whole_batch_of_results_gets_smaller_ones() {
    const COUNT: usize = 160;
    let rig = Rig::start().await;
    // A result takes 20 ms to record: 160 of them are far beyond the statement timeout of 1.2 s, always.
    rig.run(
        "create function public.slow() returns trigger language plpgsql as 'begin perform pg_sleep(0.02); return new; end'; \
         create trigger slow before insert on outbox.payment_outbox_attempts for each row execute function public.slow()",
    )
    .await;
    rig.contract(HOLD, "p_rail_timeout_ms => 10000, p_lease_duration_ms => 40000").await;
    rig.hold.park(Point::AfterExecution);
    rig.enqueue(HOLD, COUNT).await;
    let settings = [format!("rails.{HOLD}.timeout=10s"), format!("rails.{HOLD}.concurrency={COUNT}")];
    let daemon = rig.daemon_with("a", rig.proxy.address(), &settings);
    tokio::time::timeout(LIMIT, rig.hold.wait_for_parked(Point::AfterExecution, COUNT as u64)).await.unwrap();
    rig.hold.release();
    daemon.logged("complete.failed", 1).await;
    rig.settled().await;
    rig.all_dispatched().await;
    assert_eq!(rig.count(HOLD, "LEASE_EXPIRED").await, 0);
    daemon.stop().await;
}
