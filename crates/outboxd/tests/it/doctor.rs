//! `outboxd doctor`: a healthy dispatcher has no fault, and each thing that keeps it from paying is named by itself.

use outbox_testkit::{Certs, PgAddress, TestDb, wait_until};
use rail_sim::{Sim, SimConfig, TlsFiles};
use serde_json::{Value, json};
use sqlx::Row as _;
use tempfile::TempDir;

use crate::commands_binary::{Ended, end, text};
use crate::end_to_end::{der_sha256, tls_sim};
use crate::launch::{Launch, RAIL, contract, database, run_on};
use crate::policy::put_in_force;
use crate::rig::LIMIT;

const CHECKS: [&str; 15] = [
    "configuration",
    "database",
    "preflight",
    "sessions",
    "clock",
    "epoch",
    "policy",
    "contract",
    "pause",
    "certificate",
    "dispatchers",
    "partitions",
    "queue",
    "endpoint",
    "daemon",
];

/// What was found.
struct Found {
    ended: Ended,
    all: Vec<Value>,
}

impl Found {
    fn by(launch: &Launch) -> Self {
        // It is looked at by the daemon only.
        let command = &mut launch.command("doctor");
        let ended = end(command.env("STATE_DIRECTORY", "/var/lib/outboxd").args(["--output", "json"]), b"");
        let all = serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
        Self { ended, all }
    }

    fn checks(&self, wanted: impl Fn(&Value) -> bool) -> Vec<&str> {
        self.all.iter().filter(|one| wanted(&one["verdict"])).filter_map(|one| one["check"].as_str()).collect()
    }

    /// The only thing that is wrong is `check`, with that verdict, and these words were seen. These databases have no policy, which
    /// is warned of each time.
    #[track_caller]
    fn only(&self, check: &str, verdict: &str, words: &str) {
        let wrong: Vec<&Value> =
            self.all.iter().filter(|one| one["verdict"] == "fault" || one["verdict"] == "warning").collect();
        let wrong: Vec<&Value> =
            wrong.into_iter().filter(|one| check == "policy" || one["check"] != "policy").collect();
        let [one] = &wrong[..] else { panic!("not one: {wrong:#?}") };
        assert_eq!((&one["check"], &one["verdict"]), (&check.into(), &verdict.into()), "{one}");
        assert!(one["seen"].as_str().unwrap().contains(words), "not seen: {words}: {one}");
        assert!(!one["to_do"].as_str().unwrap().is_empty(), "{one}");
        assert_eq!(self.ended.code, Some(i32::from(verdict == "fault")), "{one}");
    }
}

/// A rail, a database with its contract, and a dispatcher that has shown itself there.
struct Clinic {
    db: TestDb,
    rail: Sim,
    _dir: TempDir,
}

impl Clinic {
    async fn open() -> Self {
        Self::on(database().await).await
    }

    async fn on(db: TestDb) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rail = Sim::start(SimConfig::in_dir(dir.path())).await.unwrap();
        beat(&db, "pay-1", RAIL).await;
        Self { db, rail, _dir: dir }
    }

    /// A configuration for the two, of a dispatcher whose health nobody asks.
    fn launch(&self) -> Launch {
        let url = format!("{}/payments", self.rail.url());
        let launch = Launch::on(&self.db).set("rails.wire.url", url).set("health.listen", "off");
        launch.set("dispatcher.environment", "production")
    }
}

/// Shows a dispatcher with that lane, for the environment `production`.
async fn beat(db: &TestDb, worker: &str, lane: &str) {
    let sql = format!(
        "select outbox.dispatcher_heartbeat('{worker}', '1', 1, 'RUNNING', array['{lane}'], 0, 3600000, 'production')"
    );
    run_on(db, &sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_dispatcher_has_no_fault_and_its_rail_hears_no_http() {
    let db = database().await;
    let dir = tempfile::tempdir().unwrap();
    let rail = Sim::start(SimConfig::in_dir(dir.path())).await.unwrap();
    let launch = Launch::on(&db).set("rails.wire.url", format!("{}/payments", rail.url()));
    let daemon = launch.start();
    daemon.becomes_ready(true).await;
    let address = daemon.logged("health.serving", 1).await["address"].as_str().unwrap().to_owned();
    let shown = async || {
        let mut dba = db.connect_as("postgres").await.unwrap();
        let beats = sqlx::query("select count(*) from outbox.outbox_dispatchers").fetch_one(&mut dba).await.unwrap();
        beats.get::<i64, _>(0) == 1
    };
    wait_until("a heartbeat", LIMIT, shown).await.unwrap();
    let launch = launch.set("health.listen", &address);
    let found = Found::by(&launch);
    assert_eq!(found.checks(|_| true), CHECKS);
    assert_eq!(found.checks(|verdict| verdict != "ok"), ["policy"], "{:#?}", found.all);
    assert_eq!((found.ended.code, found.ended.err.as_str()), (Some(0), ""));
    let table = end(launch.command("doctor").env("STATE_DIRECTORY", "/var/lib/outboxd"), b"");
    assert_eq!(table.code, Some(0), "{table:?}");
    let lines: Vec<&str> = table.out.lines().collect();
    assert_eq!((lines.len(), lines.last()), (1 + CHECKS.len() + 1, Some(&"0 faults, 1 warning")), "{}", table.out);
    assert_eq!(rail.stats().requests, 0);
    daemon.stop().await;
    Found::by(&launch.set("health.listen", "off")).only("dispatchers", "fault", "none is running");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_configuration_are_all_told_and_nothing_else_is_looked_at() {
    let clinic = Clinic::open().await;
    let found = Found::by(&clinic.launch().set("dispatcher.poll_mx", "2s").set("rails.wire.timeout", "never"));
    assert_eq!(found.checks(|verdict| verdict == "fault"), ["configuration"; 2]);
    assert_eq!(found.checks(|verdict| verdict == "skipped"), CHECKS[1..]);
    let told = found.ended.out.as_str();
    assert!(told.contains("poll_mx") && told.contains("rails.wire.timeout"), "{told}");
    assert_eq!(found.ended.code, Some(1));
    let launch = clinic.launch();
    let secret = launch.file("password", "canary-91b3", 0o644);
    let launch = launch.set("database.password_file", text(&secret));
    let found = Found::by(&launch);
    found.only("configuration", "fault", "can be read by everybody");
    assert!(!found.ended.out.contains("canary-91b3"));
    let found = Found::by(&launch.set("credentials.allow_world_readable", "true"));
    found.only("configuration", "warning", "allow_world_readable is on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_named_and_the_rail_is_looked_at_all_the_same() {
    let clinic = Clinic::open().await;
    let dir = tempfile::tempdir().unwrap();
    let nowhere = PgAddress::on_socket(dir.path(), 5432);
    let launch = Launch::at(&nowhere, "p").set("health.listen", "off");
    let found = Found::by(&launch.set("rails.wire.url", format!("{}/payments", clinic.rail.url())));
    found.only("database", "fault", "No such file or directory");
    assert_eq!(found.checks(|verdict| verdict == "ok"), ["configuration", "endpoint"]);
    Found::by(&clinic.launch().set("database.name", "elsewhere")).only(
        "database",
        "fault",
        "\"elsewhere\" does not exist",
    );
    run_on(&clinic.db, "alter schema outbox rename to away").await;
    Found::by(&clinic.launch()).only("database", "fault", "does not exist");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_refused_or_may_too_much_is_named() {
    let clinic = Clinic::open().await;
    let found = Found::by(&clinic.launch().set("database.user", "nobody_here"));
    found.only("database", "fault", "as `nobody_here`: the database refused the login");
    let postgres = clinic.launch().set("database.user", "postgres");
    Found::by(&postgres).only("preflight", "fault", "the database login `postgres` is a superuser");
    run_on(&clinic.db, &format!("alter database {} set synchronous_commit = off", clinic.db.name())).await;
    let found = Found::by(&clinic.launch());
    found.only("preflight", "fault", "synchronous_commit = off");
    assert!(found.checks(|verdict| verdict == "skipped").contains(&"sessions"));
    let found = Found::by(&postgres);
    assert_eq!(found.checks(|verdict| verdict == "fault"), ["preflight"; 2], "{:#?}", found.all);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rail_without_a_contract_that_fits_is_named() {
    let clinic = Clinic::on(TestDb::create().await.unwrap()).await;
    Found::by(&clinic.launch()).only("contract", "fault", "has no contract");
    contract(&clinic.db).await;
    assert_eq!(Found::by(&clinic.launch()).checks(|verdict| verdict == "fault"), Vec::<&str>::new());
    run_on(&clinic.db, "select outbox.set_payment_rail('wire', 'inquire')").await;
    Found::by(&clinic.launch()).only("contract", "fault", "there is no [rails.wire.inquiry]");
    run_on(&clinic.db, "select outbox.set_payment_rail('wire', 'hold', p_rail_timeout_ms => 900)").await;
    Found::by(&clinic.launch()).only("contract", "fault", "rail_timeout_ms of 900");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_paused_is_named_with_who_and_why() {
    let clinic = Clinic::open().await;
    let pause = async |scope: &str, on: bool| {
        let mut operator = clinic.db.connect_as("t_operator").await.unwrap();
        let sql = format!("select outbox.set_outbox_pause({scope}, {on}, 'drill 7')");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut operator).await.unwrap();
    };
    for (scope, verdict, words) in [
        ("'wire', null", "fault", "the rail, by t_operator"),
        ("null, null", "fault", "everything, by t_operator"),
        ("null, 'acme'", "warning", "participant acme, by t_operator"),
    ] {
        pause(scope, true).await;
        let found = Found::by(&clinic.launch());
        found.only("pause", verdict, words);
        found.only("pause", verdict, "drill 7");
        pause(scope, false).await;
    }
    run_on(&clinic.db, "select outbox.set_payment_rail('other', 'hold')").await;
    pause("'other', null", true).await;
    assert_eq!(Found::by(&clinic.launch()).ended.code, Some(0));
    run_on(&clinic.db, "select outbox.set_payment_rail('wire', p_paused => true)").await;
    Found::by(&clinic.launch()).only("pause", "fault", "the contract says paused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_of_ours_is_a_fault_by_rail_and_fingerprint() {
    let clinic = Clinic::open().await;
    let dir = tempfile::tempdir().unwrap();
    let certs = Certs::new(dir.path()).unwrap();
    let rail = tls_sim(&certs, certs.server.clone(), dir.path(), "Idempotency-Key", ([127, 0, 0, 1], 0).into()).await;
    let launch = clinic.launch().set("rails.wire.url", format!("{}/payments", rail.url()));
    let launch = launch.set("rails.wire.ca_file", certs.ca.display());
    let launch = launch.set("rails.wire.client_cert_file", certs.client.certificate.display());
    let launch = launch.set("rails.wire.client_key_file", certs.client.key.display());
    let fingerprint = der_sha256(&certs.client.certificate);
    let found = Found::by(&launch);
    let seen = found.all.iter().find(|one| one["check"] == "certificate").unwrap();
    assert_eq!(seen["seen"], format!("SHA-256 {fingerprint}, not revoked here"), "{:#?}", found.all);
    run_on(&clinic.db, &format!("select outbox.revoke_client_cert(decode('{fingerprint}', 'hex'), 'drill 8')")).await;
    let found = Found::by(&launch);
    found.only("certificate", "fault", &fingerprint);
    found.only("certificate", "fault", "drill 8");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_environment_is_named_without_a_claim() {
    let clinic = Clinic::open().await;
    Found::by(&clinic.launch().set("dispatcher.environment", "test")).only("epoch", "fault", "'production'");
    let launch = clinic.launch();
    assert_eq!(Found::by(&launch).ended.code, Some(0));
    run_on(&clinic.db, "drop function outbox.check_epoch(text, bigint, bigint, uuid, bigint)").await;
    let found = Found::by(&launch);
    assert_eq!(found.checks(|verdict| verdict == "skipped"), ["epoch", "daemon"], "{:#?}", found.all);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_older_than_the_state_file_knows_is_named_without_a_claim() {
    let clinic = Clinic::open().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pay-1.high-water.json");
    let launch = clinic.launch().set("dispatcher.name", "pay-1").set("dispatcher.state_directory", text(dir.path()));
    let remember = |epoch_us: i64, log_position: i64, beat: i64| {
        let memory_id = "018f0000-0000-4000-8000-000000000001";
        let mark = format!(
            "{{\"memory_id\":\"{memory_id}\",\"epoch_us\":{epoch_us},\"log_position\":{log_position},\"beat\":{beat}}}\n"
        );
        std::fs::write(&file, &mark).unwrap();
        mark
    };
    assert_eq!(Found::by(&launch).ended.code, Some(0));
    assert!(!file.exists(), "the doctor writes nothing");
    let mut dba = clinic.db.connect_as("postgres").await.unwrap();
    let epoch_us = "select outbox.epoch_us(c) from outbox.outbox_cluster c";
    let epoch_us: i64 = sqlx::query(epoch_us).fetch_one(&mut dba).await.unwrap().get(0);
    remember(epoch_us, 1, 1);
    Found::by(&launch).only("epoch", "fault", "it has not the heartbeats that this dispatcher has seen");
    let mark = remember(9_000_000_000_000_000, 1, 0);
    Found::by(&launch).only("epoch", "fault", "the database is older than it was");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), mark, "the doctor changes nothing");
    std::fs::write(&file, "torn").unwrap();
    Found::by(&launch).only("epoch", "fault", "cannot understand");
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_that_wait_for_a_person_are_counted() {
    let clinic = Clinic::open().await;
    let sql = "select outbox.enqueue_payment_outbox_text('p', 'i' || n, 'k' || n, 'wire', 'x', 'text/plain', p_amount_minor => 1, \
               p_currency => 'EUR') from generate_series(1, 3) n";
    run_on(&clinic.db, sql).await;
    run_on(
        &clinic.db,
        "update outbox.payment_outbox_pending set disposition = 'HELD', hold_reason = 'REQUESTED' where true",
    )
    .await;
    Found::by(&clinic.launch()).only("queue", "warning", "due 0, in doubt 0, parked 0, held 3");
}

#[tokio::test(flavor = "multi_thread")]
async fn dispatchers_that_are_silent_or_lack_a_rail_are_named() {
    let clinic = Clinic::open().await;
    beat(&clinic.db, "pay-2", RAIL).await;
    run_on(
        &clinic.db,
        "update outbox.outbox_dispatchers set heartbeat_interval_ms = 1000, heartbeat_at = clock_timestamp() - interval '1 min' \
         where worker_id = 'pay-2'",
    )
    .await;
    Found::by(&clinic.launch()).only("dispatchers", "warning", "missed three heartbeats: pay-2");
    run_on(&clinic.db, "update outbox.outbox_dispatchers set state = 'STOPPED' where worker_id = 'pay-2'").await;
    assert_eq!(Found::by(&clinic.launch()).checks(|verdict| verdict == "warning"), ["policy"]);
    beat(&clinic.db, "pay-1", "other").await;
    Found::by(&clinic.launch()).only("dispatchers", "fault", "none that is running has this rail");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rail_that_cannot_be_reached_or_trusted_is_named_with_the_reason() {
    let clinic = Clinic::open().await;
    Found::by(&clinic.launch().set("rails.wire.url", "http://127.0.0.1:9/")).only("endpoint", "fault", "refused");
    Found::by(&clinic.launch().set("rails.wire.url", "https://rail.invalid/")).only("endpoint", "fault", "dns");
    let dir = tempfile::tempdir().unwrap();
    let certs = Certs::new(dir.path()).unwrap();
    let files = &certs.server_wrong_ca;
    let tls = TlsFiles { certificate: files.certificate.clone(), private_key: files.key.clone(), client_ca: None };
    let secured = Sim::start(SimConfig { tls: Some(tls), ..SimConfig::in_dir(dir.path()) }).await.unwrap();
    let launch = |ca| clinic.launch().set("rails.wire.url", secured.url()).set("rails.wire.ca_file", text(ca));
    Found::by(&launch(&certs.ca)).only("endpoint", "fault", "tls: invalid peer certificate: UnknownIssuer");
    let found = Found::by(&launch(&certs.wrong_ca));
    let endpoint = found.all.iter().find(|one| one["check"] == "endpoint").unwrap();
    assert!(
        endpoint["verdict"] == "ok" && endpoint["seen"].as_str().unwrap().contains("certificate good for"),
        "{endpoint}"
    );
    assert_eq!((secured.stats().requests, clinic.rail.stats().requests), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_not_there_or_is_not_ready_is_named() {
    let clinic = Clinic::open().await;
    let launch = clinic.launch().set("health.listen", "127.0.0.1:9");
    Found::by(&launch).only("daemon", "fault", "127.0.0.1:9: ");
    let launch = launch.set("health.listen", "127.0.0.1:0");
    let daemon = launch.start();
    daemon.becomes_ready(true).await;
    let address = daemon.logged("health.serving", 1).await["address"].as_str().unwrap().to_owned();
    run_on(&clinic.db, "delete from outbox.payment_rails").await;
    daemon.becomes_ready(false).await;
    let found = Found::by(&launch.set("health.listen", address));
    assert_eq!(found.checks(|verdict| verdict == "fault"), ["contract", "daemon"], "{:#?}", found.all);
    assert!(found.ended.out.contains("not ready: rail wire: "), "{}", found.ended.out);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn absent_policy_is_warned_of_and_one_that_lies_is_a_fault() {
    let clinic = Clinic::open().await;
    let launch = clinic.launch();
    Found::by(&launch).only("policy", "warning", "no policy is active");
    let policy = json!({"format": 1, "rails": {RAIL: {"contract": {"on_unknown": "hold"},
        "endpoints": [{"origin": clinic.rail.url()}], "reference_json_pointer": "/reference"}}});
    put_in_force(&clinic.db, launch.dir.path(), &policy);
    // The file's own decisions are in the way now; without them nothing is.
    let both = Found::by(&launch);
    assert_eq!(both.checks(|verdict| verdict == "fault"), ["contract"], "{:#?}", both.all);
    let governed = launch.governed();
    let found = Found::by(&governed);
    assert_eq!(found.checks(|verdict| verdict != "ok"), ["daemon"], "{:#?}", found.all);
    assert!(found.all.iter().any(|one| one["seen"].as_str().unwrap().contains("version 1 is active: rails: 1")));
    run_on(&clinic.db, "update outbox.payment_rails set max_sends = 99").await;
    Found::by(&governed).only("contract", "fault", "is not that of policy version 1: max_sends");
    run_on(
        &clinic.db,
        "update outbox.payment_rails set max_sends = 10; alter table outbox.policy_decisions disable trigger all; \
         update outbox.policy_decisions set checksum = sha256('other')",
    )
    .await;
    let lies = Found::by(&governed);
    assert_eq!(lies.checks(|verdict| verdict == "fault"), ["policy", "contract"], "{:#?}", lies.all);
}
