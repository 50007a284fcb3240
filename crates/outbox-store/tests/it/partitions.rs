//! Month partitions: their making, their shape, whom they make wait, and what a call pays for them. Their
//! append-only triggers are in `history`.

use std::collections::BTreeSet;
use std::time::Duration;

use outbox_store::{Hint, StoreError, enqueue_batch, read_status};
use outbox_testkit::wait_until;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::sql::{column, refused, run, scalar};
use crate::steps::Actor;
use crate::world::{World, payment};

const LIMIT: Duration = Duration::from_secs(20);
const ENSURE: &str = "select outbox.ensure_outbox_partitions()";
const HEADROOM: &str = "select outbox.partition_headroom_months()";
const PARENTS: [&str; 3] =
    ["outbox.payment_outbox_instructions", "outbox.payment_outbox_attempts", "outbox.ingress_attestations"];

/// The name's end of the partition so many months from now.
async fn suffix(dba: &mut PgConnection, months: i32) -> String {
    let text = format!(
        "select to_char((date_trunc('month', clock_timestamp(), 'UTC') at time zone 'UTC') + interval '{months} months', '\"_y\"YYYY\"m\"MM')"
    );
    scalar(dba, &text).await
}

/// Takes the months `from..=24` away, newest first, as if the last migration had been long ago.
async fn drop_months_from(world: &mut World, from: i32) {
    for months in (from..=24).rev() {
        let suffix = suffix(&mut world.dba, months).await;
        for parent in PARENTS {
            run(&mut world.dba, &format!("drop table {parent}{suffix}")).await;
        }
    }
}

/// Each partition as its months say it should be: name, lower bound, upper bound.
async fn expected_months(dba: &mut PgConnection, parent: &str) -> Vec<String> {
    let text = format!(
        "select '{parent}' || to_char(m, '\"_y\"YYYY\"m\"MM') || format(' FOR VALUES FROM (%L) TO (%L)',
                outbox.outbox_id_floor(m at time zone 'UTC'), outbox.outbox_id_floor((m + interval '1 month') at time zone 'UTC'))
           from generate_series((date_trunc('month', clock_timestamp(), 'UTC') at time zone 'UTC') - interval '1 month',
                                (date_trunc('month', clock_timestamp(), 'UTC') at time zone 'UTC') + interval '24 months', '1 month') as m
          order by m"
    );
    column(dba, &text).await
}

async fn months(dba: &mut PgConnection, parent: &str) -> Vec<String> {
    let text = format!(
        "select c.oid::regclass || ' ' || pg_get_expr(c.relpartbound, c.oid) from pg_inherits h join pg_class c on c.oid = h.inhrelid
          where h.inhparent = '{parent}'::regclass order by c.relname"
    );
    column(dba, &text).await
}

#[tokio::test]
async fn months_follow_each_other_without_gap_and_without_default() {
    let mut world = World::new().await;
    for parent in PARENTS {
        let found = months(&mut world.dba, parent).await;
        assert_eq!(found.len(), 26);
        assert_eq!(found, expected_months(&mut world.dba, parent).await);
    }
    let defaults =
        "select relname::text from pg_class where relispartition and pg_get_expr(relpartbound, oid) = 'DEFAULT'";
    assert_eq!(column::<String>(&mut world.dba, defaults).await, Vec::<String>::new());
}

#[tokio::test]
async fn months_begin_in_utc_whatever_the_time_zone_of_the_session() {
    for zone in ["America/New_York", "Pacific/Apia", "Pacific/Kiritimati"] {
        let mut world = World::new().await;
        drop_months_from(&mut world, 1).await;
        let mut owner = world.db.connect_as("t_migrator").await.unwrap();
        run(&mut owner, &format!("set timezone = '{zone}'")).await;
        assert_eq!(scalar::<i32>(&mut owner, HEADROOM).await, 0, "{zone}");
        assert_eq!(scalar::<i32>(&mut owner, ENSURE).await, 72, "{zone}");
        assert_eq!(scalar::<i32>(&mut owner, HEADROOM).await, 24, "{zone}");
        for parent in PARENTS {
            assert_eq!(months(&mut world.dba, parent).await, expected_months(&mut world.dba, parent).await, "{zone}");
        }
    }
}

/// What a partition is made of, with its own name and month taken out.
async fn shape(dba: &mut PgConnection, table: &str) -> Vec<String> {
    let text = format!(
        "select replace(o.what, '{short}', 'TABLE') from (
             select 'column ' || a.attnum || ' ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || ' '
                    || a.attstorage::text || ' ' || coalesce(pg_get_expr(d.adbin, d.adrelid), '-') as what
               from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
              where a.attrelid = '{table}'::regclass and a.attnum > 0
             union all select 'constraint ' || conname || ' ' || pg_get_constraintdef(oid) || ' ' || convalidated from pg_constraint
              where conrelid = '{table}'::regclass and contype in ('c', 'p', 'u', 'f', 'x')
             union all select 'index ' || pg_get_indexdef(indexrelid) || ' ' || indisvalid from pg_index where indrelid = '{table}'::regclass
             union all select 'trigger ' || pg_get_triggerdef(oid) || ' ' || tgenabled::text from pg_trigger where tgrelid = '{table}'::regclass
             union all select 'owner ' || relowner::regrole || ' ' || coalesce(relacl::text, '-') || ' ' || relpersistence::text || ' '
                              || coalesce(reloptions::text, '-') from pg_class where oid = '{table}'::regclass) as o
          order by 1",
        short = table.trim_start_matches("outbox."),
    );
    column(dba, &text).await
}

#[tokio::test]
async fn all_months_have_one_shape_those_made_later_too() {
    let mut world = World::new().await;
    drop_months_from(&mut world, 20).await;
    run(&mut world.db.connect_as("t_migrator").await.unwrap(), ENSURE).await;
    let after_superuser = World::new().await;
    let mut worlds = [world, after_superuser];
    drop_months_from(&mut worlds[1], 20).await;
    // A DBA in a hurry: what he makes belongs to the owner all the same.
    run(&mut worlds[1].dba, ENSURE).await;
    for world in &mut worlds {
        for parent in PARENTS {
            let first = suffix(&mut world.dba, -1).await;
            let reference = shape(&mut world.dba, &format!("{parent}{first}")).await;
            assert!(reference.iter().filter(|line| line.starts_with("trigger")).count() == 2, "{reference:#?}");
            assert!(reference.iter().any(|line| line.starts_with("index CREATE UNIQUE INDEX")), "{reference:#?}");
            for months in 0..=24 {
                let suffix = suffix(&mut world.dba, months).await;
                assert_eq!(shape(&mut world.dba, &format!("{parent}{suffix}")).await, reference, "{parent}{suffix}");
            }
        }
    }
}

#[tokio::test]
async fn making_months_again_makes_none_and_two_at_once_share_the_work() {
    let mut world = World::new().await;
    let mut owner = world.db.connect_as("t_migrator").await.unwrap();
    assert_eq!(scalar::<i32>(&mut owner, ENSURE).await, 0);
    drop_months_from(&mut world, 22).await;
    let mut actors =
        [Actor::enter(&world.db, "t_migrator", "first").await, Actor::enter(&world.db, "t_migrator", "second").await];
    // Held open, so that the second meets tables that are made and not committed.
    actors[0].does("begin").await;
    let first = actors[0].asks(ENSURE).await;
    actors[1].starts(ENSURE);
    actors[1].waits(&mut world.dba).await;
    actors[0].does("commit").await;
    let second = actors[1].ends().await.unwrap();
    assert_eq!((first[0].get::<i32, _>(0), second[0].get::<i32, _>(0)), (9, 0));
    assert_eq!(scalar::<i32>(&mut world.dba, HEADROOM).await, 24);
}

#[tokio::test]
async fn months_are_attached_while_payments_are_recorded_in_open_transactions() {
    let mut world = World::new().await;
    world.enqueue("before", 1).await;
    drop_months_from(&mut world, 23).await;
    let mut producer = Actor::enter(&world.db, "t_ingest", "producer").await;
    let mut dispatcher = Actor::enter(&world.db, "t_dispatcher", "dispatcher").await;
    let mut migrator = Actor::enter(&world.db, "t_migrator", "migrator").await;
    producer.does("begin").await;
    producer.does(&enqueue("open-1")).await;
    dispatcher.does("begin").await;
    dispatcher.does("select * from outbox.claim_outbox_batch('wire', 'w/1', 10, 1000, 0)").await;
    // Neither waits for the other: the months are made while both transactions are open …
    migrator.does("begin").await;
    migrator.does("set local statement_timeout = '20s'").await;
    migrator.does(ENSURE).await;
    let strongest: Vec<String> = column(
        &mut world.dba,
        "select distinct l.mode from pg_locks l join pg_stat_activity a using (pid)
          where a.datname = current_database() and a.usename = 't_migrator'
            and l.relation = any (array['outbox.payment_outbox_instructions', 'outbox.payment_outbox_attempts', 'outbox.ingress_attestations']::regclass[]) order by 1",
    )
    .await;
    assert_eq!(strongest, ["AccessShareLock", "ShareUpdateExclusiveLock"]);
    // … and payments are recorded and completed while the months are not committed.
    let mut other = Actor::enter(&world.db, "t_ingest", "other").await;
    other.does("set lock_timeout = '1ms'").await;
    other.does(&enqueue("open-2")).await;
    producer.does("set local lock_timeout = '1ms'").await;
    producer.does(&enqueue("open-3")).await;
    dispatcher.does("set local lock_timeout = '1ms'").await;
    dispatcher.does("select * from outbox.claim_outbox_batch('wire', 'w/1', 10, 1000, 0)").await;
    for actor in [&mut migrator, &mut producer, &mut dispatcher] {
        actor.does("commit").await;
    }
    assert_eq!(scalar::<i32>(&mut world.dba, HEADROOM).await, 24);
}

fn enqueue(instruction: &str) -> String {
    format!(
        "select * from outbox.enqueue_payment_outbox_text('acme', '{instruction}', 'k', 'wire', 'x', 'text/plain', 1, 'EUR')"
    )
}

#[tokio::test]
async fn a_migrator_that_waits_for_the_parent_tries_again_and_makes_no_producer_wait() {
    let mut world = World::new().await;
    drop_months_from(&mut world, 24).await;
    let mut vacuum = Actor::enter(&world.db, "t_migrator", "vacuum").await;
    let mut migrator = Actor::enter(&world.db, "t_migrator", "migrator").await;
    let mut producer = Actor::enter(&world.db, "t_ingest", "producer").await;
    vacuum.does("begin; lock table outbox.payment_outbox_instructions in share update exclusive mode").await;
    migrator.starts(ENSURE);
    migrator.waits(&mut world.dba).await;
    // It gives up after lock_timeout and begins another wait.
    let started = "select max(waitstart)::text from pg_locks where not granted and locktype = 'relation'
         and database = (select oid from pg_database where datname = current_database())";
    let mut seen = BTreeSet::new();
    let second = async || {
        seen.extend(scalar::<Option<String>>(&mut world.dba, started).await);
        seen.len() > 1
    };
    wait_until("a second wait", LIMIT, second).await.unwrap();
    producer.does("set lock_timeout = '1ms'").await;
    producer.does(&enqueue("i-1")).await;
    vacuum.does("commit").await;
    assert!(migrator.ends().await.is_ok());
    assert_eq!(scalar::<i32>(&mut world.dba, HEADROOM).await, 24);
}

#[tokio::test]
async fn headroom_counts_attached_months_up_to_the_first_gap() {
    let mut world = World::new().await;
    assert_eq!(scalar::<i32>(&mut world.dba, HEADROOM).await, 24);
    let gap = suffix(&mut world.dba, 11).await;
    // Of one table only, and the table stays: a month without its partition is no month.
    run(&mut world.dba, &format!("alter table {0} detach partition {0}{gap}", PARENTS[1])).await;
    assert_eq!(scalar::<i32>(&mut world.dba, HEADROOM).await, 10);
    let mut monitor = world.session("t_monitor");
    let status = read_status(&mut monitor, None).await.unwrap();
    assert_eq!(status[0].partition_headroom_months, 10);
    let refusal = refused(&mut world.dba, ENSURE).await;
    let table = format!("{}{gap}", PARENTS[1].trim_start_matches("outbox."));
    assert!(refusal.message.contains(&table), "the detached month is named, not passed over: {refusal:?}");
}

#[tokio::test]
async fn a_payment_without_a_month_is_refused_whole() {
    let mut world = World::new().await;
    drop_months_from(&mut world, 0).await;
    assert_eq!(scalar::<i32>(&mut world.dba, HEADROOM).await, -1);
    let mut ingest = world.session("t_ingest");
    let refused = enqueue_batch(&mut ingest, &[payment("i-1")], Hint::Wake).await;
    assert!(matches!(refused, Err(StoreError::BadValue { .. })), "{refused:?}");
    assert_eq!(scalar::<i64>(&mut world.dba, "select count(*) from outbox.payment_outbox_identities").await, 0);
    run(&mut world.db.connect_as("t_migrator").await.unwrap(), ENSURE).await;
    assert_eq!(world.enqueue("i", 1).await.len(), 1);
}

/// How many locks the session has when it has enqueued, and when it has claimed and completed.
async fn locks(world: &mut World, instruction: &str) -> (i64, i64) {
    let mut ingest = Actor::enter(&world.db, "t_ingest", "ingest").await;
    ingest.does("begin").await;
    ingest.does(&enqueue(instruction)).await;
    let enqueuing = locks_of(&mut world.dba, "t_ingest").await;
    ingest.does("commit").await;
    let mut dispatcher = Actor::enter(&world.db, "t_dispatcher", "dispatcher").await;
    dispatcher.does("begin").await;
    let rows = dispatcher
        .asks("select outbox_id::text, attempt_no, lease_token::text from outbox.claim_outbox_batch('wire', 'w/1', 10, 1000, 0) where kind = 'SUBMIT'")
        .await;
    let (id, number, token): (String, i32, String) = (rows[0].get(0), rows[0].get(1), rows[0].get(2));
    let verdict = dispatcher
        .asks(&format!(
            "select verdict from outbox.complete_outbox_batch('w/1', '{{{id}}}', '{{{number}}}', '{{{token}}}', '{{ACCEPTED}}', '{{0}}', \
             '{{null}}', '{{null}}', '{{null}}', array[null]::bytea[], array[null]::bytea[], '{{ref}}', '{{null}}', '{{null}}', '{{null}}')"
        ))
        .await;
    assert_eq!(verdict[0].get::<String, _>(0), "applied");
    let dispatching = locks_of(&mut world.dba, "t_dispatcher").await;
    dispatcher.does("commit").await;
    (enqueuing, dispatching)
}

async fn locks_of(dba: &mut PgConnection, login: &str) -> i64 {
    i64::try_from(locked_by(dba, login).await.len()).unwrap()
}

/// The relations that the session of a login has locked in its open transaction.
pub(crate) async fn locked_by(dba: &mut PgConnection, login: &str) -> Vec<String> {
    let text = format!(
        "select l.relation::regclass::text from pg_locks l join pg_stat_activity a using (pid)
          where a.datname = current_database() and a.usename = '{login}' and l.locktype = 'relation' and a.state = 'idle in transaction'
          order by 1"
    );
    column(dba, &text).await
}

#[tokio::test]
async fn locks_of_a_call_do_not_grow_with_the_months() {
    let mut world = World::new().await;
    let (enqueuing, dispatching) = locks(&mut world, "i-1").await;
    // Measured 29 to 43 for claim and completion of one payment, four of them for the activations of policies and their
    // indexes; the sixteen partitions of the identities and their indexes make enqueue's greater. Without a constant id
    // range: 631 at 120 months.
    assert!((10..=45).contains(&dispatching), "claim and complete: {dispatching} locks");
    assert!((10..=60).contains(&enqueuing), "enqueue: {enqueuing} locks");
    make_older_months(&mut world.dba, 94).await;
    assert_eq!(months(&mut world.dba, PARENTS[0]).await.len(), 120);
    assert_eq!(locks(&mut world, "i-2").await, (enqueuing, dispatching));
}

/// Makes months before the first, as a database has them after years.
pub(crate) async fn make_older_months(dba: &mut PgConnection, count: i32) {
    for parent in PARENTS {
        run(
            dba,
            &format!(
                "do $$ begin
                     for n in 2..{last} loop
                         execute format('create table {parent}_old%s partition of {parent} for values from (%L) to (%L)', n,
                             outbox.outbox_id_floor(date_trunc('month', clock_timestamp(), 'UTC') - n * interval '1 month'),
                             outbox.outbox_id_floor(date_trunc('month', clock_timestamp(), 'UTC') - (n - 1) * interval '1 month'));
                     end loop;
                 end $$",
                last = count + 1
            ),
        )
        .await;
    }
}
