//! Lost leases while a lane claims nothing: its rail is paused, it is off, a breaker holds it back, or every slot waits for
//! the rail. A claim settles what it meets; without one, the lane calls for it here, in bounded passes along the due index.

use std::collections::BTreeSet;

use outbox_core::{BootTime, Millis, RailName};
use outbox_store::{ClaimCursor, ExpireReport};

use super::backoff::Backoff;
use super::connection::{Connection, ConnectionError};
use super::pace::Pace;
use crate::clock::boot_now;
use crate::events;

/// The rows of the due index that one pass looks at. A million due payments are gone through in a hundred passes; more at
/// once would hold up the lane.
const EXPIRE_ROWS_MAX: u32 = 10_000;

/// When to look for the lost leases of one rail, and from where.
#[derive(Debug)]
pub(crate) struct LostLeases {
    rail: RailName,
    interval: Millis,
    next_at: BootTime,
    /// When dispatchers that fell silent can hold no lease any more.
    silent_until: BTreeSet<BootTime>,
    /// Where the last pass ended; none: at the end of the queue.
    cursor: Option<ClaimCursor>,
    backoff: Backoff,
}

impl LostLeases {
    /// For a lane that begins at `now` and looks every `interval`.
    pub(crate) fn new(rail: RailName, interval: Millis, now: BootTime) -> Self {
        let (silent_until, backoff) = (BTreeSet::new(), Backoff::default());
        Self { rail, interval, next_at: now.plus(interval), silent_until, cursor: None, backoff }
    }

    /// Looks at `at` as well: a silent dispatcher's leases have run out by then.
    pub(crate) fn look_at(&mut self, at: BootTime) {
        self.silent_until.insert(at);
    }

    /// When the next pass is due.
    pub(crate) fn due_at(&self) -> BootTime {
        self.silent_until.first().map_or(self.next_at, |at| self.next_at.min(*at))
    }

    /// One pass. What is due again by it is swept up. After one that fails the next is due soon, and begins at the head of
    /// the queue.
    pub(crate) async fn settle(&mut self, connection: &mut Connection, pace: &mut Pace) {
        let now = boot_now();
        let (after, rail) = (self.begin(now), &self.rail);
        let report = match expire(connection, rail, after).await {
            Ok(report) => report,
            Err(error) => {
                tracing::warn!(event = events::LEASE_SETTLING_FAILED, %rail, error = error.in_full());
                return;
            }
        };
        self.backoff.reset();
        (self.next_at, self.cursor) = (now.plus(self.interval), report.next);
        let settled = report.held.len() + report.due_again.len();
        if settled > 0 {
            tracing::warn!(event = events::LEASE_EXPIRED_TAKEN_OVER, %rail, count = settled);
        }
        for held in &report.held {
            let (outbox_id, attempt_no, reason) = (held.outbox_id, held.attempt_no.0, held.reason.name());
            tracing::warn!(event = events::PAYMENT_HELD, %rail, %outbox_id, attempt_no, reason);
        }
        if !report.due_again.is_empty() {
            pace.sweep_now();
        }
    }

    /// From where a pass begun at `now` looks: a silent dispatcher's leases are at the head of the queue. Until it has
    /// succeeded, the next one follows it as a repetition.
    fn begin(&mut self, now: BootTime) -> Option<ClaimCursor> {
        let waiting = self.silent_until.split_off(&BootTime(now.0 + 1));
        let after = if self.silent_until.is_empty() { self.cursor.take() } else { None };
        (self.silent_until, self.cursor) = (waiting, None);
        self.next_at = now.plus(self.backoff.wait());
        after
    }
}

async fn expire(
    connection: &mut Connection,
    rail: &RailName,
    after: Option<ClaimCursor>,
) -> Result<ExpireReport, ConnectionError> {
    Ok(outbox_store::expire_leases(connection.session().await?, rail, EXPIRE_ROWS_MAX, after).await?)
}

#[cfg(test)]
mod tests {
    use outbox_core::OutboxId;
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;

    fn at(millis: u64) -> BootTime {
        BootTime(millis)
    }

    fn lost() -> LostLeases {
        LostLeases::new(RailName::new("a").unwrap(), Millis(1_000), at(10))
    }

    fn cursor() -> ClaimCursor {
        ClaimCursor { due_at: OffsetDateTime::UNIX_EPOCH, outbox_id: OutboxId(Uuid::nil()) }
    }

    #[test]
    fn a_pass_is_due_at_every_interval_and_when_the_leases_of_each_silent_dispatcher_have_run_out() {
        let mut lost = lost();
        assert_eq!(lost.due_at(), at(1_010));
        lost.look_at(at(800));
        lost.look_at(at(500));
        assert_eq!(lost.due_at(), at(500), "the first is not put off by the second");
        lost.begin(at(500));
        lost.next_at = at(1_500);
        assert_eq!(lost.due_at(), at(800));
        lost.begin(at(900));
        lost.next_at = at(1_900);
        assert_eq!(lost.due_at(), at(1_900));
    }

    #[test]
    fn a_silent_dispatchers_leases_are_looked_for_at_the_head_of_the_queue() {
        let mut lost = lost();
        lost.cursor = Some(cursor());
        assert_eq!(lost.begin(at(1_010)), Some(cursor()));
        lost.cursor = Some(cursor());
        lost.look_at(at(1_020));
        assert_eq!(lost.begin(at(1_020)), None);
    }

    #[test]
    fn a_pass_that_failed_is_repeated_soon_and_not_at_once() {
        let mut lost = lost();
        lost.look_at(at(500));
        lost.begin(at(500));
        assert!(at(500) < lost.due_at() && lost.due_at() < at(1_000), "{:?}", lost.due_at());
    }
}
