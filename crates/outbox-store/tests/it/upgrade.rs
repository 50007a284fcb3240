//! A newer schema under an older dispatcher: a migration adds columns and functions while the calls of
//! this version go on, and the schema says which versions it serves. The daemon's own side is elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use outbox_core::{Millis, Outcome, RailName};
use outbox_store::{
    API_VERSION, CompletionVerdict, ConnectSettings, DispatcherState, Heartbeat, Hint, LaneBeat, MIGRATIONS, Memory,
    MigrationFile, RenewVerdict, Session, dispatcher_heartbeat, enqueue_batch, expire_leases, migrate_files, preflight,
    read_payment_rails, read_status, read_timelines, renew_leases,
};
use outbox_testkit::wait_until;

use crate::sql::{column, scalar};
use crate::world::{RAIL, Worker, World, completion, lease, payment};

const LIMIT: Duration = Duration::from_secs(60);

/// What a second version could bring: columns with defaults everywhere, a claim with one parameter more,
/// a new function, and a wider range of versions. A migration for each table: one that holds a table and
/// waits for the next deadlocks with calls that hold the second and wait for the first. The new parameter
/// has no default: with one, the call of this version is ambiguous (42725).
const V2: [&str; 8] = [
    "set local lock_timeout = '5s'; alter table outbox.payment_rails add column region text not null default 'eu';",
    "set local lock_timeout = '5s'; alter table outbox.payment_outbox_identities add column tenant text not null default 'one';",
    "set local lock_timeout = '5s'; alter table outbox.payment_outbox_instructions add column category text;",
    "set local lock_timeout = '5s'; alter table outbox.payment_outbox_pending add column priority smallint not null default 0;",
    "set local lock_timeout = '5s'; alter table outbox.payment_outbox_attempts add column lane integer not null default 0;",
    "set local lock_timeout = '5s'; alter table outbox.payment_outbox_late_outcomes add column seen_by text;",
    "set local lock_timeout = '5s'; alter table outbox.outbox_dispatchers add column region text not null default 'eu';",
    "create function outbox.claim_outbox_batch(
        p_rail text, p_worker_id text, p_limit integer, p_min_lease_ms bigint, p_in_flight integer,
        p_after_at timestamptz, p_after_id uuid, p_priority smallint
     ) returns table (outbox_id uuid)
     language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
     as $$ begin raise exception 'a caller of version 1 got version 2'; end $$;
     grant execute on function outbox.claim_outbox_batch(text, text, integer, bigint, integer, timestamptz, uuid, smallint) to outbox_dispatcher;
     create function outbox.next_thing() returns integer language sql as 'select 2';
     create or replace function outbox.read_api_range() returns table (api_min integer, api_max integer)
     language sql stable as $$ select 1, 2 $$;",
];

const V3: &str = "create or replace function outbox.read_api_range() returns table (api_min integer, api_max integer)
     language sql stable as $$ select 2, 3 $$;";

fn files(later: &[&'static str]) -> Vec<MigrationFile> {
    let mut files = MIGRATIONS.to_vec();
    for sql in later {
        files.push(MigrationFile { version: i64::try_from(files.len()).unwrap() + 1, description: "later", sql });
    }
    files
}

/// Everything that a dispatcher and a producer of this version call, again and again.
struct Load {
    ingest: Session,
    monitor: Session,
    worker: Worker,
    round: u32,
}

impl Load {
    async fn round(&mut self) {
        self.round += 1;
        let payments = [payment(&format!("i-{}-a", self.round)), payment(&format!("i-{}-b", self.round))];
        let enqueued = enqueue_batch(&mut self.ingest, &payments, Hint::Wake).await.unwrap();
        assert!(enqueued.iter().all(|e| e.created));
        let claimed = self.worker.claim(10).await.leased;
        let leases: Vec<_> = claimed.iter().map(lease).collect();
        assert_eq!(leases.len(), 2);
        let renewed = renew_leases(&mut self.worker.session, &self.worker.id, &leases).await.unwrap();
        assert!(renewed.iter().all(|verdict| matches!(verdict, RenewVerdict::Renewed(_))), "{renewed:?}");
        let done = [completion(leases[0], Outcome::Accepted), completion(leases[1], Outcome::Refused)];
        let verdicts = self.worker.complete(&done).await;
        assert!(verdicts.iter().all(|v| matches!(v, CompletionVerdict::Applied { .. })), "{verdicts:?}");
        assert_eq!(self.worker.complete(&done).await, [CompletionVerdict::AlreadyApplied; 2]);
        self.look_around().await;
    }

    async fn look_around(&mut self) {
        let rail = RailName::new(RAIL).unwrap();
        let session = &mut self.worker.session;
        expire_leases(session, &rail, 100, None).await.unwrap();
        assert_eq!(read_payment_rails(session).await.unwrap().len(), 1);
        let beat = Heartbeat {
            worker_id: self.worker.id.clone(),
            version: "1".to_owned(),
            state: DispatcherState::Running,
            lanes: vec![LaneBeat { rail, settled: 0 }],
            in_flight: 0,
            interval: Millis(1_000),
            environment: None,
            seen: Memory::default(),
        };
        assert!(dispatcher_heartbeat(session, &beat).await.unwrap().silent.is_empty());
        assert!(preflight(session).await.unwrap().api_versions.contains(&API_VERSION));
        assert_eq!(read_status(&mut self.monitor, None).await.unwrap()[0].dispatched, i64::from(self.round));
    }
}

fn load(world: &World) -> Load {
    Load {
        ingest: patient(world, "t_ingest"),
        monitor: patient(world, "t_monitor"),
        worker: worker(world, "v1"),
        round: 0,
    }
}

/// A session that waits for a migration's lock longer than a daemon would: on a busy machine altering
/// 27 tables may take more than the second after which a daemon tries again.
fn patient(world: &World, login: &str) -> Session {
    let mut settings = (*world.settings(login)).clone();
    settings.lock_timeout = Millis(30_000);
    Session::new(Arc::new(settings))
}

fn worker(world: &World, name: &str) -> Worker {
    Worker { session: patient(world, "t_dispatcher"), ..world.worker(name) }
}

fn migrator(world: &World) -> ConnectSettings {
    ConnectSettings::from_url(&world.db.url("t_migrator")).unwrap().for_people()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_this_version_go_on_while_and_after_the_next_migrates() {
    let mut world = World::new().await;
    let (rounds, stop) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let mut load = load(&world);
    let running = tokio::spawn({
        let (rounds, stop) = (rounds.clone(), stop.clone());
        async move {
            while !stop.load(Ordering::Relaxed) {
                load.round().await;
                rounds.fetch_add(1, Ordering::Relaxed);
            }
            load
        }
    });
    let reached = async |count: u32| {
        let enough = async || rounds.load(Ordering::Relaxed) >= count || running.is_finished();
        wait_until("rounds of calls", LIMIT, enough).await.unwrap();
        assert!(!running.is_finished(), "a call of version 1 failed");
    };
    reached(5).await;
    let report = migrate_files(&migrator(&world), &files(&V2), LIMIT).await.unwrap();
    assert_eq!(report.applied.len(), V2.len());
    reached(rounds.load(Ordering::Relaxed) + 5).await;
    stop.store(true, Ordering::Relaxed);
    let mut load = running.await.unwrap();

    // A dispatcher of version 1 that starts after the migration.
    load.worker = worker(&world, "v1-later");
    load.round().await;
    let unpaid = "select count(*) from outbox.payment_outbox_pending";
    assert_eq!(scalar::<i64>(&mut world.dba, unpaid).await, 0);
    let defaults = "select distinct lane from outbox.payment_outbox_attempts";
    assert_eq!(column::<i32>(&mut world.dba, defaults).await, [0]);
    let mut auditor = world.session("t_auditor");
    assert_eq!(read_timelines(&mut auditor, "i-1-a", Some("acme")).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_schema_says_which_versions_it_serves() {
    let world = World::new().await;
    let mut session = world.session("t_dispatcher");
    let v3 = [V2.as_slice(), &[V3]].concat();
    for (later, served) in [(&[][..], 1..=1), (&V2[..], 1..=2), (&v3, 2..=3)] {
        migrate_files(&migrator(&world), &files(later), LIMIT).await.unwrap();
        let facts = preflight(&mut session).await.unwrap();
        assert_eq!(facts.api_versions, served);
        assert_eq!(facts.api_versions.contains(&API_VERSION), later.len() <= V2.len());
    }
}
