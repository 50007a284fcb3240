//! The rails that a lane of this daemon does not claim, as far as the daemon itself keeps it from that. A claim settles
//! lost leases; of these rails somebody else has to.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use outbox_core::RailName;

/// What keeps a lane from claiming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// None of the rail's endpoints may be sent to, or one may be probed.
    BreakersOpen,
    /// The contract and the configuration do not go together, or the database refuses the lane.
    LaneOff,
}

/// The rails.
#[derive(Debug, Default)]
pub(crate) struct Unclaimed(Mutex<BTreeSet<(RailName, Why)>>);

impl Unclaimed {
    /// Whether anything keeps the lane of `rail` from claiming.
    pub(crate) fn contains(&self, rail: &RailName) -> bool {
        self.lock().iter().any(|(name, _)| name == rail)
    }

    /// Notes whether `why` keeps the lane of `rail` from claiming now.
    pub(super) fn set(&self, rail: &RailName, why: Why, holds: bool) {
        let mut rails = self.lock();
        if holds {
            rails.insert((rail.clone(), why));
        } else {
            rails.remove(&(rail.clone(), why));
        }
    }

    /// The set is whole between any two statements, so a panic elsewhere leaves it usable.
    fn lock(&self) -> MutexGuard<'_, BTreeSet<(RailName, Why)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rail_is_claimed_again_when_the_last_reason_not_to_is_gone() {
        let (unclaimed, rail) = (Unclaimed::default(), RailName::new("a").unwrap());
        unclaimed.set(&rail, Why::BreakersOpen, true);
        unclaimed.set(&rail, Why::LaneOff, true);
        unclaimed.set(&rail, Why::BreakersOpen, false);
        assert!(unclaimed.contains(&rail) && !unclaimed.contains(&RailName::new("b").unwrap()));
        unclaimed.set(&rail, Why::LaneOff, false);
        assert!(!unclaimed.contains(&rail));
    }
}
