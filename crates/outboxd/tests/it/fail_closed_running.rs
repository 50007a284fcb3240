//! What a daemon does that was in order when it started: it stops claiming, keeps what it learned, says
//! why it is not ready, and goes on by itself, unless an invariant or the schema ends it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use outbox_testkit::{PgServer, PgVersion, wait_until};
use rail_sim::Point;

use crate::deaf_rail::FullRail;
use crate::fail_closed::api_range;
use crate::launch::{Launch, Notices, contract, cut_sessions, cut_until_it_says, database, run_beside, says};
use crate::rig::{Daemon, HOLD, LIMIT, RAILS, RESEND, Rig};

const INVARIANT_BROKEN: i32 = 70;
const WRONG_SCHEMA: i32 = 76;

fn own_server() -> PgServer {
    PgServer::start(PgVersion::from_environment().unwrap()).unwrap()
}

/// A daemon with a payment at each of `rails` that is executed and not answered yet, and time for it.
async fn with_sends_under_way(rig: &Rig, rails: &[&str]) -> Daemon {
    for rail in RAILS {
        let times = "p_rail_timeout_ms => 30000, p_lease_duration_ms => 60000";
        rig.contract(rail, &format!("null, {times}")).await;
    }
    for rail in rails {
        rig.sim(rail).park(Point::AfterExecution);
        rig.enqueue(rail, 1).await;
    }
    let daemon = rig.daemon_with("a", rig.proxy.address(), &["rails.hold.timeout=30s", "rails.resend.timeout=30s"]);
    for rail in rails {
        rig.sim(rail).wait_for_parked(Point::AfterExecution, 1).await;
    }
    daemon
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_no_longer_serves_this_version_is_completed_on_and_ends_with_76() {
    for cut in [true, false] {
        let rig = Rig::start().await;
        let mut daemon = with_sends_under_way(&rig, &[RESEND, HOLD]).await;
        rig.run(&api_range(2, 3)).await;
        if cut {
            cut_sessions(&rig.db).await;
        }
        daemon.logged("daemon.stopping", 1).await;
        // Nothing more is claimed, and what the rail answers is recorded.
        rig.enqueue(RESEND, 1).await;
        rig.resend.release();
        rig.hold.release();
        assert_eq!(daemon.ended().await, Some(WRONG_SCHEMA), "{}", daemon.child.log());
        assert!(daemon.child.log().contains("the schema serves interface versions 2 to 3"), "{}", daemon.child.log());
        assert_eq!((rig.count(RESEND, "DISPATCHED").await, rig.count(HOLD, "DISPATCHED").await), (1, 1));
        assert_eq!((rig.resend.stats().requests, rig.hold.stats().requests), (1, 1));
        rig.conserved().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_password_is_taken_up_without_a_restart() {
    let server = own_server();
    let rig = Rig::start_on(server).await;
    rig.run("alter role t_dispatcher password 'first'").await;
    let hba = "local all t_dispatcher scram-sha-256\nlocal all all trust\n";
    rig.server.as_ref().unwrap().set_hba(hba).unwrap();
    let (path, no_claim) = (rig.dir.path().join("password"), "\"subject\":\"claims of rail resend\"");
    let write = |text: &str, mode: u32| {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    write("first\n", 0o600);
    let setting = format!("database.password_file={}", path.display());
    let mut daemon = rig.daemon_with("a", rig.db.address(), &[&setting]);
    daemon.becomes_ready(true).await;

    rig.run("alter role t_dispatcher password 'second'").await;
    cut_until_it_says(&rig.db, &daemon, no_claim).await;
    rig.enqueue(RESEND, 3).await;
    says(&daemon, "the database refused the login").await;
    let failed = daemon.events("claim.failed").len();
    daemon.logged("claim.failed", failed + 4).await;
    assert!(daemon.child.is_running().unwrap(), "{}", daemon.child.log());
    write("second\n", 0o600);
    daemon.becomes_ready(true).await;
    rig.settled().await;

    // A file that everybody can read is refused at a connect as it is at the start.
    for (text, mode) in [("second", 0o644), ("second\nthird", 0o600)] {
        write(text, mode);
        cut_until_it_says(&rig.db, &daemon, no_claim).await;
        says(&daemon, "a credential for the database cannot be used").await;
        write("second", 0o600);
        daemon.becomes_ready(true).await;
    }
    assert!(!daemon.child.log().contains("second") && !daemon.child.log().contains("third"));
    rig.enqueue(HOLD, 3).await;
    rig.settled().await;
    rig.all_dispatched().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_becomes_read_only_is_not_claimed_from_and_gets_its_results_later() {
    let rig = Rig::start().await;
    let daemon = with_sends_under_way(&rig, &[RESEND]).await;
    daemon.becomes_ready(true).await;
    let name = rig.db.name();
    run_beside(&rig.db, &format!("alter database {name} set default_transaction_read_only = on")).await;
    cut_until_it_says(&rig.db, &daemon, "\"subject\":\"claims of rail hold\"").await;
    says(&daemon, "the database is read-only").await;
    rig.resend.release();
    daemon.logged("complete.failed", 2).await;
    run_beside(&rig.db, &format!("alter database {name} reset default_transaction_read_only")).await;
    cut_sessions(&rig.db).await;
    daemon.becomes_ready(true).await;
    rig.enqueue(HOLD, 1).await;
    rig.settled().await;
    rig.all_dispatched().await;
    assert_eq!(rig.resend.stats().requests, 1, "a result was forgotten");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn durability_that_is_turned_off_stops_claims_within_a_heartbeat() {
    let rig = Rig::start().await;
    let daemon = rig.daemon("a");
    daemon.becomes_ready(true).await;
    let (name, role) = (rig.db.name(), "alter role t_dispatcher in database");
    run_beside(&rig.db, &format!("{role} {name} set synchronous_commit = off")).await;
    let no_claim = "\"subject\":\"claims of rail resend\"";
    cut_until_it_says(&rig.db, &daemon, no_claim).await;
    says(&daemon, "synchronous_commit = off").await;
    rig.enqueue(RESEND, 1).await;
    let failed = daemon.events("claim.failed").len();
    daemon.logged("claim.failed", failed + 4).await;
    assert_eq!(rig.resend.stats().requests, 0);
    run_beside(&rig.db, &format!("{role} {name} reset synchronous_commit")).await;
    daemon.becomes_ready(true).await;
    rig.settled().await;
    rig.all_dispatched().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_given_too_much_stops_claims_on_open_connections() {
    let rig = Rig::start().await;
    let daemon = rig.daemon("a");
    // Each lane has claimed, so each has its connection.
    for rail in RAILS {
        rig.enqueue(rail, 1).await;
    }
    rig.settled().await;
    rig.run("grant select on outbox.payment_outbox_attempts to t_dispatcher").await;
    says(&daemon, "has privileges on the table outbox.payment_outbox_attempts").await;
    rig.run("revoke all on outbox.payment_outbox_attempts from t_dispatcher").await;
    daemon.becomes_ready(true).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_claimed_while_results_cannot_be_recorded() {
    let rig = Rig::start().await;
    let daemon = with_sends_under_way(&rig, &[RESEND]).await;
    let grant = "on function outbox.complete_outbox_batch";
    rig.run(&format!("revoke execute {grant} from outbox_dispatcher")).await;
    rig.resend.release();
    daemon.logged("complete.failed", 1).await;
    says(&daemon, "\"subject\":\"completions\"").await;
    // With a hint, past polls of both lanes, and while the other rail is in order.
    rig.enqueue(RESEND, 3).await;
    rig.enqueue(HOLD, 3).await;
    daemon.logged("complete.failed", 6).await;
    assert_eq!((rig.resend.stats().requests, rig.hold.stats().requests), (1, 0));
    rig.run(&format!("grant execute {grant} to outbox_dispatcher")).await;
    rig.settled().await;
    daemon.becomes_ready(true).await;
    rig.all_dispatched().await;
    daemon.stop().await;
}

/// A claim that answers with what it must never answer.
fn claim_that(body: &str) -> String {
    format!(
        "create or replace function outbox.claim_outbox_batch(p_rail text, p_worker_id text, p_limit integer, p_min_lease_ms bigint, \
         p_in_flight integer, p_after_at timestamptz default null, p_after_id uuid default null, p_environment text default null, \
         p_endpoint text default null, p_seen_epoch_us bigint default 0, p_seen_log_position bigint default 0, p_memory_id uuid default null, \
         p_seen_beat bigint default 0, p_policy_version integer default null) returns table (kind text, outbox_id uuid, attempt_no integer, lease_token uuid, lease_ms bigint, \
         due_at timestamptz, participant_id text, endpoint text, payload bytea, content_type text, traceparent text, \
         not_after timestamptz, crash_count integer, is_resend boolean, hold_reason text, db_now timestamptz, \
         next_due_at timestamptz, held_count integer, expired_count integer, suspect_count integer, parked_count integer, \
         paused boolean, log_position bigint, epoch_us bigint) \
         language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$ begin {body} end $$"
    )
}

/// A row of a claim's reply.
fn claimed(kind: &str, id: &str) -> String {
    format!(
        "select '{kind}'::text, {id}, 1, gen_random_uuid(), 60000::bigint, clock_timestamp(), 'p'::text, null::text, 'x'::bytea, \
         'text/plain'::text, null::text, null::timestamptz, 0, false, null::text, clock_timestamp(), null::timestamptz, 0, 0, 0, 0, \
         false, 1::bigint, 0::bigint"
    )
}

/// A claim that makes a daemon panic.
pub(crate) fn claim_that_grants_twice() -> String {
    claim_that(&format!(
        "return query {0}; return query {0}; return query {1};",
        claimed("SUBMIT", "'018f0000-0000-7000-8000-000000000001'::uuid"),
        claimed("SUMMARY", "null::uuid")
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_breaks_its_promise_ends_with_70_and_nothing_of_it_is_sent() {
    let rig = Rig::start().await;
    let more = format!(
        "return query {} from generate_series(0, p_limit); return query {};",
        claimed("SUBMIT", "gen_random_uuid()"),
        claimed("SUMMARY", "null::uuid")
    );
    for (claim, words) in [
        (claim_that(&more), "and got"),
        (claim_that_grants_twice(), "daemon.panicked"),
        (
            claim_that("raise exception 'claim of 1 payments locked 2' using errcode = 'OB008';"),
            "claim of 1 payments locked 2",
        ),
        (claim_that("return;"), "the reply has no summary"),
    ] {
        rig.run(&claim).await;
        let mut daemon = rig.daemon("a");
        assert_eq!(daemon.ended().await, Some(INVARIANT_BROKEN), "{}", daemon.child.log());
        assert!(daemon.child.log().contains(words), "{words}\n{}", daemon.child.log());
    }
    assert_eq!((rig.resend.stats().requests, rig.hold.stats().requests), (0, 0));
}

/// Leaves no room in the history for what the payment of `rail` comes to.
async fn take_the_place_of_the_result(rig: &Rig, rail: &str) {
    rig.run(&format!(
        "insert into outbox.payment_outbox_attempts (outbox_id, attempt_no, rail, kind, state, outcome, worker_id, lease_token, claimed_at, completed_at) \
         select outbox_id, 7, rail, 'SUBMIT', 'FAILED', 'REFUSED', 'nobody', gen_random_uuid(), now(), now() \
           from outbox.payment_outbox_pending where rail = '{rail}'"
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn result_that_the_ledger_does_not_take_ends_with_70_and_keeps_no_other_from_being_recorded() {
    let rig = Rig::start().await;
    // Each result is recorded alone, so that one waits behind the other.
    let alone = ["dispatcher.completion_batch_size=1", "rails.hold.timeout=30s", "rails.resend.timeout=30s"];
    for rail in RAILS {
        rig.contract(rail, "null, p_rail_timeout_ms => 30000, p_lease_duration_ms => 60000").await;
    }
    for rail in [RESEND, HOLD] {
        rig.sim(rail).park(Point::AfterExecution);
        rig.enqueue(rail, 1).await;
    }
    let mut daemon = rig.daemon_with("a", rig.proxy.address(), &alone);
    for rail in [RESEND, HOLD] {
        rig.sim(rail).wait_for_parked(Point::AfterExecution, 1).await;
    }
    take_the_place_of_the_result(&rig, RESEND).await;
    rig.resend.release();
    daemon.logged("complete.failed", 1).await;
    rig.hold.release();
    assert_eq!(daemon.ended().await, Some(INVARIANT_BROKEN), "{}", daemon.child.log());
    assert_eq!(rig.count(HOLD, "DISPATCHED").await, 1, "{}", daemon.child.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn result_that_the_ledger_does_not_take_keeps_nothing_of_its_batch_from_being_given_back() {
    let rig = Rig::start().await;
    for rail in RAILS {
        rig.contract(rail, "null, p_rail_timeout_ms => 30000, p_lease_duration_ms => 60000").await;
        rig.enqueue(rail, 1).await;
    }
    rig.hold.park(Point::AfterExecution);
    let full = FullRail::new().await;
    let [deaf, _] = full.settings();
    // Long enough for the result and what was not sent to be in one batch.
    let together = [
        deaf.as_str(),
        "dispatcher.completion_flush_interval=2s",
        "dispatcher.completion_budget=5s",
        "rails.resend.timeout=30s",
        "rails.hold.timeout=30s",
    ];
    let mut daemon = rig.daemon_with("a", rig.proxy.address(), &together);
    wait_until("a connect that hangs", LIMIT, async || full.hanging_connects() == 1).await.unwrap();
    rig.sim(HOLD).wait_for_parked(Point::AfterExecution, 1).await;
    take_the_place_of_the_result(&rig, HOLD).await;
    daemon.terminate();
    daemon.logged("daemon.stopping", 1).await;
    rig.hold.release();
    assert_eq!(daemon.ended().await, Some(INVARIANT_BROKEN), "{}", daemon.child.log());
    assert_eq!(rig.count(RESEND, "RELEASED").await, 1, "{}", daemon.child.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn loops_tick_and_the_watchdog_is_fed_while_the_database_is_frozen() {
    let server = own_server();
    let db = outbox_testkit::TestDb::create_on(server.address()).await.unwrap();
    contract(&db).await;
    let (mut notices, launch) = Notices::of(Launch::on(&db).environment("WATCHDOG_USEC", "200000"));
    let daemon = launch.start();
    daemon.becomes_ready(true).await;
    server.sigstop().unwrap();
    daemon.becomes_ready(false).await;
    notices.told("WATCHDOG=1", 1).await;
    let fed = notices.heard("WATCHDOG=1");
    daemon.logged("claim.failed", 2).await;
    notices.told("WATCHDOG=1", fed + 10).await;
    assert_eq!(daemon.events("watchdog.withheld"), Vec::<serde_json::Value>::new());
    server.sigcont().unwrap();
    daemon.becomes_ready(true).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_manager_that_reads_nothing_holds_up_neither_health_nor_the_end() {
    let db = database().await;
    // Fed a hundred times a second, its queue of a few notices is full long before the third heartbeat.
    let (mut notices, launch) = Notices::of(Launch::on(&db).environment("WATCHDOG_USEC", "20000"));
    let daemon = launch.start();
    daemon.becomes_ready(true).await;
    let beats = "select max(heartbeat_at - started_at) >= interval '1500 ms' from outbox.outbox_dispatchers";
    let mut dba = db.connect_as("postgres").await.unwrap();
    let third = async || sqlx::query_scalar::<_, Option<bool>>(beats).fetch_one(&mut dba).await.unwrap() == Some(true);
    wait_until("heartbeats", LIMIT, third).await.unwrap();
    daemon.becomes_ready(true).await;
    daemon.stop().await;
    notices.told("WATCHDOG=1", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_refused_while_running_is_no_reason_to_end() {
    let db = database().await;
    let launch = Launch::on(&db);
    let daemon = launch.start();
    daemon.becomes_ready(true).await;
    let name = db.name();
    run_beside(&db, &format!("revoke connect on database {name} from public")).await;
    cut_until_it_says(&db, &daemon, "\"subject\":\"claims of rail wire\"").await;
    says(&daemon, "permission denied for database").await;
    daemon.logged("claim.failed", 4).await;
    daemon.logged("listener.lost", 2).await;
    run_beside(&db, &format!("grant connect on database {name} to public")).await;
    daemon.becomes_ready(true).await;
    daemon.stop().await;
}
