//! How long a service waits before it asks the database again after a failure. Rails have a policy of
//! their own, in `outbox_core::retry`.

use std::hash::{BuildHasher as _, RandomState};

use outbox_core::{Millis, retry};

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

/// 64 bits, for jitter alone: a hash under keys that each thread draws once and then counts up, so without a system call for
/// each payment.
pub(crate) fn random_bits() -> u64 {
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn waits_stay_between_their_bounds_however_many_failures() {
        let mut backoff = Backoff::default();
        for _ in 0..200 {
            let wait = backoff.wait();
            assert!(Millis(BASE.0 / 2) <= wait && wait <= CAP, "{wait}");
        }
    }

    #[test]
    fn no_two_payments_get_the_same_bits_and_every_bit_changes() {
        let bits: BTreeSet<u64> = (0..1_000).map(|_| random_bits()).collect();
        assert_eq!(bits.len(), 1_000);
        let ones = |place: u32| bits.iter().filter(|bits| *bits >> place & 1 == 1).count();
        // 500 of a thousand, with more than nine standard deviations to each side.
        assert!((0..64).all(|place| (350..=650).contains(&ones(place))));
    }
}
