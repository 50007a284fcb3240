//! Which fault a track deals out next, and with which details, from the seed alone: every kind of the track once in a random
//! order, then again in another. The same seed deals the same faults in the same order on each track, the n-th of them with the
//! same details however often the ones before it were tried; when each happens, and what it meets, depends on the machine.

use fastrand::Rng;

use crate::kind::{Kind, Place};

/// One track's faults, without end.
#[derive(Debug)]
pub struct Schedule {
    kinds: Vec<Kind>,
    left: Vec<Kind>,
    orders: Rng,
    details: u64,
    drawn: u64,
}

impl Schedule {
    /// The faults of track `number` in `place`, of those kinds that `may_be` lets through.
    #[must_use]
    pub fn new(seed: u64, place: Place, number: usize, may_be: impl Fn(Kind) -> bool) -> Self {
        let kinds = Kind::ALL.iter().copied().filter(|kind| kind.place() == place && may_be(*kind)).collect();
        let mut orders = track_rng(seed, place, number);
        let details = orders.u64(..);
        Self { kinds, left: Vec::new(), orders, details, drawn: 0 }
    }

    /// Its kinds.
    #[must_use]
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// The next fault; `None` if this track has none at all.
    pub fn draw(&mut self) -> Option<Kind> {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
            self.orders.shuffle(&mut self.left);
        }
        self.drawn += 1;
        self.left.pop()
    }

    /// Chance for the details of the fault that was drawn last: the same each time.
    #[must_use]
    pub fn details(&self) -> Rng {
        let mut place = Rng::with_seed(self.details ^ self.drawn);
        Rng::with_seed(place.u64(..))
    }
}

/// Chance of one track: neighbours differ by more than a little.
fn track_rng(seed: u64, place: Place, number: usize) -> Rng {
    let place = match place {
        Place::Daemon => 1,
        Place::Database => 2,
        Place::Background => 3,
        Place::Rail => 4,
        Place::Operator => 5,
    };
    let mut rng = Rng::with_seed(seed);
    // Each draw separates the streams of neighbouring seeds, places and numbers.
    let mut place = Rng::with_seed(rng.u64(..) ^ place);
    Rng::with_seed(place.u64(..) ^ u64::try_from(number).expect("there are a few tracks"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn drawn(seed: u64, place: Place, number: usize, count: usize) -> Vec<Kind> {
        let mut schedule = Schedule::new(seed, place, number, |_| true);
        std::iter::repeat_with(|| schedule.draw().unwrap()).take(count).collect()
    }

    #[test]
    fn the_same_seed_deals_the_same_faults_and_another_does_not() {
        assert_eq!(drawn(7, Place::Daemon, 0, 200), drawn(7, Place::Daemon, 0, 200));
        assert_ne!(drawn(7, Place::Daemon, 0, 200), drawn(8, Place::Daemon, 0, 200));
        assert_ne!(drawn(7, Place::Daemon, 0, 200), drawn(7, Place::Daemon, 1, 200));
    }

    #[test]
    fn the_details_of_a_fault_are_the_same_however_often_others_were_tried() {
        let mut once = Schedule::new(7, Place::Daemon, 0, |_| true);
        let mut often = Schedule::new(7, Place::Daemon, 0, |_| true);
        let mut details = BTreeSet::new();
        for round in 0..200_u32 {
            assert_eq!(once.draw(), often.draw());
            for _ in 0..round % 4 {
                let mut tried = often.details();
                (0..round).for_each(|_| assert!(tried.u64(..) != 0));
            }
            let detail = once.details().u64(..);
            assert_eq!(detail, often.details().u64(..));
            details.insert(detail);
        }
        assert_eq!(details.len(), 200);
    }

    #[test]
    fn every_kind_comes_once_before_one_comes_twice() {
        for place in [Place::Daemon, Place::Database, Place::Background, Place::Rail, Place::Operator] {
            let all = Kind::ALL.iter().filter(|kind| kind.place() == place).count();
            let first: BTreeSet<Kind> = drawn(3, place, 0, all).into_iter().collect();
            assert_eq!(first.len(), all, "{place:?}");
        }
    }

    #[test]
    fn what_may_not_be_is_not_dealt() {
        let mut none = Schedule::new(1, Place::Background, 0, |_| false);
        assert_eq!(none.draw(), None);
        let mut some = Schedule::new(1, Place::Rail, 0, |kind| kind != Kind::WrongCertificate);
        assert!((0..100).all(|_| some.draw() != Some(Kind::WrongCertificate)));
    }
}
