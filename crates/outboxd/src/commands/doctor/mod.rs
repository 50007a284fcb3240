//! `outboxd doctor`: why does it not pay? Every check that can be made with the dispatcher's own configuration and
//! login. It claims nothing, sends no payment, and mends nothing.

mod contracts;
mod daemon;
mod database;
mod endpoints;
mod finding;
mod queue;

use std::io::Write;

use clap::Args;

use self::finding::{Finding, Verdict};
use super::database::block_on;
use super::output::Output;
use crate::cli::ConfigArgs;
use crate::config::{self, Config, Fault};
use crate::exit::{Exit, Failure};

const CONFIGURATION: &str = "configuration";

/// Every check after the configuration, in order.
const CHECKS: [&str; 14] = [
    database::DATABASE,
    database::PREFLIGHT,
    database::SESSIONS,
    database::CLOCK,
    database::EPOCH,
    contracts::POLICY,
    contracts::CONTRACT,
    contracts::PAUSE,
    contracts::CERTIFICATE,
    database::DISPATCHERS,
    database::PARTITIONS,
    queue::QUEUE,
    endpoints::ENDPOINT,
    daemon::DAEMON,
];

/// Look for what keeps payments from being sent
///
/// To be run on the dispatcher's host with the dispatcher's configuration. Nothing is claimed or sent: rails are
/// connected to, by TCP and TLS, and hear no HTTP.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 no fault was found, warnings or not; 1 there are faults; 64 wrong words.")]
pub(crate) struct Doctor {
    #[command(flatten)]
    config: ConfigArgs,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Checks everything.
pub(crate) fn run(command: &Doctor, out: &mut dyn Write) -> Result<(), Failure> {
    let findings = findings(&command.config)?;
    match command.output {
        Output::Table => finding::show_table(&findings, out)?,
        Output::Json => finding::show_json(&findings, out)?,
    }
    out.flush()?;
    match finding::count(&findings, Verdict::Fault) {
        0 => Ok(()),
        _ => Err(Failure::new(Exit::Failure, finding::summary(&findings))),
    }
}

fn findings(sources: &ConfigArgs) -> Result<Vec<Finding>, Failure> {
    let loaded = match config::load(&sources.sources()) {
        Ok(loaded) => loaded,
        Err(faults) => {
            let skipped = CHECKS.iter().map(|check| Finding::skipped(check, "the configuration is refused"));
            return Ok(faults.iter().map(refused).chain(skipped).collect());
        }
    };
    let mut findings: Vec<Finding> = loaded.warnings.iter().map(warned).collect();
    if findings.is_empty() {
        let (sha256, rails) = (&loaded.config_sha256, loaded.config.rails.len());
        let seen = format!("rails: {rails}; credential files can be read; config_sha256 {sha256}");
        findings.push(Finding::ok(CONFIGURATION, seen));
    }
    findings.extend(block_on(async { Ok(examine(&loaded.config).await) })?);
    Ok(findings)
}

async fn examine(config: &Config) -> Vec<Finding> {
    // What a certificate must carry may be decided in the database.
    let rules = database::rules(config).await;
    // Begun before the rest, so that what takes its time is waited for once.
    let endpoints = endpoints::begin(config, rules.as_ref());
    let mut findings = database::examine(config).await;
    findings.extend(endpoints::end(endpoints).await);
    findings.extend(daemon::examine(config.health.listen).await);
    findings
}

fn refused(fault: &Fault) -> Finding {
    let seen = Fault { excerpt: None, ..fault.clone() }.to_string();
    Finding::fault(CONFIGURATION, seen, "mend it; outboxd check-config shows the line and every value in force")
}

fn warned(warning: &String) -> Finding {
    Finding::warning(CONFIGURATION, warning, "change it, unless no money is moved here")
}
