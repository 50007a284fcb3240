//! Asks the database for its figures now and then, on a connection of its own with limits of its own: a count that is
//! slow delays no claim and no result. Nothing watches this loop: the age of the last sample shows that it stands still.

use std::sync::Arc;
use std::time::Duration;

use outbox_core::Millis;
use outbox_store::{ConnectSettings, Session};

use super::connection::in_full;
use super::event::{Handle, Phase};
use crate::clock::boot_now;
use crate::events;
use crate::metrics::{Metrics, Sample};

/// How long the server counts at most. A million pending payments take it about a second.
const STATEMENT_TIMEOUT_MAX: Millis = Millis(10_000);

/// A sample is shown for as many intervals: one that fails leaves no gap, two do.
const VALID_INTERVALS: u64 = 2;

/// The service.
pub(crate) struct Sampler {
    pub(crate) settings: ConnectSettings,
    pub(crate) interval: Millis,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) handle: Handle,
}

impl Sampler {
    /// Samples until the daemon's end is over.
    pub(crate) async fn run(mut self) {
        self.settings.statement_timeout = self.interval.min(STATEMENT_TIMEOUT_MAX);
        self.settings.call_timeout = self.settings.statement_timeout.plus(Millis(1_000));
        let mut session = Session::new(Arc::new(self.settings.clone()));
        let mut looks = tokio::time::interval(Duration::from(self.interval));
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut end = self.handle.clone();
        loop {
            tokio::select! {
                () = end.reached(Phase::Over) => break,
                () = async {
                    looks.tick().await;
                    self.sample(&mut session).await;
                } => {}
            }
        }
        session.close().await;
    }

    async fn sample(&self, session: &mut Session) {
        let samples = self.metrics.samples();
        let asked_at = boot_now();
        match outbox_store::read_metrics(session, &samples.horizons()).await {
            Ok(figures) => {
                let took = boot_now().since(asked_at);
                let valid_for = Millis(self.interval.0 * VALID_INTERVALS).plus(self.settings.call_timeout);
                samples.take(Sample { figures, asked_at, took, valid_for });
            }
            Err(error) => {
                samples.failed();
                tracing::warn!(event = events::METRICS_SAMPLE_FAILED, error = in_full(&error));
            }
        }
    }
}
