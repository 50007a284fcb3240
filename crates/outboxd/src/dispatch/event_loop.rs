//! The event loop: it routes what one service says to those it concerns, and leads the daemon to its
//! end. It decides nothing about payments.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use outbox_core::{Millis, RailContract, RailName};
use outbox_store::{RailRow, SilentDispatcher};
use tokio::sync::{mpsc, watch};

use super::event::{Event, LaneCommand, Phase};
use crate::clock::boot_now;
use crate::events;
use crate::exit::Failure;
use crate::health::Ticker;
use crate::systemd;

/// The loop ticks at least this often.
const TICK: Duration = Duration::from_secs(1);

/// The loop and what it owns.
pub(crate) struct EventLoop {
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) lanes: BTreeMap<RailName, mpsc::Sender<LaneCommand>>,
    pub(crate) ticker: Ticker,
    contracts: BTreeMap<RailName, RailContract>,
    silent: BTreeSet<String>,
}

impl EventLoop {
    pub(crate) fn new(
        events: mpsc::Receiver<Event>,
        phase: watch::Sender<Phase>,
        lanes: BTreeMap<RailName, mpsc::Sender<LaneCommand>>,
        ticker: Ticker,
    ) -> Self {
        Self { events, phase, lanes, ticker, contracts: BTreeMap::new(), silent: BTreeSet::new() }
    }

    /// Routes events until `shutdown`, which names who asked for it.
    ///
    /// # Errors
    /// The [`Failure`] of a service that found an invariant broken, or a schema it cannot work with.
    pub(crate) async fn run(&mut self, shutdown: impl Future<Output = &'static str>) -> Result<&'static str, Failure> {
        tokio::pin!(shutdown);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                asked_by = &mut shutdown => return Ok(asked_by),
                _ = ticks.tick() => self.ticker.tick(),
                Some(event) = self.events.recv() => self.handle(event)?,
            }
        }
    }

    /// Goes on routing while the services end, in the time that `ended` takes, and moves the phase to
    /// `Over` when `drain_timeout` has passed. A broken invariant is reported at the end.
    pub(crate) async fn drain(
        &mut self,
        drain_timeout: Millis,
        ended: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        self.phase.send_replace(Phase::Draining);
        systemd::stopping();
        tokio::pin!(ended);
        let over = tokio::time::sleep(Duration::from(drain_timeout));
        tokio::pin!(over);
        let mut result = Ok(());
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                () = &mut ended => break,
                () = &mut over, if *self.phase.borrow() < Phase::Over => {
                    tracing::warn!(event = events::DRAIN_TIMED_OUT);
                    self.phase.send_replace(Phase::Over);
                }
                _ = ticks.tick() => self.ticker.tick(),
                Some(event) = self.events.recv() => {
                    if let Err(failure) = self.handle(event) {
                        tracing::error!(event = events::DAEMON_BROKEN, error = %failure);
                        result = Err(failure);
                    }
                }
            }
        }
        self.phase.send_replace(Phase::Over);
        result
    }

    fn handle(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Hinted(rail) => self.command(&rail, LaneCommand::Sweep),
            Event::WakeupLock(rail, answer) => self.command(&rail, LaneCommand::WakeupLock(answer)),
            Event::ListenerRenewed => self.command_all(&LaneCommand::ListenerRenewed),
            Event::Contracts(rows) => self.take_contracts(rows),
            Event::DatabaseRefused => self.command_all(&LaneCommand::Reconnect),
            Event::Silent(silent) => self.take_silent(&silent),
            Event::Broken(failure) => {
                tracing::error!(event = events::DAEMON_BROKEN, error = %failure);
                return Err(failure);
            }
        }
        Ok(())
    }

    /// A lane that is too busy to be told sweeps soon anyway, and is told contracts again.
    fn command(&self, rail: &RailName, command: LaneCommand) {
        if let Some(lane) = self.lanes.get(rail) {
            let _ = lane.try_send(command);
        }
    }

    fn command_all(&self, command: &LaneCommand) {
        for rail in self.lanes.keys() {
            self.command(rail, command.clone());
        }
    }

    fn take_contracts(&mut self, rows: Vec<RailRow>) {
        self.contracts = rows.into_iter().filter_map(|row| row.contract.map(|contract| (row.rail, contract))).collect();
        for rail in self.lanes.keys() {
            self.command(rail, LaneCommand::Contract(self.contracts.get(rail).cloned()));
        }
    }

    /// The leases of a dispatcher that fell silent run out unrenewed: the lanes it shares with us sweep
    /// now, and when the last lease it can hold is over.
    fn take_silent(&mut self, silent: &[SilentDispatcher]) {
        for other in silent {
            if !self.silent.insert(other.worker_id.clone()) {
                continue;
            }
            tracing::warn!(
                event = events::DISPATCHER_SILENT,
                worker_id = other.worker_id,
                silent_ms = other.silent_for.0
            );
            for (rail, lane) in &self.lanes {
                if !other.lanes.iter().any(|name| name == rail.as_str()) {
                    continue;
                }
                let lease = self.contracts.get(rail).map_or(Millis::ZERO, |contract| contract.lease_duration);
                let left = other.interval.plus(lease).minus(other.silent_for);
                let _ = lane.try_send(LaneCommand::Sweep);
                let _ = lane.try_send(LaneCommand::SweepAt(boot_now().plus(left)));
            }
        }
        self.silent.retain(|known| silent.iter().any(|other| other.worker_id == *known));
    }
}
