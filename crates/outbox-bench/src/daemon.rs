//! The daemon, with its real code, inside this process: what `outboxd run` does after its rails are made.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outbox_core::RailName;
use outbox_rail::Rail;
use outbox_testkit::TestDb;
use outboxd::config::{self, Config, Host, Sources};
use outboxd::dispatch::{self, Deps, Maker};
use outboxd::exit::Failure;
use outboxd::health::HealthState;
use outboxd::metrics::Metrics;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::error::BenchError;

/// The only rail.
pub(crate) const RAIL: &str = "bench";

/// How often the counters are looked at.
const LOOK: Duration = Duration::from_millis(2);

/// Longer than any drain here takes.
const LIMIT: Duration = Duration::from_secs(900);

/// A running daemon.
pub(crate) struct Daemon {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), Failure>>,
    metrics: Arc<Metrics>,
}

impl Daemon {
    /// Starts one that sends to `rail`, with its defaults but for `settings`, each `key=value`.
    ///
    /// # Errors
    /// When the settings are refused.
    pub(crate) fn start(
        db: &TestDb,
        name: &str,
        rail: &Arc<dyn Rail>,
        settings: &[String],
    ) -> Result<Self, BenchError> {
        let config = configuration(db, name, settings)?;
        let rail_name = rail_name()?;
        let maker: Maker = {
            let rail = Arc::clone(rail);
            Arc::new(move |_, _| Ok(vec![Arc::clone(&rail)]))
        };
        let rails = BTreeMap::from([(rail_name.clone(), vec![Arc::clone(rail)])]);
        let metrics = Metrics::new([(rail_name, 1)]);
        let deps = Deps { config, rails, maker, health: HealthState::new(), metrics: Arc::clone(&metrics) };
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            let _ = stopped.await;
            "the benchmark"
        };
        Ok(Self { stop, task: tokio::spawn(dispatch::run(deps, shutdown)), metrics })
    }

    /// How many payments it has settled.
    pub(crate) fn settled(&self) -> u64 {
        self.metrics.settled()
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// When it ends otherwise.
    pub(crate) async fn stop(self) -> Result<(), BenchError> {
        let _ = self.stop.send(());
        match self.task.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failure)) => Err(BenchError::Daemon(failure.to_string())),
            Err(panic) => Err(BenchError::Daemon(panic.to_string())),
        }
    }
}

/// Waits until these daemons have settled `count` payments together; returns when.
///
/// # Errors
/// When one ends, or they do not get there.
pub(crate) async fn settled(daemons: &[Daemon], count: u64) -> Result<Instant, BenchError> {
    let began = Instant::now();
    loop {
        let settled: u64 = daemons.iter().map(Daemon::settled).sum();
        if settled >= count {
            return Ok(Instant::now());
        }
        if daemons.iter().any(|daemon| daemon.task.is_finished()) {
            return Err(BenchError::Daemon("one ended".to_owned()));
        }
        if began.elapsed() > LIMIT {
            return Err(BenchError::Daemon(format!("{settled} of {count} settled after {LIMIT:?}")));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The name of the only rail.
///
/// # Errors
/// Never, with that name.
pub(crate) fn rail_name() -> Result<RailName, BenchError> {
    RailName::new(RAIL).map_err(|error| BenchError::Wrong(error.to_string()))
}

/// What the daemon is told: its defaults but for `settings`.
///
/// # Errors
/// When the settings are refused.
pub(crate) fn configuration(db: &TestDb, name: &str, settings: &[String]) -> Result<Config, BenchError> {
    let text = format!(
        "[dispatcher]\nname = \"{name}\"\n[database]\nhost = \"{}\"\nport = {}\nname = \"{}\"\nuser = \"t_dispatcher\"\n\
         [rails.{RAIL}]\nurl = \"https://rail.example/payments\"\nreference_json_pointer = \"/reference\"\ntimeout = \"10s\"\n",
        db.address().host(),
        db.address().port(),
        db.name()
    );
    let host = Host { name: "bench".to_owned(), credentials_directory: None, state_directory: None };
    let sources =
        Sources { file: PathBuf::from("bench.toml"), environment: Vec::new(), assignments: settings.to_vec(), host };
    config::parse(&sources, &text).map_err(|faults| BenchError::Wrong(faults.to_string()))
}
