//! How long to wait before the next send: exponential backoff with full jitter, in whole
//! milliseconds. Limits on the number of sends are the contract's, not decided here.

use crate::time::Millis;

/// The longest `Retry-After` that is honoured. A rail that asks for more is asked again after this
/// long; raising it lets one bad header park a payment for as long.
pub const RETRY_AFTER_MAX: Millis = Millis(3_600_000);

/// The wait after attempt `attempt_no` (from 1): uniform between zero and
/// `min(cap, base × 2^(attempt_no − 1))`, chosen by `jitter`, any 64 random bits; never less than
/// what the rail asked for, up to [`RETRY_AFTER_MAX`].
#[must_use]
pub fn next_delay(base: Millis, cap: Millis, attempt_no: u32, retry_after: Option<Millis>, jitter: u64) -> Millis {
    // 2^20 times any base of at least 1 ms is above the caps the database allows.
    let doublings = attempt_no.saturating_sub(1).min(20);
    let ceiling = base.0.saturating_mul(1 << doublings).min(cap.0);
    let backoff = jitter % ceiling.saturating_add(1).max(1);
    let asked = retry_after.map_or(0, |r| r.0.min(RETRY_AFTER_MAX.0));
    Millis(backoff.max(asked))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_cap() {
        let at = |attempt_no| (0..=10_000).map(|j| next_delay(Millis(100), Millis(900), attempt_no, None, j).0).max();
        assert_eq!(at(1), Some(100));
        assert_eq!(at(2), Some(200));
        assert_eq!(at(4), Some(800));
        assert_eq!(at(5), Some(900));
        assert_eq!(at(u32::MAX), Some(900));
    }

    #[test]
    fn retry_after_is_honoured_and_clamped() {
        assert_eq!(next_delay(Millis(10), Millis(20), 1, Some(Millis(5_000)), 3), Millis(5_000));
        assert_eq!(next_delay(Millis(10), Millis(20), 1, Some(Millis(u64::MAX)), 3), RETRY_AFTER_MAX);
    }

    proptest! {
        #[test]
        fn a_delay_is_never_above_its_bounds(base in 0u64..1 << 40, cap in 0u64..1 << 50, n in any::<u32>(),
                                             asked in proptest::option::of(any::<u64>()), jitter in any::<u64>()) {
            let delay = next_delay(Millis(base), Millis(cap), n, asked.map(Millis), jitter);
            prop_assert!(delay.0 <= cap.max(RETRY_AFTER_MAX.0));
            if let Some(asked) = asked {
                prop_assert!(delay.0 >= asked.min(RETRY_AFTER_MAX.0));
            }
        }
    }
}
