//! Named points at which requests can be held until they are let go, so that a test can kill somebody
//! exactly there.

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::stats::{Counters, Stats};

/// A point at which requests can be parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// The headers have arrived, the body has not been read.
    BeforeBody,
    /// The request has come whole, and its key has not been looked at: whoever asks is told that there is no payment.
    BeforeKey,
    /// The request is accepted for execution (its key is in flight), and nothing has happened yet.
    BeforeExecution,
    /// The effect is in the ledger (or was found there), and no byte of the answer has left.
    AfterExecution,
    /// An inquiry has its answer, and no byte of it has left: what happens now is too late for it.
    AfterLookUp,
}

impl Point {
    fn count(self, stats: &mut Stats) -> &mut u64 {
        match self {
            Self::BeforeBody => &mut stats.parked_before_body,
            Self::BeforeKey => &mut stats.parked_before_key,
            Self::BeforeExecution => &mut stats.parked_before_execution,
            Self::AfterExecution => &mut stats.parked_after_execution,
            Self::AfterLookUp => &mut stats.parked_after_look_up,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Parking(watch::Sender<Vec<Point>>);

impl Parking {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Vec::new()))
    }

    pub(crate) fn close(&self, point: Point) {
        self.0.send_modify(|closed| closed.push(point));
    }

    pub(crate) fn open_all(&self) {
        self.0.send_modify(Vec::clear);
    }

    /// Passes the point, at once or when it is opened.
    pub(crate) async fn pass(&self, point: Point, counters: &Counters) {
        if !self.0.borrow().contains(&point) {
            return;
        }
        let mut closed = self.0.subscribe();
        counters.change(|stats| *point.count(stats) += 1);
        let _ = closed.wait_for(|closed| !closed.contains(&point)).await;
        counters.change(|stats| *point.count(stats) -= 1);
    }
}
