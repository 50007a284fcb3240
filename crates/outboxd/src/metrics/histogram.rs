//! Counting durations without a lock: one atomic for each bucket.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds in milliseconds. From a rail on the same network to a queue that takes minutes.
pub(super) const BOUNDS_MS: [u64; 14] =
    [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000];

/// Durations by size.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// The last one: above all bounds.
    buckets: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Counts one.
    pub(crate) fn observe(&self, value: Duration) {
        let place = BOUNDS_MS.iter().position(|bound| value <= Duration::from_millis(*bound));
        self.buckets[place.unwrap_or(BOUNDS_MS.len())].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(u64::try_from(value.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How many lay below each bound and below infinity, and the sum in microseconds.
    pub(super) fn read(&self) -> ([u64; BOUNDS_MS.len() + 1], u64) {
        let mut below = 0;
        let cumulative = self.buckets.each_ref().map(|bucket| {
            below += bucket.load(Ordering::Relaxed);
            below
        });
        (cumulative, self.sum_us.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_every_bucket_that_it_does_not_exceed() {
        let histogram = Histogram::default();
        for millis in [5, 6, 1_000_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let (cumulative, sum_us) = histogram.read();
        assert_eq!((cumulative[0], cumulative[1]), (1, 2));
        assert_eq!((cumulative[BOUNDS_MS.len() - 1], cumulative[BOUNDS_MS.len()]), (2, 3));
        assert_eq!(sum_us, 1_000_011_000);
    }
}
