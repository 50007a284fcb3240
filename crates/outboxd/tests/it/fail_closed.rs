//! How a daemon refuses to start: each row of "Failing closed" in docs/OPERATIONS.md that is about the
//! start, with its exit code and what it says. What happens to one that runs is in `fail_closed_running`.

use std::fs;

use outbox_testkit::{PgServer, PgVersion, TestDb, wait_until};

use crate::launch::{Launch, Notices, contract, database, database_on, run_beside, run_in, run_on};
use crate::rig::LIMIT;

const BAD_CONFIGURATION: i32 = 78;
const WRONG_LOGIN: i32 = 77;
const WRONG_SCHEMA: i32 = 76;

fn own_server() -> PgServer {
    PgServer::start(PgVersion::from_environment().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_ends_with_78_and_names_every_fault() {
    let db = TestDb::create().await.unwrap();
    let launch = Launch::on(&db).set("dispatcher.poll_mx", "2s").set("rails.wire.url", "http://rail.example/");
    let said = launch.refused(BAD_CONFIGURATION, "poll_mx").await;
    assert!(said.contains("plain http") && said.contains("2 faults"), "{said}");
    let launch = Launch::on(&db).set("database.host", "db.example").set("database.tls", "disable");
    launch.refused(BAD_CONFIGURATION, "must be encrypted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_is_missing_or_readable_by_all_ends_with_78() {
    let db = database().await;
    let launch = Launch::on(&db);
    let path = launch.dir.path().join("secret");
    let launch = launch.set("database.password_file", path.display());
    launch.refused(BAD_CONFIGURATION, "cannot be read").await;
    launch.file("secret", "canary-5f1c", 0o644);
    let said = launch.refused(BAD_CONFIGURATION, "can be read by everybody (mode 0644)").await;
    assert!(!said.contains("canary-5f1c"), "{said}");
    launch.set("credentials.allow_world_readable", "true").accepted().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn authorities_of_the_database_that_are_none_end_with_78_and_are_not_waited_for() {
    let db = TestDb::create().await.unwrap();
    let launch = Launch::on(&db);
    let path = launch.dir.path().join("ca.pem");
    let launch = launch.set("database.host", "localhost").set("database.tls", "verify-full");
    let launch = launch.set("database.ca_file", path.display());
    launch.refused(BAD_CONFIGURATION, "ca.pem: cannot be read").await;
    launch.file("ca.pem", "no PEM", 0o644);
    let said = launch.refused(BAD_CONFIGURATION, "ca.pem: holds no certificate in PEM").await;
    assert!(said.contains("database.ca_file: "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_of_libpq_that_would_change_the_connection_end_with_78() {
    let db = TestDb::create().await.unwrap();
    for name in ["PGOPTIONS", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY"] {
        Launch::on(&db).environment(name, "x").refused(BAD_CONFIGURATION, &format!("{name}: would change")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_may_forget_a_commit_ends_with_78_unless_it_is_thrown_away() {
    let server = own_server();
    let db = database_on(server.address()).await;
    let name = db.name();
    let role = format!("alter role t_dispatcher in database {name}");
    for (setting, off, on) in [
        ("fsync", "alter system set fsync = off".to_owned(), "alter system reset fsync".to_owned()),
        (
            "full_page_writes",
            "alter system set full_page_writes = off".to_owned(),
            "alter system reset full_page_writes".to_owned(),
        ),
        (
            "synchronous_commit",
            format!("{role} set synchronous_commit = off"),
            format!("{role} reset synchronous_commit"),
        ),
    ] {
        reconfigure(&db, &off, setting, "off").await;
        Launch::on(&db).refused(BAD_CONFIGURATION, &format!("with {setting} = off")).await;
        Launch::on(&db).flag("--allow-unsafe-durability").accepted().await;
        reconfigure(&db, &on, setting, "on").await;
    }
    Launch::on(&db).accepted().await;
}

/// Changes a setting, and waits until new sessions of the dispatcher have it.
async fn reconfigure(db: &TestDb, sql: &str, setting: &str, value: &str) {
    run_beside(db, sql).await;
    run_beside(db, "select pg_reload_conf()").await;
    let seen = async || {
        let mut session = db.connect_as("t_dispatcher").await.unwrap();
        let shown: String =
            sqlx::query_scalar("select current_setting($1)").bind(setting).fetch_one(&mut session).await.unwrap();
        shown == value
    };
    wait_until(setting, LIMIT, seen).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_refused_or_may_not_execute_ends_with_77() {
    let server = own_server();
    let db = database_on(server.address()).await;
    run_on(&db, "alter role t_dispatcher password 'right'").await;
    server.set_hba("local all t_dispatcher scram-sha-256\nlocal all all trust\n").unwrap();
    let launch = Launch::on(&db);
    let path = launch.file("password", "canary-a77e", 0o600);
    let launch = launch.set("database.password_file", path.display());
    let said = launch.refused(WRONG_LOGIN, "the database refused the login").await;
    assert!(!said.contains("canary-a77e"), "{said}");
    fs::write(&path, "right\n").unwrap();
    launch.accepted().await;
    Launch::on(&db).set("database.user", "t_ingest").refused(WRONG_LOGIN, "permission denied").await;
    Launch::on(&db).set("database.user", "nobody_at_all").refused(WRONG_LOGIN, "refused the login").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_takes_no_password_from_the_environment_and_people_may() {
    let server = own_server();
    let db = database_on(server.address()).await;
    run_on(&db, "alter role t_dispatcher password 'right'; alter role t_monitor password 'right'").await;
    server.set_hba("local all postgres trust\nlocal all all scram-sha-256\n").unwrap();
    let launch = Launch::on(&db).environment("PGPASSWORD", "right");
    launch.refused(WRONG_LOGIN, "the database refused the login").await;
    let launch = Launch::on(&db);
    let pgpass = launch.file("pgpass", "*:*:*:*:right\n", 0o600);
    launch.file(".pgpass", "*:*:*:*:right\n", 0o600);
    let home = launch.dir.path().to_owned();
    let launch = launch.environment("PGPASSFILE", &pgpass).environment("HOME", home);
    launch.refused(WRONG_LOGIN, "the database refused the login").await;
    for (name, value) in [("PGPASSWORD", "right"), ("PGPASSFILE", pgpass.to_str().unwrap())] {
        let mut command = std::process::Command::new(crate::commands_binary::OUTBOXD);
        command.args(["status", "--output", "json"]).env_clear();
        command.env("DATABASE_URL", db.url("t_monitor")).env(name, value);
        assert_eq!(crate::commands_binary::end(&mut command, b"").code, Some(0), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_may_more_than_a_dispatcher_ends_with_77() {
    let db = database().await;
    Launch::on(&db).set("database.user", "postgres").refused(WRONG_LOGIN, "is a superuser").await;
    Launch::on(&db).set("database.user", "t_migrator").refused(WRONG_LOGIN, "is a member of outbox_owner").await;
    for verb in ["select", "insert", "update", "delete", "truncate"] {
        run_on(&db, &format!("grant {verb} on outbox.payment_outbox_pending to t_dispatcher")).await;
        let words = "has privileges on the table outbox.payment_outbox_pending";
        Launch::on(&db).refused(WRONG_LOGIN, words).await;
        run_on(&db, "revoke all on outbox.payment_outbox_pending from t_dispatcher").await;
    }
    Launch::on(&db).accepted().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_absent_or_serves_other_versions_ends_with_76() {
    let db = database().await;
    let empty = TestDb::create_empty_on(db.address()).await.unwrap();
    Launch::on(&empty).refused(WRONG_SCHEMA, "does not exist").await;
    for (low, high) in [(2, 3), (0, 0)] {
        run_on(&db, &api_range(low, high)).await;
        let words = format!("the schema serves interface versions {low} to {high}");
        Launch::on(&db).refused(WRONG_SCHEMA, &words).await;
    }
    run_on(&db, &api_range(1, 7)).await;
    Launch::on(&db).accepted().await;
    run_on(&db, "drop function outbox.dispatcher_preflight()").await;
    Launch::on(&db).refused(WRONG_SCHEMA, "does not exist").await;
}

/// The statement with which a migration would change the versions that are served.
pub(crate) fn api_range(low: i32, high: i32) -> String {
    format!(
        "create or replace function outbox.read_api_range() returns table (api_min integer, api_max integer) \
         language sql stable as $$ select {low}, {high} $$"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_there_yet_is_waited_for() {
    let mut server = own_server();
    let db = database_on(server.address()).await;
    server.stop_fast().unwrap();
    let (mut notices, launch) = Notices::of(Launch::on(&db));
    let daemon = launch.start();
    daemon.logged("database.waiting", 3).await;
    assert!(daemon.ready().await.starts_with("HTTP/1.1 503"));
    server.restart().unwrap();
    daemon.becomes_ready(true).await;
    notices.told("READY=1", 1).await;
    daemon.stop().await;
    // The server is up, and the database is not there: it is being restored.
    let (name, away) = (db.name().to_owned(), "database_away");
    run_in(db.address(), "postgres", &format!("alter database {name} rename to {away}")).await;
    let daemon = launch.start();
    let waiting = daemon.logged("database.waiting", 3).await.to_string();
    assert!(waiting.contains("does not exist"), "{waiting}");
    run_in(db.address(), "postgres", &format!("alter database {away} rename to {name}")).await;
    daemon.becomes_ready(true).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_database_is_waited_for() {
    let db = database().await;
    let name = db.name();
    run_beside(&db, &format!("alter database {name} set default_transaction_read_only = on")).await;
    let (mut notices, launch) = Notices::of(Launch::on(&db));
    let daemon = launch.start();
    assert_eq!(daemon.logged("database.waiting", 2).await["error"], "the database is read-only");
    daemon.becomes_ready(false).await;
    assert_eq!(notices.heard("READY=1"), 0);
    run_beside(&db, &format!("alter database {name} reset default_transaction_read_only")).await;
    daemon.becomes_ready(true).await;
    notices.told("READY=1", 1).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_before_the_database_is_there_is_told_to_systemd() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = outbox_testkit::PgAddress::on_socket(dir.path(), 5432);
    let (mut notices, launch) = Notices::of(Launch::at(&nowhere, "p"));
    let daemon = launch.start();
    daemon.logged("database.waiting", 1).await;
    daemon.stop().await;
    notices.told("STOPPING=1", 1).await;
    assert_eq!(notices.heard("READY=1"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_none_of_whose_rails_has_a_contract_is_not_ready() {
    let db = TestDb::create().await.unwrap();
    let launch =
        Launch::on(&db).set("rails.other.url", "http://127.0.0.1:9/").set("rails.other.reference_json_pointer", "/id");
    let daemon = launch.start();
    let off = daemon.logged("lane.off", 2).await;
    assert!(off["reason"].as_str().unwrap().contains("has no contract"), "{off}");
    daemon.becomes_ready(false).await;
    let answer = daemon.ready().await;
    assert!(answer.contains("\"subject\":\"rail other\"") && answer.contains("\"subject\":\"rail wire\""), "{answer}");
    // One that is on is enough to be ready; the other is still named.
    contract(&db).await;
    assert_eq!(daemon.logged("lane.on", 1).await["rail"], "wire");
    daemon.becomes_ready(true).await;
    let answer = daemon.ready().await;
    assert!(answer.contains("\"off\":[{") && answer.contains("\"subject\":\"rail other\""), "{answer}");
    run_on(&db, "delete from outbox.payment_rails").await;
    daemon.becomes_ready(false).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_that_does_not_fit_the_configuration_turns_its_rail_off_by_name() {
    let db = database().await;
    let launch = Launch::on(&db);
    let daemon = launch.start();
    daemon.logged("lane.on", 1).await;
    let set = "select outbox.set_payment_rail('wire', 'hold', ";
    for (turn, (bad, good, words)) in [
        (
            "p_rail_timeout_ms => 1500, p_lease_duration_ms => 6000",
            "p_rail_timeout_ms => 20000, p_lease_duration_ms => 60000",
            "of 6000",
        ),
        ("p_rail_timeout_ms => 900", "p_rail_timeout_ms => 20000", "rail_timeout_ms of 900"),
    ]
    .into_iter()
    .enumerate()
    {
        run_on(&db, &format!("{set}{bad})")).await;
        daemon.becomes_ready(false).await;
        let answer = daemon.ready().await;
        assert!(answer.contains("\"subject\":\"rail wire\"") && answer.contains(words), "{answer}");
        run_on(&db, &format!("{set}{good})")).await;
        daemon.logged("lane.on", turn + 2).await;
        daemon.becomes_ready(true).await;
    }
    daemon.stop().await;
}
