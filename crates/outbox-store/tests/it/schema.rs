//! The migrations together give what the repository says they give: the functions of
//! `migrations/functions/`, the catalogue on record, and on Postgres 15 the dump in `migrations/schema.sql`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use outbox_testkit::{PgVersion, TestDb, workspace_root};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::sql::{column, fetch, run};

/// Everything of each function: name, and its definition with owner, settings and rights.
async fn functions(dba: &mut PgConnection) -> BTreeMap<String, String> {
    let rows = fetch(
        dba,
        "select p.proname::text, concat_ws(E'\\n', pg_get_functiondef(p.oid), p.proowner::regrole, p.proconfig, p.prosecdef, p.proacl)
           from pg_proc p where p.pronamespace = 'outbox'::regnamespace",
    )
    .await;
    let found: BTreeMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(found.len(), rows.len(), "one signature for each name");
    found
}

/// The current text of each function, by name.
fn files() -> BTreeMap<String, String> {
    let folder = workspace_root().join("migrations/functions");
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert_eq!(path.extension().unwrap(), "sql", "{}", path.display());
        files.insert(name, std::fs::read_to_string(&path).unwrap());
    }
    files
}

#[tokio::test]
async fn all_migrations_give_exactly_the_functions_on_file() {
    let db = TestDb::create().await.unwrap();
    let mut dba = db.connect_as("postgres").await.unwrap();
    let migrated = functions(&mut dba).await;
    let files = files();
    assert_eq!(migrated.keys().collect::<Vec<_>>(), files.keys().collect::<Vec<_>>());
    let mut owner = db.connect_as("t_migrator").await.unwrap();
    for (name, text) in &files {
        assert!(text.starts_with(&format!("create or replace function outbox.{name}(")), "{name}");
        run(&mut owner, text).await;
    }
    let replaced = functions(&mut dba).await;
    for (name, definition) in &migrated {
        assert_eq!(definition, &replaced[name], "{name}");
    }
    assert_eq!(replaced.len(), files.len());
}

#[tokio::test]
async fn the_schema_is_the_one_on_record() {
    let db = TestDb::create().await.unwrap();
    let mut dba = db.connect_as("postgres").await.unwrap();
    let query = std::fs::read_to_string(workspace_root().join("scripts/db/catalogue.sql")).unwrap();
    let found: Vec<String> = column(&mut dba, &query).await;
    let record = std::fs::read_to_string(workspace_root().join("scripts/db/catalogue.txt")).unwrap();
    let (found, record): (BTreeSet<&str>, BTreeSet<&str>) =
        (found.iter().map(String::as_str).collect(), record.lines().collect());
    let differing: Vec<&&str> = found.symmetric_difference(&record).collect();
    assert!(differing.is_empty(), "scripts/db/schema_snapshot.sh --write puts it on record: {differing:#?}");
    assert!(record.len() > 300, "{} facts", record.len());
    if PgVersion::from_environment().unwrap() == PgVersion::V15 {
        let mut script = Command::new(workspace_root().join("scripts/db/schema_snapshot.sh"));
        script
            .env("OUTBOXD_TEST_PG_HOST", db.address().host())
            .env("OUTBOXD_TEST_PG_PORT", db.address().port().to_string());
        let output = tokio::task::spawn_blocking(move || script.output()).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
}

#[tokio::test]
async fn the_hot_path_has_no_foreign_key_no_exception_block_and_no_dynamic_statement() {
    let db = TestDb::create().await.unwrap();
    let mut dba = db.connect_as("postgres").await.unwrap();
    let keys: Vec<String> = column(
        &mut dba,
        "select conname::text from pg_constraint where contype = 'f' and connamespace = 'outbox'::regnamespace",
    )
    .await;
    assert_eq!(keys, Vec::<String>::new(), "a foreign key makes MultiXacts of row locks");
    let rows =
        fetch(&mut dba, "select proname::text, prosrc from pg_proc where pronamespace = 'outbox'::regnamespace").await;
    let mut dynamic: Vec<String> = Vec::new();
    for row in &rows {
        let (name, source): (String, String) = (row.get(0), row.get(1));
        let code: Vec<&str> = source.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
        let words: Vec<&str> = code.iter().flat_map(|line| line.split_whitespace()).collect();
        if words.contains(&"execute") || words.windows(2).any(|pair| pair == ["exception", "when"]) {
            dynamic.push(name);
        }
    }
    dynamic.sort();
    assert_eq!(
        dynamic,
        [
            "ensure_outbox_partitions",
            "guard_history_table",
            "hash_table_chunk",
            "record_partition_receipts",
            "seal_outbox_month"
        ]
    );
}
