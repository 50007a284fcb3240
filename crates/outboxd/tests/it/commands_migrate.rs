//! `migrate` and `migrate --check` on a database that only a DBA has prepared.

use std::fs;

use outbox_testkit::{TestDb, workspace_root};
use serde_json::json;
use sqlx::AssertSqlSafe;

use crate::commands_binary::Desk;

/// A database with roles and schema, and nothing else.
async fn prepared() -> Desk {
    // The first database of a server makes the logins.
    let migrated = TestDb::create().await.unwrap();
    let desk = Desk::on(TestDb::create_empty_on(migrated.address()).await.unwrap());
    let bootstrap = fs::read_to_string(workspace_root().join("scripts/db/bootstrap.sql")).unwrap();
    sqlx::raw_sql(AssertSqlSafe(bootstrap)).execute(&mut desk.dba().await).await.unwrap();
    desk
}

const CHECK: [&str; 2] = ["migrate", "--check"];

#[tokio::test]
async fn what_is_missing_is_named_then_applied_and_then_there() {
    let desk = prepared().await;
    let missing = desk.run("t_migrator", &CHECK);
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(missing.err.starts_with("error: not applied: 0001, 0002, 0003"), "{missing:?}");
    let applied = desk.run("t_migrator", &["migrate", "--output", "json"]).json();
    assert_eq!((&applied["already"], &applied["applied"][0]), (&json!([]), &json!(1)));
    let again = desk.run("t_migrator", &["migrate"]);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(again.out.contains("applied before   0001, 0002, 0003") && again.out.contains("applied now      none"));
    let checked = desk.run("t_migrator", &[&CHECK[..], &["--output", "json"]].concat()).json();
    assert_eq!(checked, json!({"missing": []}));
    assert_eq!(desk.run("t_operator", &["rail", "set", "sepa", "--on-unknown", "hold"]).code, Some(0));
}

#[tokio::test]
async fn partitions_that_are_missing_are_made() {
    let desk = prepared().await;
    assert_eq!(desk.run("t_migrator", &["migrate"]).code, Some(0));
    let last =
        "select max(relname) from pg_class where relname like 'payment\\_outbox\\_attempts\\_%' and relkind = 'r'";
    let mut dba = desk.dba().await;
    let name: String = sqlx::query_scalar(last).fetch_one(&mut dba).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("drop table outbox.{name}"))).execute(&mut dba).await.unwrap();
    let made = desk.run("t_migrator", &["migrate", "--output", "json"]).json();
    assert_eq!((&made["applied"], &made["partitions_made"]), (&json!([]), &json!(1)));
}

#[tokio::test]
async fn a_ledger_that_does_not_fit_is_refused() {
    let desk = prepared().await;
    assert_eq!(desk.run("t_migrator", &["migrate"]).code, Some(0));
    let mut dba = desk.dba().await;
    for (break_it, what, mend_it) in [
        (
            "update outbox.schema_migrations set checksum = checksum || '\\x00' where version = 2",
            "0002 was applied with another text",
            "update outbox.schema_migrations set checksum = substr(checksum, 1, length(checksum) - 1) where version = 2",
        ),
        (
            "update outbox.schema_migrations set version = 9999 where version = 3",
            "9999",
            "update outbox.schema_migrations set version = 3 where version = 9999",
        ),
    ] {
        sqlx::raw_sql(break_it).execute(&mut dba).await.unwrap();
        for arguments in [&CHECK[..], &["migrate"]] {
            let ended = desk.run("t_migrator", arguments);
            assert!(ended.code == Some(1) && ended.err.contains(what), "{what}: {ended:?}");
        }
        sqlx::raw_sql(mend_it).execute(&mut dba).await.unwrap();
    }
    assert_eq!(desk.run("t_migrator", &CHECK).code, Some(0));
}

#[tokio::test]
async fn another_migration_is_waited_for_only_as_long_as_asked() {
    let desk = prepared().await;
    let mut other = desk.dba().await;
    sqlx::raw_sql("select pg_advisory_lock(1869968482, 2)").execute(&mut other).await.unwrap();
    let refused = desk.run("t_migrator", &["migrate", "--lock-wait", "0s"]);
    assert!(refused.code == Some(1) && refused.err.contains("another migration is running"), "{refused:?}");
    sqlx::raw_sql("select pg_advisory_unlock(1869968482, 2)").execute(&mut other).await.unwrap();
    assert_eq!(desk.run("t_migrator", &["migrate", "--lock-wait", "0s"]).code, Some(0));
}

#[tokio::test]
async fn a_login_that_may_not_migrate_is_told_why() {
    let desk = prepared().await;
    let ended = desk.run("t_ingest", &["migrate"]);
    assert!(ended.code == Some(1) && ended.err.contains("t_ingest"), "{ended:?}");
}
