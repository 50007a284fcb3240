//! A migration for the next version runs while daemons of this one work, and a daemon of this version
//! starts on the schema that it left. Single calls under a migration are the store's tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use outbox_store::{ConnectSettings, MIGRATIONS, MigrationFile, migrate_files};
use outbox_testkit::wait_until;

use crate::rig::{Daemon, HOLD, LIMIT, RESEND, Rig};

/// A file for each table, since one that holds a table and waits for the next deadlocks with calls that
/// hold the second and wait for the first.
const V2: [&str; 5] = [
    "set local lock_timeout = '5s'; alter table outbox.payment_outbox_pending add column priority smallint not null default 0;",
    "set local lock_timeout = '5s'; alter table outbox.payment_outbox_attempts add column lane integer not null default 0;",
    "set local lock_timeout = '5s'; alter table outbox.payment_rails add column region text not null default 'eu';",
    "create function outbox.claim_outbox_batch(
        p_rail text, p_worker_id text, p_limit integer, p_min_lease_ms bigint, p_in_flight integer,
        p_after_at timestamptz, p_after_id uuid, p_priority smallint
     ) returns table (outbox_id uuid)
     language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
     as $$ begin raise exception 'a caller of version 1 got version 2'; end $$;
     grant execute on function outbox.claim_outbox_batch(text, text, integer, bigint, integer, timestamptz, uuid, smallint) to outbox_dispatcher;
     create function outbox.complete_outbox_batch(p_worker_id text, p_region text) returns integer
     language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
     as $$ begin raise exception 'a caller of version 1 got version 2'; end $$;
     grant execute on function outbox.complete_outbox_batch(text, text) to outbox_dispatcher;",
    "create or replace function outbox.read_api_range() returns table (api_min integer, api_max integer)
     language sql stable as $$ select 1, 2 $$;",
];

fn files() -> Vec<MigrationFile> {
    let mut files = MIGRATIONS.to_vec();
    for sql in V2 {
        let version = i64::try_from(files.len()).unwrap() + 1;
        files.push(MigrationFile { version, description: "for the next version", sql });
    }
    files
}

/// Enqueues one payment after another until told to stop.
async fn produce(rig: Arc<Rig>, stop: Arc<AtomicBool>, made: Arc<AtomicUsize>) {
    let mut session = rig.db.connect_as("t_ingest").await.unwrap();
    while !stop.load(Ordering::Relaxed) {
        let n = made.fetch_add(1, Ordering::Relaxed);
        let rail = if n.is_multiple_of(2) { RESEND } else { HOLD };
        let sql = "select outbox.enqueue_payment_outbox('p', $1, $1, $2, $1::bytea, 'text/plain')";
        sqlx::query(sql).bind(format!("load-{n}")).bind(rail).execute(&mut session).await.unwrap();
    }
}

/// Waits until `daemon` has recorded `more` results beyond those of now.
async fn goes_on(daemon: &Daemon, more: usize) {
    let before = daemon.events("complete.applied").len();
    daemon.logged("complete.applied", before + more).await;
}

fn complaints(daemon: &Daemon) -> Vec<String> {
    let log = daemon.child.log();
    log.lines().filter(|line| !line.contains("\"INFO\"") && !line.contains("\"DEBUG\"")).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn daemons_of_this_version_work_on_while_the_next_migrates_and_after() {
    let rig = Arc::new(Rig::start().await);
    let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let first = rig.daemon("first");
    let producer = tokio::spawn(produce(Arc::clone(&rig), Arc::clone(&stop), Arc::clone(&made)));
    goes_on(&first, 50).await;
    let migrator = ConnectSettings::from_url(&rig.db.url("t_migrator")).unwrap().for_people();
    let report = migrate_files(&migrator, &files(), Duration::from_secs(60)).await.unwrap();
    assert_eq!(report.applied.len(), V2.len());
    goes_on(&first, 50).await;
    let second = rig.daemon("second");
    goes_on(&second, 20).await;
    goes_on(&first, 20).await;
    stop.store(true, Ordering::Relaxed);
    producer.await.unwrap();
    rig.settled().await;
    let dispatched = rig.count(RESEND, "DISPATCHED").await + rig.count(HOLD, "DISPATCHED").await;
    assert_eq!(usize::try_from(dispatched).unwrap(), made.load(Ordering::Relaxed));
    rig.all_dispatched().await;
    assert_eq!((complaints(&first), complaints(&second)), (vec![], vec![]));
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_with_one_name_are_two_workers() {
    let rig = Rig::start().await;
    let times = "null, p_rail_timeout_ms => 30000, p_lease_duration_ms => 60000";
    rig.contract(RESEND, times).await;
    rig.resend.park(rail_sim::Point::BeforeExecution);
    let settings = ["dispatcher.name=same", "rails.resend.concurrency=5", "rails.resend.timeout=30s"];
    let daemons = ["one", "two"].map(|log| rig.daemon_with(log, rig.proxy.address(), &settings));
    rig.enqueue(RESEND, 10).await;
    // Ten sends and five slots each: both work.
    rig.resend.wait_for_parked(rail_sim::Point::BeforeExecution, 10).await;
    let workers = "select count(distinct claimed_by) from outbox.payment_outbox_pending where claimed_by like 'same/%'";
    assert_eq!(rig.value::<i64>(workers).await, 2);
    rig.resend.release();
    rig.settled().await;
    let beats =
        "select count(*) = 2 from outbox.outbox_dispatchers where worker_id like 'same/%' and state = 'RUNNING'";
    rig.until("two heartbeats", beats).await;
    let applied = async || daemons.iter().map(|daemon| daemon.events("complete.applied").len()).sum::<usize>() == 10;
    wait_until("ten results", LIMIT, applied).await.unwrap();
    assert!(daemons.iter().all(|daemon| daemon.events("complete.fenced").is_empty()));
    rig.all_dispatched().await;
    for daemon in daemons {
        daemon.stop().await;
    }
}
