//! The breaker of one lane: what is logged and shown of it, and the set of rails whose lanes do not claim
//! because theirs is open. When it opens and what it lets through is the core's business.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outbox_core::breaker::{Breaker, BreakerChange, BreakerLimits, Generation, Permit};
use outbox_core::{BootTime, RailName};

use super::backoff::random_bits;
use super::sender::Said;
use crate::events;
use crate::health::HealthState;

/// The rails whose breakers are open. Nobody claims them, so somebody else settles their lost leases.
#[derive(Debug, Default)]
pub(crate) struct OpenBreakers(Mutex<BTreeSet<RailName>>);

impl OpenBreakers {
    /// Whether the breaker of `rail` is open, or lets a probe through.
    pub(crate) fn contains(&self, rail: &RailName) -> bool {
        self.lock().contains(rail)
    }

    fn set(&self, rail: &RailName, open: bool) {
        let mut rails = self.lock();
        if open {
            rails.insert(rail.clone());
        } else {
            rails.remove(rail);
        }
    }

    /// The set is whole between any two statements, so a panic elsewhere leaves it usable.
    fn lock(&self) -> MutexGuard<'_, BTreeSet<RailName>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The breaker of one lane.
pub(crate) struct LaneBreaker {
    rail: RailName,
    breaker: Breaker,
    open: Arc<OpenBreakers>,
    health: Arc<HealthState>,
}

impl LaneBreaker {
    pub(crate) const fn new(
        rail: RailName,
        limits: BreakerLimits,
        open: Arc<OpenBreakers>,
        health: Arc<HealthState>,
    ) -> Self {
        Self { rail, breaker: Breaker::new(limits), open, health }
    }

    /// How many sends may be under way at `now`, or until when none may begin.
    pub(crate) fn permit(&mut self, now: BootTime) -> Permit {
        self.breaker.permit(now)
    }

    /// What a send that begins now is to hand in when it ends.
    pub(crate) const fn generation(&self) -> Generation {
        self.breaker.generation()
    }

    /// Notes what a send said; returns whether it opened the breaker.
    pub(crate) fn ended(&mut self, now: BootTime, began_in: Generation, said: Said) -> bool {
        let Some(change) = self.breaker.ended(now, began_in, said.health, random_bits()) else { return false };
        let (rail, reason) = (&self.rail, said.reason);
        self.open.set(rail, self.breaker.is_open());
        match change {
            BreakerChange::Opened { until } => {
                tracing::warn!(event = events::BREAKER_OPENED, %rail, reason, open_ms = until.since(now).0);
                self.health.breaker_opened(rail.as_str(), reason);
                return true;
            }
            BreakerChange::Recovering => {
                tracing::info!(event = events::BREAKER_RECOVERING, %rail);
                self.health.breaker_closed(rail.as_str());
            }
            BreakerChange::Closed => {
                tracing::info!(event = events::BREAKER_CLOSED, %rail);
                self.health.breaker_closed(rail.as_str());
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use outbox_core::{Millis, RailHealth};

    use super::*;

    const FAILED: Said = Said { health: RailHealth::Failing, reason: "connect" };
    const WELL: Said = Said { health: RailHealth::Well, reason: "ACCEPTED" };

    #[test]
    fn a_rail_counts_as_not_claimed_from_the_opening_until_a_probe_was_answered() {
        let (open, health) = (Arc::<OpenBreakers>::default(), HealthState::new());
        let rail = RailName::new("a").unwrap();
        let limits = BreakerLimits { failures: 2, open_base: Millis(100), open_cap: Millis(100), concurrency: 8 };
        let mut breaker = LaneBreaker::new(rail.clone(), limits, Arc::clone(&open), Arc::clone(&health));
        let shown = || health.breakers_open().into_iter().map(|open| open.reason).collect::<Vec<_>>();
        assert!(!breaker.ended(BootTime(0), breaker.generation(), FAILED));
        assert!(!open.contains(&rail) && shown().is_empty());
        assert!(breaker.ended(BootTime(0), breaker.generation(), FAILED));
        let Permit::NotBefore(until) = breaker.permit(BootTime(0)) else { panic!("it is open, and lets sends begin") };
        assert!(open.contains(&rail));
        assert_eq!(shown(), ["connect"]);
        assert_eq!(breaker.permit(until), Permit::UpTo(1));
        assert!(open.contains(&rail), "a probe is under way");
        assert!(!breaker.ended(until, breaker.generation(), WELL));
        assert!(!open.contains(&rail) && shown().is_empty());
        assert_eq!(health.reasons(), [], "an open breaker does not make the daemon unready");
    }
}
