//! What a lane is given when it is made. Nothing is done here.

use std::sync::Arc;

use outbox_core::breaker::BreakerLimits;
use outbox_core::{Millis, RailName, WorkerId};
use outbox_rail::Rail;
use tokio::sync::mpsc;

use super::completer::Settled;
use super::connection::Connection;
use super::event::{Handle, LaneCommand};
use super::governed::{Maker, Times};
use super::leases::Leases;
use super::wakeup_lock::WakeupLock;
use crate::config::model::{Dispatcher, Rail as RailConfig};
use crate::health::{HealthState, Ticker};
use crate::metrics::RailMetrics;

/// What a lane is told once.
#[derive(Clone, Debug)]
pub(crate) struct LaneSettings {
    pub(crate) rail: RailName,
    pub(crate) worker_id: WorkerId,
    pub(crate) concurrency: usize,
    /// What the dispatcher is configured for: another database's claims are refused.
    pub(crate) environment: Option<String>,
    pub(crate) breaker: BreakerLimits,
    pub(crate) claim_batch_max: usize,
    /// Of the decisions in force.
    pub(crate) times: Times,
    /// The rail and the dispatcher as they are configured.
    pub(crate) configured: RailConfig,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) poll_min: Millis,
    pub(crate) poll_max: Millis,
}

/// What a lane works with.
pub(crate) struct LaneParts {
    /// In the order in which they are preferred; at least one.
    pub(crate) clients: Vec<Arc<dyn Rail>>,
    /// Makes others, by the decisions of a policy.
    pub(crate) maker: Maker,
    pub(crate) connection: Connection,
    pub(crate) commands: mpsc::Receiver<LaneCommand>,
    pub(crate) wakeup_lock: WakeupLock,
    pub(crate) results: mpsc::Sender<Settled>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) health: Arc<HealthState>,
    pub(crate) metrics: Arc<RailMetrics>,
    pub(crate) handle: Handle,
    pub(crate) ticker: Ticker,
}
