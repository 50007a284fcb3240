//! Whether a worker may still act on a lease, judged by the worker's own clock. The database judges
//! by its clock again, and has the last word.

use crate::time::{BootTime, Millis};

/// A lease as the worker counts it: from before the claim was sent, so it ends for the worker no
/// later than for the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The boot clock just before the claim (or the renewal) was sent.
    pub asked_at: BootTime,
    /// What the database granted, from the moment it handled the claim.
    pub duration: Millis,
}

/// What a worker may do with a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A send may begin.
    Fresh,
    /// A send may begin or go on, and it is time to renew.
    RenewDue,
    /// A send may not begin: it might outlast the lease. Renew first, or release.
    TooLateToSend,
    /// The lease is over.
    Expired,
}

impl Lease {
    /// What is left of the lease at `now`.
    #[must_use]
    pub const fn remaining(&self, now: BootTime) -> Millis {
        self.duration.minus(now.since(self.asked_at))
    }

    /// What may be done at `now`, if a send and its completion need up to `need` and renewal begins
    /// when less than half of the lease is left.
    #[must_use]
    pub fn verdict(&self, need: Millis, now: BootTime) -> Verdict {
        let remaining = self.remaining(now);
        if remaining == Millis::ZERO {
            Verdict::Expired
        } else if remaining < need {
            Verdict::TooLateToSend
        } else if remaining.0 < self.duration.0 / 2 {
            Verdict::RenewDue
        } else {
            Verdict::Fresh
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_begins_only_when_it_can_end_inside_the_lease() {
        let lease = Lease { asked_at: BootTime(1_000), duration: Millis(60_000) };
        let need = Millis(20_000);
        let table = [
            (1_000, Verdict::Fresh),
            (31_000, Verdict::Fresh),
            (31_001, Verdict::RenewDue),
            (41_000, Verdict::RenewDue),
            (41_001, Verdict::TooLateToSend),
            (60_999, Verdict::TooLateToSend),
            (61_000, Verdict::Expired),
            (u64::MAX, Verdict::Expired),
        ];
        for (now, expected) in table {
            assert_eq!(lease.verdict(need, BootTime(now)), expected, "at {now}");
        }
    }

    #[test]
    fn a_need_longer_than_the_lease_never_lets_a_send_begin() {
        let lease = Lease { asked_at: BootTime(0), duration: Millis(10) };
        assert_eq!(lease.verdict(Millis(11), BootTime(0)), Verdict::TooLateToSend);
    }
}
