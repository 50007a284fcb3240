//! Starting and ending the daemon: the preflight, the services, the drain. The configuration is read
//! and checked before, and rails are made by the caller, so that a test can bring its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use outbox_core::{Millis, RailName, WorkerId};
use outbox_rail::Rail;
use outbox_store::{ConnectSettings, WakeupListener};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use uuid::Uuid;

use super::backoff::Backoff;
use super::completer::{Completer, Limits, Settled};
use super::connection::{Connection, ConnectionError};
use super::event::{Handle, LaneCommand, Phase, Sleep};
use super::event_loop::EventLoop;
use super::governed::{Maker, Times};
use super::high_water::{self, State};
use super::identities::Identities;
use super::lane::Lane;
use super::lane_parts::{LaneParts, LaneSettings};
use super::leases::Leases;
use super::listener::Listener;
use super::policy_watch::PolicyWatch;
use super::preflight::Demands;
use super::renewer::Renewer;
use super::sampler::Sampler;
use super::state_file::{StateFile, StateKeeper};
use super::upkeep::Upkeep;
use super::wakeup_lock::WakeupLock;
use crate::config::Config;
use crate::events;
use crate::exit::{Exit, Failure};
use crate::health::HealthState;
use crate::metrics::Metrics;
use crate::{settings, systemd};

/// Events, commands and wishes under way at once. Each is small, and whoever finds a channel full
/// either waits or says it again.
const CHANNEL: usize = 256;

/// What the daemon is made of.
pub struct Deps {
    /// The checked configuration.
    pub config: Config,
    /// The rails of the configuration, each with its endpoints in order.
    pub rails: BTreeMap<RailName, Vec<Arc<dyn Rail>>>,
    /// Makes them anew when a policy decides how their answers are read.
    pub maker: Maker,
    /// Where loops and reasons are reported.
    pub health: Arc<HealthState>,
    /// Where the services count.
    pub metrics: Arc<Metrics>,
}

/// Runs the daemon until `shutdown`, which names who asked for it.
///
/// # Errors
/// A [`Failure`] whose exit code says whether a person must act; see docs/OPERATIONS.md.
pub async fn run(deps: Deps, shutdown: impl Future<Output = &'static str>) -> Result<(), Failure> {
    let worker_id = WorkerId::new(&deps.config.dispatcher.name, Uuid::new_v4())
        .map_err(|bad| Failure::new(Exit::BadConfiguration, format!("dispatcher.name: {bad}")))?;
    let database = Arc::new(settings::connection(&deps.config.database, deps.config.credentials));
    let demands = Demands::of(&deps.config);
    let dispatcher = &deps.config.dispatcher;
    let state = high_water::begin(dispatcher.state_directory.as_deref(), &dispatcher.name)?;
    tokio::pin!(shutdown);
    deps.health.not_ready("database", "not connected yet");
    tokio::select! {
        ready = preflight(&database, demands, &deps) => ready?,
        asked_by = &mut shutdown => {
            systemd::stopping();
            tracing::info!(event = events::DAEMON_STOPPED, asked_by);
            return Ok(());
        }
    }
    deps.health.ready("database");
    let services = Services { database, demands, worker_id, deps };
    services.run(shutdown, state).await
}

/// Waits for a database to work on.
async fn preflight(database: &Arc<ConnectSettings>, demands: Demands, deps: &Deps) -> Result<(), Failure> {
    let rails: Vec<RailName> = deps.rails.keys().cloned().collect();
    let mut backoff = Backoff::default();
    loop {
        let error = match try_preflight(database, demands, &rails).await {
            Ok(()) => return Ok(()),
            Err(Trouble::Fatal(failure)) => return Err(failure),
            Err(Trouble::Passing(reason)) => reason,
        };
        let wait = backoff.wait();
        tracing::warn!(event = events::DATABASE_WAITING, error, retry_ms = wait.0);
        systemd::status(&format!("waiting for the database: {error}"));
        deps.health.not_ready("database", error);
        tokio::time::sleep(Duration::from(wait)).await;
    }
}

/// Why a database is not one to work on.
pub(super) enum Trouble {
    /// It may pass.
    Passing(String),
    /// A person must act.
    Fatal(Failure),
}

impl From<ConnectionError> for Trouble {
    fn from(error: ConnectionError) -> Self {
        use outbox_store::StoreError as E;
        let exit = match &error {
            ConnectionError::Refused(refusal) => refusal.exit,
            ConnectionError::Store(store) if store.is_of_a_pooler() => {
                return Self::Fatal(Failure::new(Exit::BadConfiguration, POOLER));
            }
            // The database is not there yet, or not there again: nothing is wrong with the login.
            ConnectionError::Store(store) if store.sqlstate().as_deref() == Some("3D000") => None,
            ConnectionError::Store(E::LoginRefused { .. }) => Some(Exit::WrongLogin),
            ConnectionError::Store(E::Credential(_)) => Some(Exit::BadConfiguration),
            ConnectionError::Store(store @ E::NotPermitted { .. }) => {
                // 42501: it is there, and not ours; otherwise there is no such schema or function.
                let denied = store.sqlstate().is_some_and(|code| code == "42501");
                Some(if denied { Exit::WrongLogin } else { Exit::WrongSchema })
            }
            ConnectionError::Store(E::Invariant { .. }) => Some(Exit::WrongSchema),
            ConnectionError::Store(_) => None,
        };
        let text = chain(&error);
        match exit {
            None => Self::Passing(text),
            Some(exit) => Self::Fatal(Failure::new(exit, text)),
        }
    }
}

const POOLER: &str = "there is a pooler between the daemon and the database that gives it no session of its own: session \
                      locks, limits and LISTEN do not work through it; connect to the server itself";

/// An error with its causes, each said once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

/// Two sessions and a listener at once: behind a transaction pooler they share a server process.
pub(super) async fn try_preflight(
    database: &Arc<ConnectSettings>,
    demands: Demands,
    rails: &[RailName],
) -> Result<(), Trouble> {
    let mut first = Connection::new(Arc::clone(database), demands);
    let mut second = Connection::new(Arc::clone(database), demands);
    let mut pids = Vec::new();
    for connection in [&mut first, &mut second] {
        let session = connection.session().await?;
        pids.push(outbox_store::preflight(session).await.map_err(ConnectionError::from)?.backend_pid);
    }
    let mut listener = WakeupListener::connect(database, rails).await.map_err(ConnectionError::from)?;
    pids.push(listener.probe().await.map_err(ConnectionError::from)?.backend_pid);
    let again = outbox_store::preflight(first.session().await?).await.map_err(ConnectionError::from)?.backend_pid;
    let shared = pids[0] == pids[1] || pids[1] == pids[2] || pids[0] == pids[2] || again != pids[0];
    first.close().await;
    second.close().await;
    if shared { Err(Trouble::Fatal(Failure::new(Exit::BadConfiguration, POOLER))) } else { Ok(()) }
}

/// The running daemon.
struct Services {
    database: Arc<ConnectSettings>,
    demands: Demands,
    worker_id: WorkerId,
    deps: Deps,
}

impl Services {
    async fn run(self, shutdown: impl Future<Output = &'static str>, state: State) -> Result<(), Failure> {
        let dispatcher = &self.deps.config.dispatcher;
        let drain_timeout = dispatcher.drain_timeout;
        let leases = Arc::new(Leases::default());
        let (events, received) = mpsc::channel(CHANNEL);
        let (phase, phase_now) = watch::channel(Phase::Running);
        let (high_water, file) = state;
        let handle = Handle { events, phase: phase_now, pauses: Arc::default(), high_water };
        let (results, queue) = mpsc::channel(usize::try_from(dispatcher.completion_queue_max).unwrap_or(CHANNEL));
        let (sleep, wishes) = mpsc::channel(CHANNEL);

        let mut lanes = JoinSet::new();
        let mut commands = BTreeMap::new();
        for (rail, clients) in &self.deps.rails {
            let (to_lane, lane_commands) = mpsc::channel(CHANNEL);
            commands.insert(rail.clone(), to_lane);
            let lane = self.lane(rail, clients, lane_commands, &sleep, &results, &leases, &handle);
            lanes.spawn(lane.run());
        }
        self.deps.health.ready("daemon");
        // The lanes hold the only other ends: when they are gone, so is the queue's.
        drop((results, sleep));
        let completer =
            tokio::spawn(self.completer(queue, &leases, &handle).run(give_up(handle.clone(), drain_timeout)));
        let listener = tokio::spawn(self.listener(wishes, &handle).run());
        let renewer = tokio::spawn(self.renewer(&leases).run());
        let upkeep = self.kept(file, &handle, tokio::spawn(self.upkeep(&leases, &handle).run()));
        let sampler = self.sampler(&handle).map(|sampler| tokio::spawn(sampler.run()));

        systemd::ready();
        let (worker_id, rails) = (&self.worker_id, self.deps.rails.len());
        tracing::info!(event = events::DAEMON_READY, %worker_id, rails);
        systemd::status(&format!("dispatching for {rails} rails"));
        let ticker = self.deps.health.watch("event loop", Millis(10_000));
        let mut event_loop = EventLoop::new(received, phase, commands, ticker);
        let ran = event_loop.run(shutdown).await;
        match &ran {
            Ok(asked_by) => tracing::info!(event = events::DAEMON_STOPPING, asked_by),
            Err(failure) => tracing::error!(event = events::DAEMON_STOPPING, asked_by = "failure", error = %failure),
        }
        self.deps.health.not_ready("daemon", "stopping");
        let drained = event_loop
            .drain(drain_timeout, async {
                while lanes.join_next().await.is_some() {}
                let _ = completer.await;
            })
            .await;
        // Whatever is not recorded by now will not be, wherever it waits: its leases are left to run out.
        let unrecorded = leases.count_all();
        renewer.abort();
        // The last heartbeat, and goodbyes; bounded by their own call timeouts.
        let _ = tokio::join!(listener, renewer, upkeep);
        if let Some(sampler) = sampler {
            let _ = sampler.await;
        }
        tracing::info!(event = events::DAEMON_STOPPED, unrecorded);
        ran?;
        drained?;
        match unrecorded {
            0 => Ok(()),
            count => Err(Failure::new(
                Exit::Unavailable,
                format!("{count} results could not be recorded; their leases run out, and the contracts decide"),
            )),
        }
    }

    fn connection(&self) -> Connection {
        Connection::new(Arc::clone(&self.database), self.demands)
    }

    /// The upkeep, and with it the keeper of the state file: what the last heartbeat brings is written down as well.
    fn kept(&self, file: Option<StateFile>, handle: &Handle, upkeep: JoinHandle<()>) -> JoinHandle<()> {
        let Some(file) = file else { return upkeep };
        let ticker = self.deps.health.watch("state file", self.age_max());
        let keeper = StateKeeper::new(file, handle.clone(), ticker);
        tokio::spawn(keeper.run(async { drop(upkeep.await) }))
    }

    /// How long a loop may go without a tick: one connect and one call that time out, and slack.
    fn age_max(&self) -> Millis {
        let database = &self.deps.config.database;
        database.connect_timeout.plus(database.call_timeout).plus(database.call_timeout).plus(Millis(10_000))
    }

    #[expect(clippy::too_many_arguments, reason = "the ends of the channels, each of its own type")]
    fn lane(
        &self,
        rail: &RailName,
        clients: &[Arc<dyn Rail>],
        commands: mpsc::Receiver<LaneCommand>,
        sleep: &mpsc::Sender<Sleep>,
        results: &mpsc::Sender<Settled>,
        leases: &Arc<Leases>,
        handle: &Handle,
    ) -> Lane {
        let settings = lane_settings(&self.deps.config, rail, self.worker_id.clone());
        let parts = LaneParts {
            clients: clients.to_vec(),
            maker: Arc::clone(&self.deps.maker),
            connection: self.connection(),
            commands,
            wakeup_lock: WakeupLock::new(rail.clone(), sleep.clone()),
            results: results.clone(),
            leases: Arc::clone(leases),
            health: Arc::clone(&self.deps.health),
            metrics: Arc::clone(self.deps.metrics.rail(rail)),
            handle: handle.clone(),
            ticker: self.deps.health.watch(format!("lane {rail}"), self.age_max()),
        };
        Lane::new(settings, parts)
    }

    fn completer(&self, queue: mpsc::Receiver<Settled>, leases: &Arc<Leases>, handle: &Handle) -> Completer {
        let dispatcher = &self.deps.config.dispatcher;
        let limits = Limits {
            batch_size: dispatcher.completion_batch_size as usize,
            flush_interval: dispatcher.completion_flush_interval,
            queue_max: dispatcher.completion_queue_max as usize,
        };
        Completer {
            connection: Connection::for_results(Arc::clone(&self.database)),
            worker_id: self.worker_id.clone(),
            queue,
            limits,
            leases: Arc::clone(leases),
            health: Arc::clone(&self.deps.health),
            metrics: Arc::clone(&self.deps.metrics),
            handle: handle.clone(),
            ticker: self.deps.health.watch("completer", self.age_max()),
        }
    }

    fn listener(&self, wishes: mpsc::Receiver<Sleep>, handle: &Handle) -> Listener {
        Listener {
            settings: Arc::clone(&self.database),
            rails: self.deps.rails.keys().cloned().collect(),
            wishes,
            probe_interval: self.deps.config.dispatcher.listener_probe_interval,
            metrics: Arc::clone(&self.deps.metrics),
            handle: handle.clone(),
            ticker: self.deps.health.watch("listener", self.age_max()),
        }
    }

    fn renewer(&self, leases: &Arc<Leases>) -> Renewer {
        Renewer {
            connection: Connection::for_results(Arc::clone(&self.database)),
            worker_id: self.worker_id.clone(),
            leases: Arc::clone(leases),
            ticker: self.deps.health.watch("renewer", self.age_max()),
        }
    }

    /// Nobody would see samples where no metrics are served.
    fn sampler(&self, handle: &Handle) -> Option<Sampler> {
        self.deps.config.health.listen?;
        Some(Sampler {
            settings: ConnectSettings::clone(&self.database),
            interval: self.deps.config.dispatcher.metrics_interval,
            metrics: Arc::clone(&self.deps.metrics),
            handle: handle.clone(),
        })
    }

    fn upkeep(&self, leases: &Arc<Leases>, handle: &Handle) -> Upkeep {
        let dispatcher = &self.deps.config.dispatcher;
        Upkeep {
            connection: self.connection(),
            worker_id: self.worker_id.clone(),
            environment: dispatcher.environment.clone(),
            lanes: self.deps.rails.keys().cloned().collect(),
            identities: Identities::of(&self.deps.config),
            leases: Arc::clone(leases),
            policy: PolicyWatch::default(),
            metrics: Arc::clone(&self.deps.metrics),
            heartbeat_interval: dispatcher.heartbeat_interval,
            maintenance_interval: dispatcher.maintenance_interval,
            handle: handle.clone(),
            ticker: self.deps.health.watch("upkeep", self.age_max()),
        }
    }
}

/// What the lane of `rail` is told.
pub(super) fn lane_settings(config: &Config, rail: &RailName, worker_id: WorkerId) -> LaneSettings {
    let (dispatcher, configured) = (&config.dispatcher, &config.rails[rail]);
    LaneSettings {
        rail: rail.clone(),
        worker_id,
        concurrency: configured.concurrency as usize,
        environment: dispatcher.environment.clone(),
        breaker: configured.breaker_limits(),
        claim_batch_max: dispatcher.claim_batch_max as usize,
        times: Times::of(dispatcher, configured),
        configured: configured.clone(),
        dispatcher: dispatcher.clone(),
        poll_min: dispatcher.poll_min,
        poll_max: dispatcher.poll_max,
    }
}

/// Ends when results have had as long to be recorded as sends had to end.
async fn give_up(mut handle: Handle, drain_timeout: Millis) {
    handle.reached(Phase::Over).await;
    tokio::time::sleep(Duration::from(drain_timeout)).await;
}
