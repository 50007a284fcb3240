//! Each contract under everything at once: a fifth of the rail's answers is faulty, three daemons share the work,
//! two are killed and replaced, and the database is restarted in the middle. Judged by the rail's own books.
//! `scripts/outcomes.sh` runs it with 20,000 payments for each contract.

use std::collections::BTreeSet;
use std::time::Duration;

use outbox_testkit::{PgServer, PgVersion, wait_until};
use rail_sim::{Fault, Profile};

use crate::rig::{Daemon, HOLD, RESEND, Rig};

/// Payments of each contract, if the environment does not say.
const COUNT: usize = 400;
/// One call records at most so many.
const CHUNK: usize = 1_000;

/// A fifth of all answers, in thousandths.
const FAULTS: [(Fault, u16); 10] = [
    (Fault::ErrorBefore, 25),
    (Fault::ErrorAfter, 25),
    (Fault::Reset, 25),
    (Fault::ResetBefore, 20),
    (Fault::Truncate, 20),
    (Fault::Interim, 25),
    (Fault::Garbage, 15),
    (Fault::Unavailable, 30),
    (Fault::Hang, 3),
    (Fault::Refuse, 12),
];

fn count() -> usize {
    let given = std::env::var("OUTBOXD_TEST_OUTCOMES").ok();
    given.map_or(COUNT, |text| text.parse().expect("OUTBOXD_TEST_OUTCOMES is a number of payments"))
}

struct Run {
    rig: Rig,
    rail: &'static str,
    count: usize,
    settings: Vec<String>,
    /// The payments that the killed daemons had leased when they died.
    leased_at_kills: BTreeSet<String>,
    /// Those that were leased when the database was killed; its daemons still complete most of them.
    leased_at_restart: BTreeSet<String>,
}

impl Run {
    async fn start(rail: &'static str, contract: &str, asked: &[&str]) -> Self {
        let rig = Rig::start_on(PgServer::start(PgVersion::from_environment().unwrap()).unwrap()).await;
        // A rail that is slow on a busy machine is not in doubt yet: only what hangs is.
        let patient = "p_rail_timeout_ms => 5000, p_processing_bound_ms => 500, p_lease_duration_ms => 12000, \
                       p_max_crashes => 10, p_max_sends => 1000";
        rig.contract(rail, &format!("{contract}, {patient}")).await;
        rig.sim(rail).set_profile(Profile::new(FAULTS)).unwrap();
        let count = count();
        for from in (0..count).step_by(CHUNK) {
            rig.enqueue(rail, CHUNK.min(count - from)).await;
        }
        let common = ["timeout=5s", "codes=[{status=503,code=\"NOT_EXECUTED\",means=\"not_executed\"}]"];
        let settings = common.iter().chain(asked).map(|setting| format!("rails.{rail}.{setting}")).collect();
        Self { rig, rail, count, settings, leased_at_kills: BTreeSet::new(), leased_at_restart: BTreeSet::new() }
    }

    fn daemon(&self, name: &str) -> Daemon {
        self.rig.daemon_with(name, self.rig.db.address(), &self.settings)
    }

    /// Waits until so many thousandths of all payments are not in the queue any more, or wait for a person.
    async fn done(&self, thousandths: usize) {
        let target = self.count * thousandths / 1_000;
        let sql = format!(
            "select {} - (select count(*) from outbox.payment_outbox_pending where disposition <> 'HELD') >= {target}",
            self.count
        );
        let limit = Duration::from_secs(120 + self.count as u64 / 25);
        let asked = async || self.rig.value::<bool>(&sql).await;
        wait_until("payments that are over", limit, asked).await.unwrap();
    }

    /// A daemon with a login of its own, by which its sessions are told from the others'.
    async fn mortal(&self, name: &str) -> Daemon {
        self.rig.run(&format!("create role mortal_{name} login in role outbox_dispatcher")).await;
        let mut settings = self.settings.clone();
        settings.push(format!("database.user=mortal_{name}"));
        self.rig.daemon_with(name, self.rig.db.address(), &settings)
    }

    /// Kills it and notes the leases that it leaves. The database still carries out the call that it had in its hands,
    /// so they count once the sessions are gone.
    async fn kill(&mut self, mut daemon: Daemon, name: &str) {
        daemon.kill();
        let gone = format!("select count(*) = 0 from pg_stat_activity where usename = 'mortal_{name}'");
        self.rig.until("the end of the sessions", &gone).await;
        let leased =
            format!("select outbox_id::text from outbox.payment_outbox_pending where claimed_by like '{name}/%'");
        self.leased_at_kills.extend(self.rig.texts(&leased).await);
    }

    /// The whole story; at its end every payment is over or held.
    async fn run(&mut self) {
        let (first, second, third) = (self.mortal("a").await, self.mortal("b").await, self.daemon("c"));
        self.done(200).await;
        self.kill(first, "a").await;
        let fourth = self.daemon("d");
        self.done(400).await;
        let server = self.rig.server.as_mut().unwrap();
        server.stop_immediate().unwrap();
        server.restart().unwrap();
        let leased = "select outbox_id::text from outbox.payment_outbox_pending where lease_token is not null";
        self.leased_at_restart = self.rig.texts(leased).await;
        self.done(600).await;
        self.kill(second, "b").await;
        let fifth = self.daemon("e");
        self.done(1_000).await;
        self.rig.conserved().await;
        for daemon in [third, fourth, fifth] {
            daemon.stop().await;
        }
        self.rig.conserved().await;
        let executed = self.rig.sim(self.rail).effects().unwrap();
        let keys: BTreeSet<&String> = executed.iter().map(|effect| &effect.key).collect();
        assert_eq!(keys.len(), executed.len(), "executed twice");
        let without_reason: i64 =
            self.rig.value("select count(*) from outbox.payment_outbox_pending where hold_reason is null").await;
        assert_eq!(without_reason, 0, "neither over nor held with a reason");
    }

    /// Writes down what came out, where a script asks for it: `contract payments effects dispatched failed held unknown
    /// lost_leases open_at_kills requests inquiries`.
    async fn note(&self, contract: &str) {
        let Some(file) = std::env::var_os("OUTBOXD_TEST_OUTCOMES_OUT") else { return };
        let (sim, count) = (self.rig.sim(self.rail), async |state| self.rig.count(self.rail, state).await);
        let held: i64 = self.rig.value("select count(*) from outbox.payment_outbox_pending").await;
        let line = format!(
            "{contract} {} {} {} {} {held} {} {} {} {} {}\n",
            self.count,
            sim.effects().unwrap().len(),
            count("DISPATCHED").await,
            count("FAILED").await,
            self.with_attempt("IN_DOUBT").await,
            count("LEASE_EXPIRED").await,
            self.open_at_kills().await.len(),
            sim.stats().requests,
            self.rig.value::<i64>("select count(*) from outbox.payment_outbox_attempts where kind = 'INQUIRE'").await,
        );
        let opened = std::fs::OpenOptions::new().append(true).create(true).open(file);
        std::io::Write::write_all(&mut opened.unwrap(), line.as_bytes()).unwrap();
    }

    /// The payments that were leased when their daemon was killed, or when the database was and the lease ran out over that.
    async fn open_at_kills(&self) -> BTreeSet<String> {
        let lost = "select outbox_id::text from outbox.payment_outbox_attempts where state = 'LEASE_EXPIRED'";
        let by_restart = &self.rig.texts(lost).await & &self.leased_at_restart;
        &by_restart | &self.leased_at_kills
    }

    /// How many payments have an attempt in this state.
    async fn with_attempt(&self, state: &str) -> i64 {
        let sql =
            format!("select count(distinct outbox_id) from outbox.payment_outbox_attempts where state = '{state}'");
        self.rig.value(&sql).await
    }

    /// The keys that got an answer, or none, from which nobody can tell whether they were executed.
    fn doubtful_by_the_rail(&self) -> BTreeSet<String> {
        let answers = self.rig.sim(self.rail).answers().unwrap();
        // Our table of codes knows what this rail means by its 503.
        let doubtful = answers.into_iter().filter(|answer| answer.unknown && answer.fault != Fault::Unavailable);
        doubtful.filter_map(|answer| answer.key).collect()
    }

    /// Every payment that the rail did not refuse was executed once and is recorded so.
    async fn all_ended(&self) {
        assert_eq!(self.rig.held(self.rail).await, Vec::<String>::new());
        let executed = self.rig.sim(self.rail).effects().unwrap().len();
        let dispatched = self.rig.count(self.rail, "DISPATCHED").await;
        let failed = self.rig.count(self.rail, "FAILED").await;
        assert_eq!((dispatched, dispatched + failed), (executed as i64, self.count as i64));
        assert!(self.with_attempt("IN_DOUBT").await > self.count as i64 / 20, "hardly anything was in doubt");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rail_that_may_be_asked_again_executes_every_payment_once_and_holds_none() {
    let mut run = Run::start(RESEND, "'resend', p_idempotency_window_ms => 86400000", &[]).await;
    run.run().await;
    run.note("resend").await;
    run.all_ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rail_that_answers_inquiries_executes_every_payment_once_and_holds_none() {
    let asked = [
        "inquiry.path=/payments/{key}",
        "inquiry.code_json_pointer=/status",
        "inquiry.codes=[{status=200,code=\"ACCEPTED\",means=\"accepted\"},{status=200,code=\"REFUSED\",means=\"refused\"}]",
    ];
    let mut run = Run::start(HOLD, "'inquire', p_not_found_is_final => true", &asked).await;
    run.run().await;
    run.note("inquire").await;
    run.all_ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rail_that_can_do_neither_holds_what_is_unknown_and_nothing_else() {
    let mut run = Run::start(HOLD, "'hold'", &[]).await;
    run.run().await;
    run.note("hold").await;
    let held = run.rig.texts("select outbox_id::text from outbox.payment_outbox_pending").await;
    let by_the_rail = run.doubtful_by_the_rail();
    let unknown = run.with_attempt("IN_DOUBT").await;
    let count = held.len() as i64;
    let leased = run.open_at_kills().await;
    let open_at_kills = leased.len() as i64;
    assert!(unknown <= count && count <= unknown + open_at_kills, "{unknown} {count} {open_at_kills}");
    // What the rail itself would not have understood is held, and besides only what a worker had when it, or the database, was killed.
    assert!(by_the_rail.is_subset(&held), "{:?}", by_the_rail.difference(&held).collect::<Vec<_>>());
    let told: BTreeSet<String> = by_the_rail.union(&leased).cloned().collect();
    assert!(held.is_subset(&told), "{:?}", held.difference(&told).collect::<Vec<_>>());
    assert!(count > run.count as i64 / 20, "hardly anything was in doubt");
}
