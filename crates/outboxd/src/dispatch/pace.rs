//! When a lane claims next, and from where: onward from its cursor, or sweeping from the beginning.
//! Pure: it is told the time and what came of each claim. See docs/PROTOCOL.md, "The claim cursor".

use outbox_core::{BootTime, Millis};

/// A sweep is due after this many times its own duration, so that sweeps past dead index entries take
/// at most about a twentieth of a busy lane's time. Lower, and a pinned snapshot slows the lane;
/// higher, and payments committed behind the cursor wait longer.
const SWEEP_EVERY: u64 = 20;

/// From where a claim scans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scan {
    /// From the cursor.
    Onward,
    /// From the beginning: sees what was committed, or came due, behind the cursor.
    Sweep,
}

/// When the next claim is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Now.
    Now(Scan),
    /// Not before then.
    At(BootTime),
}

/// What came of a claim.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claimed {
    /// How it scanned.
    pub(crate) scan: Scan,
    /// When it was asked.
    pub(crate) began: BootTime,
    /// When the reply came.
    pub(crate) ended: BootTime,
    /// Payments it found: leased or held.
    pub(crate) found: usize,
    /// Lost leases it settled: they are due again, at the beginning.
    pub(crate) expired: u32,
    /// Time until the next payment is due, if one waits.
    pub(crate) next_due_in: Option<Millis>,
}

/// The pace of one lane.
#[derive(Debug)]
pub(crate) struct Pace {
    poll_min: Millis,
    poll_max: Millis,
    poll_wait: Millis,
    next_poll: BootTime,
    busy: bool,
    suspended: bool,
    sweep_asked: bool,
    sweep_at: Option<BootTime>,
    sweep_ended: BootTime,
    sweep_took: Millis,
}

impl Pace {
    /// A lane that begins with a sweep.
    pub(crate) const fn new(poll_min: Millis, poll_max: Millis) -> Self {
        Self {
            poll_min,
            poll_max,
            poll_wait: poll_min,
            next_poll: BootTime(0),
            busy: false,
            suspended: false,
            sweep_asked: true,
            sweep_at: None,
            sweep_ended: BootTime(0),
            sweep_took: Millis(1),
        }
    }

    /// Asks for a sweep now: a hint came, the wake-up lock was taken, or the listener is new.
    pub(crate) const fn sweep_now(&mut self) {
        self.sweep_asked = true;
    }

    /// Asks for a sweep at `at`: a silent dispatcher's leases have run out by then.
    pub(crate) fn sweep_at(&mut self, at: BootTime) {
        self.sweep_at = Some(self.sweep_at.map_or(at, |earlier| earlier.max(at)));
    }

    /// Whether the last claims found nothing: the lane may sleep. One that could not claim may not: who
    /// says that it sleeps is woken, and would try at once what has just failed.
    pub(crate) const fn is_idle(&self) -> bool {
        !self.busy && !self.suspended && !self.sweep_asked
    }

    /// When an idle lane polls next.
    pub(crate) const fn next_poll(&self) -> BootTime {
        self.next_poll
    }

    /// When the next claim is due.
    pub(crate) fn next(&self, now: BootTime) -> Due {
        // No wish for a sweep shortens the wait of a lane that could not claim.
        if self.suspended && now < self.next_poll {
            return Due::At(self.next_poll);
        }
        let sweep_due = self.sweep_asked || self.sweep_at.is_some_and(|at| now >= at);
        let cadence = Millis(self.sweep_took.0.saturating_mul(SWEEP_EVERY));
        if sweep_due {
            Due::Now(Scan::Sweep)
        } else if self.busy {
            let past_cadence = now.since(self.sweep_ended) >= cadence;
            Due::Now(if past_cadence { Scan::Sweep } else { Scan::Onward })
        } else if now >= self.next_poll {
            Due::Now(Scan::Sweep)
        } else {
            Due::At(self.sweep_at.map_or(self.next_poll, |at| at.min(self.next_poll)))
        }
    }

    /// Notes what came of a claim.
    pub(crate) fn claimed(&mut self, claimed: &Claimed) {
        self.suspended = false;
        if claimed.scan == Scan::Sweep {
            self.sweep_ended = claimed.ended;
            self.sweep_took = claimed.ended.since(claimed.began).max(Millis(1));
            self.sweep_asked = false;
            self.sweep_at = self.sweep_at.filter(|at| claimed.began < *at);
        }
        self.sweep_asked |= claimed.expired > 0;
        self.busy = claimed.found > 0;
        if self.busy {
            self.poll_wait = self.poll_min;
        } else if claimed.scan == Scan::Onward {
            // The cursor is at the end of the queue; what is behind it is seen by the next poll.
            self.next_poll = claimed.ended.plus(self.poll_min);
        } else {
            let wait = claimed.next_due_in.map_or(self.poll_wait, |due| due.min(self.poll_wait));
            self.next_poll = claimed.ended.plus(wait);
            self.poll_wait = Millis(self.poll_wait.0.saturating_mul(2)).min(self.poll_max);
        }
    }

    /// Notes that the lane may not claim, or could not: it tries again after `wait`.
    pub(crate) fn suspended(&mut self, now: BootTime, wait: Millis) {
        self.busy = false;
        self.suspended = true;
        self.sweep_asked = false;
        self.next_poll = now.plus(wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed(scan: Scan, began: u64, ended: u64, found: usize) -> Claimed {
        let (began, ended) = (BootTime(began), BootTime(ended));
        Claimed { scan, began, ended, found, expired: 0, next_due_in: None }
    }

    fn idle_pace() -> Pace {
        let mut pace = Pace::new(Millis(2), Millis(1_000));
        pace.claimed(&claimed(Scan::Sweep, 0, 1, 0));
        pace
    }

    #[test]
    fn polls_of_an_idle_lane_decay_to_the_longest_wait_and_are_sweeps() {
        let mut pace = idle_pace();
        let mut now = 1;
        let mut waits = Vec::new();
        for _ in 0..12 {
            let Due::At(at) = pace.next(BootTime(now)) else { panic!("the lane does not wait") };
            waits.push(at.0 - now);
            now = at.0;
            assert_eq!(pace.next(BootTime(now)), Due::Now(Scan::Sweep));
            pace.claimed(&claimed(Scan::Sweep, now, now, 0));
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 512, 1_000, 1_000, 1_000]);
    }

    #[test]
    fn a_claimed_payment_resets_the_decay() {
        let mut pace = idle_pace();
        for _ in 0..10 {
            pace.claimed(&claimed(Scan::Sweep, 10, 10, 0));
        }
        pace.claimed(&claimed(Scan::Sweep, 20, 20, 5));
        assert_eq!(pace.next(BootTime(20)), Due::Now(Scan::Onward));
        pace.claimed(&claimed(Scan::Onward, 20, 20, 0));
        assert_eq!(pace.next(BootTime(20)), Due::At(BootTime(22)));
    }

    #[test]
    fn a_hint_is_a_sweep_at_once_even_on_a_busy_lane() {
        let mut pace = idle_pace();
        pace.claimed(&claimed(Scan::Sweep, 10, 10, 5));
        assert_eq!(pace.next(BootTime(10)), Due::Now(Scan::Onward));
        pace.sweep_now();
        assert_eq!(pace.next(BootTime(10)), Due::Now(Scan::Sweep));
        pace.claimed(&claimed(Scan::Sweep, 10, 10, 5));
        assert_eq!(pace.next(BootTime(10)), Due::Now(Scan::Onward));
    }

    #[test]
    fn a_busy_lane_sweeps_when_twenty_times_the_last_sweep_have_passed() {
        let mut pace = idle_pace();
        pace.claimed(&claimed(Scan::Sweep, 100, 110, 5));
        assert_eq!(pace.next(BootTime(309)), Due::Now(Scan::Onward));
        assert_eq!(pace.next(BootTime(310)), Due::Now(Scan::Sweep));
    }

    #[test]
    fn settled_lost_leases_are_swept_up_at_once() {
        let mut pace = idle_pace();
        pace.claimed(&Claimed { expired: 1, ..claimed(Scan::Sweep, 10, 10, 0) });
        assert_eq!(pace.next(BootTime(10)), Due::Now(Scan::Sweep));
    }

    #[test]
    fn a_lane_sleeps_no_longer_than_to_the_next_due_payment() {
        let mut pace = idle_pace();
        for _ in 0..10 {
            pace.claimed(&claimed(Scan::Sweep, 10, 10, 0));
        }
        pace.claimed(&Claimed { next_due_in: Some(Millis(30)), ..claimed(Scan::Sweep, 10, 10, 0) });
        assert_eq!(pace.next(BootTime(10)), Due::At(BootTime(40)));
    }

    #[test]
    fn the_leases_of_a_silent_dispatcher_are_swept_when_they_have_run_out() {
        let mut pace = idle_pace();
        pace.claimed(&claimed(Scan::Sweep, 10, 10, 5));
        pace.sweep_at(BootTime(12));
        assert_eq!(pace.next(BootTime(11)), Due::Now(Scan::Onward));
        assert_eq!(pace.next(BootTime(12)), Due::Now(Scan::Sweep));
        pace.claimed(&claimed(Scan::Sweep, 11, 12, 5));
        assert_eq!(pace.next(BootTime(12)), Due::Now(Scan::Sweep), "a sweep from before does not count");
        pace.claimed(&claimed(Scan::Sweep, 12, 12, 5));
        assert_eq!(pace.next(BootTime(12)), Due::Now(Scan::Onward));
    }

    #[test]
    fn a_suspended_lane_asks_again_after_its_wait() {
        let mut pace = idle_pace();
        pace.claimed(&claimed(Scan::Sweep, 10, 10, 5));
        pace.suspended(BootTime(10), Millis(700));
        assert_eq!(pace.next(BootTime(10)), Due::At(BootTime(710)));
        assert!(!pace.is_idle(), "it would be woken, and ask again at once");
        pace.sweep_now();
        pace.sweep_at(BootTime(20));
        assert_eq!(pace.next(BootTime(709)), Due::At(BootTime(710)));
        assert_eq!(pace.next(BootTime(710)), Due::Now(Scan::Sweep));
        pace.claimed(&claimed(Scan::Sweep, 710, 710, 0));
        assert!(pace.is_idle());
    }
}
