//! When a rail is left alone, and how much it is given when it comes back: a circuit breaker with a ramp.
//! Closed, it lets everything through and counts failures of the rail in a row. Open, it lets nothing
//! through for a while. Half open, it lets one attempt through, the probe. Ramping up, it lets one more
//! through for each that the rail answered, so that a backlog comes back over a rail that has just
//! recovered no faster than the rail takes it.

use crate::outcome::Outcome;
use crate::time::{BootTime, Millis};

/// What the end of an attempt says about its rail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RailHealth {
    /// The rail looked at a payment and answered, whatever the answer.
    Well,
    /// The rail asks for less, and perhaps for a wait.
    Crowded {
        /// How long; zero if it does not say.
        wait: Millis,
    },
    /// The rail could not be reached, broke off, or answered that it cannot.
    Failing,
    /// No attempt can succeed: our credentials are refused.
    Shut,
}

impl RailHealth {
    /// What an attempt that went over the wire says about its rail; `retry_after`: the wait that the rail asked for.
    #[must_use]
    pub fn after(outcome: Outcome, retry_after: Option<Millis>) -> Self {
        match outcome {
            Outcome::Accepted
            | Outcome::Refused
            | Outcome::Interim
            | Outcome::KeyReused
            | Outcome::NotFound
            | Outcome::Inconclusive => Self::Well,
            Outcome::Throttled => Self::Crowded { wait: retry_after.unwrap_or(Millis::ZERO) },
            Outcome::NotSent | Outcome::NotExecuted | Outcome::Unknown => Self::Failing,
            Outcome::RailRefusedUs => Self::Shut,
        }
    }
}

/// The limits of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerLimits {
    /// Failures of the rail in a row that open it, at least 1.
    pub failures: u32,
    /// How long it is open the first time; each further time in a row twice as long.
    pub open_base: Millis,
    /// The longest it is open.
    pub open_cap: Millis,
    /// Attempts at once when it is closed, at least 1.
    pub concurrency: u32,
}

/// What may start now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// New attempts, as long as no more than this many are under way.
    UpTo(u32),
    /// Nothing before then.
    NotBefore(BootTime),
}

/// Which opening an attempt was started after: what an attempt from before it says is old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation(u32);

/// A change that operators want to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerChange {
    /// Nothing starts before `until`.
    Opened {
        /// When a probe may start.
        until: BootTime,
    },
    /// The probe was answered; the rail gets more step by step.
    Recovering,
    /// Everything is let through again.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: BootTime },
    HalfOpen,
    Ramping { allowed: u32 },
}

/// The breaker of one rail, or of one endpoint of it.
#[derive(Clone, Debug)]
pub struct Breaker {
    limits: BreakerLimits,
    state: State,
    failures: u32,
    openings_in_a_row: u32,
    generation: u32,
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub const fn new(limits: BreakerLimits) -> Self {
        Self { limits, state: State::Closed, failures: 0, openings_in_a_row: 0, generation: 0 }
    }

    /// What may start at `now`. The end of an opening is seen here: from then on one probe may start.
    pub fn permit(&mut self, now: BootTime) -> Permit {
        if let State::Open { until } = self.state
            && now >= until
        {
            self.state = State::HalfOpen;
        }
        match self.state {
            State::Closed => Permit::UpTo(self.limits.concurrency),
            State::Open { until } => Permit::NotBefore(until),
            State::HalfOpen => Permit::UpTo(1),
            State::Ramping { allowed } => Permit::UpTo(allowed),
        }
    }

    /// What an attempt that starts now is to hand in when it ends.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        Generation(self.generation)
    }

    /// Notes what an attempt said about the rail. One from before the last opening says nothing: it met the rail
    /// as it was then. `jitter` is any 64 random bits, so that dispatchers do not probe together.
    pub fn ended(
        &mut self,
        now: BootTime,
        started_in: Generation,
        health: RailHealth,
        jitter: u64,
    ) -> Option<BreakerChange> {
        if started_in.0 != self.generation {
            return None;
        }
        match (health, self.state) {
            (RailHealth::Shut, _) | (RailHealth::Failing, State::HalfOpen) => {
                Some(self.open(now, Millis::ZERO, jitter))
            }
            (RailHealth::Failing, _) => self.failed(now, Millis::ZERO, jitter),
            (RailHealth::Crowded { wait }, State::HalfOpen) => Some(self.open(now, wait, jitter)),
            // It gets one at a time already, and that is too much.
            (RailHealth::Crowded { wait }, State::Ramping { allowed: 1 }) => self.failed(now, wait, jitter),
            (RailHealth::Crowded { .. }, State::Ramping { allowed }) => self.allow(allowed / 2),
            (RailHealth::Crowded { .. }, _) => self.allow(self.limits.concurrency / 2),
            (RailHealth::Well, State::Closed | State::Open { .. }) => {
                self.failures = 0;
                None
            }
            (RailHealth::Well, State::HalfOpen) => {
                self.failures = 0;
                self.allow(2).or(Some(BreakerChange::Recovering))
            }
            (RailHealth::Well, State::Ramping { allowed }) => {
                self.failures = 0;
                self.allow(allowed + 1)
            }
        }
    }

    /// Counts a failure in a row, which may be the one that opens it.
    fn failed(&mut self, now: BootTime, wait: Millis, jitter: u64) -> Option<BreakerChange> {
        self.failures += 1;
        (self.failures >= self.limits.failures).then(|| self.open(now, wait, jitter))
    }

    /// Opens for half of a doubling length, and up to as much again by chance; for `wait` at least, but never for
    /// longer than `open_cap`.
    fn open(&mut self, now: BootTime, wait: Millis, jitter: u64) -> BreakerChange {
        // 2^20 times any base of at least 1 ms is far above any cap in use.
        let doublings = self.openings_in_a_row.min(20);
        let length = self.limits.open_base.0.saturating_mul(1 << doublings).min(self.limits.open_cap.0);
        let wait = wait.min(self.limits.open_cap);
        let until = now.plus(Millis(length / 2 + jitter % (length / 2 + 1)).max(wait));
        self.state = State::Open { until };
        self.failures = 0;
        self.openings_in_a_row = self.openings_in_a_row.saturating_add(1);
        self.generation = self.generation.wrapping_add(1);
        BreakerChange::Opened { until }
    }

    fn allow(&mut self, allowed: u32) -> Option<BreakerChange> {
        if allowed < self.limits.concurrency {
            self.state = State::Ramping { allowed: allowed.max(1) };
            return None;
        }
        self.state = State::Closed;
        self.openings_in_a_row = 0;
        Some(BreakerChange::Closed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: BreakerLimits =
        BreakerLimits { failures: 3, open_base: Millis(1_000), open_cap: Millis(8_000), concurrency: 8 };

    fn say(breaker: &mut Breaker, now: u64, health: RailHealth) -> Option<BreakerChange> {
        let generation = breaker.generation();
        breaker.ended(BootTime(now), generation, health, 0)
    }

    fn throttled(asked: Option<u64>) -> RailHealth {
        RailHealth::after(Outcome::Throttled, asked.map(Millis))
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::new(LIMITS);
        for _ in 0..3 {
            say(&mut breaker, 0, RailHealth::Failing);
        }
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_an_answer_between_them_does_not_count_as_one() {
        let mut breaker = Breaker::new(LIMITS);
        for health in
            [RailHealth::Failing, RailHealth::Failing, RailHealth::Well, RailHealth::Failing, RailHealth::Failing]
        {
            assert_eq!(say(&mut breaker, 0, health), None);
        }
        assert_eq!(breaker.permit(BootTime(0)), Permit::UpTo(8));
        assert_eq!(say(&mut breaker, 0, RailHealth::Failing), Some(BreakerChange::Opened { until: BootTime(500) }));
        assert_eq!(breaker.permit(BootTime(499)), Permit::NotBefore(BootTime(500)));
    }

    #[test]
    fn an_opening_lasts_half_its_length_and_up_to_as_much_again_by_chance() {
        for (jitter, length) in
            [(0, 500), (1, 501), (499, 999), (500, 1_000), (501, 500), (u64::MAX, 500 + u64::MAX % 501)]
        {
            let mut breaker = Breaker::new(BreakerLimits { failures: 1, ..LIMITS });
            let generation = breaker.generation();
            let change = breaker.ended(BootTime(0), generation, RailHealth::Failing, jitter);
            assert_eq!(change, Some(BreakerChange::Opened { until: BootTime(length) }), "{jitter}");
        }
    }

    #[test]
    fn refused_credentials_open_it_at_once() {
        let mut breaker = Breaker::new(LIMITS);
        assert!(matches!(
            say(&mut breaker, 0, RailHealth::after(Outcome::RailRefusedUs, None)),
            Some(BreakerChange::Opened { .. })
        ));
    }

    #[test]
    fn a_refused_payment_is_an_answer_and_opens_nothing() {
        let mut breaker = Breaker::new(LIMITS);
        for _ in 0..100 {
            assert_eq!(say(&mut breaker, 0, RailHealth::after(Outcome::Refused, None)), None);
        }
        assert_eq!(breaker.permit(BootTime(0)), Permit::UpTo(8));
    }

    #[test]
    fn one_probe_starts_when_the_opening_is_over_and_its_failure_opens_for_twice_as_long() {
        let mut breaker = opened();
        assert_eq!(breaker.permit(BootTime(500)), Permit::UpTo(1));
        assert_eq!(say(&mut breaker, 500, RailHealth::Failing), Some(BreakerChange::Opened { until: BootTime(1_500) }));
        let mut now = 1_500;
        for length in [2_000, 4_000, 4_000] {
            assert_eq!(breaker.permit(BootTime(now)), Permit::UpTo(1));
            let change = say(&mut breaker, now, RailHealth::Failing);
            assert_eq!(change, Some(BreakerChange::Opened { until: BootTime(now + length) }));
            now += length;
        }
    }

    #[test]
    fn after_the_probe_the_rail_gets_one_more_for_each_answer_until_it_has_all() {
        let mut breaker = opened();
        breaker.permit(BootTime(500));
        assert_eq!(say(&mut breaker, 500, RailHealth::Well), Some(BreakerChange::Recovering));
        for allowed in 2..8 {
            assert_eq!(breaker.permit(BootTime(500)), Permit::UpTo(allowed));
            let change = say(&mut breaker, 500, RailHealth::Well);
            assert_eq!(change, (allowed == 7).then_some(BreakerChange::Closed));
        }
        assert_eq!(breaker.permit(BootTime(500)), Permit::UpTo(8));
    }

    #[test]
    fn a_crowded_rail_gets_half_and_then_more_again() {
        let mut breaker = Breaker::new(LIMITS);
        for allowed in [4, 2, 1, 1] {
            say(&mut breaker, 0, throttled(None));
            assert_eq!(breaker.permit(BootTime(0)), Permit::UpTo(allowed));
        }
        say(&mut breaker, 0, RailHealth::Well);
        assert_eq!(breaker.permit(BootTime(0)), Permit::UpTo(2));
    }

    #[test]
    fn a_probe_that_is_throttled_opens_it_again() {
        let mut breaker = opened();
        assert_eq!(breaker.permit(BootTime(500)), Permit::UpTo(1));
        let change = say(&mut breaker, 500, throttled(None));
        assert_eq!(change, Some(BreakerChange::Opened { until: BootTime(1_500) }));
    }

    #[test]
    fn a_throttled_probe_opens_it_for_as_long_as_the_rail_asks_up_to_the_cap() {
        for (asked, length) in [(200, 1_000), (5_000, 5_000), (3_600_000, 8_000)] {
            let mut breaker = opened();
            breaker.permit(BootTime(500));
            let change = say(&mut breaker, 500, throttled(Some(asked)));
            assert_eq!(change, Some(BreakerChange::Opened { until: BootTime(500 + length) }), "{asked}");
        }
    }

    #[test]
    fn a_rail_that_throttles_everything_is_left_alone() {
        let mut breaker = Breaker::new(LIMITS);
        let mut now = 0;
        let mut sends = 0;
        while now < 60_000 {
            match breaker.permit(BootTime(now)) {
                Permit::UpTo(_) => {
                    say(&mut breaker, now, throttled(None));
                    sends += 1;
                }
                Permit::NotBefore(until) => now = until.0,
            }
            assert!(sends < 50, "driven through the backlog one by one");
        }
    }

    #[test]
    fn what_started_before_the_opening_neither_opens_again_nor_closes() {
        let mut breaker = Breaker::new(LIMITS);
        let before = breaker.generation();
        for _ in 0..3 {
            breaker.ended(BootTime(0), before, RailHealth::Failing, 0);
        }
        for health in [RailHealth::Failing, RailHealth::Well, RailHealth::Shut] {
            assert_eq!(breaker.ended(BootTime(1), before, health, 0), None);
        }
        assert_eq!(breaker.permit(BootTime(500)), Permit::UpTo(1));
    }

    #[test]
    fn a_rail_with_room_for_one_closes_with_the_probe() {
        let mut breaker = Breaker::new(BreakerLimits { concurrency: 1, failures: 1, ..LIMITS });
        say(&mut breaker, 0, RailHealth::Failing);
        breaker.permit(BootTime(10_000));
        assert_eq!(say(&mut breaker, 10_000, RailHealth::Well), Some(BreakerChange::Closed));
    }

    fn any_health() -> impl Strategy<Value = RailHealth> {
        prop_oneof![
            4 => Just(RailHealth::Well),
            1 => any::<u16>().prop_map(|wait| RailHealth::Crowded { wait: Millis(u64::from(wait)) }),
            4 => Just(RailHealth::Failing),
            1 => Just(RailHealth::Shut)
        ]
    }

    proptest! {
        #[test]
        fn it_never_lets_through_more_than_the_concurrency_nor_stays_open_beyond_the_cap(
            steps in proptest::collection::vec((any_health(), 0u64..3_000, any::<u64>()), 1..200)
        ) {
            let mut breaker = Breaker::new(LIMITS);
            let (mut now, mut open_until) = (0, None);
            for (health, passed, jitter) in steps {
                now += passed;
                match breaker.permit(BootTime(now)) {
                    Permit::UpTo(allowed) => prop_assert!((1..=8).contains(&allowed)),
                    Permit::NotBefore(until) => {
                        prop_assert!(until.0 > now && until.0 <= now + 8_000);
                        prop_assert!(open_until.is_none_or(|known| known == until), "an opening was prolonged");
                        open_until = Some(until);
                        continue;
                    }
                }
                open_until = None;
                let generation = breaker.generation();
                breaker.ended(BootTime(now), generation, health, jitter);
            }
        }
    }
}
