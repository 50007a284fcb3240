//! The leases this dispatcher holds, from their claim until the database has their result: what the
//! senders check before the first byte, and the renewer renews. Judging a lease is the core's.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outbox_core::lease::Verdict;
use outbox_core::{AttemptNo, BootTime, Lease, Millis, OutboxId, RailName};
use outbox_store::HeldLease;
use tokio::sync::Notify;
use uuid::Uuid;

/// One lease.
#[derive(Debug)]
pub(crate) struct OpenLease {
    pub(crate) held: HeldLease,
    pub(crate) rail: RailName,
    need: Millis,
    epoch_us: i64,
    /// As the claim granted it.
    granted: Lease,
    /// As it was renewed last.
    lease: Mutex<Lease>,
}

impl OpenLease {
    /// Whether a send may begin at `now`. A renewal keeps a lease for a send under way and for its
    /// result; it gives no more time to begin, since the claim judged key window and `not_after` for the
    /// lease that it granted.
    pub(crate) fn may_begin(&self, now: BootTime) -> bool {
        let allows = |verdict| matches!(verdict, Verdict::Fresh | Verdict::RenewDue);
        allows(self.verdict(now)) && allows(self.granted.verdict(self.need, now))
    }

    /// What may be done under it at `now`.
    pub(crate) fn verdict(&self, now: BootTime) -> Verdict {
        lock(&self.lease).verdict(self.need, now)
    }

    /// Notes a renewal that was asked at `asked_at`.
    pub(crate) fn renewed(&self, asked_at: BootTime, duration: Millis) {
        *lock(&self.lease) = Lease { asked_at, duration };
    }

    /// Notes that it is lost: nothing begins under it any more.
    pub(crate) fn lost(&self) {
        lock(&self.lease).duration = Millis::ZERO;
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    /// By token as well: a standby that was promoted without a claim grants the attempt again while it is open here.
    open: Mutex<BTreeMap<(OutboxId, AttemptNo, Uuid), Arc<OpenLease>>>,
    ended: Notify,
    unrecorded: AtomicBool,
}

impl Leases {
    /// Notes a lease that was granted in the cluster's epoch `epoch_us`; `need` is what a send and its completion take.
    pub(crate) fn open(
        &self,
        held: HeldLease,
        rail: &RailName,
        need: Millis,
        lease: Lease,
        epoch_us: i64,
    ) -> Arc<OpenLease> {
        let rail = rail.clone();
        let open = Arc::new(OpenLease { held, rail, need, epoch_us, granted: lease, lease: Mutex::new(lease) });
        let (id, attempt_no) = (held.outbox_id, held.attempt_no);
        let mut leases = lock(&self.open);
        let mut of_attempt = leases.range((id, attempt_no, Uuid::nil())..=(id, attempt_no, Uuid::max()));
        let is_first = of_attempt.all(|(_, other)| other.epoch_us != epoch_us);
        assert!(is_first, "the database granted attempt {attempt_no} of {id} twice");
        leases.insert(key(held), Arc::clone(&open));
        open
    }

    /// Notes that the database has the result.
    pub(crate) fn close(&self, held: HeldLease) {
        lock(&self.open).remove(&key(held));
        self.ended.notify_waiters();
    }

    /// Notes whether the database takes no results at the moment.
    pub(crate) fn set_unrecorded(&self, unrecorded: bool) {
        self.unrecorded.store(unrecorded, Ordering::Relaxed);
    }

    /// Whether results wait that the database did not take: what is sent now could not be recorded either.
    pub(crate) fn are_unrecorded(&self) -> bool {
        self.unrecorded.load(Ordering::Relaxed)
    }

    /// Whether the database still waits for the result of this lease.
    pub(crate) fn is_open(&self, held: HeldLease) -> bool {
        lock(&self.open).contains_key(&key(held))
    }

    /// How many leases of `rail` are open, results that wait to be recorded included.
    pub(crate) fn count(&self, rail: &RailName) -> usize {
        lock(&self.open).values().filter(|lease| lease.rail == *rail).count()
    }

    /// How many leases are open.
    pub(crate) fn count_all(&self) -> usize {
        lock(&self.open).len()
    }

    /// At most `limit` leases that should be renewed at `now`.
    pub(crate) fn to_renew(&self, now: BootTime, limit: usize) -> Vec<Arc<OpenLease>> {
        let due = |lease: &&Arc<OpenLease>| matches!(lease.verdict(now), Verdict::RenewDue | Verdict::TooLateToSend);
        lock(&self.open).values().filter(due).take(limit).cloned().collect()
    }

    /// Waits for the end of a lease.
    pub(crate) async fn wait_for_an_end(&self) {
        self.ended.notified().await;
    }
}

fn key(held: HeldLease) -> (OutboxId, AttemptNo, Uuid) {
    (held.outbox_id, held.attempt_no, held.lease_token.0)
}

/// The maps are whole between any two statements, so a panic elsewhere leaves them usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use outbox_core::LeaseToken;

    use super::*;

    /// The first attempt of one payment, under this token.
    fn first_attempt(token: u128) -> HeldLease {
        HeldLease {
            outbox_id: OutboxId(Uuid::from_u128(1)),
            attempt_no: AttemptNo(1),
            lease_token: LeaseToken(Uuid::from_u128(token)),
        }
    }

    #[test]
    fn an_attempt_that_a_promoted_standby_grants_again_is_another_lease() {
        let leases = Leases::default();
        let rail = RailName::new("a").unwrap();
        let lease = Lease { asked_at: BootTime(0), duration: Millis(1_000) };
        let (before, after) = (first_attempt(2), first_attempt(3));
        for (held, epoch_us) in [(before, 1), (after, 2)] {
            leases.open(held, &rail, Millis(100), lease, epoch_us);
        }
        assert_eq!(leases.count(&rail), 2);
        leases.close(before);
        assert!(!leases.is_open(before) && leases.is_open(after));
    }

    #[test]
    fn a_lost_lease_lets_nothing_begin_and_is_not_renewed() {
        let leases = Leases::default();
        let rail = RailName::new("a").unwrap();
        let held = first_attempt(2);
        let lease = Lease { asked_at: BootTime(0), duration: Millis(1_000) };
        let open = leases.open(held, &rail, Millis(100), lease, 1);
        assert_eq!(leases.to_renew(BootTime(400), 10).len(), 0);
        assert_eq!(leases.to_renew(BootTime(600), 10).len(), 1);
        assert!(open.may_begin(BootTime(600)));
        open.renewed(BootTime(600), Millis(1_000));
        assert!(open.may_begin(BootTime(900)));
        assert!(!open.may_begin(BootTime(901)), "a renewal gives no more time to begin");
        assert_eq!(leases.to_renew(BootTime(600), 10).len(), 0);
        open.lost();
        assert_eq!(open.verdict(BootTime(600)), Verdict::Expired);
        assert_eq!(leases.to_renew(BootTime(600), 10).len(), 0);
        assert_eq!(leases.count(&rail), 1);
        leases.close(held);
        assert_eq!(leases.count(&rail), 0);
    }
}
