//! Applying migrations: as whom, twice, two at once, one that fails, a ledger that does not fit, and side
//! by side with sqlx-cli. What the migrations make is in `schema`.

use std::time::Duration;

use outbox_store::{
    ConnectSettings, MIGRATION_TABLE, MIGRATIONS, MigrationFile, MigrationReport, StoreError, check_migrations,
    migrate, migrate_files,
};
use outbox_testkit::{PgAddress, PgServer, PgVersion, TestDb, shared_server, wait_until, workspace_root};
use sqlx::Connection as _;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnection;

use crate::sql::{column, refused, run, scalar};

const WAIT: Duration = Duration::from_secs(30);
const LOCK_IS_FREE: &str = "select pg_try_advisory_lock(1869968482, 2) and pg_advisory_unlock(1869968482, 2)";

fn script(name: &str) -> String {
    std::fs::read_to_string(workspace_root().join("scripts/db").join(name)).unwrap()
}

async fn shared_address() -> PgAddress {
    tokio::task::spawn_blocking(shared_server).await.unwrap().unwrap()
}

/// A database with roles and schema, and no migration.
async fn bootstrapped() -> TestDb {
    let db = TestDb::create_empty_on(&shared_address().await).await.unwrap();
    run(&mut db.connect_as("postgres").await.unwrap(), &script("bootstrap.sql")).await;
    db
}

/// The settings of the command, for a login of this database.
fn settings(db: &TestDb, login: &str) -> ConnectSettings {
    ConnectSettings::from_url(&db.url(login)).unwrap().for_people()
}

fn migrator(db: &TestDb) -> ConnectSettings {
    settings(db, "outbox_migrator")
}

async fn ledger(dba: &mut PgConnection) -> Vec<String> {
    let text = format!(
        "select concat_ws(' ', version, description, success, encode(checksum, 'hex')) from {MIGRATION_TABLE} order by version"
    );
    column(dba, &text).await
}

fn message(result: Result<impl std::fmt::Debug, StoreError>) -> String {
    match result {
        Err(StoreError::Migration(message)) => message,
        other => panic!("not a refused migration: {other:?}"),
    }
}

#[tokio::test]
async fn embedded_migrations_are_the_files_as_sqlx_cli_reads_them() {
    let folder = Migrator::new(workspace_root().join("migrations").as_path()).await.unwrap();
    let files: Vec<(i64, &str, &str)> =
        folder.iter().map(|m| (m.version, m.description.as_ref(), m.sql.as_str())).collect();
    let embedded: Vec<(i64, &str, &str)> = MIGRATIONS.iter().map(|m| (m.version, m.description, m.sql)).collect();
    assert_eq!(files, embedded);
    let numbers: Vec<i64> = embedded.iter().map(|(version, ..)| *version).collect();
    assert_eq!(numbers, (1..=i64::try_from(numbers.len()).unwrap()).collect::<Vec<_>>(), "numbered without a gap");
}

#[test]
fn sqlx_cli_and_we_keep_one_ledger() {
    let settings = std::fs::read_to_string(workspace_root().join("sqlx.toml")).unwrap();
    let named = settings.lines().filter_map(|line| line.strip_prefix("table-name = ")).collect::<Vec<_>>();
    assert_eq!(named, [format!("\"{MIGRATION_TABLE}\"")]);
    assert!(!settings.contains("create-schemas"), "it would need CREATE on the database");
}

#[tokio::test]
async fn migrating_twice_applies_each_migration_once() {
    let db = bootstrapped().await;
    let all: Vec<i64> = MIGRATIONS.iter().map(|m| m.version).collect();
    assert_eq!(check_migrations(&migrator(&db)).await.unwrap(), all, "a check of a new database changes nothing");
    let first = migrate(&migrator(&db), WAIT).await.unwrap();
    assert_eq!(first, MigrationReport { applied: all.clone(), already: vec![], partitions_made: 0 });
    assert_eq!(check_migrations(&migrator(&db)).await.unwrap(), Vec::<i64>::new());
    let second = migrate(&migrator(&db), WAIT).await.unwrap();
    assert_eq!(second, MigrationReport { applied: vec![], already: all, partitions_made: 0 });
}

#[tokio::test]
async fn two_migrators_at_once_both_succeed() {
    let db = bootstrapped().await;
    let (one, other) = (migrator(&db), migrator(&db));
    let (one, other) = tokio::join!(migrate(&one, WAIT), migrate(&other, WAIT));
    let (one, other) = (one.unwrap(), other.unwrap());
    let mut applied = [one.applied, other.applied].concat();
    applied.sort_unstable();
    assert_eq!(applied, MIGRATIONS.map(|m| m.version), "each was applied by one of them");
}

#[tokio::test]
async fn a_migrator_gives_up_when_another_holds_the_lock_too_long() {
    let db = bootstrapped().await;
    let mut other = db.connect_as("outbox_migrator").await.unwrap();
    run(&mut other, "select pg_advisory_lock(1869968482, 2)").await;
    let said = message(ends(migrate(&migrator(&db), Duration::ZERO)).await);
    assert!(said.contains("another migration is running"), "{said}");
    assert_eq!(check_migrations(&migrator(&db)).await.unwrap().len(), MIGRATIONS.len(), "nothing was applied");
    other.close().await.unwrap();
}

/// The outcome of what must not wait for ever.
async fn ends<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT, work).await.unwrap_or_else(|_| panic!("a migrator waits for ever"))
}

fn with(sql: &'static str) -> Vec<MigrationFile> {
    [MIGRATIONS.as_slice(), &[MigrationFile { version: 4, description: "next", sql }]].concat()
}

#[tokio::test]
async fn a_migration_that_fails_leaves_nothing_and_the_lock_is_free() {
    let db = TestDb::create().await.unwrap();
    let mut dba = db.connect_as("postgres").await.unwrap();
    let before = ledger(&mut dba).await;
    let fails = with("create table outbox.half (a int); insert into outbox.half values (1); select 1 / 0;");
    let said = message(migrate_files(&settings(&db, "t_migrator"), &fails, WAIT).await);
    assert!(said.contains("0004 failed and was rolled back") && said.contains("division by zero"), "{said}");
    let half = "select to_regclass('outbox.half') is null";
    assert!(scalar::<bool>(&mut dba, half).await);
    assert_eq!(ledger(&mut dba).await, before);
    // The server learns of the closed connection a moment later.
    wait_until("the lock of the failed migration", WAIT, async || scalar(&mut dba, LOCK_IS_FREE).await).await.unwrap();
    let mended = with("create table outbox.half (a int);");
    let report = migrate_files(&settings(&db, "t_migrator"), &mended, WAIT).await.unwrap();
    assert_eq!(report.applied, [4]);
}

#[tokio::test]
async fn a_migration_outside_a_transaction_says_that_part_of_it_may_stay() {
    let db = TestDb::create().await.unwrap();
    let fails =
        with("-- no-transaction\ncreate index concurrently nowhere on outbox.payment_outbox_pending (no_such_column);");
    let said = message(migrate_files(&settings(&db, "t_migrator"), &fails, WAIT).await);
    assert!(said.contains("0004 failed, and part of it may stay"), "{said}");
}

#[tokio::test]
async fn an_index_is_built_concurrently_while_another_migrator_waits() {
    let db = TestDb::create().await.unwrap();
    let files = with(
        "-- no-transaction\ncreate index concurrently pending_by_time on outbox.payment_outbox_pending (created_at);",
    );
    let (one, other) = (settings(&db, "t_migrator"), settings(&db, "t_migrator"));
    let (one, other) =
        ends(async { tokio::join!(migrate_files(&one, &files, WAIT), migrate_files(&other, &files, WAIT)) }).await;
    assert_eq!([one.unwrap().applied, other.unwrap().applied].concat(), [4]);
}

#[tokio::test]
async fn a_ledger_that_does_not_fit_is_refused_with_its_reason() {
    for (tamper, reason) in [
        (
            "update outbox.schema_migrations set checksum = '\\x00' where version = 2",
            "0002 was applied with another text",
        ),
        (
            "insert into outbox.schema_migrations values (9, 'nine', now(), true, '\\x00', 0)",
            "0009 is applied and unknown",
        ),
        ("delete from outbox.schema_migrations where version = 2", "0002 is not applied though 0003 is"),
        ("update outbox.schema_migrations set success = false where version = 3", "0003 failed half-way before"),
    ] {
        let db = TestDb::create().await.unwrap();
        let mut dba = db.connect_as("postgres").await.unwrap();
        run(&mut dba, tamper).await;
        let before = ledger(&mut dba).await;
        let settings = settings(&db, "t_migrator");
        let said = message(migrate(&settings, WAIT).await);
        assert!(said.contains(reason), "{tamper}: {said}");
        assert_eq!(message(check_migrations(&settings).await), said);
        assert_eq!(ledger(&mut dba).await, before, "{tamper}");
    }
}

#[tokio::test]
async fn our_ledger_and_that_of_sqlx_cli_are_alike() {
    let folder = workspace_root().join("migrations");
    let mut theirs = Migrator::new(folder.as_path()).await.unwrap();
    theirs.dangerous_set_table_name(MIGRATION_TABLE);

    let by_cli = bootstrapped().await;
    let mut session = by_cli.connect_as("outbox_migrator").await.unwrap();
    theirs.run_direct(None, &mut session, false).await.unwrap();
    assert_eq!(check_migrations(&migrator(&by_cli)).await.unwrap(), Vec::<i64>::new());
    assert_eq!(migrate(&migrator(&by_cli), WAIT).await.unwrap().applied, Vec::<i64>::new());

    let by_us = bootstrapped().await;
    migrate(&migrator(&by_us), WAIT).await.unwrap();
    let mut session = by_us.connect_as("outbox_migrator").await.unwrap();
    theirs.run_direct(None, &mut session, false).await.unwrap();

    let ours = ledger(&mut by_us.connect_as("postgres").await.unwrap()).await;
    assert_eq!(ours, ledger(&mut by_cli.connect_as("postgres").await.unwrap()).await);
    assert_eq!(ours.len(), MIGRATIONS.len());
}

#[tokio::test]
async fn migrations_run_only_as_the_owner() {
    let db = bootstrapped().await;
    let mut dba = db.connect_as("postgres").await.unwrap();
    let said = message(migrate(&settings(&db, "postgres"), WAIT).await);
    assert!(said.contains("acts as postgres, not as outbox_owner"), "{said}");
    // Through another tool as well: the first migration refuses by itself.
    assert_eq!(refused(&mut dba, MIGRATIONS[0].sql).await.code, "OB010");
    let made: Vec<String> =
        column(&mut dba, "select relname::text from pg_class where relnamespace = 'outbox'::regnamespace").await;
    assert_eq!(made, Vec::<String>::new());
}

#[tokio::test]
async fn a_plain_login_migrates_what_an_administrator_without_superuser_prepared() {
    let server = PgServer::start(PgVersion::from_environment().unwrap()).unwrap();
    let mut root = server.address().connect("postgres", "postgres").await.unwrap();
    run(&mut root, "create role managed_dba login createrole createdb").await;
    for database in ["payments", "payments_too"] {
        run(&mut root, &format!("create database {database} owner managed_dba")).await;
        let mut dba = server.address().connect(database, "managed_dba").await.unwrap();
        // A second time is no harm, and the second database finds the roles there.
        run(&mut dba, &script("bootstrap.sql")).await;
        run(&mut dba, &script("bootstrap.sql")).await;
        let settings = ConnectSettings::from_url(&server.url(database, "outbox_migrator")).unwrap().for_people();
        assert_eq!(migrate(&settings, WAIT).await.unwrap().applied.len(), MIGRATIONS.len());
        let mut root = server.address().connect(database, "postgres").await.unwrap();
        let plain =
            "select not (rolsuper or rolcreaterole or rolcreatedb) from pg_roles where rolname = 'outbox_migrator'";
        assert!(scalar::<bool>(&mut root, plain).await);
        let owners =
            "select distinct relowner::regrole::text from pg_class where relnamespace = 'outbox'::regnamespace";
        assert_eq!(column::<String>(&mut root, owners).await, ["outbox_owner"]);
    }
    let mut dba = server.address().connect("payments", "managed_dba").await.unwrap();
    run(&mut dba, "create role pay_ingest login; grant outbox_ingest to pay_ingest; create role pay_operator login; grant outbox_operator to pay_operator").await;
    run(
        &mut server.address().connect("payments", "pay_operator").await.unwrap(),
        "select outbox.set_payment_rail('wire')",
    )
    .await;
    let mut ingest = server.address().connect("payments", "pay_ingest").await.unwrap();
    run(&mut ingest, "select outbox.enqueue_payment_outbox_text('a', 'i', 'k', 'wire', 'x', 'text/plain', 1, 'EUR')")
        .await;
    assert_eq!(refused(&mut ingest, "select outbox.ensure_outbox_partitions()").await.code, "42501");
}

#[tokio::test]
async fn a_hardened_database_still_pays() {
    use outbox_core::{AttemptState, Outcome};
    use outbox_store::CompletionVerdict;

    let mut world = crate::world::World::new().await;
    run(&mut world.dba, &script("harden_database.sql")).await;
    let outsider = "select has_database_privilege('pg_monitor', current_database(), 'connect') \
                    or has_database_privilege('pg_monitor', current_database(), 'temporary') \
                    or has_schema_privilege('pg_monitor', 'public', 'create')";
    assert!(!scalar::<bool>(&mut world.dba, outsider).await);
    world.enqueue("i", 1).await;
    let mut worker = world.worker("w");
    let claimed = worker.claim_one().await;
    let verdict = worker.complete_one(crate::world::lease(&claimed), Outcome::Accepted).await;
    assert!(matches!(verdict, CompletionVerdict::Applied { state: AttemptState::Dispatched, .. }), "{verdict:?}");
    assert_eq!(migrate(&settings(&world.db, "t_migrator"), WAIT).await.unwrap().applied, Vec::<i64>::new());
}
