//! What the database said last, with the forecast that follows from it. A sample that has grown old is not shown
//! any more: what is not known has no value.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use outbox_core::forecast::{Drain, Settled, drain, horizon};
use outbox_core::{BootTime, Millis, RailName};
use outbox_store::{Figure, RiskHorizon};

/// How many samples the rate is taken over. Dispatchers tell their counts with each heartbeat, so over two samples
/// alone the rate would jump.
const RATE_SAMPLES: usize = 5;

/// A reply of the database.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) figures: Vec<Figure>,
    pub(crate) asked_at: BootTime,
    pub(crate) took: Millis,
    /// How long it is worth showing.
    pub(crate) valid_for: Millis,
}

impl Sample {
    /// A figure of each rail, as a count.
    fn counts(&self, name: &str) -> BTreeMap<String, u64> {
        let of_rails = self.figures.iter().filter(|figure| figure.name == name);
        of_rails.filter_map(|figure| Some((figure.labels.first()?.clone(), whole(figure.value)))).collect()
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count; the cast saturates")]
const fn whole(value: f64) -> u64 {
    value as u64
}

/// The last sample, and what is needed of those before it.
#[derive(Debug)]
pub(crate) struct Samples {
    state: Mutex<State>,
    failed: AtomicU64,
    began_at: BootTime,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Sample>,
    forecasts: BTreeMap<String, Drain>,
    settled: VecDeque<(BootTime, BTreeMap<String, u64>)>,
}

impl Samples {
    pub(super) fn new(began_at: BootTime) -> Self {
        Self { state: Mutex::default(), failed: AtomicU64::new(0), began_at }
    }

    /// Takes a new sample.
    pub(crate) fn take(&self, sample: Sample) {
        let mut state = self.lock();
        let (at, settled) = (sample.asked_at, sample.counts("settled"));
        let forecast = |(rail, due): (String, u64)| {
            let (earlier_at, earlier) = state.settled.front()?;
            let earlier = Settled { count: *earlier.get(&rail)?, at: *earlier_at };
            let later = Settled { count: *settled.get(&rail)?, at };
            Some((rail, drain(due, earlier, later)?))
        };
        let forecasts = sample.counts("payments_due").into_iter().filter_map(forecast).collect();
        state.forecasts = forecasts;
        state.settled.push_back((at, settled));
        if state.settled.len() == RATE_SAMPLES {
            state.settled.pop_front();
        }
        state.last = Some(sample);
    }

    /// Notes a sample that could not be had.
    pub(crate) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failures(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// How far ahead each rail's payments are at risk, by the last forecast.
    pub(crate) fn horizons(&self) -> Vec<RiskHorizon> {
        let state = self.lock();
        let of_rail = |(rail, drain): (&String, &Drain)| {
            Some(RiskHorizon { rail: RailName::new(rail).ok()?, ahead: horizon(*drain) })
        };
        state.forecasts.iter().filter_map(of_rail).collect()
    }

    /// The age of the last sample at `now`, or of the daemon if there is none.
    pub(super) fn age(&self, now: BootTime) -> Millis {
        now.since(self.lock().last.as_ref().map_or(self.began_at, |sample| sample.asked_at))
    }

    /// The last sample and the forecasts, unless it is too old at `now`.
    pub(super) fn fresh(&self, now: BootTime) -> Option<(Sample, BTreeMap<String, Drain>)> {
        let state = self.lock();
        let sample = state.last.as_ref().filter(|sample| now.since(sample.asked_at) <= sample.valid_for)?;
        Some((sample.clone(), state.forecasts.clone()))
    }

    /// The state is whole between any two statements, so a panic elsewhere leaves it usable.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: u64, due: f64, settled: f64) -> Sample {
        let figure = |name: &str, value| Figure { name: name.to_owned(), labels: vec!["a".to_owned()], value };
        let figures = vec![figure("payments_due", due), figure("settled", settled)];
        Sample { figures, asked_at: BootTime(at), took: Millis(1), valid_for: Millis(45_000) }
    }

    fn forecast(samples: &Samples, now: u64) -> Option<Drain> {
        samples.fresh(BootTime(now))?.1.get("a").copied()
    }

    #[test]
    fn the_rate_is_that_of_the_last_samples() {
        let samples = Samples::new(BootTime(0));
        samples.take(sample(15_000, 100.0, 0.0));
        assert_eq!(forecast(&samples, 15_000), None, "one sample has no rate");
        assert_eq!(samples.horizons(), []);
        samples.take(sample(30_000, 100.0, 50.0));
        assert_eq!(forecast(&samples, 30_000), Some(Drain::In(Millis(30_000))));
        assert_eq!(samples.horizons()[0].ahead, Millis(30_000));
        for at in [45_000, 60_000, 75_000] {
            samples.take(sample(at, 100.0, 50.0));
            assert!(matches!(forecast(&samples, at), Some(Drain::In(_))), "{at}: the 50 are still among the last");
        }
        samples.take(sample(90_000, 100.0, 50.0));
        assert_eq!(forecast(&samples, 90_000), Some(Drain::Never));
    }

    #[test]
    fn a_sample_that_has_grown_old_is_not_shown_and_its_age_goes_on() {
        let samples = Samples::new(BootTime(1_000));
        assert_eq!(samples.age(BootTime(6_000)), Millis(5_000));
        assert!(samples.fresh(BootTime(6_000)).is_none());
        samples.take(sample(10_000, 1.0, 1.0));
        assert!(samples.fresh(BootTime(55_000)).is_some());
        assert!(samples.fresh(BootTime(55_001)).is_none());
        assert_eq!(samples.age(BootTime(70_000)), Millis(60_000));
    }
}
