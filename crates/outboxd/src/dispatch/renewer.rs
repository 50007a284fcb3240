//! Renewing leases: of sends that take long, and of results that the database has not taken yet.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use outbox_core::{Millis, WorkerId};
use outbox_store::{HeldLease, RenewVerdict};

use super::backoff::Backoff;
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
        let mut backoff = Backoff::default();
        loop {
            self.ticker.tick();
            let wait = self.look(&mut backoff).await;
            tokio::time::sleep(wait).await;
        }
    }

    /// Looks at the leases; returns the wait until the next look. A database that is away, or has no
    /// connection to spare, is asked for one ever less often.
    async fn look(&mut self, backoff: &mut Backoff) -> Duration {
        let is_open = self.connection.open_ahead().await;
        let renewed = self.run_once().await;
        if is_open && renewed.is_ok() {
            backoff.reset();
            return LOOK_EVERY;
        }
        let wait = Duration::from(backoff.wait()).max(LOOK_EVERY);
        if let Err(error) = renewed {
            let retry_ms = Millis::from(wait).0;
            tracing::warn!(event = events::RENEW_FAILED, error = error.in_full(), retry_ms);
        }
        wait
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

#[cfg(test)]
mod tests {
    use outbox_core::Millis;
    use outbox_store::{ConnectSettings, Password, Tls};
    use uuid::Uuid;

    use super::*;
    use crate::health::HealthState;

    #[tokio::test]
    async fn a_database_that_is_away_is_asked_for_a_connection_ever_less_often() {
        let nowhere = tempfile::tempdir().unwrap();
        let host = nowhere.path().to_str().unwrap();
        let password = Password::Asked(Arc::new(|| Ok(String::new())));
        let settings = ConnectSettings::new(host, 5432, "d", "u", password, &Tls::Disabled);
        let mut renewer = Renewer {
            connection: Connection::for_results(Arc::new(settings)),
            worker_id: WorkerId::new("a", Uuid::new_v4()).unwrap(),
            leases: Arc::default(),
            ticker: HealthState::new().watch("renewer", Millis(1)),
        };
        let mut backoff = Backoff::default();
        let mut waits = Vec::new();
        for _ in 0..40 {
            waits.push(renewer.look(&mut backoff).await);
        }
        assert!(waits.iter().all(|wait| *wait >= LOOK_EVERY), "{waits:?}");
        // Each of the later waits is longer by a chance of seven eighths.
        assert!(waits.iter().filter(|wait| **wait > LOOK_EVERY).count() >= 10, "{waits:?}");
    }
}
