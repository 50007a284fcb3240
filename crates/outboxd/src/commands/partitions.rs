//! `outboxd partitions`: makes the months to come, lists all, detaches a month that is over and done with, and makes
//! the hash of a detached one again. Whether a month may go, and what comes next, is decided in the database.

use std::io::Write;
use std::time::Duration;

use clap::{Args, Subcommand};
use outbox_core::Millis;
use outbox_store::{
    Detaching, MonthToDetach, PartitionRow, PartitionStep, TableHash, ensure_partitions, hash_table, read_partitions,
};
use serde_json::{Value, json};
use time::{Date, Month};

use super::control::show::documents;
use super::control::{or_end, with_session};
use super::database::{DatabaseArgs, block_on};
use super::output::{Output, utc};
use super::store_failure::store_failure;
use crate::exit::{Exit, Failure};
use crate::hex;

/// What is done with partitions.
#[derive(Debug, Subcommand)]
pub(crate) enum Partitions {
    /// Make the partitions of the coming months that are missing
    Ensure(Ensure),
    /// List the partitions, and the receipts of those that were detached
    List(List),
    /// Detach a month in which nothing is open any more, and leave receipts
    Detach(Detach),
    /// Hash a detached table, or a copy of it, again, and compare with its receipt
    Verify(Verify),
}

/// Make the partitions of the coming months that are missing. Run it from the timer, as the migrator.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 done; 1 the login is not the migrator's, or a migration is running; 64 wrong words; 69 no database; \
76 no schema that this version knows; 77 the login is refused."
)]
pub(crate) struct Ensure {
    #[command(flatten)]
    database: DatabaseArgs,
    /// How long to wait for a migration to end
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    lock_wait: Duration,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// List the partitions, and the receipts of those that were detached.
///
/// ATTACHED; SEALED, takes no further rows; COUNTED, has a receipt; DETACHING, half-way: run detach again; DETACHED, a
/// table of its own; GONE, only its receipt is here.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 done; 64 wrong words; 69 no database; 76 no schema that this version knows; 77 the login is refused \
or may not do it."
)]
pub(crate) struct List {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Detach a month in which nothing is open any more, and leave receipts. Run as the migrator.
///
/// It seals the month, hashes and counts its tables, records a receipt for each, and detaches them. Between sealing and
/// counting `outboxd audit --full` has to run, as an auditor. Interrupted or held up, run it again: it goes on.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 detached, now or before; 1 what is to be done first is said, such as an audit; 64 wrong words; 65 \
refused, with what is open; 69 no database, or an open transaction is in the way: run it again; 76 no schema that this version \
knows; 77 the login is refused."
)]
pub(crate) struct Detach {
    /// The month, such as 2026-01
    #[arg(value_parser = parse_month)]
    month: Date,
    /// How long ago the last thing in it has to have happened, such as 400days; a rail's key window counts where it is longer
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    min_age: Duration,
    /// What its tables hold
    #[arg(long = "of", value_name = "WHAT", default_value = "payments")]
    holds: String,
    /// Say what would be done next, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// How long to wait for open transactions, which nobody else waits behind meanwhile
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    wait: Duration,
    #[command(flatten)]
    database: DatabaseArgs,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Hash a detached table, or a copy of it, again, and compare with its receipt.
///
/// In another database, which needs but the function outbox.hash_table_chunk, say with --rows and --sha256 what the receipt says.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 it is what the receipt says; 64 wrong words; 65 it is not; 66 there is no receipt of this name; 69 no \
database; 76 no such table or function; 77 the login is refused or may not read it."
)]
pub(crate) struct Verify {
    /// The table, with its schema if that is not `outbox`
    table: String,
    /// How many rows the receipt says
    #[arg(long, value_name = "COUNT", requires = "sha256")]
    rows: Option<i64>,
    /// The hash that the receipt says
    #[arg(long, value_name = "HEX", requires = "rows", value_parser = parse_sha256)]
    sha256: Option<[u8; 32]>,
    #[command(flatten)]
    database: DatabaseArgs,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

pub(crate) fn parse_month(text: &str) -> Result<Date, String> {
    let month = || {
        let (year, month) = text.split_once('-')?;
        let are_digits = year.bytes().chain(month.bytes()).all(|byte| byte.is_ascii_digit());
        if year.len() != 4 || month.len() != 2 || !are_digits {
            return None;
        }
        let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
        Date::from_calendar_date(year.parse::<u16>().ok()?.into(), month, 1).ok()
    };
    month().ok_or_else(|| "a month is such as 2026-01".to_owned())
}

fn parse_sha256(text: &str) -> Result<[u8; 32], String> {
    hex::decode_sha256(text).ok_or_else(|| "a hash has 64 hexadecimal digits".to_owned())
}

fn month_name(month: Date) -> String {
    format!("{:04}-{:02}", month.year(), u8::from(month.month()))
}

/// Does it.
pub(crate) fn run(command: &Partitions, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        Partitions::Ensure(command) => ensure(command, out),
        Partitions::List(command) => list(command, out),
        Partitions::Detach(command) => detach(command, out),
        Partitions::Verify(command) => verify(command, out),
    }
}

fn ensure(command: &Ensure, out: &mut dyn Write) -> Result<(), Failure> {
    let settings = command.database.settings()?.for_people();
    let made = block_on(async { or_end(ensure_partitions(&settings, command.lock_wait).await) })?;
    match command.output {
        Output::Table => writeln!(out, "partitions made  {made}")?,
        Output::Json => writeln!(out, "{}", json!({"partitions_made": made}))?,
    }
    Ok(())
}

fn document(row: &PartitionRow) -> Value {
    let mut document =
        json!({"month": month_name(row.month), "holds": row.holds, "table": row.table_name, "state": row.state});
    if let Some(receipt) = &row.receipt {
        document["rows"] = receipt.row_count.into();
        document["payments"] = receipt.payment_count.into();
        document["sha256"] = hex::encode(&receipt.rows_sha256).into();
        document["recorded_by"] = receipt.recorded_by.as_str().into();
        document["recorded_at"] = utc(receipt.recorded_at).into();
    }
    document
}

fn list(command: &List, out: &mut dyn Write) -> Result<(), Failure> {
    let rows = with_session(&command.database, async |session| or_end(read_partitions(session).await))?;
    let all: Vec<Value> = rows.iter().map(document).collect();
    show(&all, command.output, out)
}

fn show(all: &[Value], output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    const COLUMNS: [&str; 8] = ["month", "table", "state", "rows", "payments", "sha256", "recorded_by", "recorded_at"];
    match output {
        Output::Json => writeln!(out, "{}", Value::from(all))?,
        Output::Table => documents(all, &COLUMNS, out)?,
    }
    Ok(())
}

fn detach(command: &Detach, out: &mut dyn Write) -> Result<(), Failure> {
    let mut settings = command.database.settings()?.for_people();
    settings.lock_timeout = Millis::from(command.wait);
    let month = MonthToDetach {
        holds: command.holds.to_uppercase(),
        month: command.month,
        min_age_ms: i64::try_from(command.min_age.as_millis()).unwrap_or(i64::MAX / 4),
    };
    let done = block_on(async {
        let mut detaching = or_end(Detaching::begin(&settings, command.wait, month).await)?;
        let done = steps(&mut detaching, command).await;
        detaching.end().await;
        done
    })?;
    if command.dry_run {
        writeln!(out, "{}", described(&done))?;
        return Ok(());
    }
    let rows = with_session(&command.database, async |session| or_end(read_partitions(session).await))?;
    let month = rows.iter().filter(|row| row.month == command.month && row.holds == command.holds.to_uppercase());
    let all: Vec<Value> = month.map(document).collect();
    show(&all, command.output, out)
}

/// Takes step after step to the end, or with `dry_run` none; the step at which it stands then.
async fn steps(detaching: &mut Detaching, command: &Detach) -> Result<PartitionStep, Failure> {
    loop {
        let step = or_end(detaching.next().await)?;
        match &step {
            PartitionStep::Refused(why) => return Err(refused(command, why)),
            PartitionStep::Done(_) => return Ok(step),
            _ if command.dry_run => return Ok(step),
            PartitionStep::Audit => {
                let message = format!("{}: {}", month_name(command.month), described(&step));
                return Err(Failure::new(Exit::Failure, message));
            }
            PartitionStep::Seal | PartitionStep::Count(_) | PartitionStep::Detach { .. } => {}
        }
        match detaching.take(&step).await {
            Ok(why) if why.is_empty() => {}
            Ok(why) => return Err(refused(command, &why)),
            Err(error) if error.is_lock_timeout() => {
                let message = format!(
                    "{}: an open transaction is in the way of this step: {}; run it again, it goes on from here",
                    month_name(command.month),
                    described(&step)
                );
                return Err(Failure::new(Exit::Unavailable, message));
            }
            Err(error) => return Err(store_failure(&error)),
        }
    }
}

fn refused(command: &Detach, why: &[String]) -> Failure {
    Failure::new(Exit::BadData, format!("{} stays: {}", month_name(command.month), why.join("; ")))
}

fn described(step: &PartitionStep) -> String {
    match step {
        PartitionStep::Refused(why) => why.join("; "),
        PartitionStep::Seal => "next, seal it".to_owned(),
        PartitionStep::Audit => "it is sealed; now run outboxd audit --full as an auditor, then this again".to_owned(),
        PartitionStep::Count(tables) => format!("next, count {} and record the receipts", tables.join(" and ")),
        PartitionStep::Detach { table_name, .. } => format!("next, detach {table_name}"),
        PartitionStep::Done(tables) => format!("detached: {}", tables.join(", ")),
    }
}

fn verify(command: &Verify, out: &mut dyn Write) -> Result<(), Failure> {
    let table = if command.table.contains('.') { command.table.clone() } else { format!("outbox.{}", command.table) };
    let name = table.rsplit('.').next().unwrap_or_default();
    let said = match (command.rows, command.sha256) {
        (Some(row_count), Some(sha256)) => TableHash { row_count, rows_sha256: sha256.to_vec() },
        _ => {
            let rows = with_session(&command.database, async |session| or_end(read_partitions(session).await))?;
            let row = rows.into_iter().find(|row| row.table_name == name);
            let receipt = row.and_then(|row| row.receipt);
            let none = || Failure::new(Exit::NoInput, format!("there is no receipt of {name}"));
            let receipt = receipt.ok_or_else(none)?;
            TableHash { row_count: receipt.row_count, rows_sha256: receipt.rows_sha256 }
        }
    };
    let settings = command.database.settings()?.for_people();
    let found = block_on(async { or_end(hash_table(&settings, &table).await) })?;
    let document = json!({"table": table, "rows": found.row_count, "sha256": hex::encode(&found.rows_sha256), "is_equal": found == said});
    match command.output {
        Output::Json => writeln!(out, "{document}")?,
        Output::Table => documents(&[document], &["table", "rows", "sha256", "is_equal"], out)?,
    }
    if found == said {
        return Ok(());
    }
    let message =
        format!("{table} is not what its receipt says: {} rows, {}", said.row_count, hex::encode(&said.rows_sha256));
    Err(Failure::new(Exit::BadData, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_a_year_and_two_digits() {
        let january = Date::from_calendar_date(2026, Month::January, 1).ok();
        assert_eq!(parse_month("2026-01").ok(), january);
        for wrong in ["2026", "2026-1", "2026-13", "2026-00", "26-01", "2026-01-01", "+026-01", "x"] {
            assert!(parse_month(wrong).is_err(), "{wrong}");
        }
        assert_eq!(january.map(month_name).as_deref(), Some("2026-01"));
    }

    #[test]
    fn a_hash_is_read_as_it_is_shown_and_nothing_else_is_taken_for_one() {
        let shown = "00ff7f".to_owned() + &"ab".repeat(29);
        assert_eq!(parse_sha256(&shown).map(|bytes| hex::encode(&bytes)), Ok(shown.clone()));
        for wrong in ["", &shown[1..], &format!("+0{}", &shown[2..]), &format!("é{}", &shown[2..])] {
            assert!(parse_sha256(wrong).is_err(), "{wrong}");
        }
    }
}
