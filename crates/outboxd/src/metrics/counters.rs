//! What the daemon counts while it works: atomics, so that counting holds up nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use outbox_core::{AttemptKind, AttemptState, BootTime, Outcome, RailName, closed_list};
use outbox_store::CompletionVerdict;

use super::histogram::Histogram;
use super::sample::Samples;
use crate::clock::boot_now;

/// What a claim came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimResult {
    Payments,
    Empty,
    Failed,
}

impl ClaimResult {
    closed_list! {
        pub(super) const ALL = [Payments, Empty, Failed]
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Payments => "payments",
            Self::Empty => "empty",
            Self::Failed => "failed",
        }
    }
}

pub(super) const VERDICTS: [&str; 4] = ["applied", "already_applied", "fenced", "busy"];

/// What is counted of one rail.
#[derive(Debug, Default)]
pub(crate) struct RailMetrics {
    pub(super) endpoints: usize,
    pub(super) claims: [AtomicU64; ClaimResult::ALL.len()],
    pub(super) leases: AtomicU64,
    pub(super) in_flight: AtomicU64,
    pub(super) sends: [[AtomicU64; Outcome::ALL.len()]; AttemptKind::ALL.len()],
    pub(super) commit_to_first_byte: Histogram,
    pub(super) rail_latency: Histogram,
    pub(super) completions: [AtomicU64; VERDICTS.len()],
    pub(super) attempts: [AtomicU64; AttemptState::ALL.len()],
    pub(super) breaker_openings: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl RailMetrics {
    pub(crate) fn claimed(&self, result: ClaimResult, leases: usize) {
        count(&self.claims[result as usize]);
        self.leases.fetch_add(leases as u64, Ordering::Relaxed);
    }

    pub(crate) fn breaker_opened(&self) {
        count(&self.breaker_openings);
    }

    /// An exchange is under way until what is returned is dropped.
    pub(crate) fn send_begins(self: &Arc<Self>) -> SendInFlight {
        count(&self.in_flight);
        SendInFlight(Arc::clone(self))
    }

    pub(crate) fn sent(&self, kind: AttemptKind, outcome: Outcome) {
        let kind = AttemptKind::ALL.iter().position(|one| *one == kind);
        let outcome = Outcome::ALL.iter().position(|one| *one == outcome);
        if let Some((kind, outcome)) = kind.zip(outcome) {
            count(&self.sends[kind][outcome]);
        }
    }

    pub(crate) fn first_byte_after(&self, time: Duration) {
        self.commit_to_first_byte.observe(time);
    }

    pub(crate) fn answered_after(&self, time: Duration) {
        self.rail_latency.observe(time);
    }

    pub(crate) fn completed(&self, verdict: CompletionVerdict) {
        let place = match verdict {
            CompletionVerdict::Applied { .. } => 0,
            CompletionVerdict::AlreadyApplied => 1,
            CompletionVerdict::Fenced => 2,
            CompletionVerdict::Busy => 3,
        };
        count(&self.completions[place]);
        if let CompletionVerdict::Applied { state, .. } = verdict
            && let Some(place) = AttemptState::ALL.iter().position(|one| *one == state)
        {
            count(&self.attempts[place]);
        }
    }

    /// How many payments this dispatcher saw dispatched or failed.
    pub(crate) fn settled(&self) -> u64 {
        let is_end = |state: &AttemptState| matches!(state, AttemptState::Dispatched | AttemptState::Failed);
        let states = AttemptState::ALL.iter().zip(&self.attempts);
        states.filter(|(state, _)| is_end(state)).map(|(_, count)| count.load(Ordering::Relaxed)).sum()
    }
}

/// An exchange under way.
#[derive(Debug)]
pub(crate) struct SendInFlight(Arc<RailMetrics>);

impl Drop for SendInFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Everything that is counted, and the last sample of the database.
#[derive(Debug)]
pub struct Metrics {
    pub(super) rails: BTreeMap<RailName, Arc<RailMetrics>>,
    pub(super) samples: Samples,
    pub(super) listener_connected: AtomicBool,
    pub(super) unrecorded: AtomicU64,
    /// In milliseconds of the boot clock; zero: none waits.
    pub(super) oldest_unrecorded_ms: AtomicU64,
}

impl Metrics {
    /// Counters at zero for these rails, each with the number of its endpoints.
    #[must_use]
    pub fn new(rails: impl IntoIterator<Item = (RailName, usize)>) -> Arc<Self> {
        let of_rail = |(rail, endpoints)| (rail, Arc::new(RailMetrics { endpoints, ..RailMetrics::default() }));
        Arc::new(Self {
            rails: rails.into_iter().map(of_rail).collect(),
            samples: Samples::new(boot_now()),
            listener_connected: AtomicBool::new(false),
            unrecorded: AtomicU64::new(0),
            oldest_unrecorded_ms: AtomicU64::new(0),
        })
    }

    /// How many payments this dispatcher saw dispatched or failed, on all rails.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.rails.values().map(|rail| rail.settled()).sum()
    }

    /// The counters of a configured rail.
    pub(crate) fn rail(&self, rail: &RailName) -> &Arc<RailMetrics> {
        &self.rails[rail]
    }

    pub(crate) const fn samples(&self) -> &Samples {
        &self.samples
    }

    pub(crate) fn listener_is_connected(&self, connected: bool) {
        self.listener_connected.store(connected, Ordering::Relaxed);
    }

    /// Notes how many results wait to be recorded, and since when the oldest does.
    pub(crate) fn unrecorded(&self, results: usize, oldest: Option<BootTime>) {
        self.unrecorded.store(results as u64, Ordering::Relaxed);
        self.oldest_unrecorded_ms.store(oldest.map_or(0, |at| at.0), Ordering::Relaxed);
    }
}
