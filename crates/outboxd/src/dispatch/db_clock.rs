//! Whether the database's clock can be trusted with leases. It grants and judges them, so a jump
//! lengthens or cuts them all. Nothing is corrected here.

use std::time::SystemTime;

use outbox_core::{BootTime, Millis};
use time::OffsetDateTime;

/// How far the clock may go back between two readings: clocks that are slewed do not go back at all,
/// and replies of one connection come in order.
const BACKWARDS_MAX: Millis = Millis(500);

/// How far the database and this host may differ. More, and one of the two is wrong about the date,
/// `not_after`, and every time in the ledger.
pub(crate) const DIFFERENCE_MAX: Millis = Millis(10_000);

/// What is wrong with the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It went back, and has this much to go until it shows again what it had shown.
    WentBack(Millis),
    /// It differs from the host's by this much.
    Differs(Millis),
}

/// The readings so far.
#[derive(Debug, Default)]
pub(crate) struct DbClock {
    /// The last good reading, and the boot clock when its reply had come.
    latest: Option<(OffsetDateTime, BootTime)>,
    /// What the clock had shown at least when it went back. Once it shows that again, every time on record is past.
    shown: Option<OffsetDateTime>,
}

impl DbClock {
    /// Judges a reading that was taken between `asked_at` and `answered_at` of the boot clock, when the
    /// host's clock showed `host_now`.
    pub(crate) fn judge(
        &mut self,
        db_now: OffsetDateTime,
        asked_at: BootTime,
        answered_at: BootTime,
        host_now: SystemTime,
    ) -> Option<Fault> {
        if let Some(shown) = self.shown {
            if db_now < shown {
                return Some(Fault::WentBack(millis(shown - db_now)));
            }
            // What came before is no measure any more: a clock that was put right never is where it would have been.
            *self = Self::default();
        }
        if let Some((latest, at)) = self.latest {
            // At least this much has passed between the two readings, however long the replies took.
            let passed = i64::try_from(asked_at.since(at).0).unwrap_or(i64::MAX);
            let earliest = latest + time::Duration::milliseconds(passed);
            let behind = millis(earliest - db_now);
            if db_now < earliest && behind > BACKWARDS_MAX {
                self.shown = Some(earliest);
                return Some(Fault::WentBack(behind));
            }
        }
        let apart = millis(db_now - OffsetDateTime::from(host_now));
        if apart > DIFFERENCE_MAX {
            // No measure for later readings: the clock must be able to go back from here.
            return Some(Fault::Differs(apart));
        }
        self.latest = Some((db_now, answered_at));
        None
    }
}

fn millis(difference: time::Duration) -> Millis {
    Millis(u64::try_from(difference.whole_milliseconds().abs()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(ms)
    }

    fn host(ms: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(ms)
    }

    /// A reading whose reply came at once.
    fn judge(clock: &mut DbClock, db_ms: i64, boot_ms: u64, host_ms: u64) -> Option<Fault> {
        clock.judge(at(db_ms), BootTime(boot_ms), BootTime(boot_ms), host(host_ms))
    }

    #[test]
    fn a_clock_that_goes_back_is_noticed_until_it_has_caught_up() {
        let mut clock = DbClock::default();
        assert_eq!(judge(&mut clock, 100_000, 0, 100_000), None);
        assert_eq!(judge(&mut clock, 99_000, 1_000, 101_000), Some(Fault::WentBack(Millis(2_000))));
        assert_eq!(judge(&mut clock, 99_500, 1_500, 101_500), Some(Fault::WentBack(Millis(1_500))));
        assert_eq!(judge(&mut clock, 101_900, 2_000, 102_000), None);
    }

    #[test]
    fn a_clock_that_was_put_back_for_good_is_trusted_once_every_time_it_had_shown_is_past() {
        let mut clock = DbClock::default();
        // Seven seconds ahead, and right again: it never will be where it would have been.
        assert_eq!(judge(&mut clock, 107_000, 0, 100_000), None);
        assert_eq!(judge(&mut clock, 101_000, 1_000, 101_000), Some(Fault::WentBack(Millis(7_000))));
        assert_eq!(judge(&mut clock, 107_900, 7_900, 107_900), Some(Fault::WentBack(Millis(100))));
        assert_eq!(judge(&mut clock, 108_000, 8_000, 108_000), None);
        // And a second time: the first is no excuse.
        assert_eq!(judge(&mut clock, 108_000, 9_000, 109_000), Some(Fault::WentBack(Millis(1_000))));
        assert_eq!(judge(&mut clock, 109_000, 10_000, 110_000), None);
    }

    #[test]
    fn a_reply_that_took_long_is_no_jump() {
        let mut clock = DbClock::default();
        assert_eq!(judge(&mut clock, 100_000, 0, 100_000), None);
        assert_eq!(clock.judge(at(105_000), BootTime(1_000), BootTime(5_100), host(105_100)), None);
        assert_eq!(judge(&mut clock, 105_150, 5_150, 105_150), None);
    }

    #[test]
    fn a_clock_that_was_ahead_and_is_set_right_is_trusted_at_once() {
        let mut clock = DbClock::default();
        assert_eq!(judge(&mut clock, 100_000, 0, 100_000), None);
        assert_eq!(judge(&mut clock, 3_701_000, 1_000, 101_000), Some(Fault::Differs(Millis(3_600_000))));
        assert_eq!(judge(&mut clock, 102_000, 2_000, 102_000), None);
    }

    #[test]
    fn a_clock_far_from_the_hosts_is_noticed_in_both_directions() {
        let mut clock = DbClock::default();
        assert_eq!(judge(&mut clock, 110_001, 0, 100_000), Some(Fault::Differs(Millis(10_001))));
        let mut clock = DbClock::default();
        assert_eq!(judge(&mut clock, 89_999, 0, 100_000), Some(Fault::Differs(Millis(10_001))));
        assert_eq!(judge(&mut clock, 90_000, 1, 100_000), None);
    }
}
