//! One run of the checker: passes while the outbox works, and a last complete reading. The order matters: the rails'
//! files, the snapshot, the files again. What the database must know before a rail does is judged against the first
//! reading of the files, what a rail must know before the database does against the second.

use std::{
    collections::{BTreeMap, VecDeque},
    io::Write,
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    checks::{
        self, Case, Check, Flaw, Terms,
        leases::lease_ended_rightly,
        recovery::{LostLease, Recovery, recoveries},
    },
    error::CheckError,
    faults::FaultsFile,
    findings::Findings,
    payment::NO_RAIL,
    rail_files::{FileFlaws, RailFiles, RailSpec},
    reading::Reader,
    report::{Report, Summary},
    session::Session,
    words::{Disposition, State},
    world::World,
};

/// After how long a payment that changed is looked at once more: answers are on record by then, faults that went on are
/// written down, and what was late is told.
const SETTLES_AFTER: [Duration; 2] = [Duration::from_secs(20), Duration::from_secs(90)];
/// How long a promotion may be untold before it is taken for one without loss.
const UNTOLD_LIMIT: Duration = Duration::from_secs(60);
/// How long a pass, and a complete reading, may take before the connection is taken for dead.
const PASS_LIMIT: Duration = Duration::from_secs(60);
const EVERYTHING_LIMIT: Duration = Duration::from_secs(900);

/// What is judged.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The database.
    pub database: String,
    /// Its rails.
    pub rails: Vec<RailSpec>,
    /// What the harness writes down.
    pub faults: PathBuf,
    /// Above which a recovery is a finding.
    pub recovery_max_ms: Option<i64>,
}

/// The checker at work.
pub struct Checker {
    settings: Settings,
    session: Session,
    reader: Reader,
    world: World,
    files: Vec<RailFiles>,
    /// How often the rails' files were read.
    files_reading: u32,
    faults: FaultsFile,
    failovers_taken: usize,
    /// Whether this pass reads everything anew because of a failover that was told.
    is_promoted: bool,
    enqueued_taken: usize,
    untold_since: Option<Instant>,
    settling: VecDeque<(Instant, u32)>,
    findings: Findings,
    passes: u64,
}

impl Checker {
    /// A checker that tells its findings to `out`. It opens nothing yet.
    ///
    /// # Errors
    /// If the database's address cannot be read.
    pub fn new(settings: Settings, out: Box<dyn Write + Send>) -> Result<Self, CheckError> {
        let files = settings.rails.iter().zip(0..).map(|(spec, no)| RailFiles::new(no, spec)).collect();
        Ok(Self {
            session: Session::new(&settings.database)?,
            reader: Reader::new(&settings.rails),
            world: World::default(),
            files,
            files_reading: 0,
            faults: FaultsFile::new(&settings.faults),
            failovers_taken: 0,
            is_promoted: false,
            enqueued_taken: 0,
            untold_since: None,
            settling: VecDeque::new(),
            findings: Findings::new(out),
            passes: 0,
            settings,
        })
    }

    /// How many findings there are so far.
    #[must_use]
    pub fn findings(&self) -> u64 {
        self.findings.total()
    }

    /// Writes a line where the findings go.
    pub fn say(&mut self, line: &str) {
        self.findings.say(line);
    }

    /// One pass over what changed.
    ///
    /// # Errors
    /// Why it could not be made; see [`CheckError::passes`].
    pub async fn pass(&mut self) -> Result<(), CheckError> {
        self.faults.read()?;
        self.read_files()?;
        self.is_promoted = self.knows_another_failover();
        let everything = self.reader.is_new() || self.is_promoted;
        match self.read_database(everything).await {
            Err(CheckError::FailoverUntold) if self.was_untold_long_enough() => {
                // One that was told while the old primary was still read.
                self.is_promoted |= self.was_just_told();
                self.read_database(true).await?;
            }
            read => read?,
        }
        self.untold_since = None;
        self.failovers_taken = self.faults.faults.failovers.len();
        self.judge(false)
    }

    /// The last pass: the rails' files and the database are read from the beginning, in one snapshot, and compared with
    /// what was seen before.
    ///
    /// # Errors
    /// Why it could not be made.
    pub async fn finish(&mut self) -> Result<Report, CheckError> {
        self.faults.read()?;
        self.is_promoted = self.knows_another_failover() || self.was_just_told();
        self.world.forget_wires();
        for place in 0..self.files.len() {
            let before = self.files[place].rewind();
            self.read_file(place)?;
            let now = self.files[place].effects;
            if now < before {
                self.file_flaw(place, format!("{now} effects, and {before} before"));
            }
        }
        self.files_reading += 1;
        self.read_database(true).await?;
        self.world.touched.extend(self.world.places());
        self.judge(true)?;
        Ok(self.report())
    }

    async fn read_database(&mut self, everything: bool) -> Result<(), CheckError> {
        let Self { reader, session, world, faults, .. } = self;
        let promised: Vec<u128> = faults.faults.enqueued[self.enqueued_taken..].iter().map(|each| each.id).collect();
        let limit = if everything { EVERYTHING_LIMIT } else { PASS_LIMIT };
        let reading = async {
            match everything {
                true => reader.everything(session, world).await,
                false => reader.pass(session, world, &promised).await,
            }
        };
        let read = match tokio::time::timeout(limit, reading).await {
            Ok(read) => read,
            Err(_) => Err(CheckError::Away(sqlx::Error::PoolTimedOut)),
        };
        // What was read of a snapshot that broke off is no whole; the next reading has everything again.
        if let Err(error) = &read
            && !matches!(error, CheckError::FailoverUntold)
        {
            self.session.drop_connection();
        }
        read
    }

    /// Whether a promotion need not be waited for: it was told before it was seen, or nobody tells it.
    fn was_untold_long_enough(&mut self) -> bool {
        self.was_just_told() || self.untold_since.get_or_insert_with(Instant::now).elapsed() >= UNTOLD_LIMIT
    }

    fn was_just_told(&self) -> bool {
        let told_us = now_us() - i64::try_from(UNTOLD_LIMIT.as_micros()).unwrap_or(i64::MAX);
        self.faults.faults.failed_over_after(told_us)
    }

    fn knows_another_failover(&self) -> bool {
        self.faults.faults.failovers.len() > self.failovers_taken
    }

    fn read_files(&mut self) -> Result<(), CheckError> {
        self.files_reading += 1;
        (0..self.files.len()).try_for_each(|place| self.read_file(place))
    }

    fn read_file(&mut self, place: usize) -> Result<(), CheckError> {
        let (world, files_reading) = (&mut self.world, self.files_reading);
        let mut flaws = FileFlaws::default();
        self.files[place].read(&mut flaws, |id, change| world.written_by_rail(id, files_reading, change))?;
        for flaw in flaws.0 {
            self.file_flaw(place, flaw);
        }
        for key in std::mem::take(&mut self.files[place].strange_keys) {
            let flaw = Flaw::new(Check::EffectUnknown, "executed under a key that is none of ours");
            self.findings.of(key, &self.settings.rails[place].name, flaw);
        }
        Ok(())
    }

    fn file_flaw(&mut self, place: usize, detail: String) {
        let rail = &self.settings.rails[place];
        self.findings.of(rail.ledger.display().to_string(), &rail.name, Flaw::new(Check::RailFilesChanged, detail));
    }

    /// Judges what changed, and what has settled since it changed.
    fn judge(&mut self, is_final: bool) -> Result<(), CheckError> {
        self.passes += 1;
        self.judge_history();
        self.judge_enqueued(is_final);
        let snapshot_files = self.files_reading;
        let mut touched: Vec<u32> = std::mem::take(&mut self.world.touched).into_iter().collect();
        // Sorted, so that findings come in the same order in every run.
        touched.sort_unstable();
        let mut strangers: Vec<u32> = self
            .world
            .strangers
            .iter()
            .filter(|(_, first)| **first <= snapshot_files)
            .map(|(place, _)| *place)
            .collect();
        strangers.sort_unstable();
        self.judge_each(touched.iter().chain(&strangers), is_final, checks::judge_against_earlier_files);
        self.read_files()?;
        self.judge_each(touched.iter(), is_final, checks::judge_against_later_files);
        if is_final {
            self.judge_each(touched.iter(), true, checks::judge_what_has_settled);
            return Ok(());
        }
        let now = Instant::now();
        let due = self.settling.partition_point(|(at, _)| *at <= now);
        let mut due: Vec<u32> = self.settling.drain(..due).map(|(_, place)| place).collect();
        due.sort_unstable();
        due.dedup();
        self.judge_each(due.iter(), false, checks::judge_what_has_settled);
        for place in touched {
            let payment = self.world.at(place);
            let is_held = payment.pending.as_ref().is_some_and(|row| row.disposition == Disposition::Held);
            if is_held || payment.is_unknown() {
                self.settling.extend(SETTLES_AFTER.map(|after| (now + after, place)));
            }
        }
        self.settling.make_contiguous().sort_unstable();
        Ok(())
    }

    fn judge_each<'p>(
        &mut self,
        places: impl Iterator<Item = &'p u32>,
        is_final: bool,
        judge: impl Fn(&Case<'_>) -> Vec<Flaw>,
    ) {
        for place in places {
            let case = case(&self.world, &self.settings, &self.reader, &self.faults, *place, is_final);
            let flaws = judge(&case);
            let (id, rail) = (case.payment.id, case.rail_name().to_owned());
            for flaw in flaws {
                self.findings.of_payment(id, &rail, flaw);
            }
        }
    }

    /// What changed in history, how leases ended, and tokens that came twice.
    fn judge_history(&mut self) {
        let faults = &self.faults.faults;
        for difference in std::mem::take(&mut self.world.differences) {
            if !faults.may_have_lost(difference.written_us) {
                let payment = self.world.at(difference.place);
                self.findings.of_payment(payment.id, rail_name(&self.settings, payment.rail), difference.flaw);
            }
        }
        for shrunk in std::mem::take(&mut self.reader.other.shrunk) {
            let is_excused = match shrunk.written_us {
                Some(written_us) => faults.may_have_lost(written_us),
                // Every table is read anew in that pass, and in no later one is a failover a reason.
                None => self.is_promoted,
            };
            if !is_excused {
                self.findings.of(shrunk.table.to_owned(), "-", Flaw::new(Check::HistoryShrank, shrunk.detail));
            }
        }
        for (place, no) in std::mem::take(&mut self.world.reused_tokens) {
            let payment = self.world.at(place);
            let flaw = Flaw::new(Check::LeaseTokenReused, format!("attempt {no} has the lease token of another"));
            self.findings.of_payment(payment.id, rail_name(&self.settings, payment.rail), flaw);
        }
        for (place, lease, attempt) in std::mem::take(&mut self.world.ended_leases) {
            let (payment, worker) = (self.world.at(place), self.world.workers.name(lease.worker));
            if let Some(flaw) = lease_ended_rightly(&lease, &attempt, worker, faults) {
                self.findings.of_payment(payment.id, rail_name(&self.settings, payment.rail), flaw);
            }
        }
    }

    /// Whether what producers were promised is there. All of it was on record before the snapshot was taken.
    fn judge_enqueued(&mut self, is_final: bool) {
        let faults = &self.faults.faults;
        let from = if is_final { 0 } else { self.enqueued_taken };
        for enqueued in &faults.enqueued[from..] {
            let is_there = self.world.find(enqueued.id).is_some_and(|place| self.world.at(place).identity != 0);
            if !is_there && !faults.may_have_lost(enqueued.at_us) {
                let flaw = Flaw::new(Check::LostEnqueue, "its enqueue was acknowledged, and there is no identity");
                self.findings.of_payment(enqueued.id, "?", flaw);
            }
        }
        self.enqueued_taken = faults.enqueued.len();
    }

    fn recoveries(&self) -> Vec<Recovery> {
        let workers = &self.world.workers;
        let settled = self.world.settled.iter().map(|settled| LostLease {
            worker: workers.name(settled.worker),
            claimed_us: settled.claimed_us,
            settled_us: Some(settled.settled_us),
        });
        let open = self.world.open.iter().filter_map(|place| self.world.at(*place).pending.as_ref()?.lease);
        let open = open.map(|lease| LostLease {
            worker: workers.name(lease.worker),
            claimed_us: lease.claimed_us,
            settled_us: None,
        });
        let leases: Vec<_> = settled.chain(open).collect();
        recoveries(&self.faults.faults, &leases, now_us())
    }

    /// The payment whose lease was the last that a crash left open.
    fn last_settled(&self, worker: &str, killed_us: i64) -> String {
        let leases = self
            .world
            .payments()
            .iter()
            .flat_map(|payment| payment.attempts.iter().map(move |attempt| (payment, attempt)));
        let lost = leases.filter(|(_, attempt)| {
            attempt.state == State::LeaseExpired
                && self.faults.faults.earliest_host_us(attempt.claimed_us) <= killed_us
                && self.world.workers.name(attempt.worker).starts_with(worker)
        });
        let last = lost.max_by_key(|(_, attempt)| attempt.completed_us);
        last.map_or_else(|| "is open".to_owned(), |(payment, _)| uuid::Uuid::from_u128(payment.id).to_string())
    }

    fn report(&mut self) -> Report {
        let recoveries = self.recoveries();
        for slow in recoveries.iter().filter(|slow| self.settings.recovery_max_ms.is_some_and(|max| slow.took_ms > max))
        {
            let last = self.last_settled(&slow.worker, slow.at_us);
            let detail =
                format!("{} ms after it was killed, the last of its {} leases {last}", slow.took_ms, slow.leases);
            let flaw = Flaw::new(Check::RecoveryTooSlow, detail);
            self.findings.of(format!("{}@{}", slow.worker, slow.at_us), "-", flaw);
        }
        let mut summary = Summary { passes: self.passes, ..Summary::default() };
        let mut held_by_reason = BTreeMap::new();
        for payment in self.world.payments() {
            summary.payments += u64::from(payment.identity != 0);
            summary.effects += u64::from(payment.wire.effects);
            summary.double += u64::from(payment.wire.effects.saturating_sub(1));
            summary.unknown += u64::from(payment.is_unknown());
            summary.pending += u64::from(payment.pending.is_some());
            match payment.terminal().map(|end| end.state) {
                Some(State::Dispatched) => summary.dispatched += 1,
                Some(State::Failed) => summary.failed += 1,
                Some(State::Cancelled) => summary.cancelled += 1,
                _ => {}
            }
            if let Some(reason) = payment.pending.as_ref().and_then(|row| row.hold_reason) {
                summary.held += 1;
                *held_by_reason.entry(reason.word()).or_insert(0) += 1;
            }
        }
        summary.lost =
            self.findings.subjects_of(&[Check::LostPayment, Check::DispatchedWithoutEffect, Check::LostEnqueue]);
        summary.findings = self.findings.total();
        let report = Report {
            summary,
            findings_by_check: self.findings.counts.clone(),
            told: self.findings.told.clone(),
            held_by_reason,
            crashes: 0,
            recovered_max_s: None,
            recovered_with_outages_max_s: None,
            slowest_recoveries: Vec::new(),
            database_lives: self.session.lives,
        };
        report.with_recoveries(recoveries)
    }
}

fn rail_name(settings: &Settings, rail: u8) -> &str {
    settings.rails.get(usize::from(rail)).map_or("?", |rail| &rail.name)
}

fn case<'a>(
    world: &'a World,
    settings: &'a Settings,
    reader: &'a Reader,
    faults: &'a FaultsFile,
    place: u32,
    is_final: bool,
) -> Case<'a> {
    let payment = world.at(place);
    let rail = if payment.rail == NO_RAIL { payment.wire.rail() } else { payment.rail };
    Case {
        payment,
        lates: world.lates.get(&place).map_or(&[], Vec::as_slice),
        applied: world.applied.get(&place).map_or(&[], Vec::as_slice),
        rail: settings.rails.get(usize::from(rail)),
        terms: reader.terms.get(usize::from(rail)).copied().unwrap_or_else(Terms::default),
        faults: &faults.faults,
        workers: &world.workers,
        is_detached: reader.is_detached(payment.id),
        now_us: reader.clock_max_us,
        is_final,
    }
}

/// The machine's clock, in microseconds since 1970.
fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
