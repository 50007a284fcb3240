//! When the payments of a rail that are due will be through, if it goes on as it went. A forecast for people;
//! nothing that is sent or held depends on it.

use crate::time::{BootTime, Millis};

/// The farthest that a forecast is compared with a `not_after`: a year. A rail that stands still is as if it took so
/// long, so that every payment with a `not_after` counts as at risk, and times stay within what the database can add.
pub const HORIZON_MAX: Millis = Millis(31_536_000_000);

/// How many payments of a rail had come to their end by a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Dispatched or failed, over all dispatchers.
    pub count: u64,
    /// When they were counted.
    pub at: BootTime,
}

/// How long what is due will take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// So long.
    In(Millis),
    /// Nothing comes to its end.
    Never,
}

/// How long `due` payments take at the rate from `earlier` to `later`, rounded up. `None`: the rate is not known,
/// since no time has passed, or the count fell because a dispatcher is not counted any more.
#[must_use]
pub fn drain(due: u64, earlier: Settled, later: Settled) -> Option<Drain> {
    if due == 0 {
        return Some(Drain::In(Millis::ZERO));
    }
    let ended = later.count.checked_sub(earlier.count)?;
    let passed = later.at.since(earlier.at);
    match (ended, passed) {
        (_, Millis::ZERO) => None,
        (0, _) => Some(Drain::Never),
        (ended, passed) => {
            let millis = (u128::from(due) * u128::from(passed.0)).div_ceil(u128::from(ended));
            Some(Drain::In(Millis(u64::try_from(millis).unwrap_or(u64::MAX))))
        }
    }
}

/// Up to when a payment's `not_after` is at risk.
#[must_use]
pub fn horizon(drain: Drain) -> Millis {
    match drain {
        Drain::In(time) => time.min(HORIZON_MAX),
        Drain::Never => HORIZON_MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(count: u64, ms: u64) -> Settled {
        Settled { count, at: BootTime(ms) }
    }

    #[test]
    fn what_is_due_takes_as_long_as_the_rate_says() {
        for (due, earlier, later, expected) in [
            (600, at(1_000, 5_000), at(1_600, 65_000), Some(Drain::In(Millis(60_000)))),
            (1, at(0, 0), at(7, 10), Some(Drain::In(Millis(2)))),
            (0, at(5, 0), at(5, 0), Some(Drain::In(Millis::ZERO))),
            (1, at(5, 0), at(5, 60_000), Some(Drain::Never)),
            (1, at(5, 9), at(6, 9), None),
            (1, at(5, 0), at(4, 60_000), None),
            (u64::MAX, at(0, 0), at(1, u64::MAX), Some(Drain::In(Millis(u64::MAX)))),
        ] {
            assert_eq!(drain(due, earlier, later), expected, "{due} due, {earlier:?}, {later:?}");
        }
    }

    #[test]
    fn a_rail_that_stands_still_puts_every_not_after_at_risk() {
        assert_eq!(horizon(Drain::In(Millis(9))), Millis(9));
        assert_eq!(horizon(Drain::In(Millis(u64::MAX))), HORIZON_MAX);
        assert_eq!(horizon(Drain::Never), HORIZON_MAX);
    }
}
