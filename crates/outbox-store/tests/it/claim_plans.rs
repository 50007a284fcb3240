//! Claims, completions and enqueues under a planner that is wrong about everything. What is counted is what
//! the server read: rows, scans and blocks, as its own statistics tell, never time.

use std::time::Duration;

use outbox_core::{OutboxId, Outcome};
use outbox_store::{Completion, Hint, NewPayment, enqueue_batch};
use outbox_testkit::wait_until;
use sqlx::postgres::PgConnection;

use crate::conservation::assert_conserved;
use crate::sql::{fetch, run, scalar};
use crate::world::{World, completion, lease, payment};
use sqlx::Row as _;

/// Everything that turns a kind of plan off, one by one, and some other ways to be wrong.
const HOSTILE: [&str; 18] = [
    "enable_seqscan = off",
    "enable_indexscan = off",
    "enable_indexonlyscan = off",
    "enable_bitmapscan = off",
    "enable_nestloop = off",
    "enable_hashjoin = off",
    "enable_mergejoin = off",
    "enable_sort = off",
    "enable_hashagg = off",
    "enable_material = off",
    "enable_memoize = off",
    "plan_cache_mode = force_generic_plan",
    "random_page_cost = 10000",
    "cpu_index_tuple_cost = 1000",
    "seq_page_cost = 10000",
    "join_collapse_limit = 1",
    "jit_above_cost = 0",
    // Under these, `where id in (select … limit 5 for update skip locked)` leased 200 of 200.
    "enable_hashjoin = off; enable_mergejoin = off; enable_material = off; enable_hashagg = off; enable_sort = off; enable_memoize = off",
];

/// Sets what a DBA could set for the whole database.
async fn set_for_database(world: &mut World, settings: &str) {
    let name = world.db.name().to_owned();
    for setting in settings.split("; ") {
        run(&mut world.dba, &format!("alter database {name} set {setting}")).await;
    }
}

async fn without_statistics(dba: &mut PgConnection) {
    run(
        dba,
        "delete from pg_statistic where starelid = 'outbox.payment_outbox_pending'::regclass;
         update pg_class set reltuples = -1, relpages = 0, relallvisible = 0 where oid = 'outbox.payment_outbox_pending'::regclass",
    )
    .await;
}

#[tokio::test]
async fn claim_never_leases_more_than_its_limit_whatever_the_planner_is_told() {
    let mut world = World::new().await;
    world.enqueue("a", 400).await;
    let name = world.db.name().to_owned();
    let mut leased: i64 = 0;
    for pair in 0..HOSTILE.len() * 2 {
        // Each alone, then each with its neighbour; on the whole database, as a DBA would set it.
        let chosen: Vec<&str> = if pair < HOSTILE.len() {
            vec![HOSTILE[pair]]
        } else {
            vec![HOSTILE[pair - HOSTILE.len()], HOSTILE[(pair + 3) % HOSTILE.len()]]
        };
        run(&mut world.dba, &format!("alter database {name} reset all")).await;
        for settings in &chosen {
            set_for_database(&mut world, settings).await;
        }
        without_statistics(&mut world.dba).await;
        let batch = world.worker("w").claim(5).await;
        leased += 5;
        assert_eq!(batch.leased.len(), 5, "{chosen:?}");
        let now: i64 = scalar(&mut world.dba, "select count(lease_token) from outbox.payment_outbox_pending").await;
        assert_eq!(now, leased, "{chosen:?}");
    }
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn completion_touches_only_its_batch_whatever_the_planner_is_told() {
    let mut world = World::new().await;
    let name = world.db.name().to_owned();
    world.enqueue("a", 200).await;
    let mut claimed = world.worker("w").claim(200).await.leased;
    for setting in HOSTILE {
        run(&mut world.dba, &format!("alter database {name} reset all")).await;
        set_for_database(&mut world, setting).await;
        without_statistics(&mut world.dba).await;
        let five: Vec<Completion> = claimed.drain(..5).map(|one| completion(lease(&one), Outcome::Accepted)).collect();
        world.worker("w").complete(&five).await;
        let left: i64 = scalar(&mut world.dba, "select count(*) from outbox.payment_outbox_pending").await;
        assert_eq!(usize::try_from(left).unwrap(), claimed.len(), "{setting}");
    }
    assert_conserved(&mut world.dba).await;
}

/// Rows that were never enqueued: enough to plan and to scan, and none of them is claimed.
async fn filler(dba: &mut PgConnection, count: u32, columns: &str, values: &str) {
    run(
        dba,
        &format!(
            "insert into outbox.payment_outbox_pending (outbox_id, rail, participant_id, created_at, {columns}) \
             select gen_random_uuid(), 'wire', 'acme', now(), {values} from generate_series(1, {count}) as n"
        ),
    )
    .await;
}

/// What one statement read of the queue, in its own transaction's counters.
#[derive(Debug)]
struct Reads {
    seq_scans: i64,
    index_entries: i64,
    rows: i64,
    blocks: i64,
}

impl Reads {
    async fn so_far(connection: &mut PgConnection) -> Self {
        let text = "select t.seq_scan, pg_stat_get_xact_tuples_returned(i.oid), t.seq_tup_read + t.idx_tup_fetch, \
                    pg_stat_get_xact_blocks_fetched(t.relid) + pg_stat_get_xact_blocks_fetched(i.oid) \
                    from pg_stat_xact_all_tables t, pg_class i \
                    where t.relname = 'payment_outbox_pending' and i.relname = 'payment_outbox_pending_due'";
        let row = fetch(connection, text).await.remove(0);
        Self { seq_scans: row.get(0), index_entries: row.get(1), rows: row.get(2), blocks: row.get(3) }
    }
}

/// The counters are the session's since it last reported, so the difference counts.
async fn reads_of(connection: &mut PgConnection, statement: &str) -> Reads {
    run(connection, "begin").await;
    let before = Reads::so_far(connection).await;
    fetch(connection, statement).await;
    let after = Reads::so_far(connection).await;
    run(connection, "rollback").await;
    Reads {
        seq_scans: after.seq_scans - before.seq_scans,
        index_entries: after.index_entries - before.index_entries,
        rows: after.rows - before.rows,
        blocks: after.blocks - before.blocks,
    }
}

const CLAIM_50: &str = "select * from outbox.claim_outbox_batch('wire', 'w', 50, 1, 0)";

#[tokio::test]
async fn claim_reads_its_batch_from_the_due_index_at_a_hundred_thousand_rows() {
    let mut world = World::new().await;
    filler(&mut world.dba, 100_000, "next_attempt_at", "now() - n * interval '1 ms'").await;
    for statistics in ["select 1", "analyze outbox.payment_outbox_pending"] {
        run(&mut world.dba, statistics).await;
        if statistics == "select 1" {
            without_statistics(&mut world.dba).await;
        }
        // A warm session: from the sixth call on the server would take a generic plan, if it may.
        let mut session = world.db.connect_as("postgres").await.unwrap();
        for call in 0..8 {
            let reads = reads_of(&mut session, CLAIM_50).await;
            assert_eq!(reads.seq_scans, 0, "call {call}: {reads:?}");
            // Twice the batch, and what the calls before left behind when they were rolled back.
            assert!((50..=500).contains(&reads.index_entries), "call {call}: {reads:?}");
            assert!(reads.rows <= 500 && reads.blocks <= 3_000, "call {call}: {reads:?}");
        }
    }
}

#[tokio::test]
async fn future_and_held_payments_cost_a_claim_nothing() {
    let mut world = World::new().await;
    filler(&mut world.dba, 150_000, "next_attempt_at", "now() + interval '1 hour' + n * interval '1 ms'").await;
    let held = "now() - n * interval '1 ms', 'HELD', 'UNKNOWN'";
    filler(&mut world.dba, 150_000, "next_attempt_at, disposition, hold_reason", held).await;
    let mut session = world.db.connect_as("postgres").await.unwrap();
    for call in 0..7 {
        let empty = reads_of(&mut session, CLAIM_50).await;
        assert!(empty.seq_scans == 0 && empty.rows <= 5 && empty.blocks <= 60, "call {call}: {empty:?}");
    }
    filler(&mut world.dba, 60, "next_attempt_at", "now() - interval '1 s'").await;
    let full = reads_of(&mut session, CLAIM_50).await;
    assert!(full.seq_scans == 0 && full.rows <= 300 && full.blocks <= 1_500, "{full:?}");
}

/// The plan of the claim's own locking select, as the server ran it inside the function.
#[tokio::test]
async fn locking_select_is_a_limited_scan_of_the_due_index() {
    let mut world = World::new().await;
    filler(&mut world.dba, 100_000, "next_attempt_at", "now() - n * interval '1 ms'").await;
    let script = format!(
        "set client_min_messages = error; load 'auto_explain'; set auto_explain.log_min_duration = 0; \
         set auto_explain.log_nested_statements = on; set auto_explain.log_level = notice; \
         set client_min_messages = notice; {CLAIM_50}"
    );
    let output = std::process::Command::new("psql")
        .args(["-XqAt", "-d", &world.db.url("postgres"), "-c", &script])
        .output()
        .expect("psql is needed for this test");
    let plans = String::from_utf8_lossy(&output.stderr);
    let plan =
        plans.split("duration:").find(|plan| plan.contains("LockRows")).unwrap_or_else(|| panic!("no plan: {plans}"));
    for part in ["Index Scan using payment_outbox_pending_due", "Limit ", "next_attempt_at <= "] {
        assert!(plan.contains(part), "{part} is not in: {plan}");
    }
    for part in ["Sort", "Seq Scan", "Bitmap"] {
        assert!(!plan.contains(part), "{part} is in: {plan}");
    }
}

/// A counter of the queue's table once the sessions that moved it have reported.
async fn reported(world: &mut World, counter: &str, expected: i64) {
    let text =
        format!("select {counter} >= {expected} from pg_stat_user_tables where relname = 'payment_outbox_pending'");
    let dba = &mut world.dba;
    wait_until(counter, Duration::from_secs(20), async || {
        run(dba, "select pg_stat_clear_snapshot()").await;
        scalar(dba, &text).await
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn burst_into_a_queue_that_vacuum_saw_empty_drains_without_reading_the_table() {
    const BURST: usize = 20_000;
    let mut world = World::new().await;
    let (mut ingest, mut worker) = (world.session("t_ingest"), world.worker("w"));
    // Warm both sessions before and after the vacuum, so that each statement has been run often enough for a
    // cached plan, and every plan is from a queue of a page or two.
    for n in 0..20 {
        if n == 8 {
            run(&mut world.dba, "vacuum (analyze)").await;
        }
        enqueue_batch(&mut ingest, &[payment(&format!("warm-{n}"))], Hint::Wake).await.unwrap();
        let claimed = worker.claim_one().await;
        worker.complete_one(lease(&claimed), Outcome::Accepted).await;
    }
    let payments: Vec<NewPayment> = (0..BURST).map(|n| payment(&n.to_string())).collect();
    for part in payments.chunks(1_000) {
        enqueue_batch(&mut ingest, part, Hint::Wake).await.unwrap();
    }
    let (mut cursor, mut drained) = (None, 0);
    while drained < BURST {
        let batch = worker.claim_after(500, cursor).await;
        assert!(!batch.leased.is_empty(), "{drained} of {BURST} drained");
        cursor = batch.summary.cursor;
        let completions: Vec<Completion> =
            batch.leased.iter().map(|claimed| completion(lease(claimed), Outcome::Accepted)).collect();
        worker.complete(&completions).await;
        drained += batch.leased.len();
    }
    ingest.close().await;
    worker.session.close().await;
    reported(&mut world, "n_tup_del", i64::try_from(BURST).unwrap() + 20).await;
    assert_read_by_key(&mut world).await;
    assert_conserved(&mut world.dba).await;
}

/// A few rows read for each payment by index, and none by reading a whole table; and most claims HOT.
async fn assert_read_by_key(world: &mut World) {
    let text = "select relname::text, seq_tup_read, idx_tup_fetch, n_tup_upd, n_tup_hot_upd from pg_stat_user_tables \
                where schemaname = 'outbox' and relname ~ '^payment_outbox_'";
    for row in fetch(&mut world.dba, text).await {
        let (table, sequential): (String, i64) = (row.get(0), row.get(1));
        assert!(sequential <= 2_000, "{table}: {sequential} rows read sequentially");
        if table == "payment_outbox_pending" {
            let (by_key, updates, hot): (i64, i64, i64) = (row.get(2), row.get(3), row.get(4));
            assert!(by_key <= 20_020 * 12, "{table}: {by_key} rows read by key");
            assert!(updates >= 20_000 && hot * 100 >= updates * 80, "{hot} of {updates} claims were HOT");
        }
    }
}

#[tokio::test]
async fn cursor_spares_a_claim_the_dead_rows_that_an_old_snapshot_keeps() {
    let world = World::new().await;
    let mut pinned = world.db.connect_as("postgres").await.unwrap();
    run(&mut pinned, "begin isolation level repeatable read").await;
    fetch(&mut pinned, "select count(*) from outbox.payment_rails").await;
    let all: Vec<OutboxId> = world.enqueue("a", 5_000).await;
    let mut worker = world.worker("w");
    let (mut cursor, mut done) = (None, 0);
    while done < 4_500 {
        let batch = worker.claim_after(500, cursor).await;
        cursor = batch.summary.cursor;
        let completions: Vec<Completion> =
            batch.leased.iter().map(|claimed| completion(lease(claimed), Outcome::Accepted)).collect();
        worker.complete(&completions).await;
        done += completions.len();
    }
    let last = cursor.unwrap();
    assert!(all.contains(&last.outbox_id));
    let mut session = world.db.connect_as("postgres").await.unwrap();
    let text = format!(
        "select * from outbox.claim_outbox_batch('wire', 'w', 50, 1, 0, '{}'::timestamptz, '{}')",
        last.due_at, last.outbox_id
    );
    let sweep = reads_of(&mut session, CLAIM_50).await;
    let from_cursor = reads_of(&mut session, &text).await;
    assert!(sweep.index_entries >= 4_500, "the dead rows are not there, so nothing is shown: {sweep:?}");
    assert!(from_cursor.index_entries <= 60, "{from_cursor:?}");
    run(&mut pinned, "rollback").await;
}
