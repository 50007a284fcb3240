//! What was found: told at once, a few of each check, and all counted. The same of the same payment is one finding.

use std::{
    collections::{BTreeMap, HashSet},
    io::Write,
};

use serde::Serialize;
use uuid::Uuid;

use crate::checks::{Check, Flaw};

/// How many findings of a check are told; more are counted.
const TOLD_MAX: u64 = 20;

/// One finding as the report has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check's name.
    pub check: &'static str,
    /// The payment, or the table or file.
    pub subject: String,
    /// Its rail.
    pub rail: String,
    /// What was seen.
    pub detail: String,
}

/// Everything found so far.
pub(crate) struct Findings {
    known: HashSet<(Check, String)>,
    /// How many of each check.
    pub(crate) counts: BTreeMap<&'static str, u64>,
    /// Those that were told.
    pub(crate) told: Vec<Finding>,
    out: Box<dyn Write + Send>,
}

impl Findings {
    pub(crate) fn new(out: Box<dyn Write + Send>) -> Self {
        Self { known: HashSet::new(), counts: BTreeMap::new(), told: Vec::new(), out }
    }

    /// Takes in a finding of a payment.
    pub(crate) fn of_payment(&mut self, id: u128, rail: &str, flaw: Flaw) {
        self.of(Uuid::from_u128(id).to_string(), rail, flaw);
    }

    /// Takes in a finding of anything.
    pub(crate) fn of(&mut self, subject: String, rail: &str, flaw: Flaw) {
        if !self.known.insert((flaw.check, subject.clone())) {
            return;
        }
        let check = flaw.check.name();
        let count = self.counts.entry(check).or_insert(0);
        *count += 1;
        if *count <= TOLD_MAX {
            self.say(&format!("FINDING {check}: {subject}/{rail} {}", flaw.detail));
            self.told.push(Finding { check, subject, rail: rail.to_owned(), detail: flaw.detail });
        }
    }

    /// How many payments one of these checks speaks of.
    pub(crate) fn subjects_of(&self, checks: &[Check]) -> u64 {
        let subjects: HashSet<&str> = self
            .known
            .iter()
            .filter(|(check, _)| checks.contains(check))
            .map(|(_, subject)| subject.as_str())
            .collect();
        subjects.len() as u64
    }

    pub(crate) fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Writes a line. Who does not read it any more is told by the exit code.
    pub(crate) fn say(&mut self, line: &str) {
        let _ = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
    }
}
