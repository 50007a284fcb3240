//! `outboxd audit`: whether the promises hold. What they are, and what is looked at, is decided in the database.

use std::io::Write;

use clap::Args;
use outbox_store::{AuditScope, audit};
use serde_json::Value;

use super::control::select::parse;
use super::control::show::{documents, field};
use super::control::{or_end, with_session};
use super::database::DatabaseArgs;
use super::output::Output;
use crate::exit::{Exit, Failure};

/// Findings that are listed; more would be no easier to read, and all are counted.
const FINDINGS_MAX: u32 = 1_000;

/// Look whether a promise is broken, for what may have changed since the audits before.
///
/// Every payment is pending, or has ended once, by its last attempt; attempts are numbered without gaps and agree with
/// the queue; instruction, identity and payload are there; history is guarded. The first audit looks at everything.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 no promise is broken; 64 wrong words; 65 one is, see what is listed; 69 no database; \
76 no schema that this version knows; 77 the login is refused or may not do it."
)]
pub(crate) struct Audit {
    /// Look at everything, for as long as it takes
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    database: DatabaseArgs,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Audits.
pub(crate) fn run(command: &Audit, out: &mut dyn Write) -> Result<(), Failure> {
    let scope = if command.full { AuditScope::Full } else { AuditScope::Changed };
    let report =
        with_session(&command.database, async |session| parse(&or_end(audit(session, scope, FINDINGS_MAX).await)?))?;
    match command.output {
        Output::Json => writeln!(out, "{report}")?,
        Output::Table => table(&report, out)?,
    }
    match report["breaches"].as_i64() {
        Some(0) => Ok(()),
        Some(count) => Err(Failure::new(Exit::BadData, format!("{count} promises are broken"))),
        None => Err(Failure::new(Exit::WrongSchema, "the answer is not one that this version reads")),
    }
}

fn table(report: &Value, out: &mut dyn Write) -> Result<(), Failure> {
    let scope = match report["from"].as_str() {
        Some(from) => format!("changes since {from}"),
        None => "everything".to_owned(),
    };
    writeln!(
        out,
        "{scope}: {} payments examined, {} pending, {} breaches",
        field(report, "examined"),
        field(report, "pending"),
        field(report, "breaches")
    )?;
    match report["findings"].as_array() {
        Some(findings) if !findings.is_empty() => documents(findings, &["kind", "outbox_id", "detail"], out),
        _ => Ok(()),
    }
}
