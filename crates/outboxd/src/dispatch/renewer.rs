//! Renewing leases: of sends that take long, and of results that the database has not taken yet.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use outbox_core::WorkerId;
use outbox_store::{HeldLease, RenewVerdict};

use super::connection::{Connection, ConnectionError};
use super::leases::{Leases, OpenLease};
use crate::clock::boot_now;
use crate::events;
use crate::health::Ticker;

/// How often leases are looked at. A lease is renewed at half its length, and the shortest that a
/// contract allows in practice is seconds long.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The most leases of one call.
const BATCH_MAX: usize = 1_000;

/// The service.
pub(crate) struct Renewer {
    pub(crate) connection: Connection,
    pub(crate) worker_id: WorkerId,
    pub(crate) leases: Arc<Leases>,
    pub(crate) ticker: Ticker,
}

impl Renewer {
    /// Renews until the future is dropped.
    pub(crate) async fn run(mut self) -> Infallible {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            self.ticker.tick();
            self.connection.open_ahead().await;
            if let Err(error) = self.run_once().await {
                tracing::warn!(event = events::RENEW_FAILED, error = error.in_full());
            }
        }
    }

    /// One bounded pass; returns how many leases it renewed.
    async fn run_once(&mut self) -> Result<usize, ConnectionError> {
        let due = self.leases.to_renew(boot_now(), BATCH_MAX);
        if due.is_empty() {
            return Ok(0);
        }
        let held: Vec<HeldLease> = due.iter().map(|lease| lease.held).collect();
        let session = self.connection.session().await?;
        let asked_at = boot_now();
        let verdicts = outbox_store::renew_leases(session, &self.worker_id, &held).await?;
        let mut renewed = 0;
        for (lease, verdict) in due.iter().zip(verdicts) {
            match verdict {
                RenewVerdict::Renewed(duration) => {
                    lease.renewed(asked_at, duration);
                    renewed += 1;
                }
                RenewVerdict::Fenced if self.leases.is_open(lease.held) => lost(lease),
                // Its result was recorded meanwhile: nothing is lost.
                RenewVerdict::Fenced => {}
                RenewVerdict::Busy => {}
            }
        }
        Ok(renewed)
    }
}

fn lost(lease: &OpenLease) {
    lease.lost();
    let (outbox_id, attempt_no) = (lease.held.outbox_id, lease.held.attempt_no);
    tracing::warn!(event = events::LEASE_LOST, rail = %lease.rail, %outbox_id, attempt_no = attempt_no.0);
}
