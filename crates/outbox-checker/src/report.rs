//! What a run came to: the line at the end, and the report with every figure.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use serde::Serialize;

use crate::{checks::recovery::Recovery, error::CheckError, findings::Finding};

/// The figures of a run. Its `Display` is the last line on standard output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Snapshots that were judged.
    pub passes: u64,
    /// Identities.
    pub payments: u64,
    /// Effects at the rails.
    pub effects: u64,
    /// Payments with an attempt that left open what the rail did.
    pub unknown: u64,
    /// Payments that wait for a person.
    pub held: u64,
    /// Payments that ended so.
    pub dispatched: u64,
    /// Payments that ended so.
    pub failed: u64,
    /// Payments that ended so.
    pub cancelled: u64,
    /// Payments that have not ended, the held ones among them.
    pub pending: u64,
    /// Payments that are nowhere, were dispatched without an effect, or were enqueued and are not there.
    pub lost: u64,
    /// Effects beyond the first of a key.
    pub double: u64,
    /// Findings.
    pub findings: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "CHECKED passes={} payments={} effects={} unknown={} held={} dispatched={} failed={} cancelled={} pending={} \
             lost={} double={} findings={}",
            self.passes,
            self.payments,
            self.effects,
            self.unknown,
            self.held,
            self.dispatched,
            self.failed,
            self.cancelled,
            self.pending,
            self.lost,
            self.double,
            self.findings
        )
    }
}

/// How many recoveries the report names.
const WORST: usize = 10;

/// The report.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The figures.
    #[serde(flatten)]
    pub summary: Summary,
    /// How many findings of each check.
    pub findings_by_check: BTreeMap<&'static str, u64>,
    /// Those that were told.
    pub told: Vec<Finding>,
    /// How many payments wait for a person, by reason.
    pub held_by_reason: BTreeMap<&'static str, u64>,
    /// Crashes that left a lease open.
    pub crashes: u64,
    /// The longest recovery, in seconds, without the time in which nothing could be settled; `null` if there was no crash.
    pub recovered_max_s: Option<f64>,
    /// The longest recovery with that time.
    pub recovered_with_outages_max_s: Option<f64>,
    /// The recoveries that took longest.
    pub slowest_recoveries: Vec<Recovery>,
    /// What could not be excused or found because of what the harness did, and how often the database was away.
    pub database_lives: u64,
}

impl Report {
    /// Fills in the recoveries.
    pub(crate) fn with_recoveries(mut self, mut recoveries: Vec<Recovery>) -> Self {
        recoveries.sort_by_key(|recovery| std::cmp::Reverse(recovery.took_ms));
        self.crashes = recoveries.len() as u64;
        self.recovered_max_s = recoveries.first().map(|worst| seconds(worst.took_ms));
        let with_outages = recoveries.iter().map(|recovery| recovery.took_ms + recovery.outages_ms).max();
        self.recovered_with_outages_max_s = with_outages.map(seconds);
        recoveries.truncate(WORST);
        self.slowest_recoveries = recoveries;
        self
    }

    /// Writes it to a file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), CheckError> {
        let text = serde_json::to_string_pretty(self).map_err(|error| CheckError::Unreadable(error.to_string()))?;
        fs::write(path, text + "\n").map_err(|source| CheckError::File {
            action: "write",
            path: path.to_owned(),
            source,
        })
    }
}

fn seconds(ms: i64) -> f64 {
    i32::try_from(ms).map_or(f64::INFINITY, |ms| f64::from(ms) / 1000.0)
}
