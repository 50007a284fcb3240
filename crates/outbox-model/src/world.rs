//! Workers, the wire, the rail and the failures between them; and what must hold whatever they do.

use outbox_core::{AttemptKind, AttemptState, OnUnknown, Outcome, RailContract};
use stateright::{Model, Property};

use crate::db::{Db, Lease, MAX_CRASHES, Place, Token, contract};

/// Which protections are in place. A test takes each out, and sees what is lost then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "protections that are taken out one by one")]
pub struct Rules {
    /// A result counts only under the lease it was made under.
    pub fence: bool,
    /// What a worker learned under a lost lease is kept.
    pub late_evidence: bool,
    /// "Not found" counts only once nothing sent earlier can be on its way.
    pub quarantine: bool,
    /// After a failover nothing is claimed before two people have said what may be missing.
    pub epoch: bool,
    /// A rail that executes each request is not sent to again blindly.
    pub contract: bool,
    /// No first byte leaves under a lease that has run out.
    pub gate: bool,
    /// A lease whose worker is gone is taken over.
    pub takeover: bool,
    /// A payment under which workers keep crashing is held.
    pub crash_limit: bool,
}

impl Rules {
    /// All of them.
    pub const ALL: Self = Self {
        fence: true,
        late_evidence: true,
        quarantine: true,
        epoch: true,
        contract: true,
        gate: true,
        takeover: true,
        crash_limit: true,
    };
}

/// What is explored: how many of each, and how much goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// The rail's contract. A `resend` rail executes a key once, the others each request.
    pub on_unknown: OnUnknown,
    /// Dispatchers.
    pub workers: usize,
    /// Payments.
    pub payments: usize,
    /// Leases that a payment is granted at most; beyond that nothing is looked at.
    pub attempts_max: u8,
    /// How many workers crash; `None`: as often as they can.
    pub crashes: Option<u8>,
    /// How often something goes wrong that nobody has in hand: a lost answer or request, a timeout, a lease that runs out
    /// under a worker, a rail that does not execute. `None`: without end, and then nothing has to come to one.
    pub troubles: Option<u8>,
    /// How many failovers there are.
    pub failovers: u8,
    /// How many of the last commits a failover may lose.
    pub commits_lost_max: usize,
    /// Which protections are in place.
    pub rules: Rules,
}

/// How far a worker is with a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// It has the lease; no byte has left.
    Claimed,
    /// A request is on the wire, and no answer has come.
    Waiting,
    /// It knows what came of it.
    Learned(Outcome),
    /// It has told the database, and heard no answer.
    Told(Outcome),
}

/// A payment in a worker's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Task {
    /// Under which lease.
    pub token: Token,
    /// To send, or to ask.
    pub kind: AttemptKind,
    /// How far it is.
    pub stage: Stage,
    /// Whether the lease has run out, by the worker's own clock.
    pub is_expired: bool,
}

/// What is on the wire to the rail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Request {
    /// Which payment.
    pub payment: usize,
    /// Whether it asks, instead of sending.
    pub asks: bool,
    /// Under which lease it left; whoever has that, and waits, hears the answer.
    pub token: Token,
}

/// What the rail did under one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rail {
    /// How often money left.
    pub effects: u8,
    /// The first result, if the rail keeps it: accepted, or refused.
    pub verdict: Option<bool>,
}

/// Everything, at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// The database as it is.
    pub db: Db,
    /// What it was before each of the last commits, latest last.
    pub before: Vec<Db>,
    /// Whether claims are refused since a failover.
    pub refuses: bool,
    /// Failovers so far. No lease granted after one has the name of one that was lost.
    pub generation: u8,
    /// By worker and payment.
    pub tasks: Vec<Vec<Option<Task>>>,
    /// In order, so that equal worlds are equal.
    pub wire: Vec<Request>,
    /// By payment.
    pub rail: Vec<Rail>,
    /// Crashes that may still come.
    pub crashes_left: u8,
    /// Troubles that may still come.
    pub troubles_left: u8,
    /// Steps so far, where everything has to come to an end.
    pub steps: u8,
    /// Failovers that may still come.
    pub failovers_left: u8,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A worker claims a payment: it settles a lost lease, holds it, or gets a lease.
    Claim(usize, usize),
    /// A worker's first byte leaves.
    Begin(usize, usize),
    /// A worker gives a lease back, certainly unsent.
    GiveUp(usize, usize),
    /// A worker waits no longer. The request may still be on the wire.
    TimeOut(usize, usize),
    /// The rail gets the request at this place on the wire and, if it decides anew, does this.
    Deliver(usize, Reply),
    /// The request at this place on the wire is lost.
    Lose(usize),
    /// A worker tells the database what it knows, and hears the answer.
    Complete(usize, usize),
    /// A worker tells the database what it knows; the answer is lost.
    Tell(usize, usize),
    /// The time of a worker's lease runs out.
    Expire(usize, usize),
    /// Nothing that was sent earlier can be on its way any more.
    EndQuarantine(usize),
    /// A worker forgets everything.
    Crash(usize),
    /// A standby that lacks so many commits takes over.
    FailOver(usize),
    /// Two people say what may be missing.
    Acknowledge,
}

/// What a rail does with a request that it has not decided yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It executes it.
    Accept,
    /// It refuses it for good.
    Refuse,
    /// It does not execute it this time.
    NotNow,
}

/// Where troubles are counted, an order of more steps is taken for one without end.
const STEPS_MAX: u8 = 60;

impl Scenario {
    /// What the database goes by.
    fn contract(&self) -> RailContract {
        let on_unknown = if self.rules.contract { self.on_unknown } else { OnUnknown::Resend };
        let max_crashes = if self.rules.crash_limit { MAX_CRASHES } else { u32::MAX };
        contract(on_unknown, max_crashes)
    }

    /// Remembers what the database was, and changes it.
    fn commit<T>(&self, world: &mut World, change: impl FnOnce(&mut Db) -> T) -> T {
        if world.failovers_left > 0 {
            world.before.push(world.db.clone());
            if world.before.len() > self.commits_lost_max {
                world.before.remove(0);
            }
        }
        let done = change(&mut world.db);
        if !self.rules.quarantine {
            world.db.rows.iter_mut().for_each(|row| row.quarantined = false);
        }
        done
    }

    fn claim(&self, world: &mut World, worker: usize, payment: usize) {
        let contract = self.contract();
        let attempt = world.db.rows[payment].attempts + 1;
        let token = Token(world.generation * 16 + attempt);
        let granted = self.commit(world, |db| db.claim(payment, &contract, token));
        if let Some(Lease { token, kind, .. }) = granted {
            world.tasks[worker][payment] = Some(Task { token, kind, stage: Stage::Claimed, is_expired: false });
        }
    }

    fn complete(&self, world: &mut World, task: Task, payment: usize) {
        if let Stage::Learned(outcome) | Stage::Told(outcome) = task.stage {
            let contract = self.contract();
            let rules = (self.rules.fence, self.rules.late_evidence);
            self.commit(world, |db| db.complete(payment, &contract, task.token, outcome, rules));
        }
    }

    fn deliver(&self, world: &mut World, place: usize, reply: Reply) {
        let request = world.wire.remove(place);
        let outcome = if request.asks {
            if world.rail[request.payment].effects > 0 { Outcome::Accepted } else { Outcome::NotFound }
        } else {
            self.execute(&mut world.rail[request.payment], reply)
        };
        for tasks in &mut world.tasks {
            if let Some(task) = &mut tasks[request.payment]
                && task.token == request.token
                && task.stage == Stage::Waiting
            {
                task.stage = Stage::Learned(outcome);
            }
        }
    }

    fn execute(&self, rail: &mut Rail, reply: Reply) -> Outcome {
        let keeps_results = self.on_unknown == OnUnknown::Resend;
        let accepts = match (rail.verdict, reply) {
            (Some(verdict), _) if keeps_results => return if verdict { Outcome::Accepted } else { Outcome::Refused },
            (_, Reply::NotNow) => return Outcome::NotExecuted,
            (_, reply) => reply == Reply::Accept,
        };
        rail.effects += u8::from(accepts);
        if keeps_results {
            rail.verdict = Some(accepts);
        }
        if accepts { Outcome::Accepted } else { Outcome::Refused }
    }

    fn fail_over(&self, world: &mut World, lost: usize) {
        world.db = world.before[world.before.len() - lost].clone();
        world.before.clear();
        world.failovers_left -= 1;
        world.generation += 1;
        world.refuses = self.rules.epoch;
    }

    /// Whether nothing that was sent for the payment, or may still be, can be executed later.
    pub(crate) fn is_quiet(world: &World, payment: usize) -> bool {
        let current = world.db.rows[payment].lease.map(|lease| lease.token);
        let may_send = |task: &Task| {
            task.kind == AttemptKind::Submit
                && task.stage == Stage::Claimed
                && !task.is_expired
                && Some(task.token) != current
        };
        !world.wire.iter().any(|request| request.payment == payment && !request.asks)
            && !world.tasks.iter().filter_map(|tasks| tasks[payment].as_ref()).any(may_send)
    }

    fn steps_of_workers(&self, world: &World, actions: &mut Vec<Action>) {
        for (worker, tasks) in world.tasks.iter().enumerate() {
            for (payment, slot) in tasks.iter().enumerate() {
                let Some(task) = slot else {
                    let may_take_over = self.rules.takeover || world.db.rows[payment].lease.is_none();
                    if !world.refuses && may_take_over && world.db.is_claimable(payment) {
                        actions.push(Action::Claim(worker, payment));
                    }
                    continue;
                };
                match task.stage {
                    Stage::Claimed => {
                        if !task.is_expired || !self.rules.gate {
                            actions.push(Action::Begin(worker, payment));
                        }
                        actions.push(Action::GiveUp(worker, payment));
                    }
                    Stage::Waiting => actions.push(Action::TimeOut(worker, payment)),
                    Stage::Learned(_) => {
                        actions.push(Action::Complete(worker, payment));
                        actions.push(Action::Tell(worker, payment));
                    }
                    Stage::Told(_) => actions.push(Action::Complete(worker, payment)),
                }
                if !task.is_expired {
                    actions.push(Action::Expire(worker, payment));
                }
            }
            if world.crashes_left > 0 && tasks.iter().any(Option::is_some) {
                actions.push(Action::Crash(worker));
            }
        }
    }

    /// Whether a step that the workers and the rail owe is still to come. What is not: a crash, a failover.
    fn goes_on(&self, world: &World) -> bool {
        world.refuses
            || !world.wire.is_empty()
            || world.tasks.iter().flatten().any(Option::is_some)
            || world.db.rows.iter().any(|row| !row.is_settled())
    }
}

impl Model for Scenario {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            db: Db::new(self.payments),
            before: Vec::new(),
            refuses: false,
            generation: 0,
            tasks: vec![vec![None; self.payments]; self.workers],
            wire: Vec::new(),
            rail: vec![Rail::default(); self.payments],
            crashes_left: self.crashes.unwrap_or(u8::MAX),
            troubles_left: self.troubles.unwrap_or(u8::MAX),
            steps: 0,
            failovers_left: self.failovers,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.steps_of_workers(world, actions);
        for (place, request) in world.wire.iter().enumerate() {
            actions.push(Action::Lose(place));
            actions.push(Action::Deliver(place, Reply::Accept));
            let keeps_results = self.on_unknown == OnUnknown::Resend;
            let is_decided = keeps_results && world.rail[request.payment].verdict.is_some();
            if !request.asks && !is_decided {
                actions.push(Action::Deliver(place, Reply::Refuse));
                actions.push(Action::Deliver(place, Reply::NotNow));
            }
        }
        for (payment, row) in world.db.rows.iter().enumerate() {
            // A lease whose worker has crashed, or never heard of it, runs out as well.
            let is_known = world
                .tasks
                .iter()
                .filter_map(|tasks| tasks[payment])
                .any(|task| row.lease.is_some_and(|lease| lease.token == task.token));
            if row.lease.is_some_and(|lease| lease.is_live) && !is_known {
                actions.push(Action::Expire(self.workers, payment));
            }
            if row.quarantined && Self::is_quiet(world, payment) {
                actions.push(Action::EndQuarantine(payment));
            }
        }
        if world.failovers_left > 0 {
            actions.extend((1..=world.before.len()).map(Action::FailOver));
        }
        if world.refuses {
            actions.push(Action::Acknowledge);
        }
        if self.troubles.is_some() {
            self.only_what_helps(world, actions);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        if self.troubles.is_some() {
            world.troubles_left -= u8::from(self.is_trouble(last, action));
            world.steps += 1;
        }
        match action {
            Action::Claim(worker, payment) => self.claim(&mut world, worker, payment),
            Action::Begin(worker, payment) => {
                let task = world.tasks[worker][payment].as_mut()?;
                task.stage = Stage::Waiting;
                world.wire.push(Request { payment, asks: task.kind == AttemptKind::Inquire, token: task.token });
                world.wire.sort_unstable();
            }
            Action::GiveUp(worker, payment) => {
                world.tasks[worker][payment].as_mut()?.stage = Stage::Learned(Outcome::NotSent);
            }
            Action::TimeOut(worker, payment) => {
                world.tasks[worker][payment].as_mut()?.stage = Stage::Learned(Outcome::Unknown);
            }
            Action::Deliver(place, reply) => self.deliver(&mut world, place, reply),
            Action::Lose(place) => drop(world.wire.remove(place)),
            Action::Complete(worker, payment) => {
                let task = world.tasks[worker][payment].take()?;
                self.complete(&mut world, task, payment);
            }
            Action::Tell(worker, payment) => {
                let task = world.tasks[worker][payment]?;
                self.complete(&mut world, task, payment);
                if let (Stage::Learned(outcome), Some(task)) = (task.stage, &mut world.tasks[worker][payment]) {
                    task.stage = Stage::Told(outcome);
                }
            }
            Action::Expire(worker, payment) => {
                let task = world.tasks.get_mut(worker).and_then(|tasks| tasks[payment].as_mut());
                let token = task.map(|task| {
                    task.is_expired = true;
                    task.token
                });
                if let Some(lease) = &mut world.db.rows[payment].lease
                    && token.is_none_or(|token| token == lease.token)
                {
                    lease.is_live = false;
                }
            }
            Action::EndQuarantine(payment) => world.db.rows[payment].quarantined = false,
            Action::Crash(worker) => {
                world.tasks[worker].iter_mut().for_each(|task| *task = None);
                world.crashes_left -= u8::from(self.crashes.is_some());
            }
            Action::FailOver(lost) => self.fail_over(&mut world, lost),
            Action::Acknowledge => {
                let contract = self.contract();
                world.refuses = false;
                world.db.acknowledge(&contract);
            }
        }
        Some(world)
    }

    fn within_boundary(&self, world: &World) -> bool {
        world.db.rows.iter().all(|row| row.attempts <= self.attempts_max) && world.steps <= STEPS_MAX
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let ends = self.troubles.is_some().then(|| {
            Property::eventually("every payment is over or held", |model: &Self, world: &World| {
                let mut actions = Vec::new();
                model.actions(world, &mut actions);
                actions.is_empty() && !model.goes_on(world)
            })
        });
        let mut properties = vec![
            Property::always("money leaves at most once", |_, world: &World| {
                world.rail.iter().all(|rail| rail.effects <= 1)
            }),
            Property::always("a payment ends at most once", |_, world: &World| {
                world.db.rows.iter().all(|row| row.ends <= 1)
            }),
            Property::always("what has failed was never executed", |_, world: &World| {
                let mut both = world.db.rows.iter().zip(&world.rail);
                both.all(|(row, rail)| row.place != Place::Ended(AttemptState::Failed) || rail.effects == 0)
            }),
            Property::always("what is dispatched was executed", |_, world: &World| {
                let mut both = world.db.rows.iter().zip(&world.rail);
                both.all(|(row, rail)| row.place != Place::Ended(AttemptState::Dispatched) || rail.effects > 0)
            }),
            Property::always("a success that was told is on record", |_, world: &World| {
                world.db.rows.iter().all(|row| row.has_success || !row.was_told_success)
            }),
            Property::always("one worker at a time may begin", |_, world: &World| {
                (0..world.rail.len()).all(|payment| may_begin(world, payment) <= 1)
            }),
            Property::sometimes("a payment is dispatched", |_, world: &World| {
                world.db.rows.iter().any(|row| row.place == Place::Ended(AttemptState::Dispatched))
            }),
            Property::sometimes("a payment is held", |_, world: &World| {
                world.db.rows.iter().any(|row| matches!(row.place, Place::Held(_)))
            }),
        ];
        properties.extend(ends);
        properties
    }
}

/// How many workers have a lease of the payment that holds by their own clocks, of those granted since the last failover.
fn may_begin(world: &World, payment: usize) -> usize {
    let is_of_now = |task: &&Task| task.token.0 / 16 == world.generation && task.stage == Stage::Claimed;
    let tasks = world.tasks.iter().filter_map(|tasks| tasks[payment].as_ref());
    tasks.filter(is_of_now).filter(|task| !task.is_expired).count()
}
