//! What somebody with one of the logins could try, in several steps: shadowing names, settings of the
//! session, becoming another role, changing the schema. The single verbs are in `privileges`.

use outbox_core::Outcome;
use outbox_store::CompletionVerdict;
use outbox_testkit::LOGINS;
use sqlx::postgres::PgConnection;

use crate::sql::{column, refused, run, scalar};
use crate::world::{World, completion, forged_lease};

/// Functions and operators that answer wrongly, in a schema that stands before pg_catalog, and temporary
/// tables with the names of ours. Whoever shares the database could make them.
const EVIL: &str = "
create schema evil;
create function evil.clock_timestamp() returns timestamptz language sql as 'select ''infinity''::timestamptz';
create function evil.sha256(bytea) returns bytea language sql as 'select ''\\x00''::bytea';
create function evil.cardinality(anyarray) returns integer language sql as 'select null::integer';
create function evil.gen_random_uuid() returns uuid language sql as 'select ''00000000-0000-0000-0000-000000000001''::uuid';
create function evil.count() returns bigint language sql as 'select 0::bigint';
create function evil.never(text, text) returns boolean language sql as 'select false';
create operator evil.= (leftarg = text, rightarg = text, function = evil.never);
create function evil.never(uuid, uuid) returns boolean language sql as 'select false';
create operator evil.= (leftarg = uuid, rightarg = uuid, function = evil.never);
grant usage on schema evil to public;
grant execute on all functions in schema evil to public;
";

const SHADOWS: &str = "
create temp table payment_outbox_identities (like pg_class);
create temp table payment_outbox_instructions (a int);
create temp table payment_outbox_pending (a int);
create temp table payment_outbox_attempts (a int);
create temp table payment_outbox_late_outcomes (a int);
create temp table payment_rails (rail text);
create function pg_temp.clock_timestamp() returns timestamptz language sql as 'select ''infinity''::timestamptz';
create domain pg_temp.jsonb as text;
create domain pg_temp.uuid as text;
set search_path = evil, pg_temp, pg_catalog, outbox, public;
";

async fn shadowed(world: &World, login: &str) -> PgConnection {
    let mut session = world.db.connect_as(login).await.unwrap();
    run(&mut session, SHADOWS).await;
    session
}

#[tokio::test]
async fn shadowed_names_swallow_no_payment() {
    let mut world = World::new().await;
    run(&mut world.dba, EVIL).await;
    let mut ingest = shadowed(&world, "t_ingest").await;
    let id: String = scalar(
        &mut ingest,
        "select outbox_id::text from outbox.enqueue_payment_outbox_batch('{acme}', '{i-1}', '{k-1}', '{wire}', array['<pay/>'::bytea], \
         '{text/xml}', '{100}', '{EUR}', '{null}', '{null}', '{null}', '{null}', '{null}')",
    )
    .await;
    let call = "outbox_id::text from outbox.enqueue_payment_outbox";
    let rest = "'text/xml', 100, 'EUR')";
    for again in [
        format!("select {call}('acme', 'i-1', 'k-1', 'wire', '<pay/>', {rest}"),
        format!("select {call}_text('acme', 'i-1', 'k-1', 'wire', '<pay/>', {rest}"),
    ] {
        assert_eq!(scalar::<String>(&mut ingest, &again).await, id, "the same payment is found again");
    }
    for table in ["identities", "instructions", "pending"] {
        let text = format!("select outbox_id::text from outbox.payment_outbox_{table}");
        assert_eq!(column::<String>(&mut world.dba, &text).await, std::slice::from_ref(&id), "{table}");
        let swallowed: i64 =
            scalar(&mut ingest, &format!("select pg_catalog.count(*) from pg_temp.payment_outbox_{table}")).await;
        assert_eq!(swallowed, 0);
    }
    let recorded = "select (payload_sha256 = sha256(payload) and enqueued_by = 't_ingest' and created_at <= clock_timestamp()) \
                    from outbox.payment_outbox_instructions";
    assert!(scalar::<bool>(&mut world.dba, recorded).await);

    let mut dispatcher = shadowed(&world, "t_dispatcher").await;
    let claim = "select (x).outbox_id::text from (select outbox.claim_outbox_batch('wire', 'w/1', 10, 1000, 0) as x) as c \
                  where (x).kind operator(pg_catalog.=) 'SUBMIT'::text";
    assert_eq!(column::<String>(&mut dispatcher, claim).await, std::slice::from_ref(&id));
    let (number, token): (i32, String) =
        sqlx::query_as("select attempt_count, lease_token::text from outbox.payment_outbox_pending")
            .fetch_one(&mut world.dba)
            .await
            .unwrap();
    let verdict: String = scalar(
        &mut dispatcher,
        &format!(
            "select verdict from outbox.complete_outbox_batch('w/1', '{{{id}}}', '{{{number}}}', '{{{token}}}', '{{ACCEPTED}}', '{{0}}', \
             '{{null}}', '{{null}}', '{{null}}', array[null]::bytea[], array[null]::bytea[], '{{ref-1}}', '{{null}}', '{{null}}', '{{null}}')"
        ),
    )
    .await;
    assert_eq!(verdict, "applied");
    let ledger =
        "select concat_ws(' ', outbox_id, attempt_no, state, rail_reference) from outbox.payment_outbox_attempts";
    assert_eq!(column::<String>(&mut world.dba, ledger).await, [format!("{id} 1 DISPATCHED ref-1")]);
}

#[tokio::test]
async fn shadowed_names_change_no_contract_and_no_report() {
    let mut world = World::new().await;
    run(&mut world.dba, EVIL).await;
    world.enqueue("i", 3).await;
    let mut operator = shadowed(&world, "t_operator").await;
    let new: bool = scalar(&mut operator, "select outbox.set_payment_rail('wire', p_paused => true)").await;
    assert!(!new, "the rail is found");
    let paused = "select paused from outbox.payment_rails where rail = 'wire'";
    assert!(scalar::<bool>(&mut world.dba, paused).await);
    for login in ["t_operator", "t_approver", "t_auditor", "t_monitor"] {
        let mut session = shadowed(&world, login).await;
        let due: i64 = scalar(&mut session, "select due from outbox.read_outbox_status()").await;
        assert_eq!(due, 3, "{login}");
    }
    let mut auditor = shadowed(&world, "t_auditor").await;
    let timelines = "select pg_catalog.count(*) from outbox.read_payment_timelines('i-1')";
    assert_eq!(scalar::<i64>(&mut auditor, timelines).await, 1);
}

#[tokio::test]
async fn no_login_becomes_another_role_or_changes_the_schema() {
    let world = World::new().await;
    for (login, _) in LOGINS.iter().filter(|(login, _)| *login != "t_migrator") {
        let mut session = world.db.connect_as(login).await.unwrap();
        for statement in [
            "set role outbox_owner",
            "set role outbox_migrator",
            "set session authorization outbox_owner",
            "set session authorization postgres",
            "grant outbox_owner to current_user",
            "alter role current_user superuser",
            "alter role outbox_owner login",
            "set session_replication_role = replica",
            "create or replace function outbox.outbox_id_floor(p_at timestamptz) returns uuid language sql as 'select null::uuid'",
            "alter function outbox.outbox_id_floor(timestamptz) owner to current_user",
            "alter function outbox.try_wakeup_lock(text) reset search_path",
            "alter table outbox.payment_outbox_pending owner to current_user",
            "alter table outbox.payment_outbox_pending add column mine text",
            "create index on outbox.payment_outbox_pending (rail)",
            "create rule r as on insert to outbox.payment_outbox_pending do instead nothing",
            "alter default privileges for role outbox_owner grant select on tables to public",
            "grant select on outbox.payment_outbox_pending to public",
            "drop table outbox.payment_outbox_pending",
        ] {
            assert_eq!(refused(&mut session, statement).await.code, "42501", "{login}: {statement}");
        }
    }
}

/// Settings that any session may change and that change how values read, compare or plan.
const SETTINGS: &str = "
set timezone = 'Pacific/Apia'; set datestyle = 'German, DMY'; set intervalstyle = 'sql_standard'; set bytea_output = 'escape';
set extra_float_digits = -15; set transform_null_equals = on; set standard_conforming_strings = off; set escape_string_warning = off;
set enable_indexscan = off; set enable_indexonlyscan = off; set enable_nestloop = off; set enable_sort = on; set enable_hashagg = off;
set plan_cache_mode = force_generic_plan; set join_collapse_limit = 1; set from_collapse_limit = 1; set work_mem = '64kB';
set max_parallel_workers_per_gather = 8; set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0;
set synchronize_seqscans = off; set constraint_exclusion = off; set enable_partition_pruning = off; set client_encoding = 'LATIN1';
";

#[tokio::test]
async fn settings_of_a_session_change_no_payment() {
    let world = World::new().await;
    let mut ingest = world.db.connect_as("t_ingest").await.unwrap();
    let enqueue = "select outbox_id::text from outbox.enqueue_payment_outbox_text('acme', 'i-1', 'k-1', 'wire', '<pay/>', 'text/xml', 100, 'EUR',
        p_not_after => '2099-01-02 03:04:05.678901+00')";
    let id: String = scalar(&mut ingest, enqueue).await;
    world.enqueue("more", 50).await;
    run(&mut ingest, SETTINGS).await;
    assert_eq!(scalar::<String>(&mut ingest, enqueue).await, id, "the identity does not follow the settings");
    let mut dispatcher = world.db.connect_as("t_dispatcher").await.unwrap();
    run(&mut dispatcher, SETTINGS).await;
    let claim =
        "select outbox_id::text from outbox.claim_outbox_batch('wire', 'w/1', 7, 1000, 0) where kind = 'SUBMIT'";
    let claimed: Vec<String> = column(&mut dispatcher, claim).await;
    assert_eq!((claimed.len(), claimed.contains(&id)), (7, true));
    run(&mut dispatcher, "set default_transaction_isolation = 'repeatable read'").await;
    assert_eq!(refused(&mut dispatcher, claim).await.code, "OB006");
}

#[tokio::test]
async fn late_evidence_is_kept_once_whatever_the_session_prints_bytes_as() {
    let mut world = World::new().await;
    let id = world.enqueue("i", 1).await[0];
    let mut worker = world.worker("w");
    worker.claim_one().await;
    let mut late = completion(forged_lease(id, 1), Outcome::Accepted);
    late.response_sha256 = Some([9; 32]);
    assert_eq!(worker.complete(&[late.clone()]).await, [CompletionVerdict::Fenced]);
    let database = world.db.name().to_owned();
    run(&mut world.dba, &format!("alter role t_dispatcher in database {database} set bytea_output = 'escape'")).await;
    worker.session.disconnect();
    assert_eq!(worker.complete(&[late]).await, [CompletionVerdict::Fenced]);
    assert_eq!(scalar::<i64>(&mut world.dba, "select count(*) from outbox.payment_outbox_late_outcomes").await, 1);
}
