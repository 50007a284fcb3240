//! History is append-only: each way round the triggers is tried by each role, on parents, on partitions
//! old and new, and on partitions made later. Who may read history is in `privileges`.

use outbox_core::Outcome;
use outbox_testkit::LOGINS;
use sqlx::postgres::PgConnection;

use crate::sql::{column, refused, run, scalar};
use crate::world::{World, forged_lease, lease};

/// What the append-only triggers raise.
const HISTORY_IS_KEPT: &str = "OB009";
const PERMISSION_DENIED: &str = "42501";

/// Every history table, parents and partitions.
const ALL_TABLES: &str = "
    select t.relid::regclass from (values
        ('outbox.payment_outbox_identities'::regclass), ('outbox.payment_outbox_instructions'),
        ('outbox.payment_outbox_attempts'), ('outbox.payment_outbox_late_outcomes'), ('outbox.ingress_attestations'),
        ('outbox.ingress_requests'), ('outbox.revoked_client_certs'), ('outbox.revoked_tokens')) as r (root)
     cross join lateral (select p.relid from pg_partition_tree(r.root) p
                          union all select r.root where not exists (select from pg_partition_tree(r.root))) as t";

/// A world in which every history table that `touched` names holds a row.
async fn with_history() -> World {
    let mut world = World::new().await;
    let ids = world.enqueue("i", 3).await;
    let mut worker = world.worker("w");
    let claimed = worker.claim(1).await.leased.remove(0);
    worker.complete_one(lease(&claimed), Outcome::Accepted).await;
    let other = ids.into_iter().find(|id| *id != claimed.outbox_id).unwrap();
    worker.complete_one(forged_lease(other, 1), Outcome::Accepted).await;
    // Months in which no payment was enqueued.
    insert_in_month(&mut world.dba, -1).await;
    insert_in_month(&mut world.dba, 24).await;
    world
}

/// The parents, and every partition that holds a row.
async fn touched(dba: &mut PgConnection) -> Vec<String> {
    let tables: Vec<String> = column(
        dba,
        "select 'outbox.payment_outbox_' || t from unnest(array['identities', 'instructions', 'attempts', 'late_outcomes']) as t
         union select tableoid::regclass::text from outbox.payment_outbox_identities
         union select tableoid::regclass::text from outbox.payment_outbox_instructions
         union select tableoid::regclass::text from outbox.payment_outbox_attempts
         union select tableoid::regclass::text from outbox.payment_outbox_late_outcomes",
    )
    .await;
    assert!(tables.len() >= 11, "parents, an identity partition, three months of each: {tables:?}");
    tables
}

/// UPDATE, DELETE and TRUNCATE of the table, each of which must be refused with `code`.
async fn all_refused(session: &mut PgConnection, who: &str, table: &str, code: &str) {
    for statement in [
        format!("update {table} set outbox_id = outbox_id"),
        format!("update {table} set outbox_id = gen_random_uuid()"),
        format!("delete from {table}"),
        format!("truncate {table}"),
        format!("truncate only {table} restart identity cascade"),
        format!("merge into {table} h using (select 1) as s on true when matched then delete"),
    ] {
        // TRUNCATE ONLY of a partitioned table is nothing that Postgres does.
        let code =
            if statement.contains("only") && code == HISTORY_IS_KEPT && is_parent(table) { "42809" } else { code };
        assert_eq!(refused(session, &statement).await.code, code, "{who}: {statement}");
    }
}

fn is_parent(table: &str) -> bool {
    ["identities", "instructions", "attempts"].iter().any(|name| table.ends_with(name))
}

#[tokio::test]
async fn no_role_updates_deletes_or_truncates_history() {
    let mut world = with_history().await;
    let tables = touched(&mut world.dba).await;
    for (login, _) in LOGINS {
        let mut session = world.db.connect_as(login).await.unwrap();
        let code = if login == "t_migrator" { HISTORY_IS_KEPT } else { PERMISSION_DENIED };
        for table in &tables {
            all_refused(&mut session, login, table, code).await;
        }
    }
    for table in &tables {
        all_refused(&mut world.dba, "superuser", table, HISTORY_IS_KEPT).await;
    }
    for table in &tables {
        assert!(scalar::<i64>(&mut world.dba, &format!("select count(*) from {table}")).await > 0, "{table}");
    }
}

#[tokio::test]
async fn replica_mode_of_a_superuser_does_not_go_round_the_triggers() {
    let mut world = with_history().await;
    run(&mut world.dba, "set session_replication_role = replica").await;
    for table in touched(&mut world.dba).await {
        all_refused(&mut world.dba, "superuser as replica", &table, HISTORY_IS_KEPT).await;
    }
}

#[tokio::test]
async fn an_upsert_changes_no_history() {
    let mut world = with_history().await;
    let upsert = "insert into outbox.payment_outbox_identities select * from outbox.payment_outbox_identities
         on conflict on constraint payment_outbox_identities_pkey do update set idempotency_key = 'another'";
    assert_eq!(refused(&mut world.dba, upsert).await.code, HISTORY_IS_KEPT);
}

/// Statements of the owner that would go round the triggers, on a parent or on a partition.
fn ddl(table: &str) -> [String; 9] {
    [
        format!("alter table {table} disable trigger all"),
        format!("alter table {table} disable trigger history_is_never_truncated"),
        format!("alter table {table} enable replica trigger history_is_never_changed"),
        format!("drop trigger history_is_never_truncated on {table}"),
        format!("alter table {table} alter column outbox_id type uuid using gen_random_uuid()"),
        format!("alter table {table} add column tampered text default 'x'"),
        format!("create rule r as on insert to {table} do instead nothing"),
        format!("alter table {table} rename to elsewhere"),
        format!("drop table {table} cascade"),
    ]
}

#[tokio::test]
async fn going_round_the_triggers_by_ddl_is_refused_to_every_login() {
    let mut world = with_history().await;
    let tables = touched(&mut world.dba).await;
    for (login, _) in LOGINS.iter().filter(|(login, _)| *login != "t_migrator") {
        let mut session = world.db.connect_as(login).await.unwrap();
        for table in &tables {
            for statement in ddl(table) {
                assert_eq!(refused(&mut session, &statement).await.code, PERMISSION_DENIED, "{login}: {statement}");
            }
        }
        let detach =
            "alter table outbox.payment_outbox_identities detach partition outbox.payment_outbox_identities_h00";
        assert_eq!(refused(&mut session, detach).await.code, PERMISSION_DENIED, "{login}");
    }
}

#[tokio::test]
async fn the_owner_is_not_kept_from_ddl() {
    // Not a protection but its limit, as the documents state it: outbox_owner cannot log in, and whoever
    // acts as it can switch the triggers off.
    let world = with_history().await;
    let mut owner = world.db.connect_as("t_migrator").await.unwrap();
    run(
        &mut owner,
        "begin; alter table outbox.payment_outbox_late_outcomes disable trigger all;
         delete from outbox.payment_outbox_late_outcomes; rollback;
         begin; alter table outbox.payment_outbox_late_outcomes alter column worker_id type text using 'nobody'; rollback",
    )
    .await;
}

/// History tables that lack one of the two triggers, or have it in any state but ENABLE ALWAYS.
pub(crate) async fn unguarded(dba: &mut PgConnection) -> Vec<String> {
    let text = format!(
        "select h.relid::text from ({ALL_TABLES}) as h
          where 2 <> (select count(*) from pg_trigger t
                       where t.tgrelid = h.relid and t.tgenabled = 'A' and t.tgfoid = 'outbox.refuse_history_change'::regproc
                         and (t.tgname, t.tgtype) in (('history_is_never_changed', 1 + 2 + 8 + 16), ('history_is_never_truncated', 2 + 32)))"
    );
    column(dba, &text).await
}

#[tokio::test]
async fn every_history_table_is_guarded_always() {
    let mut world = World::new().await;
    let count: i64 = scalar(&mut world.dba, &format!("select count(*) from ({ALL_TABLES}) as h")).await;
    assert_eq!(count, 2 * (1 + 16) + 3 * (1 + 26) + 3);
    assert_eq!(unguarded(&mut world.dba).await, Vec::<String>::new());
    run(&mut world.dba, "alter table outbox.payment_outbox_identities_h07 enable trigger history_is_never_truncated")
        .await;
    assert_eq!(
        unguarded(&mut world.dba).await,
        ["outbox.payment_outbox_identities_h07"],
        "the check itself sees a fault"
    );
}

#[tokio::test]
async fn a_partition_made_later_is_guarded_like_the_first() {
    let mut world = World::new().await;
    let suffix: String = scalar(
        &mut world.dba,
        "select to_char(date_trunc('month', clock_timestamp(), 'UTC') at time zone 'UTC' + interval '24 months', '\"_y\"YYYY\"m\"MM')",
    )
    .await;
    let mut owner = world.db.connect_as("t_migrator").await.unwrap();
    for parent in ["outbox.payment_outbox_instructions", "outbox.payment_outbox_attempts"] {
        run(
            &mut owner,
            &format!("alter table {parent} detach partition {parent}{suffix}; drop table {parent}{suffix}"),
        )
        .await;
    }
    assert_eq!(scalar::<i32>(&mut owner, "select outbox.ensure_outbox_partitions()").await, 2);
    assert_eq!(unguarded(&mut world.dba).await, Vec::<String>::new());
    insert_in_month(&mut world.dba, 24).await;
    run(&mut world.dba, "set session_replication_role = replica").await;
    for parent in ["outbox.payment_outbox_instructions", "outbox.payment_outbox_attempts"] {
        all_refused(&mut world.dba, "superuser", &format!("{parent}{suffix}"), HISTORY_IS_KEPT).await;
    }
}

/// Puts an instruction and an attempt into the month so many months from now.
async fn insert_in_month(dba: &mut PgConnection, months: i32) {
    let text = format!(
        "with id as (select outbox.outbox_id_floor(date_trunc('month', clock_timestamp(), 'UTC') + interval '{months} months') as outbox_id),
              paid as (insert into outbox.payment_outbox_instructions
                           (outbox_id, participant_id, instruction_id, rail, payload, content_type, payload_sha256, enqueued_by, created_at)
                       select outbox_id, 'acme', 'month {months}', 'wire', '', 'text/plain', sha256(''), 'dba', now() from id)
         insert into outbox.payment_outbox_attempts
                (outbox_id, attempt_no, rail, kind, state, outcome, worker_id, lease_token, claimed_at, completed_at)
         select outbox_id, 1, 'wire', 'SUBMIT', 'RETRYABLE', 'NOT_SENT', 'w', gen_random_uuid(), now(), now() from id"
    );
    run(dba, &text).await;
}
