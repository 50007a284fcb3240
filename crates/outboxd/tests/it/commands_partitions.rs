//! `partitions`: what a person sees while a month is made, listed, detached and verified, and how each ends.

use std::path::Path;
use std::process::Command;

use outbox_testkit::{PgVersion, TestDb, workspace_root};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::commands_binary::{Desk, Ended, text};

/// What is enqueued from now on is of the fourth day of last month.
const LAST_MONTH: &str = "create or replace function outbox.outbox_id_at(p_tick bigint) returns uuid language sql volatile as $$
    select (left(outbox.outbox_id_floor(date_trunc('month', clock_timestamp(), 'UTC') - interval '1 month' + interval '3 days')::text, 18)
            || right(gen_random_uuid()::text, 18))::uuid $$";

/// Ends all that is pending long ago, as the owner of a history without guards could.
const ENDED: &str = "insert into outbox.payment_outbox_attempts (outbox_id, attempt_no, rail, kind, state, outcome, worker_id, lease_token, claimed_at, completed_at, rail_reference)
    select outbox_id, 1, rail, 'SUBMIT', 'DISPATCHED', 'ACCEPTED', 'w', gen_random_uuid(), now() - interval '100 days', now() - interval '100 days', 'R'
      from outbox.payment_outbox_pending;
    delete from outbox.payment_outbox_pending";

struct Months {
    desk: Desk,
    /// `2026-01` and the like.
    last: String,
    this: String,
}

impl Months {
    /// With one payment of last month, which waits.
    async fn with_a_payment() -> Self {
        let desk = Desk::with_rails().await;
        let mut dba = desk.dba().await;
        sqlx::raw_sql(LAST_MONTH).execute(&mut dba).await.unwrap();
        let line = "{\"instruction_id\":\"i\",\"payload\":\"x\",\"amount_minor\":100,\"currency\":\"EUR\"}\n";
        let input = desk.file("in.ndjson", line);
        let options = ["--participant", "p", "--rail", "sepa", "--content-type", "text/plain"];
        assert_eq!(desk.enqueue(text(&input), &options).code, Some(0));
        let months = "select array[to_char(m - interval '1 month', 'YYYY-MM'), to_char(m, 'YYYY-MM')]
                        from (select date_trunc('month', clock_timestamp(), 'UTC') at time zone 'UTC') as c (m)";
        let names: Vec<String> = sqlx::query_scalar(months).fetch_one(&mut dba).await.unwrap();
        Self { last: names[0].clone(), this: names[1].clone(), desk }
    }

    async fn does(&self, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut self.desk.dba().await).await.unwrap();
    }

    fn detach(&self, options: &[&str]) -> Ended {
        let words = ["partitions", "detach", self.last.as_str(), "--min-age", "30days"];
        self.desk.run("t_migrator", &[&words[..], options].concat())
    }

    fn audit(&self, options: &[&str]) -> Ended {
        self.desk.run("t_auditor", &[&["audit", "--output", "json"], options].concat())
    }

    fn listed(&self) -> Vec<Value> {
        let all = self.desk.run("t_monitor", &["partitions", "list", "--output", "json"]).json();
        all.as_array()
            .unwrap()
            .iter()
            .filter(|row| row["month"] == self.last.as_str() && row["holds"] == "PAYMENTS")
            .cloned()
            .collect()
    }

    fn table(&self, what: &str) -> String {
        format!("payment_outbox_{what}_y{}", self.last.replace('-', "m"))
    }
}

#[tokio::test]
async fn a_month_is_detached_after_an_audit_and_its_tables_are_verified_against_the_receipts() {
    let months = Months::with_a_payment().await;
    let refused = months.detach(&[]);
    assert_eq!(refused.code, Some(65), "{refused:?}");
    assert!(refused.err.contains(&format!("{} stays: 1 payments are pending", months.last)), "{refused:?}");
    months.does(ENDED).await;
    let young = months.desk.run("t_migrator", &["partitions", "detach", &months.last, "--min-age", "101days"]);
    assert!(young.code == Some(65) && young.err.contains("less than 101 days ago"), "{young:?}");
    let current = months.desk.run("t_migrator", &["partitions", "detach", &months.this, "--min-age", "0s"]);
    assert!(current.code == Some(65) && current.err.contains("the month is not over"), "{current:?}");
    let dry = months.detach(&["--dry-run"]);
    assert_eq!((dry.code, dry.out.trim()), (Some(0), "next, seal it"));
    assert_eq!(months.listed()[0]["state"], "ATTACHED");
    let sealed = months.detach(&[]);
    assert!(sealed.code == Some(1) && sealed.err.contains("outboxd audit --full"), "{sealed:?}");
    assert_eq!(months.listed()[0]["state"], "SEALED");
    assert_eq!(months.audit(&["--full"]).code, Some(0));
    let detached = months.detach(&["--output", "json"]).json();
    assert_eq!(Value::from(months.listed()), detached);
    for (row, what) in detached.as_array().unwrap().iter().zip(["instructions", "attempts"]) {
        let shown = json!([row["table"], row["state"], row["rows"], row["payments"], row["recorded_by"]]);
        assert_eq!(shown, json!([months.table(what), "DETACHED", 1, 1, "t_migrator"]));
    }
    let again = months.detach(&[]);
    assert!(again.code == Some(0) && again.out.contains("DETACHED"), "{again:?}");
    let audited = months.audit(&["--full"]).json();
    assert_eq!(
        json!([audited["identities"], audited["pending"], audited["detached"], audited["breaches"]]),
        json!([1, 0, 1, 0])
    );
    months.verified(&detached).await;
    let inspected = months.desk.run("t_auditor", &["inspect", "i"]);
    assert!(inspected.code == Some(0) && inspected.out.contains("detached with its month"), "{inspected:?}");
    assert!(inspected.out.contains(&months.table("attempts")), "{inspected:?}");
}

impl Months {
    /// What `verify` says of the table itself, and of a copy that somebody changed.
    async fn verified(&self, detached: &Value) {
        let table = self.table("attempts");
        let verify = |options: &[&str]| self.desk.run("t_migrator", &[&["partitions", "verify"], options].concat());
        assert_eq!(verify(&[&table]).code, Some(0));
        let copy = format!("archive.{table}");
        self.does(&format!(
            "create schema archive authorization outbox_owner; create table {copy} (like outbox.{table} including all); \
             insert into {copy} select * from outbox.{table}; alter table {copy} owner to outbox_owner"
        ))
        .await;
        let sha256 = detached[1]["sha256"].as_str().unwrap();
        assert_eq!(verify(&[&copy]).code, Some(0));
        assert_eq!(verify(&[&copy, "--rows", "1", "--sha256", sha256]).code, Some(0));
        self.does(&format!("update {copy} set rail_reference = 'S'")).await;
        let changed = verify(&[&copy]);
        assert!(changed.code == Some(65) && changed.err.contains("is not what its receipt says"), "{changed:?}");
        assert!(changed.err.contains(sha256), "{changed:?}");
        assert_eq!(verify(&[&copy, "--rows", "1", "--sha256", sha256]).code, Some(65));
        assert_eq!(verify(&["no_such_table"]).code, Some(66));
    }
}

#[tokio::test]
async fn a_detach_that_an_open_transaction_holds_up_says_so_and_goes_on_when_run_again() {
    let months = Months::with_a_payment().await;
    months.does(ENDED).await;
    assert_eq!(months.detach(&[]).code, Some(1));
    assert_eq!(months.audit(&["--full"]).code, Some(0));
    let mut reader = months.desk.dba().await;
    sqlx::raw_sql("begin; select count(*) from outbox.payment_outbox_instructions").execute(&mut reader).await.unwrap();
    let held_up = months.detach(&["--wait", "100ms"]);
    assert!(held_up.code == Some(69) && held_up.err.contains("run it again, it goes on from here"), "{held_up:?}");
    assert_eq!(months.listed()[0]["state"], "DETACHING");
    sqlx::raw_sql("commit").execute(&mut reader).await.unwrap();
    assert_eq!(months.detach(&[]).code, Some(0));
    let states: Vec<Value> = months.listed().iter().map(|row| row["state"].clone()).collect();
    assert_eq!(states, ["DETACHED", "DETACHED"]);
}

#[tokio::test]
async fn months_are_made_and_only_the_migrator_makes_and_detaches_them() {
    let months = Months::with_a_payment().await;
    let ensure = ["partitions", "ensure", "--output", "json"];
    assert_eq!(months.desk.run("t_migrator", &ensure).json(), json!({"partitions_made": 0}));
    months
        .does(
            "do $$ declare v text; begin
                for v in select table_name from outbox.read_outbox_partitions() order by month desc limit 2 loop
                    execute format('drop table outbox.%I', v);
                end loop; end $$",
        )
        .await;
    assert_eq!(months.desk.run("t_migrator", &ensure).json(), json!({"partitions_made": 2}));
    for words in [&ensure[..], &["partitions", "detach", "2020-01", "--min-age", "1day"]] {
        let refused = months.desk.run("t_operator", words);
        assert!(refused.code == Some(1) && refused.err.contains("not as outbox_owner"), "{refused:?}");
    }
    assert_eq!(months.desk.run("t_operator", &["partitions", "list"]).code, Some(77));
    assert_eq!(months.desk.run("t_auditor", &["partitions", "list"]).code, Some(0));
    let unknown = months.desk.run("t_migrator", &["partitions", "detach", "2020-01", "--min-age", "1day"]);
    assert!(unknown.code == Some(65) && unknown.err.contains("no partition 2020-01"), "{unknown:?}");
    assert_eq!(months.desk.run("t_migrator", &["partitions", "detach", "2020-1", "--min-age", "1day"]).code, Some(64));
    assert_eq!(
        months.desk.run("t_migrator", &["partitions", "detach", "2020-01"]).code,
        Some(64),
        "the age is asked for"
    );
}

/// Runs a program of Postgres to its end.
fn client(program: &str, arguments: &[&str]) -> Ended {
    let of_version = Path::new("/usr/lib/postgresql/15/bin").join(program);
    let program = if of_version.exists() { of_version } else { program.into() };
    let mut command = Command::new(program);
    command.args(arguments).current_dir(workspace_root());
    crate::commands_binary::end(&mut command, b"")
}

#[tokio::test]
async fn a_dump_restored_into_an_archive_has_the_hash_of_the_receipt_until_it_is_changed() {
    // The dump program of one version is everywhere; the hash is alike on all, as the other tests say.
    if PgVersion::from_environment().unwrap() != PgVersion::V15 {
        return;
    }
    let months = Months::with_a_payment().await;
    months.does(ENDED).await;
    assert_eq!(months.detach(&[]).code, Some(1));
    assert_eq!(months.audit(&["--full"]).code, Some(0));
    let detached = months.detach(&["--output", "json"]).json();
    let archive = Desk::on(TestDb::create_empty_on(months.desk.db.address()).await.unwrap());
    let (from, into) = (months.desk.db.url("postgres"), archive.db.url("postgres"));
    let dump = months.desk.dir.path().join("month.dump");
    let tables = ["instructions", "attempts"].map(|what| format!("outbox.{}", months.table(what)));
    let dumped = client("pg_dump", &["-Fc", "-t", &tables[0], "-t", &tables[1], "-f", text(&dump), &from]);
    assert_eq!(dumped.code, Some(0), "{dumped:?}");
    let functions = ["refuse_history_change", "refuse_sealed_change", "hash_table_chunk"]
        .map(|name| format!("migrations/functions/{name}.sql"));
    let words = ["-X", "-v", "ON_ERROR_STOP=1", "-d", &into, "-c", "create schema outbox"];
    let files = functions.iter().flat_map(|file| ["-f", file.as_str()]);
    let prepared = client("psql", &words.into_iter().chain(files).collect::<Vec<_>>());
    assert_eq!(prepared.code, Some(0), "{prepared:?}");
    let options = ["--no-owner", "--no-privileges", "--exit-on-error", "-d", &into, text(&dump)];
    let restored = client("pg_restore", &options);
    assert_eq!(restored.code, Some(0), "{restored:?}");
    for (row, table) in detached.as_array().unwrap().iter().zip(&tables) {
        let rows = row["rows"].to_string();
        let words = ["partitions", "verify", table, "--rows", &rows, "--sha256", row["sha256"].as_str().unwrap()];
        assert_eq!(archive.run("postgres", &words).code, Some(0), "{table}");
        // There the guards are the archive's own, and whoever runs it can take them off.
        let change = format!(
            "alter table {table} disable trigger month_is_sealed; update {table} set rail = 'telex'; alter table {table} enable always trigger month_is_sealed"
        );
        sqlx::raw_sql(AssertSqlSafe(change)).execute(&mut archive.dba().await).await.unwrap();
        assert_eq!(archive.run("postgres", &words).code, Some(65), "{table}");
    }
}
