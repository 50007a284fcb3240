//! Keeps payments and faults together: faults without payments hit nothing, and payments without faults prove
//! nothing. Every track has its quota of faults; none runs ahead of the payments, and the payments run ahead of no track.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Payments that may wait before no more are enqueued.
const OPEN_MAX: u64 = 4_000;
/// Payments by which a track may be ahead of those that are over: what is in the queue is there to be hit.
const AHEAD: u64 = 600;
/// Of so many payments one is kept back while there are faults left: the last of them needs somebody to hit.
const KEPT_BACK: u64 = 33;
/// No more than these, since they are let go little by little: of a million it would take most of an hour.
const KEPT_BACK_MAX: u64 = 600;
/// So many payments are let go each second for which nothing else can go on: of those that are kept back, and where all that
/// were let in are over before the slowest track's fault met one.
const TRICKLE: u64 = 10;
const TRICKLE_EVERY: Duration = Duration::from_secs(1);
/// The longest fault takes a minute.
const WAITS_FOR_A_FAULT: Duration = Duration::from_secs(180);
/// Between two looks: far shorter than any fault.
const LOOK: Duration = Duration::from_millis(20);

/// A track's faults.
#[derive(Clone, Copy, Debug)]
struct Share {
    quota: u64,
    dealt: u64,
}

/// How far a run is.
#[derive(Debug)]
pub(crate) struct Pace {
    payments: u64,
    enqueued: AtomicU64,
    open: AtomicU64,
    allowed_at_least: AtomicU64,
    kept_back: AtomicU64,
    let_go_at: Mutex<Option<Instant>>,
    shares: Mutex<Vec<Share>>,
    dealt_at: Mutex<Instant>,
    given_up: AtomicBool,
}

impl Pace {
    /// Nothing done yet: so many payments, and faults of each track.
    pub(crate) fn new(payments: u64, quotas: &[u64]) -> Self {
        let shares = quotas.iter().map(|quota| Share { quota: *quota, dealt: 0 }).collect();
        Self {
            payments,
            enqueued: AtomicU64::new(0),
            open: AtomicU64::new(0),
            allowed_at_least: AtomicU64::new(AHEAD),
            kept_back: AtomicU64::new((payments / KEPT_BACK).min(KEPT_BACK_MAX)),
            let_go_at: Mutex::new(None),
            shares: Mutex::new(shares),
            dealt_at: Mutex::new(Instant::now()),
            given_up: AtomicBool::new(false),
        }
    }

    /// Takes the next `wanted` payments to be enqueued, fewer at the end: the first one's number and how many. Waits for
    /// its turn. `None` when all are.
    pub(crate) async fn payments(&self, wanted: u64) -> Option<(u64, u64)> {
        loop {
            let done = self.enqueued.load(Ordering::SeqCst);
            if done >= self.payments || self.is_given_up() {
                return None;
            }
            let count = wanted.min(self.payments - done);
            if done < self.allowed() && self.open.load(Ordering::SeqCst) < OPEN_MAX {
                let taken = self.enqueued.compare_exchange(done, done + count, Ordering::SeqCst, Ordering::SeqCst);
                if taken.is_ok() {
                    return Some((done, count));
                }
            }
            if done + self.kept_back.load(Ordering::SeqCst) >= self.payments {
                self.every_second(|| {
                    let kept_back = self.kept_back.load(Ordering::SeqCst);
                    self.kept_back.store(kept_back.saturating_sub(TRICKLE), Ordering::SeqCst);
                });
            } else if done >= self.allowed() && self.open.load(Ordering::SeqCst) == 0 && self.waits_for_a_fault() {
                self.every_second(|| {
                    let _ = self.allowed_at_least.fetch_max(done + TRICKLE, Ordering::SeqCst);
                });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Payments that may be enqueued by now: as far as the slowest track is with the fault that it deals out, but for what is
    /// kept back until all are done.
    fn allowed(&self) -> u64 {
        let shares = self.shares();
        if shares.iter().all(|share| share.dealt >= share.quota) {
            return self.payments;
        }
        let of = |share: &Share| ((share.dealt + 1) * self.payments).checked_div(share.quota);
        let least = shares.iter().filter_map(of).min().unwrap_or(self.payments);
        least
            .max(self.allowed_at_least.load(Ordering::SeqCst))
            .min(self.payments - self.kept_back.load(Ordering::SeqCst))
    }

    /// Not for ever: a fault that never takes effect is one that the run should end with.
    fn waits_for_a_fault(&self) -> bool {
        self.dealt_at().elapsed() < WAITS_FOR_A_FAULT
    }

    fn dealt_at(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.dealt_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn every_second(&self, let_go: impl FnOnce()) {
        let mut let_go_at = self.let_go_at.lock().unwrap_or_else(PoisonError::into_inner);
        if let_go_at.is_none_or(|at| at.elapsed() >= TRICKLE_EVERY) {
            *let_go_at = Some(Instant::now());
            let_go();
        }
    }

    /// Waits until a further fault of `track` fits the payments that are over; false when its quota is dealt out.
    pub(crate) async fn may_begin(&self, track: usize) -> bool {
        loop {
            let share = self.shares()[track];
            if share.dealt >= share.quota || self.is_given_up() {
                return false;
            }
            let over = self.enqueued.load(Ordering::SeqCst).saturating_sub(self.open.load(Ordering::SeqCst));
            if share.dealt * self.payments / share.quota <= over + AHEAD {
                return true;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Faults of `track` that are still to come.
    pub(crate) fn left(&self, track: usize) -> u64 {
        let share = self.shares()[track];
        share.quota - share.dealt
    }

    /// A fault of `track` took effect; returns its number among all, from 1.
    pub(crate) fn dealt(&self, track: usize) -> u64 {
        self.shares()[track].dealt += 1;
        *self.dealt_at() = Instant::now();
        self.faults()
    }

    /// Whatever changes while a run goes on.
    pub(crate) fn progress(&self) -> (u64, u64, u64) {
        (self.enqueued.load(Ordering::SeqCst), self.open.load(Ordering::SeqCst), self.faults())
    }

    /// Faults that took effect.
    pub(crate) fn faults(&self) -> u64 {
        self.shares().iter().map(|share| share.dealt).sum()
    }

    fn shares(&self) -> std::sync::MutexGuard<'_, Vec<Share>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many payments are neither over nor held.
    pub(crate) fn observe(&self, open: u64) {
        self.open.store(open, Ordering::SeqCst);
    }

    /// Ends the run early.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::SeqCst);
    }

    /// Whether the run ends early.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::SeqCst)
    }
}

/// How many of `faults` each track deals out, so that every kind comes about equally often: by how many kinds it has.
pub(crate) fn quotas(faults: u64, kinds: &[usize]) -> Vec<u64> {
    let all: u64 = kinds.iter().map(|count| *count as u64).sum();
    let mut before = 0;
    let mut given = 0;
    let share = |count: &usize| {
        before += *count as u64;
        let upto = (faults * before).checked_div(all).unwrap_or(0);
        let quota = upto - given;
        given = upto;
        quota
    };
    kinds.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quotas_make_all_faults_and_follow_the_kinds() {
        for faults in [0, 1, 7, 300, 10_000] {
            let quotas = quotas(faults, &[19, 19, 19, 13, 13, 14, 2, 4, 0]);
            assert_eq!(quotas.iter().sum::<u64>(), faults);
            assert_eq!(quotas[8], 0);
        }
        assert_eq!(quotas(100, &[30, 10, 60]), [30, 10, 60]);
        assert_eq!(quotas(5, &[0, 0]), [0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn payments_wait_for_the_slowest_track_and_faults_for_the_payments() {
        let pace = Pace::new(100_000, &[10, 100]);
        // The first tenth belongs to the first fault of the first track, the first hundredth to that of the second.
        assert_eq!(pace.payments(1_000).await, Some((0, 1_000)));
        pace.observe(1_000);
        let waits = tokio::time::timeout(Duration::from_secs(5), pace.payments(1)).await;
        assert!(waits.is_err(), "{waits:?}");
        assert!(pace.may_begin(1).await);
        pace.dealt(1);
        assert_eq!(pace.payments(500).await, Some((1_000, 500)));
        // Nothing is over yet, so no second fault of the first track fits.
        pace.observe(1_500);
        pace.dealt(0);
        let waits = tokio::time::timeout(Duration::from_secs(5), pace.may_begin(0)).await;
        assert!(waits.is_err(), "{waits:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_back_for_the_last_fault_is_let_go_little_by_little() {
        let pace = Pace::new(3_300, &[1]);
        assert_eq!(pace.payments(5_000).await, Some((0, 3_300)), "who takes all at once is not held up");
        let pace = Pace::new(3_300, &[1]);
        assert_eq!(pace.payments(3_200).await, Some((0, 3_200)));
        let began = Instant::now();
        let mut taken = 3_200;
        while let Some((_, count)) = pace.payments(10).await {
            taken += count;
        }
        assert_eq!(taken, 3_300);
        assert!(began.elapsed() >= Duration::from_secs(8), "{:?}", began.elapsed());
        let pace = Pace::new(1_000_000, &[1]);
        assert_eq!(pace.payments(1_000_000 - KEPT_BACK_MAX).await, Some((0, 1_000_000 - KEPT_BACK_MAX)));
        assert_eq!(pace.allowed(), 1_000_000 - KEPT_BACK_MAX, "no more are kept back of many");
        let pace = Pace::new(3_300, &[1]);
        pace.dealt(0);
        assert_eq!(pace.payments(3_250).await, Some((0, 3_250)));
        assert_eq!(tokio::time::timeout(Duration::from_millis(1), pace.payments(50)).await, Ok(Some((3_250, 50))));
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_payments_are_over_before_a_fault_met_one_a_few_more_are_let_in() {
        let pace = Pace::new(100_000, &[100]);
        assert_eq!(pace.payments(1_000).await, Some((0, 1_000)));
        pace.observe(1);
        let waits = tokio::time::timeout(Duration::from_secs(60), pace.payments(1)).await;
        assert!(waits.is_err(), "one that is open may be met: {waits:?}");
        pace.observe(0);
        let began = Instant::now();
        for n in 0..30 {
            assert_eq!(pace.payments(1).await, Some((1_000 + n, 1)));
        }
        assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
        let rest =
            tokio::time::timeout(Duration::from_secs(3_600), async { while pace.payments(1).await.is_some() {} }).await;
        assert!(rest.is_err(), "a fault that never comes ends it");
        let (enqueued, ..) = pace.progress();
        // A minute of the three went by above.
        assert!((1_000 + 115 * TRICKLE..1_000 + 125 * TRICKLE).contains(&enqueued), "{enqueued}");
        pace.dealt(0);
        assert_eq!(pace.payments(1_000).await, Some((enqueued, 1_000)));
    }

    #[tokio::test(start_paused = true)]
    async fn without_faults_everything_may_be_enqueued_and_at_the_end_nothing() {
        let pace = Pace::new(50, &[0, 0]);
        assert_eq!(pace.payments(60).await, Some((0, 50)));
        assert_eq!(pace.payments(60).await, None);
        assert!(!pace.may_begin(0).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_queue_lets_nothing_in() {
        let pace = Pace::new(50_000, &[0]);
        pace.observe(OPEN_MAX);
        let waits = tokio::time::timeout(Duration::from_secs(5), pace.payments(1)).await;
        assert!(waits.is_err(), "{waits:?}");
    }
}
