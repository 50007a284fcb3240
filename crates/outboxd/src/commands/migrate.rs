//! `outboxd migrate`: applies the migrations that are missing, or says which are. Run it as the
//! migrator; the roles and the schema come from `scripts/db/bootstrap.sql`, not from here.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use outbox_core::Millis;
use outbox_store::{MigrationReport, check_migrations, migrate};
use serde_json::json;

use super::database::{DatabaseArgs, block_on};
use super::output::Output;
use super::store_failure::store_failure;
use crate::exit::{Exit, Failure};

/// Where, and whether anything is changed.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 done; 1 something is missing (--check), a migration failed, the ledger does not \
fit this version, or another migration is running; 64 wrong words; 69 no database; 77 the login is refused."
)]
pub(crate) struct Migrate {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Change nothing; exit with 1 if a migration is missing or the ledger does not fit
    #[arg(long)]
    check: bool,
    /// How long to wait for another migration to end
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    lock_wait: Duration,
    /// How long one statement may wait for a table, while payments queue up behind it
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    table_lock_wait: Duration,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Migrates, or checks.
pub(crate) fn run(command: &Migrate, out: &mut dyn Write) -> Result<(), Failure> {
    let mut settings = command.database.settings()?.for_people();
    settings.lock_timeout = Millis::from(command.table_lock_wait);
    if command.check {
        let missing = block_on(async { check_migrations(&settings).await.map_err(|error| store_failure(&error)) })?;
        return report_missing(&missing, command.output, out);
    }
    let report =
        block_on(async { migrate(&settings, command.lock_wait).await.map_err(|error| store_failure(&error)) })?;
    report_applied(&report, command.output, out)
}

fn versions(versions: &[i64]) -> String {
    if versions.is_empty() {
        return "none".to_owned();
    }
    versions.iter().map(|version| format!("{version:04}")).collect::<Vec<_>>().join(", ")
}

fn report_missing(missing: &[i64], output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    match output {
        Output::Table => writeln!(out, "missing  {}", versions(missing))?,
        Output::Json => writeln!(out, "{}", json!({"missing": missing}))?,
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Failure, format!("not applied: {}; run outboxd migrate", versions(missing))))
}

fn report_applied(report: &MigrationReport, output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    let MigrationReport { applied, already, partitions_made } = report;
    match output {
        Output::Table => {
            writeln!(out, "applied before   {}", versions(already))?;
            writeln!(out, "applied now      {}", versions(applied))?;
            writeln!(out, "partitions made  {partitions_made}")?;
        }
        Output::Json => {
            let report = json!({"already": already, "applied": applied, "partitions_made": partitions_made});
            writeln!(out, "{report}")?;
        }
    }
    Ok(())
}
