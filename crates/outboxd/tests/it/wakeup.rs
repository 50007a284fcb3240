//! How a payment reaches a lane that sleeps: by a hint of enqueue while the lane holds its wake-up lock,
//! by a poll otherwise. The lock is held only by a lane that may claim and has nothing to do.

use std::sync::Arc;

use outbox_testkit::wait_until;
use rail_sim::Point;
use sqlx::Executor as _;

use crate::rig::{Daemon, HOLD, LIMIT, RESEND, Rig};

/// A poll that comes too late for any test.
pub(crate) const RARELY: &str = "dispatcher.poll_max=60s";

/// How often in a row locks must look the same, some 10 ms apart.
const SAMPLES: u32 = 30;

/// Whether the wake-up locks of `rails`, and no others, are held by a daemon.
pub(crate) fn locks_are(rails: &[&str]) -> String {
    let keys: Vec<String> = rails.iter().map(|rail| format!("outbox.wakeup_lock_key('{rail}')")).collect();
    let wanted = if keys.is_empty() { "array[]::bigint[]".to_owned() } else { format!("array[{}]", keys.join(", ")) };
    format!(
        "select coalesce(array_agg(k order by k), '{{}}') = (select coalesce(array_agg(w order by w), '{{}}') from unnest({wanted}) as w) \
         from (select (l.classid::bigint << 32) | l.objid::bigint as k from pg_locks l \
                where l.locktype = 'advisory' and l.mode = 'ExclusiveLock' and l.granted \
                  and l.database = (select oid from pg_database where datname = current_database())) as held"
    )
}

/// Waits until the wake-up locks are those of `rails`, and stay so: a lane that lets go and asks again
/// shows none for a moment only.
pub(crate) async fn locks_stay(rig: &Rig, rails: &[&str]) {
    let (sql, mut seen) = (locks_are(rails), 0);
    let waited = wait_until("lasting wake-up locks", LIMIT, async || {
        seen = if rig.value::<bool>(&sql).await { seen + 1 } else { 0 };
        seen == SAMPLES
    });
    waited.await.unwrap();
}

/// A daemon with both lanes asleep.
pub(crate) async fn asleep(rig: &Rig, settings: &[&str]) -> Daemon {
    let daemon = rig.daemon_with("a", rig.proxy.address(), settings);
    rig.until("lanes asleep", &locks_are(&[RESEND, HOLD])).await;
    daemon
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_wakes_a_lane_that_would_poll_much_later() {
    let rig = Rig::start().await;
    let daemon = asleep(&rig, &[RARELY, "dispatcher.poll_min=1s"]).await;
    for _ in 0..10 {
        rig.enqueue(RESEND, 1).await;
        rig.settled().await;
        rig.until("the lane asleep", &locks_are(&[RESEND, HOLD])).await;
    }
    // The next poll of a lane that has just fallen asleep comes after a second at the earliest. Half of the
    // payments will do, since a machine may be busy.
    let soon = "select count(*) from outbox.payment_outbox_attempts a join outbox.payment_outbox_instructions i using (outbox_id) \
                where a.claimed_at - i.created_at < interval '700 ms'";
    let soon: i64 = rig.value(soon).await;
    assert!(soon >= 5, "{soon} of 10 were claimed before a poll would have found them");
    rig.all_dispatched().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_enqueued_without_a_hint_is_found_by_a_poll() {
    let rig = Rig::start().await;
    let daemon = asleep(&rig, &[]).await;
    let sql =
        "select outbox.enqueue_payment_outbox('p', 'quiet', 'quiet', 'resend', 'x', 'text/plain', p_hint => false)";
    rig.db.connect_as("t_ingest").await.unwrap().execute(sql).await.unwrap();
    rig.settled().await;
    rig.all_dispatched().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_of_producers_that_overlap_are_found_by_a_poll() {
    let rig = Rig::start().await;
    let daemon = asleep(&rig, &[]).await;
    // The first producer keeps the lane from its lock until its commit; the second commits unseen meanwhile.
    let sql = |name: &str| {
        format!("select outbox.enqueue_payment_outbox('p', '{name}', '{name}', 'resend', 'x', 'text/plain')")
    };
    let run = |sql: String| sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
    let mut first = rig.db.connect_as("t_ingest").await.unwrap();
    first.execute(run(format!("begin; {}", sql("open")))).await.unwrap();
    for round in 0..5 {
        let name = format!("short-{round}");
        rig.db.connect_as("t_ingest").await.unwrap().execute(run(sql(&name))).await.unwrap();
        rig.settled().await;
    }
    first.execute("commit").await.unwrap();
    rig.settled().await;
    assert_eq!(rig.count(RESEND, "DISPATCHED").await, 6);
    rig.all_dispatched().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_of_many_producers_all_arrive() {
    let rig = Arc::new(Rig::start().await);
    let daemon = asleep(&rig, &[]).await;
    let mut producers = tokio::task::JoinSet::new();
    for producer in 0..8 {
        let rig = Arc::clone(&rig);
        producers.spawn(async move {
            let mut session = rig.db.connect_as("t_ingest").await.unwrap();
            for n in 0..25_u32 {
                let rail = if n.is_multiple_of(2) { RESEND } else { HOLD };
                let sql = "select outbox.enqueue_payment_outbox('p', $1, $1, $2, $1::bytea, 'text/plain')";
                sqlx::query(sql).bind(format!("{producer}-{n}")).bind(rail).execute(&mut session).await.unwrap();
            }
        });
    }
    while let Some(ended) = producers.join_next().await {
        ended.unwrap();
    }
    rig.settled().await;
    let dispatched = (rig.count(RESEND, "DISPATCHED").await, rig.count(HOLD, "DISPATCHED").await);
    assert_eq!(dispatched, (8 * 13, 8 * 12));
    rig.all_dispatched().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_may_not_claim_lets_go_of_its_lock() {
    let rig = Rig::start().await;
    // A send that lasts as long as this test looks.
    rig.contract(HOLD, "null, p_rail_timeout_ms => 50000, p_lease_duration_ms => 120000").await;
    let daemon = asleep(&rig, &["rails.hold.concurrency=1", "rails.hold.timeout=50s"]).await;
    rig.contract(RESEND, "null, p_paused => true").await;
    locks_stay(&rig, &[HOLD]).await;
    rig.contract(RESEND, "null, p_paused => false").await;
    rig.until("lanes asleep", &locks_are(&[RESEND, HOLD])).await;
    // Saturated: as many sends as the lane has slots.
    rig.hold.park(Point::AfterExecution);
    rig.enqueue(HOLD, 1).await;
    rig.hold.wait_for_parked(Point::AfterExecution, 1).await;
    locks_stay(&rig, &[RESEND]).await;
    rig.hold.release();
    rig.until("lanes asleep", &locks_are(&[RESEND, HOLD])).await;
    rig.settled().await;
    // Off: the contract no longer fits.
    rig.run("delete from outbox.payment_rails where rail = 'hold'").await;
    locks_stay(&rig, &[RESEND]).await;
    daemon.stop().await;
    rig.until("no lock left", &locks_are(&[])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_rail_is_not_claimed_from_and_goes_on_when_it_is_resumed() {
    let rig = Rig::start().await;
    rig.contract(RESEND, "null, p_paused => true").await;
    rig.enqueue(RESEND, 5).await;
    let daemon = rig.daemon("a");
    rig.enqueue(HOLD, 5).await;
    rig.until(
        "the other rail",
        "select count(*) = 5 from outbox.payment_outbox_attempts where rail = 'hold' and state = 'DISPATCHED'",
    )
    .await;
    daemon.becomes_ready(true).await;
    assert_eq!(rig.resend.stats().requests, 0);
    rig.contract(RESEND, "null, p_paused => false").await;
    rig.settled().await;
    // Paused while it runs: nothing that is enqueued afterwards is claimed, not even by a hint.
    rig.contract(RESEND, "null, p_paused => true").await;
    rig.enqueue(RESEND, 5).await;
    let beats = beats(&rig).await;
    rig.until("three heartbeats", &format!("select ({BEATS}) >= {beats} + interval '2 s'")).await;
    assert_eq!(rig.resend.stats().requests, 5);
    let claimed = "select count(*) from outbox.payment_outbox_pending where attempt_count > 0";
    assert_eq!(rig.value::<i64>(claimed).await, 0);
    rig.contract(RESEND, "null, p_paused => false").await;
    rig.settled().await;
    rig.all_dispatched().await;
    daemon.stop().await;
}

/// The last heartbeat.
const BEATS: &str = "select max(heartbeat_at) from outbox.outbox_dispatchers";

/// The last heartbeat as a literal.
async fn beats(rig: &Rig) -> String {
    let at: String = rig.value(&format!("select quote_literal(({BEATS})::text) || '::timestamptz'")).await;
    at
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_leases_of_a_paused_rail_are_settled_by_the_maintenance_pass() {
    let rig = Rig::start().await;
    rig.hold.park(Point::BeforeExecution);
    rig.resend.park(Point::BeforeExecution);
    let (held, resent) = (rig.enqueue(HOLD, 2).await, rig.enqueue(RESEND, 2).await);
    let mut vanished = rig.daemon("vanished");
    rig.hold.wait_for_parked(Point::BeforeExecution, 2).await;
    rig.resend.wait_for_parked(Point::BeforeExecution, 2).await;
    vanished.kill();
    for rail in [HOLD, RESEND] {
        rig.contract(rail, "null, p_paused => true").await;
    }
    let daemon = rig.daemon("a");
    rig.until(
        "no lease",
        "select not exists (select from outbox.payment_outbox_pending where lease_token is not null)",
    )
    .await;
    for id in held.iter().chain(&resent) {
        assert_eq!(rig.attempts(*id).await, ["LEASE_EXPIRED"]);
    }
    assert_eq!(rig.held(HOLD).await, ["UNKNOWN 2"]);
    assert_eq!(rig.held(RESEND).await, Vec::<String>::new());
    daemon.logged("lease.expired_taken_over", 2).await;
    assert_eq!((rig.hold.stats().requests, rig.resend.stats().requests), (2, 2));
    rig.resend.release();
    rig.hold.release();
    rig.contract(RESEND, "null, p_paused => false").await;
    rig.settled().await;
    rig.conserved().await;
    daemon.stop().await;
}
