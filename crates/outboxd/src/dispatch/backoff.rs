//! How long a service waits before it asks the database again after a failure. Rails have a policy of
//! their own, in `outbox_core::retry`.

use outbox_core::{Millis, retry};
use uuid::Uuid;

/// The first wait: a server that restarts is back in a second or so.
const BASE: Millis = Millis(100);
/// The longest: a dispatcher is back to work this soon after the database is.
const CAP: Millis = Millis(2_000);

/// Waits that grow with each failure in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Notes a success.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Notes a failure; returns the wait that follows it, at least half of [`BASE`].
    pub(crate) fn wait(&mut self) -> Millis {
        self.failures = self.failures.saturating_add(1);
        let wait = retry::next_delay(BASE, CAP, self.failures, None, random_bits());
        wait.max(Millis(BASE.0 / 2))
    }
}

/// 64 random bits, for jitter.
pub(crate) fn random_bits() -> u64 {
    let (high, low) = Uuid::new_v4().as_u64_pair();
    // Six bits of a random UUID are fixed, at different places of the halves.
    high ^ low.rotate_left(17)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_between_their_bounds_however_many_failures() {
        let mut backoff = Backoff::default();
        for _ in 0..200 {
            let wait = backoff.wait();
            assert!(Millis(BASE.0 / 2) <= wait && wait <= CAP, "{wait}");
        }
    }
}
