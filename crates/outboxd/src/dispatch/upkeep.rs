//! What is done now and then: the heartbeat, the contracts, the policy, the pauses, revoked certificates of ours, and parked
//! payments. All on one connection, in bounded passes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use outbox_core::{BootTime, HoldReason, Millis, RailName, WorkerId};
use outbox_store::{DispatcherState, Fingerprint, Heartbeat, LaneBeat, RailRow};

use super::connection::{Connection, ConnectionError};
use super::event::{Event, Handle, Phase};
use super::identities::{self, Identities};
use super::leases::Leases;
use super::policy_watch::{PolicyNow, PolicyWatch};
use crate::clock::boot_now;
use crate::events;
use crate::health::Ticker;
use crate::metrics::Metrics;

/// The ordering keys, the payments of participants that go on, and the missed windows that one pass settles.
const UNPARK_ROWS_MAX: u32 = 1_000;

/// For how long passes follow each other while there is more to unpark. Half of the time between two looks: longer
/// would hold up the pauses, which are to be seen within a second.
const UNPARK_TIME_MAX: Millis = Millis(250);

/// The loop looks this often at what is due.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The service.
pub(crate) struct Upkeep {
    pub(crate) connection: Connection,
    pub(crate) worker_id: WorkerId,
    pub(crate) environment: Option<String>,
    pub(crate) lanes: Vec<RailName>,
    pub(crate) identities: Identities,
    pub(crate) leases: Arc<Leases>,
    pub(crate) policy: PolicyWatch,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) heartbeat_interval: Millis,
    pub(crate) maintenance_interval: Millis,
    pub(crate) handle: Handle,
    pub(crate) ticker: Ticker,
}

impl Upkeep {
    /// Keeps up until the daemon's end is over; the last heartbeat says so.
    pub(crate) async fn run(mut self) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut passes = Passes::default();
        while self.handle.phase() < Phase::Over {
            let mut end = self.handle.clone();
            tokio::select! {
                _ = looks.tick() => {}
                () = end.reached(Phase::Over) => break,
            }
            self.ticker.tick();
            if let Err(error) = self.run_once(&mut passes).await {
                tracing::warn!(event = events::UPKEEP_FAILED, error = error.in_full());
                if let ConnectionError::Refused(refusal) = &error {
                    let event = refusal.ends_the_daemon().map_or(Event::DatabaseRefused, Event::Broken);
                    self.handle.tell(event).await;
                }
            }
        }
        if let Err(error) = self.beat(DispatcherState::Stopped).await {
            tracing::warn!(event = events::UPKEEP_FAILED, error = error.in_full());
        }
        self.connection.close().await;
    }

    /// One bounded pass over what is due.
    async fn run_once(&mut self, passes: &mut Passes) -> Result<(), ConnectionError> {
        let now = boot_now();
        let beats = passes.beat_at.is_none_or(|at| now >= at);
        if beats {
            passes.beat_at = Some(now.plus(self.heartbeat_interval));
            let state = if self.handle.phase() == Phase::Running {
                DispatcherState::Running
            } else {
                DispatcherState::Draining
            };
            self.connection.look().await?;
            self.beat(state).await?;
        }
        self.look_at_rules(passes, beats).await?;
        if passes.unpark_at.is_none_or(|at| now >= at) {
            passes.unpark_at = Some(now.plus(self.maintenance_interval));
            passes.owes = true;
        }
        if passes.owes {
            passes.owes = self.unpark().await?;
        }
        Ok(())
    }

    /// The contracts, the policy, the pauses, and whether a certificate of ours is revoked.
    async fn look_at_rules(&mut self, passes: &mut Passes, beats: bool) -> Result<(), ConnectionError> {
        let own = self.identities.fingerprints();
        let asked: Vec<Fingerprint> = own.values().copied().collect();
        let known = self.policy.known();
        let rules = outbox_store::read_rules(self.connection.session().await?, &asked, known).await?;
        let revoked = identities::reasons(&own, &rules.revoked);
        let policy = self.policy.judge(rules.policy);
        self.handle.pauses.set(rules.pauses, stopped(&rules.rails, &revoked));
        // A lane that was too busy to be told is told again with the next heartbeat.
        if beats || rules.rails != passes.rails || revoked != passes.revoked || policy != passes.policy {
            (passes.rails, passes.revoked, passes.policy) = (rules.rails, revoked, policy);
            let (rails, policy, revoked) = (passes.rails.clone(), passes.policy.clone(), passes.revoked.clone());
            self.handle.tell(Event::Contracts(rails, policy, revoked)).await;
        }
        Ok(())
    }

    async fn beat(&mut self, state: DispatcherState) -> Result<(), ConnectionError> {
        let lane = |rail: &RailName| LaneBeat { rail: rail.clone(), settled: self.metrics.rail(rail).settled() };
        let beat = Heartbeat {
            worker_id: self.worker_id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state,
            lanes: self.lanes.iter().map(lane).collect(),
            in_flight: u32::try_from(self.leases.count_all()).unwrap_or(u32::MAX),
            interval: self.heartbeat_interval,
            environment: self.environment.clone(),
            seen: self.handle.high_water.memory(),
        };
        let reply = outbox_store::dispatcher_heartbeat(self.connection.session().await?, &beat).await?;
        self.handle.high_water.beaten(beat.seen, &reply);
        if !reply.silent.is_empty() {
            self.handle.tell(Event::Silent(reply.silent)).await;
        }
        Ok(())
    }

    /// Brings back parked payments whose turn has come while another transaction had their key, and those of
    /// participants that go on; returns whether there are more. Each rail gets a pass at least.
    async fn unpark(&mut self) -> Result<bool, ConnectionError> {
        let until = boot_now().plus(UNPARK_TIME_MAX);
        let mut owes = false;
        for rail in &self.lanes {
            loop {
                let session = self.connection.session().await?;
                let report = outbox_store::unpark(session, rail, UNPARK_ROWS_MAX).await?;
                for outbox_id in report.held {
                    let reason = HoldReason::MissedWindow.name();
                    tracing::warn!(event = events::PAYMENT_HELD, %rail, %outbox_id, reason);
                }
                if report.keys > 0 {
                    self.handle.tell(Event::Hinted(rail.clone())).await;
                }
                if !report.is_full || boot_now() >= until {
                    owes |= report.is_full;
                    break;
                }
            }
        }
        Ok(owes)
    }
}

/// The rails that are not called: those whose contracts are paused, and those to which we would show a revoked
/// certificate. What is leased for them and not begun goes back.
fn stopped(rails: &[RailRow], revoked: &BTreeMap<RailName, String>) -> BTreeSet<RailName> {
    let paused = rails.iter().filter(|row| row.contract.as_ref().is_some_and(|contract| contract.paused));
    paused.map(|row| row.rail.clone()).chain(revoked.keys().cloned()).collect()
}

/// What was done when.
#[derive(Debug, Default)]
struct Passes {
    beat_at: Option<BootTime>,
    unpark_at: Option<BootTime>,
    /// Whether parked payments may be owed more than the last pass brought back.
    owes: bool,
    rails: Vec<RailRow>,
    revoked: BTreeMap<RailName, String>,
    policy: PolicyNow,
}

#[cfg(test)]
mod tests {
    use outbox_core::AttemptKind;

    use super::*;

    #[test]
    fn no_byte_leaves_for_a_rail_to_which_a_revoked_certificate_would_be_shown() {
        let rail = |name: &str| RailName::new(name).unwrap();
        let row = |name| RailRow {
            rail: rail(name),
            on_unknown: "hold".to_owned(),
            amount_required: true,
            require_attestation: false,
            contract: None,
            policy_version: None,
            columns: "{}".to_owned(),
        };
        let revoked = BTreeMap::from([(rail("a"), "lost".to_owned())]);
        let pauses = crate::dispatch::pauses::Pauses::default();
        pauses.set(Vec::new(), stopped(&[row("a"), row("b")], &revoked));
        let kinds = [AttemptKind::Submit, AttemptKind::Inquire];
        assert_eq!(kinds.map(|kind| pauses.stop(&rail("a"), "p", kind)), [true, true]);
        assert_eq!(kinds.map(|kind| pauses.stop(&rail("b"), "p", kind)), [false, false]);
    }
}
