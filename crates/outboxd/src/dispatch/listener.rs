//! Listening for hints, and holding the wake-up locks of sleeping lanes. A hint saves latency and
//! nothing depends on it: a connection that shows any fault is dropped, and another one made.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use outbox_core::{Millis, RailName};
use outbox_store::{ConnectSettings, StoreError, WakeupListener};
use tokio::sync::mpsc;

use super::backoff::Backoff;
use super::connection::in_full;
use super::event::{Event, Handle, LockAnswer, Phase, Sleep};
use crate::events;
use crate::health::Ticker;
use crate::metrics::Metrics;

/// The loop ticks at least this often.
const TICK: Duration = Duration::from_secs(1);

/// The service.
pub(crate) struct Listener {
    pub(crate) settings: Arc<ConnectSettings>,
    pub(crate) rails: Vec<RailName>,
    pub(crate) wishes: mpsc::Receiver<Sleep>,
    pub(crate) probe_interval: Millis,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) handle: Handle,
    pub(crate) ticker: Ticker,
}

impl Listener {
    /// Listens until the daemon stops. While there is no connection, lanes poll.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut stopping = self.handle.clone();
        while self.handle.phase() == Phase::Running {
            self.ticker.tick();
            let connected = tokio::select! {
                connected = WakeupListener::connect(&self.settings, &self.rails) => connected,
                () = stopping.reached(Phase::Draining) => return,
            };
            let error = match connected {
                Ok(listener) => {
                    backoff.reset();
                    tracing::debug!(event = events::LISTENER_CONNECTED);
                    self.handle.tell(Event::ListenerRenewed).await;
                    self.metrics.listener_is_connected(true);
                    let listened = self.listen(listener).await;
                    self.metrics.listener_is_connected(false);
                    match listened {
                        Ok(()) => return,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            let wait = backoff.wait();
            tracing::warn!(event = events::LISTENER_LOST, error = in_full(&error), retry_ms = wait.0);
            // What the lanes wished of the lost connection is void.
            while self.wishes.try_recv().is_ok() {}
            self.handle.tell(Event::ListenerRenewed).await;
            tokio::select! {
                () = tokio::time::sleep(Duration::from(wait)) => {}
                () = stopping.reached(Phase::Draining) => return,
            }
        }
    }

    /// Serves one connection until it shows a fault, or the daemon stops.
    async fn listen(&mut self, mut listener: WakeupListener) -> Result<(), StoreError> {
        let mut probes = tokio::time::interval(Duration::from(self.probe_interval));
        probes.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stopping = self.handle.clone();
        let mut held = BTreeSet::new();
        loop {
            tokio::select! {
                heard = listener.next() => match heard? {
                    Some(rail) => self.handle.tell(Event::Hinted(rail)).await,
                    None => return Err(StoreError::ConnectionLost),
                },
                wish = self.wishes.recv() => match wish {
                    Some(wish) => self.grant(&mut listener, &mut held, wish).await?,
                    None => return Ok(()),
                },
                _ = probes.tick() => { listener.probe().await?; }
                _ = ticks.tick() => self.ticker.tick(),
                () = stopping.reached(Phase::Draining) => return Ok(()),
            }
        }
    }

    /// `held`: the locks of this connection. One that it does not hold is not let go of, which the
    /// server would answer with a warning.
    async fn grant(
        &self,
        listener: &mut WakeupListener,
        held: &mut BTreeSet<RailName>,
        wish: Sleep,
    ) -> Result<(), StoreError> {
        match wish {
            Sleep::Wanted(rail) => {
                // A session lock counts: taken twice, it would outlast being let go of.
                let taken = held.contains(&rail) || listener.try_wakeup_lock(&rail).await?;
                if taken {
                    held.insert(rail.clone());
                }
                let answer = if taken { LockAnswer::Taken } else { LockAnswer::NotTaken };
                self.handle.tell(Event::WakeupLock(rail, answer)).await;
            }
            Sleep::Over(rail) if !held.remove(&rail) => {}
            Sleep::Over(rail) => {
                listener.release_wakeup_lock(&rail).await?;
            }
        }
        Ok(())
    }
}
