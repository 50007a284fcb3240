//! The pipeline of one rail: it claims at most as many payments as there are free sender slots, on a
//! connection of its own, and starts their sends. So a sick rail holds up no other, and what is leased
//! is being sent. When to claim is decided in `pace`.

use std::sync::Arc;
use std::time::Duration;

use outbox_core::{BootTime, Lease, Millis, PolicyVersion, RailContract};
use outbox_store::{ClaimBatch, ClaimCursor, ClaimRequest, ClaimedPayment, Class, HeldLease};
use tokio::task::JoinSet;

use super::backoff::Backoff;
use super::clock_watch::ClockWatch;
use super::completer::Settled;
use super::connection::ConnectionError;
use super::event::{Event, LaneCommand, Phase};
use super::governed::{Times, govern};
use super::lane_parts::{LaneParts, LaneSettings};
use super::leases::OpenLease;
use super::lost_leases::LostLeases;
use super::off::Off;
use super::pace::{Claimed, Due, Pace, Scan};
use super::policy_watch::RailPolicy;
use super::routes::{Choice, RouteNo, Routes, UnderWay};
use super::sender::{self, End, Said, Send};
use crate::clock::boot_now;
use crate::events;
use crate::exit::{Exit, Failure};
use crate::metrics::ClaimResult;

/// How long a lane with few free slots waits for more of them before it claims: a claim for one
/// payment costs as much as one for fifty. Raised, a fast rail idles.
const GATHER: Millis = Millis(2);

/// How often a lane that claims nothing, because results cannot be recorded, looks whether they can.
const UNRECORDED_WAIT: Millis = Millis(50);

/// How often a lane whose rail is paused looks whether it still is.
const PAUSED_WAIT: Millis = Millis(50);

/// A lane looks at least this often at what it was told, and ticks.
const TICK: Millis = Millis(1_000);

/// From this many lost workers on, a payment is sent with nothing else in flight. The claim function
/// has the same number.
const SUSPECT_CRASHES: u32 = 2;

/// How long a server without a connection to spare is taken for a passing crowd, and a policy that was not read yet for one
/// that soon will be.
const CROWDED_MAX: Millis = Millis(10_000);

/// What a lane does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Payments for so many free slots of an endpoint.
    Claim(Scan, RouteNo, usize),
    Settle,
    Wait(Millis),
    End,
}

/// The service.
pub(crate) struct Lane {
    settings: LaneSettings,
    parts: LaneParts,
    contract: Option<Arc<RailContract>>,
    /// The policy by whose decisions the clients read answers.
    policy_version: Option<PolicyVersion>,
    off: Off,
    pace: Pace,
    lost_leases: LostLeases,
    routes: Routes,
    cursor: Option<ClaimCursor>,
    /// Each with where it went, and what it said of that endpoint; none for a lease that was only given back.
    sends: JoinSet<Option<(UnderWay, Option<Said>)>>,
    slot_free_since: Option<BootTime>,
    /// Payments that crashed workers wait for an empty lane, or one is under way.
    suspects: bool,
    /// As the last claim saw it.
    paused: bool,
    /// As the upkeep saw it.
    stopped: bool,
    clock: ClockWatch,
    backoff: Backoff,
    crowded_since: Option<BootTime>,
}

impl Lane {
    pub(crate) fn new(settings: LaneSettings, mut parts: LaneParts) -> Self {
        let clients = std::mem::take(&mut parts.clients);
        let routes = Routes::new(&settings.rail, settings.breaker, clients, &parts.health);
        let interval = settings.dispatcher.maintenance_interval;
        parts.health.lane_off(settings.rail.as_str(), "its contract has not been read yet");
        Self {
            contract: None,
            policy_version: None,
            off: Off::Unread,
            pace: Pace::new(settings.poll_min, settings.poll_max),
            lost_leases: LostLeases::new(settings.rail.clone(), interval, boot_now()),
            routes,
            cursor: None,
            sends: JoinSet::new(),
            slot_free_since: None,
            suspects: false,
            paused: false,
            stopped: false,
            clock: ClockWatch::new(settings.rail.clone(), Arc::clone(&parts.health)),
            backoff: Backoff::default(),
            crowded_since: None,
            settings,
            parts,
        }
    }

    /// Claims and sends until the daemon stops and the last send has ended.
    pub(crate) async fn run(mut self) {
        loop {
            self.parts.ticker.tick();
            while let Ok(command) = self.parts.commands.try_recv() {
                self.obey(command);
            }
            while let Some(ended) = self.sends.try_join_next() {
                self.sent(ended).await;
            }
            match self.step(boot_now()) {
                Step::Claim(scan, to, free) => self.claim(scan, to, free).await,
                Step::Settle => self.lost_leases.settle(&mut self.parts.connection, &mut self.pace).await,
                Step::Wait(wait) => self.wait(wait).await,
                Step::End => break,
            }
        }
        self.parts.wakeup_lock.let_go();
        self.parts.connection.close().await;
    }

    fn step(&mut self, now: BootTime) -> Step {
        if self.parts.handle.phase() >= Phase::Draining {
            return if self.sends.is_empty() { Step::End } else { Step::Wait(TICK) };
        }
        if self.parts.leases.are_unrecorded() {
            return Step::Wait(UNRECORDED_WAIT);
        }
        let (to, free) = match self.room(now) {
            Ok(room) => room,
            Err(_) if now >= self.lost_leases.due_at() => return Step::Settle,
            Err(wait) => return Step::Wait(wait.min(self.lost_leases.due_at().since(now))),
        };
        match self.pace.next(now) {
            Due::At(at) => Step::Wait(at.since(now).min(TICK)),
            Due::Now(scan) => {
                let few = !self.sends.is_empty() && free < self.settings.concurrency.div_ceil(4);
                let gathered = self.slot_free_since.map_or(GATHER, |since| now.since(since));
                if few && gathered < GATHER { Step::Wait(GATHER.minus(gathered)) } else { Step::Claim(scan, to, free) }
            }
        }
    }

    /// Where to and for how many payments the lane may claim; or how long it waits with none.
    fn room(&mut self, now: BootTime) -> Result<(RouteNo, usize), Millis> {
        if self.off != Off::No {
            return Err(TICK);
        }
        if self.is_stopped() {
            return Err(PAUSED_WAIT);
        }
        let (to, free) = match self.routes.choose(now) {
            Choice::Send { to, free } => (to, free),
            Choice::Full => return Err(TICK),
            Choice::NotBefore(until) => return Err(until.since(now).min(TICK)),
        };
        let free = free.min(self.settings.concurrency.saturating_sub(self.sends.len()));
        if free == 0 || (self.suspects && self.open_leases() > 0) { Err(TICK) } else { Ok((to, free)) }
    }

    /// Whether the rail is paused, as far as this daemon knows. What a claim leased now could only be given back.
    fn is_stopped(&mut self) -> bool {
        let before = std::mem::replace(&mut self.stopped, self.parts.handle.pauses.stop_rail(&self.settings.rail));
        match (before, self.stopped) {
            (true, false) => self.pace.sweep_now(),
            // What kept it from claiming is in the way of nothing now.
            (false, true) => {
                self.parts.health.ready(&self.claiming());
                self.clock.set_aside();
            }
            _ => {}
        }
        self.stopped
    }

    fn open_leases(&self) -> usize {
        self.parts.leases.count(&self.settings.rail)
    }

    async fn wait(&mut self, wait: Millis) {
        if self.may_sleep() {
            self.parts.wakeup_lock.ask(self.pace.next_poll());
        } else {
            self.parts.wakeup_lock.let_go();
        }
        let waits_for_empty_lane = self.suspects && self.sends.is_empty();
        tokio::select! {
            command = self.parts.commands.recv() => match command {
                Some(command) => self.obey(command),
                // The event loop is gone: it told the phase before, and the next step ends the lane.
                None => tokio::time::sleep(Duration::from(GATHER)).await,
            },
            Some(ended) = self.sends.join_next() => self.sent(ended).await,
            () = self.parts.leases.wait_for_an_end(), if waits_for_empty_lane => {}
            () = self.parts.handle.reached(Phase::Draining), if self.parts.handle.phase() < Phase::Draining => {}
            () = tokio::time::sleep(Duration::from(wait)) => {}
        }
    }

    fn may_sleep(&mut self) -> bool {
        let running =
            self.parts.handle.phase() == Phase::Running && self.off == Off::No && !self.paused && !self.stopped;
        let has_room = matches!(self.routes.choose(boot_now()), Choice::Send { .. });
        let idle = self.pace.is_idle() && has_room && self.sends.len() < self.settings.concurrency;
        running && idle && !self.parts.leases.are_unrecorded()
    }

    fn obey(&mut self, command: LaneCommand) {
        match command {
            LaneCommand::Sweep => self.pace.sweep_now(),
            LaneCommand::SweepAt(at) => {
                self.pace.sweep_at(at);
                self.lost_leases.look_at(at);
            }
            LaneCommand::WakeupLock(answer) => {
                // What was committed before the lock was taken sent no hint.
                if self.parts.wakeup_lock.answered(answer) {
                    self.pace.sweep_now();
                }
            }
            LaneCommand::ListenerRenewed => {
                self.parts.wakeup_lock.lost();
                self.pace.sweep_now();
            }
            LaneCommand::Reconnect => self.parts.connection.disconnect(),
            LaneCommand::Contract(contract, policy, revoked) => self.take_contract(contract, &policy, revoked),
        }
    }

    fn take_contract(&mut self, contract: Option<RailContract>, policy: &RailPolicy, revoked: Option<String>) {
        let off = match (self.take_policy(policy), revoked) {
            (Ok(()), None) => Off::judge(contract.as_ref(), &self.settings, self.routes.abilities()),
            (Err(why), _) | (Ok(()), Some(why)) => Off::Refused(why),
        };
        self.contract = contract.map(Arc::new);
        if off != self.off {
            self.turn(off);
        }
    }

    /// Goes by the decisions in force. What is under way ends by those that it began with.
    fn take_policy(&mut self, policy: &RailPolicy) -> Result<(), String> {
        let rail = &self.settings.rail;
        let governed = govern(rail, &self.settings.configured, policy)?;
        if let Some(version) = governed.version.filter(|_| governed.version != self.policy_version) {
            self.routes.replace((self.parts.maker)(&governed.rail, &governed.sans)?);
            self.settings.times = Times::of(&self.settings.dispatcher, &governed.rail);
            self.policy_version = Some(version);
            tracing::info!(event = events::POLICY_TAKEN, %rail, version = version.0);
        }
        Ok(())
    }

    fn turn(&mut self, off: Off) {
        let rail = &self.settings.rail;
        match off.reason() {
            None => {
                tracing::info!(event = events::LANE_ON, %rail);
                self.parts.health.lane_on(rail.as_str());
                self.pace.sweep_now();
            }
            Some(reason) => {
                tracing::error!(event = events::LANE_OFF, %rail, reason);
                self.parts.health.lane_off(rail.as_str(), reason);
                // What kept it from claiming is in the way of none that is on.
                self.parts.health.ready(&self.claiming());
                self.clock.set_aside();
            }
        }
        self.off = off;
    }

    /// One claim, and the sends of what it got.
    async fn claim(&mut self, scan: Scan, to: RouteNo, free: usize) {
        if self.clock.is_wrong() && !self.clock_is_right_again().await {
            return;
        }
        let request = ClaimRequest {
            rail: self.settings.rail.clone(),
            worker_id: self.settings.worker_id.clone(),
            limit: u32::try_from(free.min(self.settings.claim_batch_max)).unwrap_or(u32::MAX),
            min_lease: self.settings.times.min_lease,
            in_flight: u32::try_from(self.open_leases()).unwrap_or(u32::MAX),
            after: if scan == Scan::Onward { self.cursor } else { None },
            environment: self.settings.environment.clone(),
            endpoint: Some(self.routes.endpoint(to).to_owned()),
            seen: self.parts.handle.high_water.memory(),
            policy_version: self.policy_version,
        };
        // Before the claim is sent: the lease ends for us no later than for the database.
        let asked_at = boot_now();
        let claimed = match self.parts.connection.session().await {
            Ok(session) => outbox_store::claim(session, &request).await.map_err(ConnectionError::from),
            Err(error) => Err(error),
        };
        match claimed {
            Ok(batch) => self.take(batch, scan, (to, free), asked_at),
            Err(error) => {
                if error.is_of_an_older_database() {
                    let (connection, environment) = (&mut self.parts.connection, self.settings.environment.as_deref());
                    self.parts.handle.high_water.refused(connection, environment, request.seen).await;
                }
                self.claim_failed(&error).await;
            }
        }
    }

    fn take(&mut self, batch: ClaimBatch, scan: Scan, (to, free): (RouteNo, usize), asked_at: BootTime) {
        let ended = boot_now();
        self.backoff.reset();
        self.crowded_since = None;
        let result = if batch.leased.is_empty() { ClaimResult::Empty } else { ClaimResult::Payments };
        self.parts.metrics.claimed(result, batch.leased.len());
        self.parts.health.ready(&self.claiming());
        let summary = batch.summary;
        self.parts.handle.high_water.raise(summary.mark);
        let parked = usize::try_from(batch.summary.parked).unwrap_or(usize::MAX);
        let found = batch.leased.len() + batch.held.len() + parked;
        let next_due_in =
            summary.next_due_at.map(|at| Millis::from(Duration::try_from(at - summary.db_now).unwrap_or_default()));
        self.pace.claimed(&Claimed { scan, began: asked_at, ended, found, expired: summary.expired, next_due_in });
        self.cursor = summary.cursor.or(self.cursor);
        self.paused = summary.paused;
        self.suspects = summary.suspects > 0;
        if summary.paused {
            self.pace.suspended(ended, self.settings.poll_max);
        }
        let rail = self.settings.rail.clone();
        if summary.expired > 0 {
            tracing::warn!(event = events::LEASE_EXPIRED_TAKEN_OVER, %rail, count = summary.expired);
        }
        for held in &batch.held {
            let (outbox_id, attempt_no, reason) = (held.outbox_id, held.attempt_no, held.reason.name());
            tracing::warn!(event = events::PAYMENT_HELD, %rail, %outbox_id, attempt_no = attempt_no.0, reason);
        }
        if found > 0 {
            self.parts.wakeup_lock.let_go();
            tracing::debug!(event = events::CLAIM_LEASED, %rail, count = batch.leased.len(), latency_ms = ended.since(asked_at).0);
        }
        self.clock.read(summary.db_now, asked_at);
        let full = batch.leased.len() >= free;
        for payment in batch.leased {
            let lease = self.open(&payment, asked_at, summary.mark.epoch_us);
            if self.clock.is_wrong() {
                self.give_back(lease);
            } else {
                self.begin(payment, lease, to, asked_at);
            }
        }
        if self.clock.is_wrong() {
            self.pace.suspended(ended, self.settings.poll_max);
        }
        self.slot_free_since = if full { None } else { self.slot_free_since };
    }

    fn open(&self, payment: &ClaimedPayment, asked_at: BootTime, epoch_us: i64) -> Arc<OpenLease> {
        let held = HeldLease {
            outbox_id: payment.outbox_id,
            attempt_no: payment.attempt_no,
            lease_token: payment.lease_token,
        };
        let lease = Lease { asked_at, duration: payment.lease_duration };
        self.parts.leases.open(held, &self.settings.rail, self.settings.times.need, lease, epoch_us)
    }

    fn begin(&mut self, payment: ClaimedPayment, lease: Arc<OpenLease>, to: RouteNo, claimed_at: BootTime) {
        self.suspects |= payment.crash_count >= SUSPECT_CRASHES;
        let Some(contract) = self.contract.clone() else {
            unreachable!("a lane without a contract is off, and claims nothing");
        };
        let results = self.parts.results.clone();
        let (rail, under_way) = match self.routes.begin(boot_now(), to, payment.endpoint.as_deref(), contract.fallback)
        {
            Ok(begun) => begun,
            Err(withheld) => {
                let (rail, outbox_id, class) = (&self.settings.rail, payment.outbox_id, withheld.class());
                let attempt_no = payment.attempt_no.0;
                tracing::warn!(event = events::SEND_WITHHELD, %rail, %outbox_id, attempt_no, endpoint = payment.endpoint, class);
                let End { settlement, .. } = End::withheld(lease.held, &contract, payment.endpoint, class);
                self.sends.spawn(async move {
                    let _ = results.send(Settled { settlement, since: boot_now(), lease }).await;
                    None
                });
                return;
            }
        };
        let (metrics, handle) = (Arc::clone(&self.parts.metrics), self.parts.handle.clone());
        let send = Send { payment, lease: Arc::clone(&lease), claimed_at, rail, contract, metrics, handle };
        self.sends.spawn(async move {
            // A lease that is too old already needs no connection to the rail.
            let End { settlement, said } =
                if lease.may_begin(boot_now()) { sender::send(send).await } else { End::released(lease.held) };
            // A full queue holds the slot: nothing more is claimed until the database takes results again.
            // The completer outlives the lanes.
            let _ = results.send(Settled { settlement, since: boot_now(), lease }).await;
            Some((under_way, said))
        });
    }

    /// Gives a lease back unsent. In a task of its own: a full queue must not stop the lane's loop.
    fn give_back(&mut self, lease: Arc<OpenLease>) {
        let results = self.parts.results.clone();
        self.sends.spawn(async move {
            let End { settlement, .. } = End::released(lease.held);
            let _ = results.send(Settled { settlement, since: boot_now(), lease }).await;
            None
        });
    }

    async fn sent(&mut self, ended: Result<Option<(UnderWay, Option<Said>)>, tokio::task::JoinError>) {
        let now = boot_now();
        self.slot_free_since.get_or_insert(now);
        if self.suspects && self.sends.is_empty() {
            self.pace.sweep_now();
        }
        match ended {
            Ok(Some((under_way, said))) => {
                // What is enqueued meanwhile sends no hint, so the end of an opening is a sweep.
                if self.routes.ended(now, under_way, said) {
                    self.parts.metrics.breaker_opened();
                    self.pace.sweep_now();
                }
            }
            Ok(None) => {}
            Err(error) => {
                let rail = &self.settings.rail;
                let failure = Failure::new(Exit::InvariantBroken, format!("rail {rail}: a send broke off: {error}"));
                self.parts.handle.tell(Event::Broken(failure)).await;
            }
        }
    }

    fn claiming(&self) -> String {
        format!("claims of rail {}", self.settings.rail)
    }

    /// While the clock is wrong it is read by itself: a claim would lease payments only to give them back.
    async fn clock_is_right_again(&mut self) -> bool {
        let asked_at = boot_now();
        match self.parts.connection.read_clock().await {
            Ok(db_now) => self.clock.read(db_now, asked_at),
            Err(error) => {
                self.claim_failed(&error).await;
                return false;
            }
        }
        if self.clock.is_wrong() {
            self.pace.suspended(boot_now(), self.settings.poll_max);
        }
        !self.clock.is_wrong()
    }

    async fn claim_failed(&mut self, error: &ConnectionError) {
        let now = boot_now();
        self.parts.metrics.claimed(ClaimResult::Failed, 0);
        let wait = self.backoff.wait();
        self.pace.suspended(now, wait);
        self.parts.wakeup_lock.let_go();
        let rail = &self.settings.rail;
        let mut crowded = false;
        match error {
            ConnectionError::Store(store) => {
                if store.class() == Class::Corrupt {
                    let failure = Failure::new(Exit::InvariantBroken, format!("rail {rail}: claiming: {store}"));
                    self.parts.handle.tell(Event::Broken(failure)).await;
                } else if matches!(store.refusal(), Some("OB004" | "OB007")) {
                    self.turn(Off::Refused(store.to_string()));
                    return;
                }
                // OB016: a policy was activated, and the upkeep is about to read it.
                crowded = store.is_out_of_connections() || store.refusal() == Some("OB016");
            }
            ConnectionError::Refused(refusal) => {
                if let Some(failure) = refusal.ends_the_daemon() {
                    self.parts.handle.tell(Event::Broken(failure)).await;
                }
            }
        }
        let since = *self.crowded_since.get_or_insert(now);
        let error = error.in_full();
        tracing::warn!(event = events::CLAIM_FAILED, %rail, error, retry_ms = wait.0);
        if !crowded || now.since(since) >= CROWDED_MAX {
            self.parts.health.not_ready(self.claiming(), error);
        }
    }
}
