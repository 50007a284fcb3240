//! What the harness wrote down of the faults it made: which payments it was promised, what a failover may have
//! lost, how the server's clock was moved, who was stopped and killed. Judgement only; it makes no fault. What it
//! does not understand it leaves out.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use crate::{error::CheckError, payment::fingerprint, tail::Tail};

/// How long before its commit a row may have been given its time, and how exactly the harness knows when it did
/// something.
pub(crate) const GRACE_US: i64 = 5_000_000;
/// How much earlier than written down a fault may have begun, and how much later it may have ended.
const BEFORE_US: i64 = 1_000_000;
/// How exactly the harness knows when it moved a clock.
const STEP_US: i64 = 200_000;

/// Faults that keep whoever asked from an answer that was given whole: connections are reset, or nobody reads. All others
/// show in the rail's own record, or leave no doubt at all: where every moment has its fault, an excuse for each would
/// excuse everything. That a dispatcher stood still is told by `stopped`.
const SILENCING: [&str; 6] = ["down", "kill", "keys_expire", "other_version", "restart", "wrong_certificate"];

/// Faults that keep a dispatcher from telling the database anything for as long as they last. They excuse no doubt.
const MUTING: [&str; 3] = ["delay", "half_open", "trickle"];

/// A line of the file, with whatever it has.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    event: Option<String>,
    kind: Option<String>,
    target: Option<String>,
    worker: Option<String>,
    at_us: Option<i64>,
    from_us: Option<i64>,
    until_us: Option<i64>,
    ids: Vec<String>,
    rail: Option<String>,
    lost_from: Option<String>,
    offset_s: Option<f64>,
    lease_ms: Option<i64>,
    action: Option<String>,
    id: Option<String>,
}

/// A payment whose enqueue was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enqueued {
    /// Which.
    pub id: u128,
    /// When it was acknowledged.
    pub at_us: i64,
    /// The name of its rail, as a fingerprint.
    pub rail: u64,
}

/// An asynchronous standby was promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failover {
    /// When.
    pub at_us: i64,
    /// From when on commits may be missing.
    pub lost_from_us: i64,
}

/// The server's clock shows this much more than the machine's from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockStep {
    /// Since when, by the machine's clock.
    pub at_us: i64,
    /// How much.
    pub offset_us: i64,
}

/// A dispatcher was killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    /// What its worker id began with.
    pub worker: String,
    /// When.
    pub at_us: i64,
    /// How long its leases were.
    pub lease_ms: i64,
}

/// Something was wrong with one part for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// With which: a rail's name, or what a worker id begins with.
    pub target: String,
    /// From when.
    pub from_us: i64,
    /// Until when.
    pub until_us: i64,
}

/// Everything in the file so far.
#[derive(Debug, Default)]
pub struct Faults {
    /// In the order of the file.
    pub enqueued: Vec<Enqueued>,
    /// In the order of the file.
    pub failovers: Vec<Failover>,
    /// In the order of the file.
    pub clocks: Vec<ClockStep>,
    /// In the order of the file.
    pub kills: Vec<Kill>,
    /// Faults of rails and dispatchers.
    pub windows: Vec<Window>,
    /// Faults in which a dispatcher could tell the database nothing.
    pub mutings: Vec<Window>,
    /// Those that have begun and not ended, by target: since when. One target has one fault at a time.
    pub begun: BTreeMap<String, i64>,
    /// Times in which nothing could be settled.
    pub outages: Vec<(i64, i64)>,
    /// Payments that an operator was told to hold.
    pub held_by_hand: Vec<u128>,
}

impl Faults {
    /// Takes in one line.
    ///
    /// # Errors
    /// If it is no JSON object, or a time in it cannot be read.
    pub fn take_in(&mut self, line: &[u8]) -> Result<(), String> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let at_us = line.at_us.or(line.from_us).unwrap_or(0);
        match line.event.as_deref() {
            Some("enqueued") => {
                let rail = fingerprint(line.rail.as_deref().unwrap_or(""));
                for id in &line.ids {
                    self.enqueued.push(Enqueued { id: key(id)?, at_us, rail });
                }
            }
            Some("failover") => {
                let from = line.lost_from.ok_or("a failover without lost_from")?;
                let from = OffsetDateTime::parse(&from, &Rfc3339).map_err(|error| error.to_string())?;
                let lost_from_us =
                    i64::try_from(from.unix_timestamp_nanos() / 1000).map_err(|error| error.to_string())?;
                self.failovers.push(Failover { at_us, lost_from_us });
            }
            Some("clock") => {
                let offset_s = line.offset_s.ok_or("a clock without offset_s")?;
                let offset_us =
                    std::time::Duration::try_from_secs_f64(offset_s.abs()).map_err(|error| error.to_string())?;
                let offset_us = i64::try_from(offset_us.as_micros()).map_err(|error| error.to_string())?;
                self.clocks.push(ClockStep { at_us, offset_us: if offset_s < 0.0 { -offset_us } else { offset_us } });
            }
            Some("killed") => {
                let worker = line.worker.ok_or("a kill without worker")?;
                self.windows.push(Window { target: worker.clone(), from_us: at_us, until_us: at_us });
                self.kills.push(Kill { worker, at_us, lease_ms: line.lease_ms.unwrap_or(0) });
            }
            Some("outage") => self.outages.push((line.from_us.unwrap_or(at_us), line.until_us.unwrap_or(at_us))),
            Some("operator") if line.action.as_deref() == Some("hold") => {
                let id = line.id.as_deref().map(key).transpose()?;
                self.held_by_hand.extend(id);
            }
            Some("begins") => self.begins(line.kind.as_deref().unwrap_or(""), line.target.unwrap_or_default(), at_us),
            Some("stopped") => self.windows.extend(window(line.target, at_us, line.until_us)),
            None if line.kind.as_deref().is_some_and(|kind| SILENCING.contains(&kind)) => {
                self.begun.remove(line.target.as_deref().unwrap_or(""));
                self.windows.extend(window(line.target, at_us, line.until_us));
            }
            None if line.kind.as_deref().is_some_and(|kind| MUTING.contains(&kind)) => {
                self.mutings.extend(window(line.target, at_us, line.until_us));
            }
            _ => {}
        }
        Ok(())
    }

    /// A fault of `target` begins: the one before it is over, whether it took effect or not.
    fn begins(&mut self, kind: &str, target: String, at_us: i64) {
        if let Some(from_us) = self.begun.remove(&target) {
            self.windows.push(Window { target: target.clone(), from_us, until_us: at_us });
        }
        if SILENCING.contains(&kind) {
            self.begun.insert(target, at_us);
        }
    }

    /// Whether something was wrong with `rail`, or with the worker of that id, between two times of the machine.
    #[must_use]
    pub fn was_hit(&self, rail: &str, worker: &str, from_us: i64, until_us: i64) -> bool {
        let is_it = |target: &str| !target.is_empty() && (target == rail || worker.starts_with(target));
        let was = self.windows.iter().any(|window| {
            let is_then = window.from_us - BEFORE_US <= until_us && from_us <= window.until_us + BEFORE_US;
            is_then && is_it(&window.target)
        });
        was || self.begun.iter().any(|(target, since_us)| since_us - BEFORE_US <= until_us && is_it(target))
    }

    /// Whether a failover may have taken away what the database wrote at that time by its own clock.
    #[must_use]
    pub fn may_have_lost(&self, written_us: i64) -> bool {
        let slack = GRACE_US + self.clocks.iter().map(|clock| clock.offset_us.abs()).max().unwrap_or(0);
        self.failovers.iter().any(|f| written_us >= f.lost_from_us - slack && written_us <= f.at_us + slack)
    }

    /// Whether a failover came after that time of the machine.
    #[must_use]
    pub fn failed_over_after(&self, at_us: i64) -> bool {
        self.failovers.iter().any(|failover| failover.at_us >= at_us)
    }

    /// A time of the database by the machine's clock. Where the server's clock was turned back the same time came
    /// twice: the later one is taken.
    #[must_use]
    pub fn host_us(&self, database_us: i64) -> i64 {
        self.hosts_us(database_us).max().unwrap_or(database_us)
    }

    /// The same with the earlier one: whoever wrote it may have lived no longer.
    #[must_use]
    pub fn earliest_host_us(&self, database_us: i64) -> i64 {
        self.hosts_us(database_us).min().unwrap_or(database_us)
    }

    /// Every time of the machine at which the database's clock showed that time; none where it was jumped over.
    fn hosts_us(&self, database_us: i64) -> impl Iterator<Item = i64> {
        let first = std::iter::once((i64::MIN, 0));
        let starts = first.chain(self.clocks.iter().map(|clock| (clock.at_us, clock.offset_us)));
        let ends = self.clocks.iter().map(|clock| clock.at_us).chain([i64::MAX]);
        starts.zip(ends).filter_map(move |((since, offset_us), until)| {
            let host = database_us - offset_us;
            let is_then = since.saturating_sub(STEP_US) <= host && host <= until.saturating_add(STEP_US);
            is_then.then_some(host)
        })
    }

    /// By how much the server's clock was turned back, at most, around the time at which it showed `first_us`
    /// and, before that, `second_us`; 0 if it was not.
    #[must_use]
    pub fn turned_back_us(&self, earlier_us: i64, later_us: i64) -> i64 {
        let mut found = 0;
        for (number, clock) in self.clocks.iter().enumerate() {
            // Where the clock was put, and where it had been under each earlier offset: several steps add up.
            let put = clock.at_us + clock.offset_us;
            let before = std::iter::once(0).chain(self.clocks[..number].iter().map(|clock| clock.offset_us));
            let ends = self.clocks[..=number].iter().map(|clock| clock.at_us);
            for (offset_us, ended_us) in before.zip(ends) {
                let (back, been) = (offset_us - clock.offset_us, ended_us + offset_us);
                if back > found && earlier_us >= put - GRACE_US && later_us <= been + GRACE_US {
                    found = back;
                }
            }
        }
        found
    }

    /// How much of a time of the machine was outage.
    #[must_use]
    pub fn outage_us(&self, from_us: i64, until_us: i64) -> i64 {
        covered_us(self.outages.clone(), from_us, until_us)
    }

    /// How much of a time of the machine the worker of that id stood still or could not reach the database.
    #[must_use]
    pub fn hindered_us(&self, worker: &str, from_us: i64, until_us: i64) -> i64 {
        let is_it = |target: &str| !target.is_empty() && worker.starts_with(target);
        let windows = self.windows.iter().chain(&self.mutings).filter(|window| is_it(&window.target));
        let begun = self.begun.iter().filter(|(target, _)| is_it(target)).map(|(_, since_us)| (*since_us, i64::MAX));
        let spans = windows.map(|window| (window.from_us, window.until_us)).chain(begun);
        covered_us(spans.chain(self.outages.iter().copied()).collect(), from_us, until_us)
    }
}

/// How much of a time lies in these spans, which may overlap.
fn covered_us(mut spans: Vec<(i64, i64)>, from_us: i64, until_us: i64) -> i64 {
    spans.sort_unstable();
    let (mut sum, mut covered) = (0, from_us);
    for (from, until) in spans {
        let (from, until) = (from.max(covered), until.min(until_us));
        if until > from {
            sum += until - from;
            covered = until;
        }
    }
    sum
}

fn key(text: &str) -> Result<u128, String> {
    Uuid::parse_str(text).map(|id| id.as_u128()).map_err(|error| format!("{text}: {error}"))
}

fn window(target: Option<String>, from_us: i64, until_us: Option<i64>) -> Option<Window> {
    Some(Window { target: target?, from_us, until_us: until_us.unwrap_or(from_us) })
}

/// The file of faults, read as it grows.
#[derive(Debug)]
pub(crate) struct FaultsFile {
    tail: Tail,
    /// What is known.
    pub(crate) faults: Faults,
}

impl FaultsFile {
    pub(crate) fn new(path: &Path) -> Self {
        Self { tail: Tail::new(path), faults: Faults::default() }
    }

    /// Reads what is new.
    pub(crate) fn read(&mut self) -> Result<(), CheckError> {
        let Self { tail, faults } = self;
        tail.read(|line| faults.take_in(line)).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(lines: &[&str]) -> Faults {
        let mut faults = Faults::default();
        for line in lines {
            faults.take_in(line.as_bytes()).unwrap();
        }
        faults
    }

    #[test]
    fn what_is_not_understood_is_left_out() {
        let found = faults(&[
            r#"{"event":"song","at_us":1,"more":{"a":[1]}}"#,
            r#"{"event":"stopped","from_us":5,"until_us":9,"target":"d1"}"#,
            r#"{"at_us":5,"until_us":9,"no":1,"kind":"trickle","target":"d1"}"#,
            r#"{"at_us":7,"until_us":null,"no":2,"kind":"kill","target":"sepa"}"#,
            "",
        ]);
        let windows = [("d1", 5, 9), ("sepa", 7, 7)];
        let windows =
            windows.map(|(target, from_us, until_us)| Window { target: target.to_owned(), from_us, until_us });
        assert_eq!(found.windows, windows);
        assert!(Faults::default().take_in(b"[1]").is_err());
    }

    #[test]
    fn a_fault_that_has_begun_lasts_until_its_end_is_told_or_the_next_one_of_its_target_begins() {
        let begun = r#"{"event":"begins","at_us":50000000,"kind":"down","target":"sepa"}"#;
        let hit = |found: &Faults, at_us| found.was_hit("sepa", "d1/x", at_us, at_us);
        let found = faults(&[begun]);
        assert!(!hit(&found, 40_000_000) && hit(&found, 50_000_000) && hit(&found, 900_000_000));
        assert!(!found.was_hit("fedwire", "d1/x", 60_000_000, 60_000_000), "another rail");
        let ended = faults(&[begun, r#"{"at_us":50000000,"until_us":60000000,"no":1,"kind":"down","target":"sepa"}"#]);
        assert!(hit(&ended, 60_000_000) && !hit(&ended, 70_000_000));
        let followed = faults(&[begun, r#"{"event":"begins","at_us":60000000,"kind":"hang","target":"sepa"}"#]);
        assert!(hit(&followed, 60_000_000) && !hit(&followed, 70_000_000), "without effect, or not told");
    }

    #[test]
    fn a_failover_may_lose_what_was_written_after_it_fell_behind_and_nothing_else() {
        let found = faults(&[r#"{"event":"failover","at_us":1000000000,"lost_from":"1970-01-01T00:15:00Z"}"#]);
        assert!(found.may_have_lost(950_000_000));
        assert!(!found.may_have_lost(890_000_000), "before");
        assert!(!found.may_have_lost(1_010_000_000), "after");
        assert!(found.failed_over_after(999_000_000) && !found.failed_over_after(1_000_000_001));
    }

    #[test]
    fn the_databases_time_is_told_by_the_machines_clock() {
        let found = faults(&[
            r#"{"event":"clock","at_us":100000000,"offset_s":60}"#,
            r#"{"event":"clock","at_us":200000000,"offset_s":0}"#,
        ]);
        assert_eq!(found.host_us(50_000_000), 50_000_000);
        assert_eq!(found.host_us(170_000_000), 110_000_000);
        assert_eq!(found.host_us(300_000_000), 300_000_000);
        // Before, and again after it was put back: never while it was ahead, though that came last.
        assert_eq!(found.host_us(90_000_000), 90_000_000);
        assert_eq!((found.earliest_host_us(210_000_000), found.host_us(210_000_000)), (150_000_000, 210_000_000));
        // At 200 it was put from 260 to 200.
        assert_eq!(found.turned_back_us(210_000_000, 255_000_000), 60_000_000);
        assert_eq!(found.turned_back_us(300_000_000, 310_000_000), 0);
    }

    #[test]
    fn steps_back_add_up() {
        let found = faults(&[
            r#"{"event":"clock","at_us":100000000,"offset_s":15}"#,
            r#"{"event":"clock","at_us":101000000,"offset_s":0}"#,
            r#"{"event":"clock","at_us":104000000,"offset_s":-8}"#,
        ]);
        // Shown at 100.5 was 115.5, and at 104.5 96.5.
        assert_eq!(found.turned_back_us(96_500_000, 115_500_000), 23_000_000);
    }

    #[test]
    fn a_fault_excuses_its_own_rail_or_worker_for_its_time() {
        let found = faults(&[r#"{"at_us":100000000,"until_us":110000000,"kind":"down","target":"sepa"}"#]);
        assert!(found.was_hit("sepa", "d1/x", 109_000_000, 120_000_000));
        assert!(!found.was_hit("wire", "d1/x", 109_000_000, 120_000_000));
        assert!(!found.was_hit("sepa", "d1/x", 116_000_000, 120_000_000));
        assert!(!found.was_hit("sepa", "d1/x", 80_000_000, 90_000_000));
    }

    #[test]
    fn a_worker_is_hindered_by_its_own_stops_and_by_outages() {
        let found = faults(&[
            r#"{"event":"stopped","from_us":10,"until_us":20,"target":"d1"}"#,
            r#"{"event":"stopped","from_us":12,"until_us":90,"target":"d2"}"#,
            r#"{"event":"outage","from_us":15,"until_us":30}"#,
            r#"{"at_us":40,"until_us":45,"no":1,"kind":"half_open","target":"d1"}"#,
            r#"{"at_us":50,"until_us":60,"no":2,"kind":"deaf_listener","target":"d1"}"#,
            r#"{"event":"begins","at_us":80,"kind":"restart","target":"d1"}"#,
        ]);
        assert_eq!(found.hindered_us("d1/x", 0, 100), 45);
        assert_eq!(found.hindered_us("d1/x", 18, 25), 7);
        assert_eq!(found.windows.len(), 2, "what mutes excuses no doubt");
        assert_eq!(found.hindered_us("d3/x", 0, 100), 15);
    }

    #[test]
    fn outages_that_overlap_count_once() {
        let found = faults(&[
            r#"{"event":"outage","from_us":10,"until_us":20}"#,
            r#"{"event":"outage","from_us":15,"until_us":30}"#,
            r#"{"event":"outage","from_us":90,"until_us":120}"#,
        ]);
        assert_eq!(found.outage_us(0, 100), 30);
        assert_eq!(found.outage_us(16, 18), 2);
    }
}
