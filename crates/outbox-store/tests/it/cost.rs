//! What a payment costs in things that can be counted, each with a bound: bytes of log, locks of a call, and by which ways the hot
//! statements go with 100,000 others waiting. Never time. How many statements it takes is in `cost_statements`, how many rows those
//! handle and sort in `cost_plans`. docs/PERFORMANCE.md has the same figures, measured at length.

use std::collections::BTreeSet;

use outbox_core::Outcome;
use outbox_store::Completion;
use outbox_testkit::{PgServer, PgVersion, ServerSettings, TestDb};

use crate::batch_plans::{KEEP, complete_all};
use crate::cost_plans::{hot_plans, table_scan};
use crate::enqueue_identity::enqueue_sql;
use crate::sql::{fetch, run, scalar};
use crate::world::{World, completion, lease};
use sqlx::Row as _;

/// Payments of a claim and of a completion, as a busy lane has them.
pub(crate) const BATCH: u32 = 500;

/// Bytes of log since `lsn`, of all records, without the whole pages that follow a checkpoint: how many there are depends on when
/// that was.
async fn log_since(world: &mut World, lsn: &str) -> i64 {
    let sum = format!(
        "select sum(record_length - fpi_length)::bigint from pg_get_wal_records_info('{lsn}', pg_current_wal_flush_lsn())"
    );
    scalar(&mut world.dba, &sum).await
}

async fn lsn(world: &mut World) -> String {
    scalar(&mut world.dba, "select pg_current_wal_flush_lsn()::text").await
}

#[tokio::test]
async fn a_payment_writes_no_more_log_than_is_written_down() {
    const PAYMENTS: i64 = 5_000;
    // Nobody else writes.
    let configuration = vec!["autovacuum = off".to_owned()];
    let settings = ServerSettings { configuration, ..ServerSettings::default() };
    let server = PgServer::start_with(PgVersion::from_environment().unwrap(), &settings).unwrap();
    let mut world = World::on(TestDb::create_on(server.address()).await.unwrap()).await;
    run(&mut world.dba, "create extension pg_walinspect").await;
    let mut ingest = world.db.connect_as("t_ingest").await.unwrap();

    let begun = lsn(&mut world).await;
    for number in 0..500 {
        run(&mut ingest, &enqueue_sql(&format!("one-{number}"), "k", &"x".repeat(400), "")).await;
    }
    let one = log_since(&mut world, &begun).await / 500;

    let begun = lsn(&mut world).await;
    for part in 0..PAYMENTS / 1_000 {
        world.enqueue(&format!("batch-{part}"), 1_000).await;
    }
    let batch = log_since(&mut world, &begun).await / PAYMENTS;

    let begun = lsn(&mut world).await;
    let (mut worker, mut cursor) = (world.worker("w"), None);
    for _ in 0..PAYMENTS / i64::from(BATCH) {
        let claimed = worker.claim_after(BATCH, cursor).await;
        cursor = claimed.summary.cursor;
        let results: Vec<Completion> =
            claimed.leased.iter().map(|claimed| completion(lease(claimed), Outcome::Accepted)).collect();
        assert_eq!(results.len(), usize::try_from(BATCH).unwrap());
        worker.complete(&results).await;
    }
    let dispatched = log_since(&mut world, &begun).await / PAYMENTS;
    // One in its own transaction with 400 bytes, one of a thousand with a few bytes, and claim with completion.
    assert!((800..=1_320).contains(&one), "{one} bytes of log for a payment enqueued alone");
    assert!((500..=910).contains(&batch), "{batch} bytes of log for one of a batch");
    assert!((500..=860).contains(&dispatched), "{dispatched} bytes of log to dispatch a payment");
}

/// Locks that the transaction of `call` holds at its end, in a session that has made the same call before: of relations (a
/// relation counts once for each mode), and others.
async fn locks_of(world: &mut World, login: &str, call: &str) -> (i64, i64) {
    let mut session = world.db.connect_as(login).await.unwrap();
    run(&mut session, &format!("begin; {call}; rollback")).await;
    run(&mut session, "begin").await;
    run(&mut session, call).await;
    let pid: i32 = scalar(&mut session, "select pg_backend_pid()").await;
    let held = format!("select count(relation), count(*) - count(relation) from pg_locks where pid = {pid}");
    let held = fetch(&mut world.dba, &held).await.remove(0);
    run(&mut session, "rollback").await;
    (held.get(0), held.get(1))
}

pub(crate) const CLAIM: &str = "select count(*) from outbox.claim_outbox_batch('wire', 'w', 500, 1, 0)";

/// Renews every lease that is kept.
pub(crate) const RENEW: &str = "select count(*) from (select array_agg(outbox_id), array_agg(attempt_count), array_agg(lease_token) from kept) \
     as k (a, b, c), outbox.renew_outbox_leases('w', a, b, c)";

/// Enqueues `BATCH` payments of the participant `p`.
pub(crate) const ENQUEUE_BATCH: &str = "select count(*) from (select array_agg('p'::text) as p, array_agg('i' || n) as i, array_agg('wire'::text) as w, \
     array_agg('x'::bytea) as x, array_agg('a/b'::text) as t, array_agg(1::bigint) as m, array_agg('EUR'::text) as c, \
     array_agg(null::timestamptz) as d, array_agg(null::text) as z, array_agg(null::uuid) as u from generate_series(1, 500) as n) as b, \
     outbox.enqueue_payment_outbox_batch(p, i, i, w, x, t, m, c, d, d, z, z, u)";

#[tokio::test]
async fn a_call_locks_no_more_relations_than_is_written_down() {
    let mut world = World::new().await;
    world.enqueue("a", 1_000).await;
    let one = enqueue_sql("one", "k", "x", "");
    let enqueue = locks_of(&mut world, "t_ingest", &one).await;
    run(&mut world.dba, &one).await;
    let again = locks_of(&mut world, "t_ingest", &one).await;
    let batch = locks_of(&mut world, "t_ingest", ENQUEUE_BATCH).await;
    let claim = locks_of(&mut world, "t_dispatcher", CLAIM).await;
    run(&mut world.dba, CLAIM).await;
    run(&mut world.dba, KEEP).await;
    let renewal = locks_of(&mut world, "postgres", RENEW).await;
    let complete = locks_of(&mut world, "postgres", &complete_all("ACCEPTED")).await;
    let unknown = locks_of(&mut world, "postgres", &complete_all("UNKNOWN")).await;
    // Each month has a table and an index, for each of two tables: a call that opened them all would hold a hundred. Who has been paid
    // already is looked for in sixteen tables, which a batch has rows for as well; around midnight at the end of a month there are two.
    for (call, (relations, others), most) in [
        ("enqueue", enqueue, 10),
        ("enqueue again", again, 45),
        ("enqueue of a batch", batch, 27),
        ("claim", claim, 25),
        ("renewal", renewal, 19),
        ("completion", complete, 10),
        ("completion as unknown", unknown, 31),
    ] {
        assert!((1..=most).contains(&relations), "{call} holds {relations} locks of relations");
        // The transaction by its two numbers, and the lane of an enqueue: no lock for a payment.
        assert!(others <= 3, "{call} holds {others} locks of other things");
    }
}

/// The months whose tables the plans name.
fn months_in(plans: &str) -> BTreeSet<&str> {
    let marks = plans.match_indices("_y20").map(|(at, _)| &plans[at + 1..]);
    marks.filter_map(|rest| rest.get(..8)).collect()
}

#[tokio::test]
async fn hot_plans_go_by_an_index_and_open_one_month_with_100_000_others_waiting() {
    let plans = hot_plans().await;
    for (call, plans) in &plans {
        let reads_otherwise = plans.lines().filter_map(table_scan).find(|scan| !is_by_key(scan));
        assert_eq!(reads_otherwise, None, "{call}");
        // Two around midnight at the end of a month.
        assert!(months_in(plans).len() <= 2, "{call} opens {:?}", months_in(plans));
    }
    let of = |call| plans[call].as_str();
    for call in ["claim", "completion too late"] {
        assert!(!months_in(of(call)).is_empty(), "no plan of a {call} names a month: {}", of(call));
    }
    let complete = of("completion");
    assert!(months_in(complete).is_empty(), "acceptances look into the ledger: {complete}");
    let claim = of("claim");
    assert!(claim.contains("Index Scan using payment_outbox_pending_due"), "{claim}");
    let found = complete.matches("Index Scan using payment_outbox_pending_pkey").count();
    assert!(found >= 1, "completion finds its rows otherwise: {complete}");
    // Of the sixteen tables that say who has been paid.
    let again = of("enqueue again").lines().filter(|line| line.contains(" on payment_outbox_identities_h"));
    let opened = again.filter(|line| line.contains("(actual ")).count();
    assert_eq!(opened, 1, "an enqueue that is repeated looks into {opened}: {}", of("enqueue again"));
}

/// Whether a scan of a table goes by an index, or to the place of a row that an index has found.
fn is_by_key(scan: &str) -> bool {
    ["Index Scan ", "Index Only Scan ", "Tid Scan "].iter().any(|kind| scan.starts_with(kind))
}
