//! Whether the daemon's own loops tick (liveness) and whether it may claim (readiness). Neither asks
//! the database here: services report, and an outage of the database must not restart the daemon.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outbox_core::{BootTime, Millis};

use crate::clock::boot_now;

/// What the services report, and `/livez`, `/readyz` and the watchdog read.
#[derive(Debug, Default)]
pub struct HealthState {
    loops: Mutex<BTreeMap<String, Arc<Tick>>>,
    not_ready: Mutex<BTreeMap<String, String>>,
    /// By rail, why its lane is off; `None`: it is on.
    lanes: Mutex<BTreeMap<String, Option<String>>>,
    /// By rail, why its breaker opened.
    breakers: Mutex<BTreeMap<String, &'static str>>,
}

#[derive(Debug)]
struct Tick {
    last_ms: AtomicU64,
    age_max: Millis,
}

/// A loop that has not ticked in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaleLoop {
    /// The loop's name.
    pub name: String,
    /// How long ago it ticked last.
    pub age: Millis,
    /// How long ago it may have been at most.
    pub age_max: Millis,
}

/// Why the daemon, or one lane of it, does not claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady {
    /// What is not ready, such as `database`.
    pub subject: String,
    /// Why not.
    pub reason: String,
}

impl HealthState {
    /// A state without loops, ready.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Watches the loop `name`, which ticks now and then at least once in `age_max`, until the
    /// returned ticker is dropped.
    #[must_use]
    pub fn watch(self: &Arc<Self>, name: impl Into<String>, age_max: Millis) -> Ticker {
        let name = name.into();
        let tick = Arc::new(Tick { last_ms: AtomicU64::new(boot_now().0), age_max });
        let before = lock(&self.loops).insert(name.clone(), Arc::clone(&tick));
        assert!(before.is_none(), "two loops have one name, so one of them would not be watched");
        Ticker { state: Arc::clone(self), name, tick }
    }

    /// Notes that `subject` keeps the daemon from claiming.
    pub fn not_ready(&self, subject: impl Into<String>, reason: impl Into<String>) {
        lock(&self.not_ready).insert(subject.into(), reason.into());
    }

    /// Notes that `subject` no longer keeps the daemon from claiming.
    pub fn ready(&self, subject: &str) {
        lock(&self.not_ready).remove(subject);
    }

    /// Notes that the lane of `rail` claims nothing until a person mends something. The others go on, so
    /// the daemon stays ready while one of them is on.
    pub fn lane_off(&self, rail: impl Into<String>, reason: impl Into<String>) {
        lock(&self.lanes).insert(rail.into(), Some(reason.into()));
    }

    /// Notes that the lane of `rail` may claim.
    pub fn lane_on(&self, rail: impl Into<String>) {
        lock(&self.lanes).insert(rail.into(), None);
    }

    /// Notes that the lane of `rail` leaves its rail alone for a while. The daemon stays ready: nothing is wrong
    /// with it, and a restart would forget what it learned about the rail.
    pub fn breaker_opened(&self, rail: impl Into<String>, reason: &'static str) {
        lock(&self.breakers).insert(rail.into(), reason);
    }

    /// Notes that the rail answers again.
    pub fn breaker_closed(&self, rail: &str) {
        lock(&self.breakers).remove(rail);
    }

    /// The rails whose breakers are open, with what opened each.
    #[must_use]
    pub fn breakers_open(&self) -> Vec<NotReady> {
        let open = |(rail, reason): (&String, &&str)| NotReady {
            subject: format!("rail {rail}"),
            reason: (*reason).to_owned(),
        };
        lock(&self.breakers).iter().map(open).collect()
    }

    /// The lanes that are off, by rail, with the reason of each.
    #[must_use]
    pub fn lanes_off(&self) -> Vec<NotReady> {
        let lanes = lock(&self.lanes);
        let off = |(rail, reason): (&String, &Option<String>)| {
            Some(NotReady { subject: format!("rail {rail}"), reason: reason.clone()? })
        };
        lanes.iter().filter_map(off).collect()
    }

    /// The loops that have not ticked in time at `now`; none: the daemon is live.
    #[must_use]
    pub fn stale_loops(&self, now: BootTime) -> Vec<StaleLoop> {
        let loops = lock(&self.loops);
        let stale = loops.iter().filter_map(|(name, tick)| {
            let age = now.since(BootTime(tick.last_ms.load(Ordering::Relaxed)));
            let stale = StaleLoop { name: name.clone(), age, age_max: tick.age_max };
            (age > tick.age_max).then_some(stale)
        });
        stale.collect()
    }

    /// What keeps the daemon from claiming; nothing: it is ready.
    #[must_use]
    pub fn reasons(&self) -> Vec<NotReady> {
        let reason =
            |(subject, reason): (&String, &String)| NotReady { subject: subject.clone(), reason: reason.clone() };
        let mut reasons: Vec<NotReady> = lock(&self.not_ready).iter().map(reason).collect();
        let off = self.lanes_off();
        if off.len() == lock(&self.lanes).len() {
            reasons.extend(off);
        }
        reasons
    }
}

/// The loop's own end of its watch.
#[derive(Debug)]
pub struct Ticker {
    state: Arc<HealthState>,
    name: String,
    tick: Arc<Tick>,
}

impl Ticker {
    /// Notes that the loop ticks.
    pub fn tick(&self) {
        self.tick_at(boot_now());
    }

    fn tick_at(&self, now: BootTime) {
        self.tick.last_ms.store(now.0, Ordering::Relaxed);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        lock(&self.state.loops).remove(&self.name);
    }
}

/// The maps are whole between any two statements, so a panic elsewhere leaves them usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_stale_only_past_its_own_limit() {
        let state = HealthState::new();
        let (fast, slow) = (state.watch("fast", Millis(10)), state.watch("slow", Millis(1_000)));
        fast.tick_at(BootTime(100));
        slow.tick_at(BootTime(100));
        let names = |now| state.stale_loops(BootTime(now)).into_iter().map(|s| s.name).collect::<Vec<_>>();
        assert_eq!(names(110), Vec::<String>::new());
        assert_eq!(names(111), ["fast"]);
        assert_eq!(names(1_101), ["fast", "slow"]);
        fast.tick_at(BootTime(1_101));
        assert_eq!(names(1_101), ["slow"]);
        drop(slow);
        assert_eq!(names(1_101), Vec::<String>::new());
    }

    #[test]
    fn every_reason_must_be_gone_before_the_daemon_is_ready() {
        let state = HealthState::new();
        state.not_ready("database", "connection refused");
        state.not_ready("clock", "went back");
        state.not_ready("database", "still refused");
        state.ready("clock");
        let reason = NotReady { subject: "database".to_owned(), reason: "still refused".to_owned() };
        assert_eq!(state.reasons(), [reason]);
        state.ready("database");
        assert_eq!(state.reasons(), []);
    }

    #[test]
    fn one_lane_that_is_on_makes_up_for_those_that_are_off() {
        let state = HealthState::new();
        let off = |rail: &str| NotReady { subject: format!("rail {rail}"), reason: "no contract".to_owned() };
        state.lane_off("a", "no contract");
        assert_eq!(state.reasons(), [off("a")]);
        state.lane_on("b");
        assert_eq!((state.reasons(), state.lanes_off()), (vec![], vec![off("a")]));
        state.lane_off("b", "no contract");
        assert_eq!(state.reasons(), [off("a"), off("b")]);
        state.lane_on("a");
        assert_eq!((state.reasons(), state.lanes_off()), (vec![], vec![off("b")]));
    }
}
