//! The event loop: it routes what one service says to those it concerns, and leads the daemon to its
//! end. It decides nothing about payments.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use outbox_core::{Millis, RailContract, RailName};
use outbox_store::{RailRow, SilentDispatcher};
use tokio::sync::{mpsc, watch};

use super::event::{Event, LaneCommand, Phase};
use super::policy_watch::{PolicyNow, RailPolicy};
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
            Event::Contracts(rows, policy, revoked) => self.take_contracts(rows, &policy, &revoked),
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

    fn take_contracts(&mut self, rows: Vec<RailRow>, policy: &PolicyNow, revoked: &BTreeMap<RailName, String>) {
        let row = |rail: &RailName| rows.iter().find(|row| row.rail == *rail);
        let policies: Vec<RailPolicy> = self.lanes.keys().map(|rail| policy.of_rail(rail, row(rail))).collect();
        self.contracts = rows.into_iter().filter_map(|row| row.contract.map(|contract| (row.rail, contract))).collect();
        for (rail, policy) in self.lanes.keys().zip(policies) {
            let (contract, revoked) = (self.contracts.get(rail).cloned(), revoked.get(rail).cloned());
            self.command(rail, LaneCommand::Contract(contract, policy, revoked));
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

#[cfg(test)]
mod tests {
    use outbox_core::OnUnknown;

    use super::*;
    use crate::health::HealthState;

    fn contract(rail: &str, lease_duration: Millis) -> RailContract {
        RailContract {
            rail: RailName::new(rail).unwrap(),
            on_unknown: OnUnknown::Hold,
            idempotency_window: None,
            rail_timeout: Millis(1),
            processing_bound: Millis(1),
            not_found_is_final: false,
            max_inquiries: 100,
            max_sends_per_s: None,
            max_sends: 1,
            max_crashes: 1,
            backoff_base: Millis(1),
            backoff_cap: Millis(1),
            lease_duration,
            fallback: false,
            paused: false,
        }
    }

    #[test]
    fn lanes_that_a_silent_dispatcher_shares_sweep_now_and_when_its_last_lease_is_over() {
        let (phase, _) = watch::channel(Phase::Running);
        let name = |rail: &str| RailName::new(rail).unwrap();
        let (shared, mut told) = mpsc::channel(9);
        let (unshared, mut not_told) = mpsc::channel(9);
        let lanes = BTreeMap::from([(name("shared"), shared), (name("own"), unshared)]);
        let ticker = HealthState::new().watch("event loop", Millis(1));
        let mut event_loop = EventLoop::new(mpsc::channel(1).1, phase, lanes, ticker);
        event_loop.contracts.insert(name("shared"), contract("shared", Millis(60_000)));
        let silent = || SilentDispatcher {
            worker_id: "gone/1".to_owned(),
            silent_for: Millis(3_000),
            interval: Millis(1_000),
            lanes: vec!["shared".to_owned(), "elsewhere".to_owned()],
        };
        let before = boot_now();
        event_loop.handle(Event::Silent(vec![silent()])).unwrap();
        let after = boot_now();
        assert!(matches!(told.try_recv(), Ok(LaneCommand::Sweep)));
        let Ok(LaneCommand::SweepAt(at)) = told.try_recv() else { panic!("no sweep when the leases are over") };
        // The last lease it can have got is one of the interval that began with its last heartbeat.
        assert!(before.plus(Millis(58_000)) <= at && at <= after.plus(Millis(58_000)), "{at:?}");
        // Once for each silence, not for each heartbeat of ours.
        event_loop.handle(Event::Silent(vec![silent()])).unwrap();
        assert!(told.try_recv().is_err() && not_told.try_recv().is_err());
        event_loop.handle(Event::Silent(vec![])).unwrap();
        event_loop.handle(Event::Silent(vec![silent()])).unwrap();
        assert!(told.try_recv().is_ok() && not_told.try_recv().is_err());
    }
}
