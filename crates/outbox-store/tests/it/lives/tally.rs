//! How often each call was made and each answer given: a sequence that is never drawn shows nothing.

use std::collections::BTreeMap;
use std::fmt;

use super::transition::{Op, Transition};

/// What all sequences together have to have come to.
const ALL: [&str; 32] = [
    "enqueue",
    "claim",
    "renew",
    "complete",
    "release",
    "expire",
    "unpark",
    "heartbeat",
    "pause",
    "set_rail",
    "propose",
    "decide",
    "apply",
    "pass",
    "overlap",
    "commit",
    "rollback",
    "waits",
    "busy",
    "fenced",
    "already_applied",
    "applied",
    "renewed",
    "HELD",
    "INQUIRE",
    "SUBMIT",
    "SKIPPED",
    "APPLIED",
    "OB001",
    "OB002",
    "OB012",
    "OB014",
];

#[derive(Clone, Debug, Default)]
pub(super) struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    /// A step and what was said.
    pub(super) fn note(&mut self, transition: &Transition, told: &[String], has_waited: bool) {
        match transition {
            Transition::Call(op) => self.count(name(op)),
            Transition::Pass(_) => self.count("pass"),
            Transition::Overlap { first, second, commits } => {
                self.count("overlap");
                self.count(if *commits { "commit" } else { "rollback" });
                self.count(name(first));
                for op in second {
                    self.count(name(op));
                }
                if has_waited {
                    self.count("waits");
                }
            }
        }
        let words: Vec<&str> = told.iter().flat_map(|told| told.split([' ', ';'])).collect();
        for what in ALL.iter().skip(18).filter(|what| words.contains(*what)) {
            self.count(what);
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        for (what, count) in other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    /// Panics with what was never done or said.
    pub(super) fn assert_all_was_done(&self, sequences: u32) {
        let missing: Vec<_> = ALL.iter().filter(|what| !self.0.contains_key(*what)).collect();
        // A rail that is never asked has no inquiries; calls that wait are one in fifty sequences.
        let may_miss = |what: &str| what == "INQUIRE" || (what == "waits" && sequences < 2_000);
        let missing: Vec<_> = missing.into_iter().filter(|what| !may_miss(what)).collect();
        assert!(missing.is_empty(), "never done or said: {missing:?}, of {self}");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = ALL.iter().filter_map(|what| Some(format!("{what}={}", self.0.get(what)?)));
        f.write_str(&all.collect::<Vec<_>>().join(" "))
    }
}

fn name(op: &Op) -> &'static str {
    match op {
        Op::Enqueue { .. } => "enqueue",
        Op::Claim { .. } => "claim",
        Op::Renew { .. } => "renew",
        Op::Complete { .. } => "complete",
        Op::Release { .. } => "release",
        Op::Expire { .. } => "expire",
        Op::Unpark { .. } => "unpark",
        Op::Heartbeat { .. } => "heartbeat",
        Op::Pause { .. } => "pause",
        Op::SetRail(_) => "set_rail",
        Op::Propose { .. } => "propose",
        Op::Decide { .. } => "decide",
        Op::Apply { .. } => "apply",
    }
}
