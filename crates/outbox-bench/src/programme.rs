//! What is measured in which order, and how much of it: a smoke test for every build, the short form, the full one for `evidence/`.

use std::path::Path;
use std::time::Duration;

use outbox_testkit::TestDb;

use crate::daemon::RAIL;
use crate::error::BenchError;
use crate::floor::{self, Floor};
use crate::logs::Logs;
use crate::meter::{Cost, real};
use crate::report::Report;
use crate::work::enqueue::{How, asleep, batches, make_plain, singles};
use crate::work::wakeup::{Beside, latencies};
use crate::work::{Dispatchers, burst, depth, drain, http, locks, mixed, partitions, pinned, profile};
use crate::world::{CONTRACT, World, run, value};

/// How much of each work.
#[derive(Clone, Debug)]
pub(crate) struct Sizes {
    /// How often what is compared takes turns.
    pub(crate) rounds: u32,
    /// Payments of a drain.
    pub(crate) drain: u64,
    /// Single rows of each client.
    pub(crate) singles: u64,
    /// Payments recorded in batches.
    pub(crate) batches: u64,
    /// Payments that are there before some with ids in no order come.
    pub(crate) scattered: u64,
    /// Payments that wake the daemon up.
    pub(crate) wakeups: u32,
    /// Depths of the queue, least first.
    pub(crate) depths: Vec<u64>,
    /// Payments under a pinned snapshot.
    pub(crate) pinned: u64,
    /// How long the daemon is idle before a burst.
    pub(crate) idle: Duration,
    /// Payments of a burst.
    pub(crate) burst: u64,
    /// Months of each table.
    pub(crate) months: Vec<i64>,
    /// Payments over HTTP.
    pub(crate) http: u64,
    /// Daemons on one database.
    pub(crate) daemons: Vec<usize>,
    /// Windows of 10 s of payments that come and go.
    pub(crate) windows: u32,
}

impl Sizes {
    /// For every build: each work once, with too few payments for a figure to mean anything.
    pub(crate) fn smoke() -> Self {
        Self {
            rounds: 1,
            drain: 4_000,
            singles: 50,
            batches: 4_000,
            scattered: 4_000,
            wakeups: 50,
            depths: vec![21_000, 24_000],
            pinned: 20_000,
            idle: Duration::from_secs(1),
            burst: 2_000,
            months: vec![1, 24],
            http: 1_280,
            daemons: vec![2],
            windows: 1,
        }
    }

    /// Under six minutes.
    pub(crate) fn short() -> Self {
        Self {
            rounds: 3,
            drain: 50_000,
            singles: 500,
            batches: 20_000,
            scattered: 200_000,
            wakeups: 500,
            depths: vec![40_000, 200_000],
            pinned: 100_000,
            idle: Duration::from_secs(5),
            burst: 20_000,
            months: vec![],
            http: 20_000,
            daemons: vec![],
            windows: 0,
        }
    }

    /// For `evidence/`.
    pub(crate) fn full() -> Self {
        Self {
            rounds: 7,
            drain: 50_000,
            singles: 1_500,
            batches: 100_000,
            scattered: 1_000_000,
            wakeups: 1_500,
            depths: vec![10_000, 40_000, 100_000, 1_000_000, 5_000_000],
            pinned: 400_000,
            idle: Duration::from_secs(10),
            burst: 20_000,
            months: vec![1, 24, 120],
            http: 50_000,
            daemons: vec![1, 2, 4, 8],
            windows: 60,
        }
    }
}

/// A run.
pub(crate) struct Programme<'a> {
    pub(crate) world: &'a World,
    pub(crate) logs: &'a Logs,
    pub(crate) sizes: Sizes,
    pub(crate) settings: Vec<String>,
    pub(crate) report: Report,
}

impl Programme<'_> {
    /// What is measured with: the server's version and settings, the daemon's settings, the contract, how much of each work.
    ///
    /// # Errors
    /// When the server refuses.
    pub(crate) async fn conditions(&mut self) -> Result<(), BenchError> {
        let db = self.world.outbox().await?;
        let version: String = value(&db, "select version()").await?;
        let server: String = value(
            &db,
            "select string_agg(name || ' = ' || current_setting(name), '; ' order by name) from pg_settings where source = 'configuration file'",
        )
        .await?;
        self.report.raw("conditions", "version", &version);
        self.report.raw("conditions", "settings of the server", &server);
        self.report.raw("conditions", "settings of the daemon, besides its defaults", &self.settings);
        self.report.raw("conditions", "contract", &CONTRACT);
        self.report.raw("conditions", "sizes", &format!("{:?}", self.sizes));
        self.locks(&db).await
    }

    /// Relations that one call locks.
    async fn locks(&mut self, db: &TestDb) -> Result<(), BenchError> {
        for (name, locks) in locks::of_each_call(self.world, db).await? {
            self.report.figure(name, real(locks));
        }
        Ok(())
    }

    /// Floors and daemon in turns.
    pub(crate) async fn drain(&mut self) -> Result<(), BenchError> {
        for _ in 0..self.sizes.rounds {
            let floor = floor::drain(self.world, Floor::Bare, self.sizes.drain).await?;
            let archiving = floor::drain(self.world, Floor::Archiving, self.sizes.drain).await?;
            let ours = drain::drain(self.world, self.sizes.drain, 1, &self.settings).await?;
            let defaults = drain::drain(self.world, self.sizes.drain, 1, &[]).await?;
            self.report.raw("drain", "daemon with its defaults", &defaults);
            self.report.figure("drain_defaults_per_s", defaults.rate());
            self.report.raw("drain", "floor", &floor);
            self.report.raw("drain", "archiving floor", &archiving);
            self.report.raw("drain", "daemon", &ours);
            self.report.figure("drain_floor_per_s", floor.rate());
            self.report.figure("drain_per_s", ours.rate());
            self.report.figure("drain_vs_floor", ours.rate() / floor.rate());
            self.report.figure("drain_archiving_per_s", archiving.rate());
            self.report.figure("drain_vs_archiving", ours.rate() / archiving.rate());
            self.report.figure("wal_floor", floor.wal_per_payment());
            self.report.figure("wal_archiving", archiving.wal_per_payment());
            self.report.figure("wal_drain", ours.wal_per_payment());
            self.report.figure("statements_per_payment", ours.statements_per_payment());
            self.cpu(&ours);
        }
        for name in ["drain_vs_floor", "drain_per_s", "wal_drain", "statements_per_payment"] {
            self.in_line(name, name);
        }
        Ok(())
    }

    fn cpu(&mut self, cost: &Cost) {
        let each = 1e6 / real(cost.payments);
        self.report.figure("drain_postgres_cpu_us", cost.postgres_cpu_s * each);
        self.report.figure("drain_daemon_cpu_us", cost.own_cpu_s * each);
    }

    fn in_line(&mut self, name: &'static str, figure: &str) {
        let median = self.report.median(figure);
        self.report.line(name, median);
    }

    /// Plain inserts and ours in turns; lanes asleep and awake.
    pub(crate) async fn enqueue(&mut self) -> Result<(), BenchError> {
        let plain = make_plain(self.world).await?;
        let db = self.world.outbox().await?;
        let (each, count) = (self.sizes.singles, self.sizes.batches);
        let mut next = 0;
        for _ in 0..self.sizes.rounds {
            let floor = singles(self.world, &plain, How::Plain, 0, each).await?;
            let awake = singles(self.world, &db, How::Hinting, next, each).await?;
            next += awake.payments;
            let silent = singles(self.world, &db, How::Silent, next, each).await?;
            next += silent.payments;
            let hinted = self.with_a_lane_asleep(&db, next, each).await?;
            next += hinted.payments;
            let floor_batches = batches(self.world, &plain, How::Plain, 0, count).await?;
            let ours = batches(self.world, &db, How::Hinting, next, count).await?;
            next += ours.payments;
            self.report.figure("enqueue_plain_per_s", floor.rate());
            self.report.figure("enqueue_per_s", awake.rate());
            self.report.figure("enqueue_vs_plain", awake.rate() / floor.rate());
            self.report.figure("enqueue_hint_ratio", awake.rate() / silent.rate());
            self.report.figure("enqueue_asleep_ratio", hinted.rate() / silent.rate());
            self.report.figure("enqueue_batch_plain_per_s", floor_batches.rate());
            self.report.figure("enqueue_batch_per_s", ours.rate());
            self.report.figure("enqueue_batch_vs_plain", ours.rate() / floor_batches.rate());
            self.report.figure("wal_enqueue", awake.wal_per_payment());
            self.report.figure("wal_enqueue_batch", ours.wal_per_payment());
            for (variant, cost) in [
                ("plain, 8 clients", &floor),
                ("lanes awake, 8 clients", &awake),
                ("no hints, 8 clients", &silent),
                ("a lane asleep, 8 clients", &hinted),
                ("plain, batches", &floor_batches),
                ("batches", &ours),
            ] {
                self.report.raw("enqueue", variant, cost);
            }
        }
        self.emptied(&db, next).await?;
        self.scattered().await?;
        for name in ["wal_enqueue", "enqueue_vs_plain", "enqueue_hint_ratio"] {
            self.in_line(name, name);
        }
        Ok(())
    }

    async fn with_a_lane_asleep(&self, db: &TestDb, from: u64, each: u64) -> Result<Cost, BenchError> {
        let lane = asleep(db).await?;
        let cost = singles(self.world, db, How::Hinting, from, each).await?;
        drop(lane);
        Ok(cost)
    }

    /// The same table after everything was dispatched and vacuumed, with statistics that say that it is empty.
    async fn emptied(&mut self, db: &TestDb, recorded: u64) -> Result<(), BenchError> {
        let dispatchers = Dispatchers::start(db, 1, &self.settings)?;
        dispatchers.settled(recorded).await?;
        dispatchers.finish(db, recorded).await?;
        self.world.settle(db).await?;
        let cost = singles(self.world, db, How::Hinting, recorded, self.sizes.singles).await?;
        self.report.raw("enqueue", "emptied and vacuumed, 8 clients", &cost);
        let full = self.report.median("enqueue_per_s");
        self.report.figure("enqueue_emptied_ratio", cost.rate() / full);
        run(db, "checkpoint").await
    }

    /// Instructions in no order beside many others, after a checkpoint: the log has each page whole that is touched the first time.
    async fn scattered(&mut self) -> Result<(), BenchError> {
        let (db, many) = (self.world.outbox().await?, self.sizes.scattered);
        batches(self.world, &db, How::Scattered, 0, many).await?;
        self.world.settle(&db).await?;
        let cost = singles(self.world, &db, How::Scattered, many, self.sizes.singles).await?;
        self.report.raw("enqueue", &format!("ids in no order beside {many}, 8 clients"), &cost);
        self.report.figure("enqueue_scattered_per_s", cost.rate());
        self.report.figure("wal_enqueue_scattered", cost.wal_per_payment());
        self.report.figure("wal_enqueue_scattered_pages", real(cost.wal_full_page_bytes) / real(cost.payments));
        Ok(())
    }

    /// From commit to first byte.
    pub(crate) async fn wakeup(&mut self) -> Result<(), BenchError> {
        let besides = [
            (Beside::Nothing, ["wakeup_p50_ms", "wakeup_p95_ms", "wakeup_p99_ms", "wakeup_max_ms"]),
            (
                Beside::Overlapping,
                ["wakeup_overlap_p50_ms", "wakeup_overlap_p95_ms", "wakeup_overlap_p99_ms", "wakeup_overlap_max_ms"],
            ),
            (Beside::OneLong, ["wakeup_long_p50_ms", "wakeup_long_p95_ms", "wakeup_long_p99_ms", "wakeup_long_max_ms"]),
        ];
        for (beside, names) in besides {
            let took = latencies(self.world, self.sizes.wakeups, beside, &self.settings).await?;
            for (name, value) in names.into_iter().zip([took.p50, took.p95, took.p99, took.max]) {
                self.report.figure(name, value);
            }
        }
        self.in_line("wakeup_p50_ms", "wakeup_p50_ms");
        self.in_line("wakeup_p99_ms", "wakeup_p99_ms");
        Ok(())
    }

    /// The first payments of queues of all depths; the deepest against the shallowest.
    pub(crate) async fn depth(&mut self) -> Result<(), BenchError> {
        let mut rates = Vec::new();
        for due in self.sizes.depths.clone() {
            let cost = depth::first(self.world, due, &self.settings).await?;
            self.report.raw("depth", &due.to_string(), &cost);
            // One that is emptied has a slow end, which no deeper one has.
            if due > cost.payments {
                rates.push(cost.rate());
            }
        }
        if let (Some(first), Some(last)) = (rates.first(), rates.last()) {
            self.report.figure("depth_ratio", last / first);
        }
        self.in_line("depth_ratio", "depth_ratio");
        Ok(())
    }

    /// The last payments against the first ones.
    pub(crate) async fn pinned(&mut self) -> Result<(), BenchError> {
        for _ in 0..self.sizes.rounds.min(3) {
            let [first, last] = pinned::parts(self.world, self.logs, self.sizes.pinned, &self.settings).await?;
            self.report.raw("pinned", "first", &first);
            self.report.raw("pinned", "last", &last);
            self.report.figure("pinned_ratio", last.per_s / first.per_s);
            self.report.figure("pinned_claim_p99_first_ms", first.claim_p99_ms);
            self.report.figure("pinned_claim_p99_last_ms", last.claim_p99_ms);
        }
        self.in_line("pinned_ratio", "pinned_ratio");
        Ok(())
    }

    /// A burst against a drain of as many.
    pub(crate) async fn burst(&mut self) -> Result<(), BenchError> {
        for _ in 0..self.sizes.rounds.min(3) {
            let drained = drain::drain(self.world, self.sizes.burst, 1, &self.settings).await?;
            let burst = burst::burst(self.world, self.sizes.burst, self.sizes.idle, &self.settings).await?;
            self.report.raw("burst", "drain", &drained);
            self.report.raw("burst", "burst", &burst);
            self.report.figure("burst_per_s", burst.rate());
            self.report.figure("burst_ratio", burst.rate() / drained.rate());
        }
        self.in_line("burst_ratio", "burst_ratio");
        Ok(())
    }

    /// Over HTTP, against a client that does nothing else.
    pub(crate) async fn http(&mut self, dir: &Path) -> Result<(), BenchError> {
        for _ in 0..self.sizes.rounds.min(3) {
            let limit = http::limit(self.world, dir, self.sizes.http).await?;
            let ours = http::drain(self.world, dir, self.sizes.http, &self.settings).await?;
            self.report.raw("http", "daemon", &ours);
            self.report.raw("http", "bare client", &limit);
            self.report.figure("http_limit_per_s", limit.rate());
            self.report.figure("http_limit_cpu_us", 1e6 * limit.own_cpu_s / real(limit.payments));
            self.report.figure("http_per_s", ours.rate());
            self.report.figure("http_postgres_cpu_us", 1e6 * ours.postgres_cpu_s / real(ours.payments));
            self.report.figure("http_own_cpu_us", 1e6 * ours.own_cpu_s / real(ours.payments));
            self.report.figure("http_vs_limit", ours.rate() / limit.rate());
            self.report.figure("http_statements_per_payment", ours.statements_per_payment());
        }
        self.in_line("http_vs_limit", "http_vs_limit");
        Ok(())
    }

    /// With few and with many months: nothing in the short form, like the two that follow.
    pub(crate) async fn partitions(&mut self) -> Result<(), BenchError> {
        for months in self.sizes.months.clone() {
            let cost = partitions::drain(self.world, self.sizes.drain, months, &self.settings).await?;
            self.report.raw("partitions", &months.to_string(), &cost);
        }
        Ok(())
    }

    /// By one daemon and by several.
    pub(crate) async fn scale_out(&mut self) -> Result<(), BenchError> {
        for daemons in self.sizes.daemons.clone() {
            // They hear of the end of a pause within half a second of each other: enough of them that it does not count.
            let cost = drain::drain(self.world, 4 * self.sizes.drain, daemons, &self.settings).await?;
            self.report.raw("scale_out", &daemons.to_string(), &cost);
            // With as many in flight as one has.
            let share = format!("rails.{RAIL}.concurrency={}", 4_000 / daemons);
            let settings = [self.settings.as_slice(), &[share]].concat();
            let cost = drain::drain(self.world, 4 * self.sizes.drain, daemons, &settings).await?;
            self.report.raw("scale_out", &format!("{daemons}, in flight divided among them"), &cost);
        }
        Ok(())
    }

    /// Where the database's time and its log go, on `counting`.
    pub(crate) async fn profile(&mut self, counting: &World) -> Result<(), BenchError> {
        let (alone, many) = (self.sizes.singles, self.sizes.batches);
        for (name, profile) in profile::of_each_work(counting, alone, many, &self.settings).await? {
            self.report.raw("profile", name, &profile);
        }
        Ok(())
    }

    /// Payments that come and go.
    pub(crate) async fn mixed(&mut self) -> Result<(), BenchError> {
        if self.sizes.windows > 0 {
            let (windows, cost) = mixed::windows(self.world, self.sizes.windows, &self.settings).await?;
            self.report.raw("mixed", "windows of 10 s", &windows);
            self.report.raw("mixed", "all of it", &cost);
        }
        Ok(())
    }
}
