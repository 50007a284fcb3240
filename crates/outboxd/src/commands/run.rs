//! `outboxd run`: the daemon. Reads the configuration, makes the rails, serves health, and runs the
//! dispatcher until a signal; what the dispatcher does is in `dispatch`.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use outbox_core::RailName;
use outbox_rail::{HttpRail, HttpRailSettings, Rail};

use crate::cli::ConfigArgs;
use crate::config::model::{Credentials, Rail as RailConfig};
use crate::config::{self, Config, Loaded};
use crate::dispatch::{self, Deps, Maker};
use crate::exit::{Exit, Failure};
use crate::health::HealthState;
use crate::metrics::Metrics;
use crate::{events, health_server, logging, settings, shutdown, systemd};

/// How the daemon is started.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    config: ConfigArgs,
}

/// Runs the daemon until SIGTERM or SIGINT.
pub(crate) fn run(command: &Run) -> Result<(), Failure> {
    let loaded = config::load(&command.config.sources())
        .map_err(|faults| Failure::new(Exit::BadConfiguration, format!("the configuration is refused\n{faults}")))?;
    // Dropped last, when everything has been said.
    let _logging = logging::begin(&loaded.config.log)?;
    let Loaded { config, config_sha256, warnings } = loaded;
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(event = events::DAEMON_STARTING, version, config_sha256, name = config.dispatcher.name);
    for warning in &warnings {
        tracing::warn!(event = events::CONFIG_WARNING, warning);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Unavailable, format!("no runtime: {error}")))?;
    let ended = runtime.block_on(serve(config));
    if let Err(failure) = &ended {
        tracing::error!(event = events::DAEMON_STOPPED, error = %failure, exit_code = failure.exit.code());
    }
    ended
}

async fn serve(config: Config) -> Result<(), Failure> {
    // From here on a signal asks for an orderly end.
    let stop = shutdown::requested()?;
    let health = HealthState::new();
    // Until the lanes are there, and say for themselves whether they may claim.
    health.not_ready("daemon", "starting");
    let maker = maker(config.credentials);
    let rails = rails(&config, &maker)?;
    let metrics = Metrics::new(rails.iter().map(|(rail, endpoints)| (rail.clone(), endpoints.len())));
    if let Some(address) = config.health.listen {
        let listener = health_server::bind(address).await?;
        tokio::spawn(health_server::serve(listener, Arc::clone(&health), Arc::clone(&metrics)));
    }
    tokio::spawn(systemd::feed_watchdog(Arc::clone(&health)));
    dispatch::run(Deps { config, rails, maker, health, metrics }, stop).await
}

/// Makes the clients of a rail's endpoints.
fn maker(credentials: Credentials) -> Maker {
    Arc::new(move |configured: &RailConfig, sans: &[Option<String>]| {
        let make_one = |settings: HttpRailSettings| {
            let url = settings.url.clone();
            let rail = HttpRail::new(settings).map_err(|error| format!("{url}: {}", dispatch::chain(&error)))?;
            Ok::<_, String>(Arc::new(rail) as Arc<dyn Rail>)
        };
        settings::http_rails(configured, sans, credentials).into_iter().map(make_one).collect()
    })
}

fn rails(config: &Config, maker: &Maker) -> Result<BTreeMap<RailName, Vec<Arc<dyn Rail>>>, Failure> {
    let make = |(name, configured): (&RailName, &RailConfig)| {
        let refused = |why| Failure::new(Exit::BadConfiguration, format!("rails.{name}: {why}"));
        Ok((name.clone(), dispatch::at_start(name, configured, maker).map_err(refused)?))
    };
    config.rails.iter().map(make).collect()
}
