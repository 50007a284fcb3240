//! `scripts/db/ci_invariant_gate.sql`, run with psql as a DBA does: it passes on a sound database, and each check fails by
//! its name, and no other with it that need not, when exactly that is broken.

use std::process::Command;
use std::time::Duration;

use outbox_store::{ConnectSettings, migrate};
use outbox_testkit::{PgServer, PgVersion, TestDb, workspace_root};

use crate::sql::{refused, run};

/// Every check, in the gate's order. A new one is proved below as well.
const CHECKS: [&str; 19] = [
    "required_relations",
    "boot_query",
    "owner",
    "public_has_nothing",
    "public_has_nothing_in_information_schema",
    "runtime_roles_create_nothing",
    "roles_are_plain",
    "table_grants",
    "definer_search_path",
    "function_grants",
    "function_texts",
    "history_rows_are_guarded",
    "history_truncate_is_guarded",
    "terminal_uniqueness",
    "due_claim_index",
    "other_indexes",
    "constraints",
    "storage",
    "default_privileges",
];

/// The month before the current one of the ledger, as `%1$s` in what follows.
const A_MONTH: &str = "select to_char(clock_timestamp() at time zone 'UTC' - interval '1 month', '\"outbox.payment_outbox_attempts_y\"YYYY\"m\"MM')";

/// How the gate ended on a database.
struct Verdict {
    passed: bool,
    lines: Vec<String>,
    said: String,
}

impl Verdict {
    fn failed(&self) -> Vec<&str> {
        self.lines.iter().filter_map(|line| line.strip_prefix("FAIL ")?.split(' ').next()).collect()
    }
}

async fn gate(db: &TestDb) -> Verdict {
    gate_as(&db.url("postgres")).await
}

async fn gate_as(url: &str) -> Verdict {
    let mut psql = Command::new("psql");
    psql.args(["-X", "-d", url, "-f", "scripts/db/ci_invariant_gate.sql"]);
    psql.current_dir(workspace_root());
    let output = tokio::task::spawn_blocking(move || psql.output()).await.unwrap().unwrap();
    let lines = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(0 | 3)), "{:?} {said}", output.status);
    Verdict { passed: output.status.success(), lines, said }
}

/// Breaks a fresh database as `login` does it and runs the gate: exactly these checks fail, and psql's error names them.
async fn fails(checks: &[&str], login: &str, breakage: &str) {
    let db = TestDb::create().await.unwrap();
    run(&mut db.connect_as(login).await.unwrap(), breakage).await;
    let verdict = gate(&db).await;
    assert_eq!(verdict.failed(), checks, "{breakage}\n{}", verdict.lines.join("\n"));
    assert!(!verdict.passed, "{breakage}");
    let named = format!("invariants do not hold: {}\n", checks.join(", "));
    assert!(verdict.said.contains(&named), "{breakage}: {}", verdict.said);
}

/// A statement with the name of a month's partition for each `%1$s`.
fn on_a_month(statement: &str) -> String {
    format!("do $do$ begin execute format($${statement}$$, ({A_MONTH})); end $do$")
}

#[tokio::test]
async fn a_sound_database_passes_every_check_by_its_name() {
    let db = TestDb::create().await.unwrap();
    let verdict = gate(&db).await;
    let passed: Vec<&str> =
        verdict.lines.iter().map(|line| line.strip_prefix("ok ").unwrap().split(' ').next().unwrap()).collect();
    assert_eq!(passed, CHECKS);
    assert!(verdict.passed && verdict.said.is_empty(), "{}", verdict.said);
}

#[tokio::test]
async fn an_administrator_without_superuser_prepares_a_database_that_passes() {
    let server =
        tokio::task::spawn_blocking(|| PgServer::start(PgVersion::from_environment().unwrap())).await.unwrap().unwrap();
    let mut root = server.address().connect("postgres", "postgres").await.unwrap();
    run(&mut root, "create role managed_dba login createrole").await;
    run(&mut root, "create database payments owner managed_dba").await;
    let bootstrap = std::fs::read_to_string(workspace_root().join("scripts/db/bootstrap.sql")).unwrap();
    run(&mut server.address().connect("payments", "managed_dba").await.unwrap(), &bootstrap).await;
    let migrator = ConnectSettings::from_url(&server.url("payments", "outbox_migrator")).unwrap().for_people();
    migrate(&migrator, Duration::from_secs(30)).await.unwrap();
    let verdict = gate_as(&server.url("payments", "managed_dba")).await;
    assert!(verdict.passed, "{}", verdict.lines.join("\n"));
}

#[tokio::test]
async fn a_gate_that_cannot_read_the_record_fails() {
    let db = TestDb::create().await.unwrap();
    let mut psql = Command::new("psql");
    psql.args(["-X", "-d", &db.url("postgres"), "-f", "ci_invariant_gate.sql"]);
    psql.current_dir(workspace_root().join("scripts/db"));
    let output = tokio::task::spawn_blocking(move || psql.output()).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(3));
}

#[tokio::test]
async fn a_missing_relation_fails_the_gate() {
    fails(&["required_relations"], "t_migrator", "drop view outbox.reconcile_closed").await;
    let other_kind = "drop view outbox.reconcile_closed;
        create materialized view outbox.reconcile_closed as select; revoke usage on type outbox.reconcile_closed from public";
    fails(&["required_relations"], "t_migrator", other_kind).await;
}

#[tokio::test]
async fn a_boot_query_that_does_not_give_one_version_fails_the_gate() {
    let renamed = "alter view outbox.policy_versions rename column is_active to was_active";
    fails(&["boot_query"], "t_migrator", renamed).await;
    let policy = |is_active: &str| {
        format!(
            "create or replace view outbox.policy_versions as
             select v as version, null::text as checksum, null::text as status, null::timestamptz as activated_at, {is_active} as is_active,
                    null::integer as base_version, null::text as proposed_by, null::timestamptz as proposed_at, null::text as decided_by,
                    null::timestamptz as decided_at, null::text as activated_by
               from generate_series(1, 2) as v"
        )
    };
    fails(&["boot_query"], "t_migrator", &policy("true")).await;
    let db = TestDb::create().await.unwrap();
    run(&mut db.connect_as("t_migrator").await.unwrap(), &policy("v = 2")).await;
    assert!(gate(&db).await.passed);
}

#[tokio::test]
async fn what_belongs_to_another_than_the_owner_fails_the_gate() {
    fails(&["owner"], "postgres", "alter view outbox.reconcile_closed owner to postgres").await;
    fails(&["owner"], "postgres", "alter function outbox.read_outbox_health() owner to postgres").await;
    fails(&["owner"], "postgres", "alter schema outbox owner to postgres").await;
    let made = "create type outbox.other as enum ('a'); revoke usage on type outbox.other from public";
    fails(&["owner"], "postgres", made).await;
}

#[tokio::test]
async fn anything_that_public_has_fails_the_gate() {
    let by_both = ["public_has_nothing", "public_has_nothing_in_information_schema"];
    fails(&by_both[..1], "t_migrator", "grant usage on schema outbox to public").await;
    // A row type, and that of a partition: what the default privileges do not reach.
    fails(&by_both, "t_migrator", "grant usage on type outbox.payment_rails to public").await;
    fails(&by_both, "t_migrator", &on_a_month("grant usage on type %1$s to public")).await;
    fails(
        &by_both[..1],
        "t_migrator",
        "create type outbox.kind as enum ('a'); grant usage on type outbox.kind to public",
    )
    .await;
    let more = [by_both.as_slice(), &["table_grants"]].concat();
    fails(&more, "t_migrator", "grant select on outbox.payment_rails to public").await;
    fails(&more, "t_migrator", "grant select (payload) on outbox.payment_outbox_instructions to public").await;
    let more = [by_both.as_slice(), &["function_grants"]].concat();
    fails(&more, "t_migrator", "grant execute on function outbox.read_outbox_health() to public").await;
}

#[tokio::test]
async fn the_next_migrate_takes_a_restored_row_type_from_public() {
    let db = TestDb::create().await.unwrap();
    let mut migrator = db.connect_as("t_migrator").await.unwrap();
    run(&mut migrator, "grant usage on type outbox.payment_outbox_pending to public").await;
    run(&mut migrator, "select outbox.ensure_outbox_partitions()").await;
    assert!(gate(&db).await.passed);
    let mut nobody = db.connect_as("t_dispatcher").await.unwrap();
    let column = "create temporary table mine (theirs outbox.payment_outbox_pending)";
    assert_eq!(refused(&mut nobody, column).await.code, "42501");
}

#[tokio::test]
async fn a_runtime_role_that_may_create_fails_the_gate() {
    let check = ["runtime_roles_create_nothing"];
    fails(&check, "t_migrator", "grant create on schema outbox to outbox_dispatcher").await;
    // A login of a group role, by itself.
    fails(&check, "t_migrator", "grant create on schema outbox to t_ingest").await;
    let database =
        "do $$ begin execute format('grant create on database %I to outbox_monitor', current_database()); end $$";
    fails(&check, "postgres", database).await;
}

#[tokio::test]
async fn a_role_with_more_than_its_rights_fails_the_gate() {
    // Roles belong to a whole server: this one is not shared.
    let server =
        tokio::task::spawn_blocking(|| PgServer::start(PgVersion::from_environment().unwrap())).await.unwrap().unwrap();
    let db = TestDb::create_on(server.address()).await.unwrap();
    let mut dba = db.connect_as("postgres").await.unwrap();
    for (breakage, repair) in [
        ("alter role outbox_owner login", "alter role outbox_owner nologin"),
        ("alter role outbox_ingest login", "alter role outbox_ingest nologin"),
        ("alter role outbox_operator bypassrls", "alter role outbox_operator nobypassrls"),
        ("grant outbox_owner to t_approver", "revoke outbox_owner from t_approver"),
    ] {
        run(&mut dba, breakage).await;
        let verdict = gate(&db).await;
        let failed = verdict.failed();
        assert!(failed.contains(&"roles_are_plain") && !verdict.passed, "{breakage}: {failed:?}");
        assert!(failed.iter().all(|name| *name == "roles_are_plain" || breakage.starts_with("grant")), "{failed:?}");
        run(&mut dba, repair).await;
    }
    assert!(gate(&db).await.passed);
}

#[tokio::test]
async fn a_right_to_a_table_that_is_not_written_down_fails_the_gate() {
    let check = ["table_grants"];
    fails(&check, "t_migrator", "grant insert on outbox.payment_outbox_pending to outbox_dispatcher").await;
    fails(&check, "t_migrator", "grant select (payload) on outbox.payment_outbox_instructions to outbox_auditor").await;
    fails(&check, "t_migrator", "revoke select on outbox.payment_outbox_attempts from outbox_auditor").await;
    fails(&check, "t_migrator", &on_a_month("grant select on %1$s to outbox_auditor")).await;
    fails(&check, "t_migrator", &on_a_month("grant update (state) on %1$s to t_operator")).await;
}

#[tokio::test]
async fn a_definer_function_without_its_pin_fails_the_gate() {
    let check = ["definer_search_path"];
    fails(&check, "t_migrator", "alter function outbox.read_outbox_health() reset search_path").await;
    let loose = "alter function outbox.read_outbox_health() set search_path = pg_catalog, public";
    fails(&check, "t_migrator", loose).await;
    let plpgsql = "alter function outbox.guard_history_table(regclass) reset search_path";
    fails(&check, "t_migrator", plpgsql).await;
}

#[tokio::test]
async fn a_function_with_other_rights_than_written_down_fails_the_gate() {
    let check = ["function_grants"];
    fails(&check, "t_migrator", "grant execute on function outbox.read_outbox_health() to outbox_ingest").await;
    fails(&check, "t_migrator", "revoke execute on function outbox.read_outbox_health() from outbox_monitor").await;
    fails(
        &check,
        "t_migrator",
        "alter function outbox.outbox_id_floor(timestamptz) security definer set search_path = pg_catalog, pg_temp",
    )
    .await;
    fails(&check, "t_migrator", "drop function outbox.partition_headroom_months()").await;
}

#[tokio::test]
async fn a_function_with_another_text_fails_the_gate() {
    let nothing = "create or replace function outbox.refuse_history_change() returns trigger language plpgsql
        set search_path = pg_catalog, pg_temp as $$ begin return old; end $$";
    fails(&["function_texts"], "t_migrator", nothing).await;
    let stranger = "create function outbox.stranger() returns int language sql as 'select 1'";
    fails(&["function_grants", "function_texts"], "t_migrator", stranger).await;
}

#[tokio::test]
async fn history_whose_rows_are_not_guarded_fails_the_gate() {
    let check = ["history_rows_are_guarded"];
    let trigger = "history_is_never_changed";
    fails(&check, "t_migrator", &format!("drop trigger {trigger} on outbox.audit_checkpoints")).await;
    fails(&check, "t_migrator", &format!("alter table outbox.outbox_cluster enable trigger {trigger}")).await;
    fails(&check, "t_migrator", &on_a_month(&format!("alter table %1$s disable trigger {trigger}"))).await;
    let never = format!(
        "drop trigger {trigger} on outbox.operator_actions;
         create trigger {trigger} before update or delete on outbox.operator_actions for each row when (old.kind = 'x')
             execute function outbox.refuse_history_change();
         alter table outbox.operator_actions enable always trigger {trigger}"
    );
    fails(&check, "t_migrator", &never).await;
    // A table that nobody guarded and nobody wrote down as one that may change.
    let later = "create table outbox.later (a int); revoke usage on type outbox.later from public;
        select outbox.guard_history_table('outbox.later')";
    fails(&check, "t_migrator", later).await;
}

#[tokio::test]
async fn history_whose_truncation_is_not_guarded_fails_the_gate() {
    let check = ["history_truncate_is_guarded"];
    let trigger = "history_is_never_truncated";
    fails(&check, "t_migrator", &format!("drop trigger {trigger} on outbox.payment_outbox_late_outcomes")).await;
    fails(&check, "t_migrator", &on_a_month(&format!("drop trigger {trigger} on %1$s"))).await;
    fails(&check, "t_migrator", &on_a_month(&format!("alter table %1$s enable replica trigger {trigger}"))).await;
    // A partition beside the schema is history as well.
    let elsewhere = "create schema elsewhere authorization outbox_owner; set role outbox_owner;
        create table elsewhere.month (like outbox.payment_outbox_attempts including defaults including constraints);
        alter table outbox.payment_outbox_attempts attach partition elsewhere.month
            for values from ('00000000-0000-7000-8000-000000000000') to ('00000000-0000-7000-9000-000000000000')";
    fails(&check, "postgres", elsewhere).await;
}

#[tokio::test]
async fn ends_that_are_not_unique_fail_the_gate() {
    let check = ["terminal_uniqueness"];
    fails(&check, "t_migrator", "drop index outbox.payment_outbox_attempts_one_terminal").await;
    let narrower = "drop index outbox.payment_outbox_attempts_one_terminal;
        create unique index payment_outbox_attempts_one_terminal on outbox.payment_outbox_attempts (outbox_id) where state = 'DISPATCHED'";
    fails(&check, "t_migrator", narrower).await;
    let invalid = "update pg_index set indisvalid = false where indexrelid =
        (select max(inhrelid) from pg_inherits where inhparent = 'outbox.payment_outbox_attempts_one_terminal'::regclass)";
    fails(&check, "postgres", invalid).await;
}

#[tokio::test]
async fn a_due_index_that_claims_cannot_use_fails_the_gate() {
    let check = ["due_claim_index"];
    fails(&check, "t_migrator", "drop index outbox.payment_outbox_pending_due").await;
    let invalid =
        "update pg_index set indisvalid = false where indexrelid = 'outbox.payment_outbox_pending_due'::regclass";
    fails(&check, "postgres", invalid).await;
    let with_lease = "drop index outbox.payment_outbox_pending_due;
        create index payment_outbox_pending_due on outbox.payment_outbox_pending (rail, next_attempt_at, lease_token)
            where disposition in ('READY', 'IN_DOUBT')";
    fails(&check, "t_migrator", with_lease).await;
}

#[tokio::test]
async fn another_index_or_constraint_than_written_down_fails_the_gate() {
    fails(&["other_indexes"], "t_migrator", "drop index outbox.reconcile_matches_payment").await;
    let check = ["constraints"];
    fails(&check, "t_migrator", "alter table outbox.payment_rails drop constraint max_sends_is_positive").await;
    let not_valid = "alter table outbox.payment_rails drop constraint max_sends_is_positive;
        alter table outbox.payment_rails add constraint max_sends_is_positive check (max_sends > 0) not valid";
    fails(&check, "t_migrator", not_valid).await;
}

#[tokio::test]
async fn storage_that_is_not_as_written_fails_the_gate() {
    let check = ["storage"];
    fails(&check, "t_migrator", "alter table outbox.payment_outbox_pending set (fillfactor = 90)").await;
    fails(&check, "t_migrator", "alter table outbox.payment_outbox_pending reset (vacuum_truncate)").await;
    let slower = "alter table outbox.payment_outbox_order set (autovacuum_vacuum_threshold = 5000000)";
    fails(&check, "t_migrator", slower).await;
    fails(&check, "t_migrator", "alter table outbox.payment_outbox_late_outcomes set (autovacuum_enabled = off)").await;
}

#[tokio::test]
async fn default_privileges_that_are_not_global_fail_the_gate() {
    let check = ["default_privileges"];
    let global = "alter default privileges for role outbox_owner grant execute on functions to public";
    fails(&check, "t_migrator", global).await;
    fails(&check, "t_migrator", "alter default privileges for role outbox_owner grant usage on types to public").await;
    let of_the_schema =
        "alter default privileges for role outbox_owner in schema outbox grant execute on functions to outbox_ingest";
    fails(&check, "t_migrator", of_the_schema).await;
}
