//! Counters of a running rail, for tests that wait for a state instead of a time. They are for
//! waiting; what happened is in the files.

use serde::Serialize;
use tokio::sync::watch;

use crate::park::Point;

/// Where a rail stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Connections accepted.
    pub connections: u64,
    /// Payment requests whose headers arrived.
    pub requests: u64,
    /// Payment requests whose body arrived whole.
    pub bodies: u64,
    /// Inquiries whose headers arrived.
    pub inquiries: u64,
    /// Effects written by this process.
    pub effects: u64,
    /// First results replayed.
    pub replays: u64,
    /// Requests whose answer, given or withheld, is on record.
    pub answers: u64,
    /// Answers that leave the dispatcher in doubt.
    pub unknown_answers: u64,
    /// Requests parked with their body unread.
    pub parked_before_body: u64,
    /// Requests parked before their key is looked at.
    pub parked_before_key: u64,
    /// Requests parked before execution.
    pub parked_before_execution: u64,
    /// Requests parked after execution.
    pub parked_after_execution: u64,
    /// Inquiries parked with their answer made up and not given.
    pub parked_after_look_up: u64,
    /// True while the rail is down.
    pub down: bool,
    /// True once a file could not be written: this rail is no witness any more.
    pub write_failed: bool,
}

impl Stats {
    /// How many requests are parked at `point`.
    #[must_use]
    pub const fn parked(&self, point: Point) -> u64 {
        match point {
            Point::BeforeBody => self.parked_before_body,
            Point::BeforeKey => self.parked_before_key,
            Point::BeforeExecution => self.parked_before_execution,
            Point::AfterExecution => self.parked_after_execution,
            Point::AfterLookUp => self.parked_after_look_up,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Counters(watch::Sender<Stats>);

impl Counters {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Stats::default()))
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Stats)) {
        self.0.send_modify(change);
    }

    pub(crate) fn now(&self) -> Stats {
        *self.0.borrow()
    }

    /// Waits until the counters satisfy `condition`; without a limit, so put a deadline around it.
    pub(crate) async fn wait_for(&self, condition: impl FnMut(&Stats) -> bool) -> Stats {
        let mut seen = self.0.subscribe();
        let found = seen.wait_for(condition).await.map(|stats| *stats);
        found.expect("the sender is borrowed for as long as this waits")
    }
}
