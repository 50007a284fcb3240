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

/// From here on no lane sleeps: a commit that hints at one would soon fail. Postgres begins to warn here.
const QUEUE_USAGE_MAX: f64 = 0.5;

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

/// The wake-up locks of one connection.
#[derive(Debug, Default)]
struct Locks {
    held: BTreeSet<RailName>,
    /// None is taken now: the queue of notifications fills up.
    refused: bool,
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
        let mut locks = Locks::default();
        loop {
            tokio::select! {
                heard = listener.next() => match heard? {
                    Some(rail) => self.handle.tell(Event::Hinted(rail)).await,
                    None => return Err(StoreError::ConnectionLost),
                },
                wish = self.wishes.recv() => match wish {
                    Some(wish) => self.grant(&mut listener, &mut locks, wish).await?,
                    None => return Ok(()),
                },
                _ = probes.tick() => {
                    let usage = listener.probe().await?.queue_usage;
                    self.judge_queue(&mut listener, &mut locks, usage).await?;
                }
                _ = ticks.tick() => self.ticker.tick(),
                () = stopping.reached(Phase::Draining) => return Ok(()),
            }
        }
    }

    /// Wakes all lanes while the queue of notifications fills up: what is enqueued then hints at nobody, and commits.
    async fn judge_queue(
        &self,
        listener: &mut WakeupListener,
        locks: &mut Locks,
        usage: f64,
    ) -> Result<(), StoreError> {
        let before = std::mem::replace(&mut locks.refused, usage >= QUEUE_USAGE_MAX);
        if before == locks.refused {
            return Ok(());
        }
        tracing::warn!(event = events::LISTENER_QUEUE, usage, sleeping = !locks.refused);
        if locks.refused {
            for rail in std::mem::take(&mut locks.held) {
                listener.release_wakeup_lock(&rail).await?;
            }
            self.handle.tell(Event::ListenerRenewed).await;
        }
        Ok(())
    }

    async fn grant(&self, listener: &mut WakeupListener, locks: &mut Locks, wish: Sleep) -> Result<(), StoreError> {
        match wish {
            Sleep::Wanted(rail) => {
                // A session lock counts: taken twice, it would outlast being let go of.
                let taken = !locks.refused && (locks.held.contains(&rail) || listener.try_wakeup_lock(&rail).await?);
                if taken {
                    locks.held.insert(rail.clone());
                }
                let answer = if taken { LockAnswer::Taken } else { LockAnswer::NotTaken };
                self.handle.tell(Event::WakeupLock(rail, answer)).await;
            }
            // One that is not held is not let go of, which the server would answer with a warning.
            Sleep::Over(rail) if !locks.held.remove(&rail) => {}
            Sleep::Over(rail) => {
                listener.release_wakeup_lock(&rail).await?;
            }
        }
        Ok(())
    }
}
