//! The checker as a process: passes at an interval until it is told to end, a last complete reading, a report. The exit
//! code is 0 without a finding, 1 with one, 2 if it could not check.

use std::{io::Write as _, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use outbox_checker::{CheckError, Checker, RailSpec, Report, Settings, parse_rail};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, sleep},
};

/// How long the last reading may wait for the database.
const LAST_READING_LIMIT: Duration = Duration::from_secs(180);
/// How long a database may refuse before that is taken for its last word.
const REFUSED_LIMIT: Duration = Duration::from_secs(60);
/// How long to wait before another try.
const PAUSE: Duration = Duration::from_millis(500);

/// Judges a running outbox from outside.
#[derive(Debug, Parser)]
#[command(name = "outbox-checker", version)]
struct Flags {
    /// The database, as a login that may read all tables.
    #[arg(long, value_name = "URL")]
    database: String,
    /// A rail: NAME,contract=resend|inquire|hold,keys=idempotent|every,ledger=PATH,answers=PATH; may be repeated.
    #[arg(long = "rail", value_name = "RAIL", value_parser = parse_rail, required = true)]
    rails: Vec<RailSpec>,
    /// What the harness writes down of its faults (JSON lines); it need not be there yet.
    #[arg(long, value_name = "FILE")]
    faults: PathBuf,
    /// Where the report goes (JSON).
    #[arg(long, value_name = "FILE")]
    report: PathBuf,
    /// How often a pass begins.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    interval_ms: u64,
    /// The longest recovery after a crash that is no finding.
    #[arg(long, value_name = "N")]
    recovery_max_ms: Option<i64>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    match run(&flags).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr().lock(), "outbox-checker: could not check: {error}");
            ExitCode::from(2)
        }
    }
}

/// Checks until the end; gives how many findings there are.
async fn run(flags: &Flags) -> Result<u64, Box<dyn std::error::Error>> {
    let (mut ended, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let settings = Settings {
        database: flags.database.clone(),
        rails: flags.rails.clone(),
        faults: flags.faults.clone(),
        recovery_max_ms: flags.recovery_max_ms,
    };
    let mut checker = Checker::new(settings, Box::new(std::io::stdout()))?;
    let mut ticks = interval(Duration::from_millis(flags.interval_ms.max(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut refused_since = None;
    loop {
        tokio::select! {
            _ = ended.recv() => break,
            _ = interrupted.recv() => break,
            _ = ticks.tick() => {}
        }
        match checker.pass().await {
            Ok(()) => refused_since = None,
            Err(error) if error.passes() => {}
            Err(error @ CheckError::Refused(_)) => {
                // A server that is being put in place may not have the schema yet.
                if refused_since.get_or_insert_with(Instant::now).elapsed() > REFUSED_LIMIT {
                    return Err(error.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    let report = last_reading(&mut checker).await?;
    report.write(&flags.report)?;
    checker.say(&report.summary.to_string());
    Ok(report.summary.findings)
}

async fn last_reading(checker: &mut Checker) -> Result<Report, CheckError> {
    let begun = Instant::now();
    loop {
        match checker.finish().await {
            Err(error) if error.passes() && begun.elapsed() < LAST_READING_LIMIT => sleep(PAUSE).await,
            finished => return finished,
        }
    }
}
