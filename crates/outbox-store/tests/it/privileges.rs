//! Who may do what: each login tries each verb on each object of a live database, and the outcome is
//! compared with the table written here. What the catalogue alone can say of PUBLIC, owners and search
//! paths is asked of the catalogue. Attacks that need more than one step are in `attacks`.

use std::collections::{BTreeMap, BTreeSet};

use outbox_testkit::{LOGINS, TestDb};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor as _};

use crate::sql::{column, fetch, refusal_of, run, scalar};

/// Login, object, verbs. What is not here is refused. The migrator acts as the owner and is not listed.
const TABLES: &str = "
t_auditor  payment_outbox_identities      select
t_auditor  payment_outbox_instructions    select-but-payload
t_auditor  payment_outbox_attempts        select
t_auditor  payment_outbox_late_outcomes   select
t_auditor  operator_actions               select
t_auditor  operator_action_members        select
t_auditor  operator_action_decisions      select
t_auditor  operator_action_results        select
t_auditor  outbox_cluster                 select
t_auditor  reconcile_statements           select
t_auditor  reconcile_lines                select
t_auditor  reconcile_matches              select
t_auditor  reconcile_comparisons          select
t_auditor  reconcile_voidings             select
t_auditor  reconcile_breaks               select
t_auditor  reconcile_resolutions          select
t_auditor  audit_checkpoints              select
t_auditor  ingress_attestations           select
t_auditor  ingress_requests               select
t_auditor  revoked_client_certs           select
t_auditor  revoked_tokens                 select
t_auditor  policy_documents               select
t_auditor  policy_decisions               select
t_auditor  policy_activations             select
t_auditor  policy_versions                select
t_auditor  partition_seals                select
t_auditor  partition_receipts             select
t_auditor  schema_migrations              select
";

/// Function, and who executes it. What is not here is refused.
const FUNCTIONS: &str = "
enqueue_payment_outbox        t_ingest
enqueue_payment_outbox_text   t_ingest
enqueue_payment_outbox_batch  t_ingest
record_ingress_attestation    t_ingest
revoke_client_cert            t_operator
revoke_token                  t_operator
read_revoked_client_certs     t_dispatcher t_operator t_approver t_auditor t_monitor
claim_outbox_batch            t_dispatcher
expire_outbox_leases          t_dispatcher
unpark_outbox_rows            t_dispatcher
renew_outbox_leases           t_dispatcher
release_outbox_leases         t_dispatcher
complete_outbox_batch         t_dispatcher
dispatcher_heartbeat          t_dispatcher
dispatcher_preflight          t_dispatcher
excess_privilege_of           t_dispatcher
try_wakeup_lock               t_dispatcher
release_wakeup_lock           t_dispatcher
check_epoch                   t_dispatcher
read_outbox_health            t_dispatcher t_monitor
set_payment_rail              t_operator
read_payment_rails            t_ingest t_dispatcher t_operator t_approver t_auditor t_monitor
read_api_range                t_ingest t_dispatcher t_operator t_approver t_auditor t_monitor
read_outbox_status            t_operator t_approver t_auditor t_monitor
read_blocked_keys             t_operator t_approver t_auditor t_monitor
read_outbox_payments          t_operator t_approver t_auditor
read_operator_actions         t_operator t_approver t_auditor
read_action_members           t_operator t_approver t_auditor
read_outbox_metrics           t_dispatcher t_monitor
read_outbox_pauses            t_dispatcher t_operator t_approver t_auditor t_monitor
propose_operator_action       t_operator
withdraw_operator_action      t_operator
set_outbox_pause              t_operator
propose_failover              t_operator
apply_operator_action         t_operator t_approver
apply_failover                t_operator t_approver
decide_operator_action        t_approver
read_payment_timelines        t_operator t_approver t_auditor
audit_outbox                  t_auditor
read_outbox_partitions        t_auditor t_monitor
begin_reconcile               t_operator
record_statement_lines        t_operator
finish_reconcile              t_operator
void_reconcile_statement      t_operator
resolve_reconcile_breaks      t_operator t_approver
read_reconcile_breaks         t_operator t_approver t_auditor
propose_policy                t_operator
decide_policy                 t_approver
activate_policy               t_operator t_approver
read_active_policy            t_dispatcher t_operator t_approver t_auditor t_monitor
read_policy_versions          t_operator t_approver t_auditor
";

/// A login that was given no role. Roles outlive a database, so two tests may make it at once.
const NOBODY: &str = "
do $$ begin create role t_nobody login; exception when duplicate_object or unique_violation then null; end $$;
";

/// Where every login may create tables, so that a refusal is never about the place. Usage of the schema
/// for a login without a role: each object must refuse by itself.
const SCRATCH: &str = "
create schema scratch; grant all on schema scratch to public;
create function scratch.noop() returns trigger language plpgsql as 'begin return new; end';
grant usage on schema outbox to t_nobody;
";

async fn database() -> (TestDb, PgConnection) {
    let db = TestDb::create().await.unwrap();
    let mut dba = db.connect_as("postgres").await.unwrap();
    run(&mut dba, NOBODY).await;
    run(&mut dba, SCRATCH).await;
    (db, dba)
}

fn runtime_logins() -> impl Iterator<Item = &'static str> {
    LOGINS.iter().map(|(login, _)| *login).filter(|login| *login != "t_migrator").chain(["t_nobody"])
}

/// Tries a statement and undoes it; what the server said if it denied permission. A statement that fails
/// for another reason had the right to fail.
async fn denial(connection: &mut PgConnection, statement: &str) -> Option<String> {
    run(connection, "begin").await;
    let tried = connection.execute(sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))).await;
    run(connection, "rollback").await;
    // 42809: what cannot be done to a view; 55000: nor to one of several tables, whoever asks.
    let denied = |code: &str| ["42501", "42809", "55000"].contains(&code);
    tried.err().map(|error| refusal_of(&error)).filter(|refusal| denied(&refusal.code)).map(|refusal| refusal.message)
}

async fn may(connection: &mut PgConnection, statement: &str) -> bool {
    denial(connection, statement).await.is_none()
}

/// A table that stands for its kind, with its columns.
struct Table {
    name: String,
    is_view: bool,
    columns: Vec<String>,
}

/// Every table, and of partitions the first, the current and the last month and two of the sixteen.
async fn tables(dba: &mut PgConnection) -> Vec<Table> {
    let names: Vec<String> = column(
        dba,
        "select c.relname::text from pg_class c
          where c.relnamespace = 'outbox'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')
            and (not c.relispartition or c.relname ~ '_h(00|15)$'
                 or right(c.relname, 8) in (
                     select to_char(current_date + m * interval '1 month', '\"y\"YYYY\"m\"MM') from unnest(array[-1, 0, 24]) as m))
          order by 1",
    )
    .await;
    let mut tables = Vec::new();
    for name in names {
        let text = format!(
            "select attname::text from pg_attribute where attrelid = 'outbox.{name}'::regclass and attnum > 0 and not attisdropped order by attnum"
        );
        let kind = format!("select relkind = 'v' from pg_class where oid = 'outbox.{name}'::regclass");
        let is_view = scalar(dba, &kind).await;
        tables.push(Table { columns: column(dba, &text).await, name, is_view });
    }
    tables
}

/// What the login may read of the table: `select`, or with what is left out.
async fn readable(connection: &mut PgConnection, table: &Table) -> Option<String> {
    let mut hidden = Vec::new();
    for name in &table.columns {
        if !may(connection, &format!("select {name} from outbox.{}", table.name)).await {
            hidden.push(name.as_str());
        }
    }
    match hidden.len() {
        0 => Some("select".to_owned()),
        n if n == table.columns.len() => None,
        _ => Some(format!("select-but-{}", hidden.join("-"))),
    }
}

async fn verbs(connection: &mut PgConnection, table: &Table) -> Vec<String> {
    let (name, first) = (&table.name, &table.columns[0]);
    let mut verbs: Vec<String> = readable(connection, table).await.into_iter().collect();
    for (verb, statement) in [
        ("insert", format!("insert into outbox.{name} default values")),
        ("update", format!("update outbox.{name} set {first} = null")),
        ("delete", format!("delete from outbox.{name}")),
        ("truncate", format!("truncate outbox.{name}")),
        ("references", format!("create table scratch.probe ({first} uuid references outbox.{name})")),
        (
            "trigger",
            format!("create trigger probe before insert on outbox.{name} for each row execute function scratch.noop()"),
        ),
        ("lock", format!("lock table outbox.{name} in access exclusive mode")),
    ] {
        if may(connection, &statement).await {
            verbs.push(verb.to_owned());
        }
    }
    verbs
}

#[tokio::test]
async fn each_login_may_do_to_tables_what_is_written_down_and_no_more() {
    let (db, mut dba) = database().await;
    let tables = tables(&mut dba).await;
    assert_eq!(tables.len(), 52, "all kinds of tables and partitions are tried");
    let mut found = BTreeSet::new();
    for login in runtime_logins() {
        let mut session = db.connect_as(login).await.unwrap();
        for table in &tables {
            let verbs = verbs(&mut session, table).await;
            if !verbs.is_empty() {
                found.insert(format!("{login} {} {}", table.name, verbs.join(" ")));
            }
        }
    }
    assert_eq!(found, lines(TABLES));
    let mut owner = db.connect_as("t_migrator").await.unwrap();
    for table in &tables {
        let all = match table.name.as_str() {
            "policy_versions" => 2,
            _ if table.is_view => 5,
            _ => 8,
        };
        assert_eq!(verbs(&mut owner, table).await.len(), all, "the owner can do everything to {}", table.name);
    }
}

/// The lines of an expectation, blanks made single.
fn lines(text: &str) -> BTreeSet<String> {
    let single = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text.lines().map(single).filter(|line| !line.is_empty()).collect()
}

/// A value of each parameter type: never null, since a strict function is not even called with one.
fn sample(parameter_type: &str) -> String {
    match parameter_type {
        "text" => "'wire'::text".to_owned(),
        "name" => "'t_dispatcher'::name".to_owned(),
        "integer" | "bigint" => format!("1::{parameter_type}"),
        "boolean" => "false".to_owned(),
        "uuid" => "gen_random_uuid()".to_owned(),
        "bytea" => "''::bytea".to_owned(),
        "timestamp with time zone" => "clock_timestamp()".to_owned(),
        "jsonb" => "'{}'::jsonb".to_owned(),
        "tstzmultirange" => "tstzmultirange()".to_owned(),
        "date" => "current_date".to_owned(),
        "interval" => "interval '1 s'".to_owned(),
        "regclass" => "'outbox.payment_rails'::regclass".to_owned(),
        row if row.starts_with("outbox.") => format!("null::{row}"),
        array if array.ends_with("[]") => format!("'{{}}'::{array}"),
        other => panic!("no sample of {other}"),
    }
}

/// Each function with a call of it.
async fn calls(dba: &mut PgConnection) -> Vec<(String, String)> {
    let rows = fetch(
        dba,
        "select p.proname::text, array(select format_type(a.type, null) from unnest(p.proargtypes) with ordinality as a (type, place)
                                        order by a.place)
           from pg_proc p where p.pronamespace = 'outbox'::regnamespace order by 1",
    )
    .await;
    let call = |row: &sqlx::postgres::PgRow| {
        use sqlx::Row as _;
        let (name, types): (String, Vec<String>) = (row.get(0), row.get(1));
        let arguments: Vec<String> = types.iter().map(|t| sample(t)).collect();
        let call = format!("select outbox.{name}({})", arguments.join(", "));
        (name, call)
    };
    rows.iter().map(call).collect()
}

#[tokio::test]
async fn each_login_executes_the_functions_written_down_and_no_more() {
    let (db, mut dba) = database().await;
    let calls = calls(&mut dba).await;
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for login in runtime_logins() {
        let mut session = db.connect_as(login).await.unwrap();
        for (name, call) in &calls {
            match denial(&mut session, call).await {
                Some(message) if message.starts_with("permission denied for function") && message.ends_with(name) => {}
                // It was let in and then lacked a right: too much was granted, or too little.
                Some(message) => found.entry(name.clone()).or_default().push(format!("{login}:{message}")),
                None => found.entry(name.clone()).or_default().push(login.to_owned()),
            }
        }
    }
    let sorted = |line: String| {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        words[1..].sort();
        words.join(" ")
    };
    let found: BTreeSet<String> =
        found.into_iter().map(|(name, logins)| sorted(format!("{name} {}", logins.join(" ")))).collect();
    assert_eq!(found, lines(FUNCTIONS).into_iter().map(sorted).collect());
    let mut owner = db.connect_as("t_migrator").await.unwrap();
    for (name, call) in &calls {
        assert!(may(&mut owner, call).await, "the owner executes {name}");
    }
}

#[tokio::test]
async fn only_the_owner_creates_in_the_schema() {
    let (db, _dba) = database().await;
    for login in runtime_logins() {
        let mut session = db.connect_as(login).await.unwrap();
        for statement in [
            "create table outbox.probe ()",
            "create view outbox.probe as select 1",
            "create function outbox.probe() returns int language sql as 'select 1'",
            "create type outbox.probe as enum ()",
            "create sequence outbox.probe",
            "alter schema outbox rename to probe",
            "drop schema outbox cascade",
            "alter schema outbox owner to current_user",
        ] {
            assert!(!may(&mut session, statement).await, "{login}: {statement}");
        }
    }
    let mut owner = db.connect_as("t_migrator").await.unwrap();
    assert!(may(&mut owner, "create table outbox.probe ()").await);
}

#[tokio::test]
async fn public_has_nothing_of_what_is_made_now_or_later() {
    let (db, mut dba) = database().await;
    run(
        &mut db.connect_as("t_migrator").await.unwrap(),
        "create function outbox.later() returns int language sql as 'select 1';
         create type outbox.later_kind as enum ('a');
         create table outbox.later_table (kind outbox.later_kind);
         create view outbox.later_view as select 1;",
    )
    .await;
    let open: Vec<String> = column(
        &mut dba,
        "select o.what || ' ' || a.privilege_type
           from (select c.relname::text as what, coalesce(c.relacl, acldefault('r', c.relowner)) as acl from pg_class c
                  where c.relnamespace = 'outbox'::regnamespace
                 union all
                 select a.attname, a.attacl from pg_attribute a join pg_class c on c.oid = a.attrelid
                  where c.relnamespace = 'outbox'::regnamespace and a.attacl is not null
                 union all
                 select p.proname, coalesce(p.proacl, acldefault('f', p.proowner)) from pg_proc p
                  where p.pronamespace = 'outbox'::regnamespace
                 union all
                 select t.typname, coalesce(t.typacl, acldefault('T', t.typowner)) from pg_type t
                  where t.typnamespace = 'outbox'::regnamespace and t.typrelid = 0 and t.typelem = 0
                 union all
                 select n.nspname, coalesce(n.nspacl, acldefault('n', n.nspowner)) from pg_namespace n where n.nspname = 'outbox') as o
          cross join aclexplode(o.acl) as a
          where a.grantee = 0",
    )
    .await;
    assert_eq!(open, Vec::<String>::new());
    let mut nobody = db.connect_as("t_nobody").await.unwrap();
    assert!(!may(&mut nobody, "select outbox.later()").await);
    assert!(!may(&mut nobody, "create table scratch.probe (kind outbox.later_kind)").await);
}

#[tokio::test]
async fn every_object_belongs_to_the_owner_who_cannot_log_in() {
    let (_db, mut dba) = database().await;
    let others: Vec<String> = column(
        &mut dba,
        "select o.name::text from (
             select relname as name, relowner as owner from pg_class where relnamespace = 'outbox'::regnamespace
             union all select proname, proowner from pg_proc where pronamespace = 'outbox'::regnamespace
             union all select typname, typowner from pg_type where typnamespace = 'outbox'::regnamespace
             union all select nspname, nspowner from pg_namespace where nspname = 'outbox') as o
          where o.owner <> 'outbox_owner'::regrole",
    )
    .await;
    assert_eq!(others, Vec::<String>::new());
    let strong: Vec<String> = column(
        &mut dba,
        "select r.rolname::text from pg_roles r
          where (r.rolname ~ '^outbox_' or r.rolname ~ '^t_(ingest|dispatcher|operator|approver|auditor|monitor|nobody)$')
            and (r.rolsuper or r.rolcreaterole or r.rolcreatedb or r.rolreplication or r.rolbypassrls
                 or (r.rolcanlogin and r.rolname = 'outbox_owner')
                 or (pg_has_role(r.oid, 'outbox_owner', 'member') and r.rolname not in ('outbox_owner', 'outbox_migrator')))",
    )
    .await;
    assert_eq!(strong, Vec::<String>::new());
}

#[tokio::test]
async fn functions_that_run_as_the_owner_pin_their_search_path() {
    let (_db, mut dba) = database().await;
    let definers: i64 =
        scalar(&mut dba, "select count(*) from pg_proc where pronamespace = 'outbox'::regnamespace and prosecdef")
            .await;
    assert!(definers > 10, "{definers} functions run as the owner");
    let unpinned = "select p.proname::text from pg_proc p where p.pronamespace = 'outbox'::regnamespace
        and not coalesce('search_path=pg_catalog, pg_temp' = any (p.proconfig), false)";
    let bad: Vec<String> = column(
        &mut dba,
        &format!("{unpinned} and (p.prosecdef or p.prolang <> (select oid from pg_language where lanname = 'sql'))"),
    )
    .await;
    assert_eq!(bad, Vec::<String>::new());
    // Small SQL functions without a pin can be inlined. They run inside a pinned caller: nobody else may
    // call them, but for read_api_range, which is two constants.
    let granted: Vec<String> = column(
        &mut dba,
        &format!("{unpinned} and exists (select from aclexplode(p.proacl) a where a.grantee <> p.proowner)"),
    )
    .await;
    assert_eq!(granted, ["read_api_range"]);
}
