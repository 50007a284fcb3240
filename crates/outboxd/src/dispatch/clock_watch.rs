//! Watching the database's clock for one lane: says aloud when it is wrong, once, and when it is right
//! again. What counts as wrong is decided in `db_clock`.

use std::sync::Arc;
use std::time::SystemTime;

use outbox_core::{BootTime, RailName};
use time::OffsetDateTime;

use super::db_clock::DbClock;
use crate::clock::boot_now;
use crate::events;
use crate::health::HealthState;

/// The readings of one lane, and whether the last one was wrong.
pub(crate) struct ClockWatch {
    clock: DbClock,
    rail: RailName,
    health: Arc<HealthState>,
    is_wrong: bool,
}

impl ClockWatch {
    pub(crate) fn new(rail: RailName, health: Arc<HealthState>) -> Self {
        Self { clock: DbClock::default(), rail, health, is_wrong: false }
    }

    /// Whether the last reading was wrong.
    pub(crate) const fn is_wrong(&self) -> bool {
        self.is_wrong
    }

    /// Judges a reading that has just come; the question was sent at `asked_at`.
    pub(crate) fn read(&mut self, db_now: OffsetDateTime, asked_at: BootTime) {
        let fault = self.clock.judge(db_now, asked_at, boot_now(), SystemTime::now());
        let subject = self.subject();
        match fault {
            None => self.health.ready(&subject),
            Some(fault) => {
                if !self.is_wrong {
                    tracing::error!(event = events::CLOCK_FAULT, rail = %self.rail, ?fault);
                }
                self.health.not_ready(subject, format!("{fault:?}"));
            }
        }
        self.is_wrong = fault.is_some();
    }

    /// Notes that the lane does not claim any more, so that its clock keeps nobody from claiming.
    pub(crate) fn set_aside(&self) {
        self.health.ready(&self.subject());
    }

    fn subject(&self) -> String {
        format!("database clock of rail {}", self.rail)
    }
}
