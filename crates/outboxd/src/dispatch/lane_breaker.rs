//! The breaker of one endpoint: what is logged and shown of it. When it opens and what it lets through is the core's business.

use std::sync::Arc;

use outbox_core::breaker::{Breaker, BreakerChange, BreakerLimits, Generation, Permit};
use outbox_core::{BootTime, RailName};

use super::backoff::random_bits;
use super::sender::Said;
use crate::events;
use crate::health::HealthState;

/// The breaker of one endpoint of a rail.
pub(crate) struct LaneBreaker {
    rail: RailName,
    /// Which, where there are several.
    endpoint: Option<String>,
    breaker: Breaker,
    health: Arc<HealthState>,
}

impl LaneBreaker {
    pub(crate) const fn new(
        rail: RailName,
        endpoint: Option<String>,
        limits: BreakerLimits,
        health: Arc<HealthState>,
    ) -> Self {
        Self { rail, endpoint, breaker: Breaker::new(limits), health }
    }

    /// How many exchanges may be under way at `now`, or until when none may begin.
    pub(crate) fn permit(&mut self, now: BootTime) -> Permit {
        self.breaker.permit(now)
    }

    /// What an exchange that begins now is to hand in when it ends.
    pub(crate) const fn generation(&self) -> Generation {
        self.breaker.generation()
    }

    /// Notes what an exchange said; returns whether it opened the breaker.
    pub(crate) fn ended(&mut self, now: BootTime, began_in: Generation, said: Said) -> bool {
        let Some(change) = self.breaker.ended(now, began_in, said.health, random_bits()) else { return false };
        let (rail, endpoint, reason) = (&self.rail, self.endpoint.as_deref(), said.reason);
        let shown = endpoint.map_or_else(|| rail.to_string(), |endpoint| format!("{rail} at {endpoint}"));
        match change {
            BreakerChange::Opened { until } => {
                tracing::warn!(event = events::BREAKER_OPENED, %rail, endpoint, reason, open_ms = until.since(now).0);
                self.health.breaker_opened(shown, reason);
                return true;
            }
            BreakerChange::Recovering => {
                tracing::info!(event = events::BREAKER_RECOVERING, %rail, endpoint);
                self.health.breaker_closed(&shown);
            }
            BreakerChange::Closed => {
                tracing::info!(event = events::BREAKER_CLOSED, %rail, endpoint);
                self.health.breaker_closed(&shown);
            }
        }
        false
    }
}
