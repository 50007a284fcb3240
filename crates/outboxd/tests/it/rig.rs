//! Daemons, a database and two rails for tests of the whole: the real binary through a proxy that loses
//! what a test tells it to, one rail that may be sent to again and one that may not. Whether payments
//! were conserved is judged in `rig_conservation`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use outbox_testkit::{ChildGuard, FaultProxy, PgAddress, PgServer, Signal, TestDb, wait_until};
use rail_sim::{KeyMode, Sim, SimConfig};
use serde_json::Value;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use tempfile::TempDir;
use uuid::Uuid;

/// For anything that is awaited: only a broken test ever takes so long.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The rail that executes a key once, with a contract that lets an unknown outcome be sent again.
pub(crate) const RESEND: &str = "resend";
/// The rail that executes every request, with a contract that holds an unknown outcome.
pub(crate) const HOLD: &str = "hold";
/// Both.
pub(crate) const RAILS: [&str; 2] = [RESEND, HOLD];

/// How long a lease is on both rails.
pub(crate) const LEASE_MS: i64 = 4_000;
/// How long after the end of a lost lease its payment may still lie there.
pub(crate) const RECOVERY_MS: i64 = 2_000;

/// A lease of 4 s leaves 1.4 s between the claim and the first byte: 1 s for the exchange, 1.6 s for its
/// completion.
pub(crate) const CONTRACT: &str = "p_rail_timeout_ms => 1000, p_processing_bound_ms => 500, p_lease_duration_ms => 4000, \
                        p_amount_required => false, p_backoff_base_ms => 20, p_backoff_cap_ms => 200";

/// The world of one test.
pub(crate) struct Rig {
    pub(crate) db: TestDb,
    /// What daemons go through, unless they are told not to.
    pub(crate) proxy: FaultProxy,
    pub(crate) resend: Sim,
    pub(crate) hold: Sim,
    pub(crate) dir: TempDir,
    /// Last, so that it stops after the database is dropped.
    pub(crate) server: Option<PgServer>,
}

impl Rig {
    /// On the server that the tests share.
    pub(crate) async fn start() -> Self {
        Self::on(TestDb::create().await.unwrap(), None, None).await
    }

    /// With a rail `resend` that forgets a key `window` after its first request.
    pub(crate) async fn start_with_key_window(window: Duration) -> Self {
        let window_ms = u64::try_from(window.as_millis()).unwrap();
        Self::on(TestDb::create().await.unwrap(), None, Some(window_ms)).await
    }

    /// On a server of its own, which the test may stop.
    pub(crate) async fn start_on(server: PgServer) -> Self {
        let db = TestDb::create_on(server.address()).await.unwrap();
        Self::on(db, Some(server), None).await
    }

    async fn on(db: TestDb, server: Option<PgServer>, window_ms: Option<u64>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let proxy = FaultProxy::on_socket(db.address()).unwrap();
        let resend = start_sim(dir.path(), RESEND, KeyMode::Idempotent { window_ms }).await;
        let hold = start_sim(dir.path(), HOLD, KeyMode::NonIdempotent).await;
        let rig = Self { db, proxy, resend, hold, dir, server };
        rig.contract(RESEND, &format!("'resend', p_idempotency_window_ms => 86400000, {CONTRACT}")).await;
        rig.contract(HOLD, &format!("'hold', {CONTRACT}")).await;
        rig
    }

    /// The simulated rail of that name.
    pub(crate) fn sim(&self, rail: &str) -> &Sim {
        if rail == RESEND { &self.resend } else { &self.hold }
    }

    /// A new session of the superuser, beside the proxy.
    pub(crate) async fn dba(&self) -> PgConnection {
        self.db.connect_as("postgres").await.unwrap()
    }

    /// Sets the contract of `rail`: further arguments of `set_payment_rail`.
    pub(crate) async fn contract(&self, rail: &str, arguments: &str) {
        self.run(&format!("select outbox.set_payment_rail('{rail}', {arguments})")).await;
    }

    /// Runs statements as superuser.
    pub(crate) async fn run(&self, sql: &str) {
        let done = self.dba().await.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The rows of a statement.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<PgRow> {
        rows(&mut self.dba().await, sql).await
    }

    /// The only value of a statement.
    pub(crate) async fn value<T>(&self, sql: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        self.rows(sql).await[0].get(0)
    }

    /// The different texts in the first column of a statement's rows.
    pub(crate) async fn texts(&self, sql: &str) -> BTreeSet<String> {
        self.rows(sql).await.iter().map(|row| row.get(0)).collect()
    }

    /// Waits until a statement is true.
    pub(crate) async fn until(&self, what: &str, sql: &str) {
        let mut dba = self.dba().await;
        let asked = async || rows(&mut dba, sql).await[0].get::<Option<bool>, _>(0) == Some(true);
        wait_until(what, LIMIT, asked).await.unwrap();
    }

    /// Enqueues `count` payments with a few bytes each; returns their ids in order of their names.
    pub(crate) async fn enqueue(&self, rail: &str, count: usize) -> Vec<Uuid> {
        self.enqueue_sized(rail, count, 64).await
    }

    /// Enqueues `count` payments of `bytes` bytes each, not one like another.
    pub(crate) async fn enqueue_sized(&self, rail: &str, count: usize, bytes: usize) -> Vec<Uuid> {
        let before: i64 = self.value("select count(*) from outbox.payment_outbox_identities").await;
        // Bytes of all kinds, NUL and broken UTF-8 included.
        let sql = format!(
            "with given as (select array_agg('i' || n) as names, array_agg(decode(substr(repeat(md5(n::text) || '00ff', \
             1 + {bytes} / 18), 1, 2 * {bytes}), 'hex')) as payloads from generate_series({before} + 1, {before} + {count}) as n) \
             select b.outbox_id from given, outbox.enqueue_payment_outbox_batch(array_fill('p'::text, array[{count}]), names, \
             names, array_fill('{rail}'::text, array[{count}]), payloads, array_fill('application/octet-stream'::text, \
             array[{count}]), array_fill(null::bigint, array[{count}]), array_fill(null::text, array[{count}]), \
             array_fill(null::timestamptz, array[{count}]), array_fill(null::timestamptz, array[{count}]), \
             array_fill(null::text, array[{count}]), array_fill(null::text, array[{count}]), \
             array_fill(null::uuid, array[{count}])) as b order by b.ordinal"
        );
        let mut ingest = self.db.connect_as("t_ingest").await.unwrap();
        rows(&mut ingest, &sql).await.iter().map(|row| row.get(0)).collect()
    }

    /// Waits until every payment is dispatched, failed or held.
    pub(crate) async fn settled(&self) {
        self.until(
            "the end of all payments",
            "select not exists (select from outbox.payment_outbox_pending where disposition <> 'HELD')",
        )
        .await;
    }

    /// Waits until `count` payments of `rail` are leased.
    pub(crate) async fn leased(&self, rail: &str, count: usize) {
        let sql = format!(
            "select count(*) = {count} from outbox.payment_outbox_pending where rail = '{rail}' and lease_token is not null"
        );
        self.until("leases", &sql).await;
    }

    /// Waits until every lease that is held now has run out.
    pub(crate) async fn leases_over(&self) {
        let last: Option<f64> = self
            .value("select extract(epoch from max(lease_expires_at))::float8 from outbox.payment_outbox_pending")
            .await;
        let Some(last) = last else { panic!("there is no lease to wait for") };
        self.until(
            "the end of the leases",
            &format!("select clock_timestamp() > to_timestamp({last}) + interval '5 ms'"),
        )
        .await;
    }

    /// How many payments of `rail` have a last attempt in `state`.
    pub(crate) async fn count(&self, rail: &str, state: &str) -> i64 {
        let sql =
            format!("select count(*) from outbox.payment_outbox_attempts where rail = '{rail}' and state = '{state}'");
        self.value(&sql).await
    }

    /// How many attempts of `rail` waited for an answer until the rail's timeout: on a busy machine some may. An
    /// attempt that is in doubt sooner than that is not counted.
    pub(crate) async fn timed_out(&self, rail: &str) -> i64 {
        let sql = format!(
            "select count(*) from outbox.payment_outbox_attempts where rail = '{rail}' and state = 'IN_DOUBT' \
             and completed_at >= claimed_at + interval '1 s'"
        );
        self.value(&sql).await
    }

    /// The held payments of `rail` by reason, as `REASON count`.
    pub(crate) async fn held(&self, rail: &str) -> Vec<String> {
        let sql = format!(
            "select hold_reason || ' ' || count(*) from outbox.payment_outbox_pending \
             where rail = '{rail}' and disposition = 'HELD' group by hold_reason order by 1"
        );
        self.rows(&sql).await.iter().map(|row| row.get(0)).collect()
    }

    /// The attempts of a payment as `STATE OUTCOME`, in order.
    pub(crate) async fn attempts(&self, id: Uuid) -> Vec<String> {
        let sql = format!(
            "select concat_ws(' ', state, outcome) from outbox.payment_outbox_attempts \
             where outbox_id = '{id}' order by attempt_no"
        );
        self.rows(&sql).await.iter().map(|row| row.get(0)).collect()
    }

    /// Starts a daemon that reaches the database through the proxy.
    pub(crate) fn daemon(&self, name: &str) -> Daemon {
        self.daemon_with(name, self.proxy.address(), &[] as &[&str])
    }

    /// Starts a daemon with its own way to the database and further settings, each `KEY=VALUE`.
    pub(crate) fn daemon_with(&self, name: &str, way: &PgAddress, settings: &[impl AsRef<str>]) -> Daemon {
        self.spawn(name, way, settings, |_| {})
    }

    /// Starts a daemon whose standard output and standard error go elsewhere: its log stays empty.
    pub(crate) fn daemon_into(&self, name: &str, output: [Stdio; 2], settings: &[impl AsRef<str>]) -> Daemon {
        self.spawn(name, self.proxy.address(), settings, |command| {
            let [out, errors] = output;
            command.stdout(out).stderr(errors);
        })
    }

    fn spawn(
        &self,
        name: &str,
        way: &PgAddress,
        settings: &[impl AsRef<str>],
        configure: impl FnOnce(&mut Command),
    ) -> Daemon {
        self.spawn_of(name, &self.configuration(name, way), settings, configure)
    }

    /// Starts a daemon with a configuration of the test's own.
    pub(crate) fn daemon_of(&self, name: &str, configuration: &str) -> Daemon {
        self.spawn_of(name, configuration, &[] as &[&str], |_| {})
    }

    fn spawn_of(
        &self,
        name: &str,
        configuration: &str,
        settings: &[impl AsRef<str>],
        configure: impl FnOnce(&mut Command),
    ) -> Daemon {
        let file = self.dir.path().join(format!("{name}.toml"));
        fs::write(&file, configuration).unwrap();
        let log = self.dir.path().join(format!("{name}.log"));
        let child = ChildGuard::spawn(Path::new(env!("CARGO_BIN_EXE_outboxd")), &log, |command| {
            command.args(["run", "--config"]).arg(&file).env_remove("NOTIFY_SOCKET");
            command.args(settings.iter().flat_map(|setting| ["--set", setting.as_ref()]));
            configure(command);
        });
        Daemon { child: child.unwrap() }
    }

    /// What a daemon is told.
    pub(crate) fn configuration(&self, name: &str, way: &PgAddress) -> String {
        let rail = |name: &str| {
            let url = self.sim(name).url();
            format!(
                "[rails.{name}]\nurl = \"{url}/payments\"\ntimeout = \"1s\"\nreference_json_pointer = \"/reference\"\n\
                 code_json_pointer = \"/code\"\n[rails.{name}.breaker]\nopen_min = \"20ms\"\nopen_max = \"100ms\"\n"
            )
        };
        format!(
            "[dispatcher]\nname = \"{name}\"\nstate_directory = \"{}\"\ndrain_timeout = \"2s\"\npoll_max = \"500ms\"\n\
             completion_flush_interval = \"5ms\"\ncompletion_budget = \"1600ms\"\nlease_margin = \"400ms\"\n\
             heartbeat_interval = \"1s\"\nlistener_probe_interval = \"1s\"\nmaintenance_interval = \"1s\"\n\
             [database]\nhost = \"{}\"\nport = {}\nname = \"{}\"\nuser = \"t_dispatcher\"\n\
             connect_timeout = \"1500ms\"\ncall_timeout = \"1500ms\"\nstatement_timeout = \"1200ms\"\n\
             [health]\nlisten = \"127.0.0.1:0\"\n[log]\nfilter = \"warn,outboxd=debug\"\n{}{}",
            self.dir.path().display(),
            way.host(),
            way.port(),
            self.db.name(),
            rail(RESEND),
            rail(HOLD)
        )
    }
}

async fn rows(connection: &mut PgConnection, sql: &str) -> Vec<PgRow> {
    let rows = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(connection).await;
    rows.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

async fn start_sim(dir: &Path, name: &str, keys: KeyMode) -> Sim {
    let dir = dir.join(name);
    fs::create_dir(&dir).unwrap();
    Sim::start(SimConfig { keys, ..SimConfig::in_dir(&dir) }).await.unwrap()
}

/// Waits until every thread of a process that was told to stop has stopped: the signal itself is no news.
pub(crate) async fn standing_still(pid: u32) {
    let stopped = || {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        threads.map(|thread| fs::read_to_string(thread.path().join("stat")).unwrap_or_default()).all(|stat| {
            // The state follows the name, which is in parentheses; T is stopped.
            stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('T'))
        })
    };
    wait_until("a process that stands still", LIMIT, async || stopped()).await.unwrap();
}

/// A running daemon.
pub(crate) struct Daemon {
    pub(crate) child: ChildGuard,
}

impl Daemon {
    /// The lines of its log with this event, so far.
    pub(crate) fn events(&self, name: &str) -> Vec<Value> {
        let mark = format!("\"event\":\"{name}\"");
        let log = self.child.log();
        let lines = log.lines().filter(|line| line.contains(&mark));
        lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for `count` lines with this event; returns the last of those there are.
    pub(crate) async fn logged(&self, name: &str, count: usize) -> Value {
        wait_until(name, LIMIT, async || self.events(name).len() >= count).await.unwrap();
        self.events(name).pop().unwrap()
    }

    /// Kills it outright.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Stops it where it stands; when this returns, every thread of it does.
    pub(crate) async fn freeze(&mut self) {
        self.child.signal(Signal::STOP).unwrap();
        standing_still(self.child.pid()).await;
    }

    /// Lets it go on.
    pub(crate) fn thaw(&mut self) {
        self.child.signal(Signal::CONT).unwrap();
    }

    /// Asks it to end.
    pub(crate) fn terminate(&mut self) {
        self.child.signal(Signal::TERM).unwrap();
    }

    /// Waits for its end; returns its exit code.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        let mut status = None;
        let waited = wait_until("the daemon's end", LIMIT, async || {
            status = status.or(self.child.child().try_wait().unwrap());
            status.is_some()
        });
        waited.await.unwrap();
        status.and_then(|status| status.code())
    }

    /// Asks it to end, and waits; it must have recorded everything.
    pub(crate) async fn stop(mut self) {
        self.terminate();
        assert_eq!(self.ended().await, Some(0));
    }

    /// What `/readyz` answers: status and body.
    pub(crate) async fn ready(&self) -> String {
        self.get("/readyz").await
    }

    /// What `path` answers: status, headers and body.
    pub(crate) async fn get(&self, path: &'static str) -> String {
        let address = self.logged("health.serving", 1).await["address"].as_str().unwrap().to_owned();
        tokio::task::spawn_blocking(move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        })
        .await
        .unwrap()
    }

    /// Waits until `/readyz` says 200, or no longer does.
    pub(crate) async fn becomes_ready(&self, ready: bool) {
        let waited = wait_until("readiness", LIMIT, async || self.ready().await.starts_with("HTTP/1.1 200") == ready);
        if let Err(error) = waited.await {
            panic!("{error}: {}", self.ready().await);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr().lock(), "log of a daemon:\n{}", self.child.log());
        }
    }
}
