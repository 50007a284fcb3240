//! Random choices that a seed repeats. A failing test names its seed; `OUTBOXD_TEST_SEED` runs it again.

use std::time::{SystemTime, UNIX_EPOCH};

/// A splitmix64 generator.
#[derive(Debug)]
pub(crate) struct Seed(u64);

impl Seed {
    /// The seed of the environment, or a new one.
    pub(crate) fn of_this_run() -> u64 {
        let given = std::env::var("OUTBOXD_TEST_SEED").ok().map(|text| text.parse().unwrap());
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
        given.unwrap_or_else(|| u64::try_from(clock()).unwrap())
    }

    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    /// One of `all`, which is not empty.
    pub(crate) fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}
