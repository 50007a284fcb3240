//! Parsers of outside bytes that lie inside commands and the dispatcher, each as a function of bytes, for whoever tries them
//! on bytes that nobody wrote. The program does not come this way, but by the same functions.

use std::ops::Range;
use std::path::PathBuf;

use outbox_core::{OutboxId, RailName};
use outbox_store::{Memory, NewPayment, StatementLine};
use time::{Date, OffsetDateTime};
use url::Url;

use crate::commands::control::select;
use crate::commands::database::{Given, from_url};
use crate::commands::enqueue::ndjson::{Defaults, Lines};
use crate::commands::reconcile::statement_file::StatementFile;
use crate::commands::{partitions, pg_service};
use crate::dispatch::state_file;
use crate::hex;

/// How messages call the input.
const NAME: &str = "input";

/// What a statement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Its lines, in order.
    pub lines: Vec<StatementLine>,
    /// Of the paid ones, in minor units by currency.
    pub sums: Vec<(String, i128)>,
    /// How many are paid.
    pub paid_lines: i64,
    /// SHA-256 of all its bytes.
    pub sha256: Vec<u8>,
    /// The hash of its lines.
    pub lines_sha256: Vec<u8>,
}

/// Payments of lines of JSON, as `outboxd enqueue` reads them, or why a line is none; `participant_id` and `content_type`
/// where a line says neither.
#[must_use]
pub fn payments(
    ndjson: &[u8],
    participant_id: &str,
    rail: &RailName,
    content_type: &str,
) -> Vec<Result<NewPayment, String>> {
    let defaults = Defaults {
        participant_id: Some(participant_id.to_owned()),
        rail: Some(rail.clone()),
        content_type: Some(content_type.to_owned()),
    };
    let lines = Lines::new(ndjson, NAME.to_owned(), defaults);
    lines.map(|found| found.map(|located| located.payment).map_err(|fault| fault.to_string())).collect()
}

/// A statement in CSV, as `outboxd reconcile` reads it: `paid_statuses` mean that money has left, and what was booked
/// outside of `booked` is refused.
///
/// # Errors
/// The first thing that is not as it should be, with its line.
pub fn statement(csv: &[u8], paid_statuses: &[String], booked: Range<OffsetDateTime>) -> Result<Statement, String> {
    let file = StatementFile { path: PathBuf::from(NAME), paid_statuses: paid_statuses.to_vec(), booked };
    let mut lines = Vec::new();
    let summary = file.read_from(csv, |line| {
        lines.push(line);
        Ok(())
    });
    let summary = summary.map_err(|failure| failure.message)?;
    Ok(Statement {
        lines,
        sums: summary.sums.into_iter().collect(),
        paid_lines: summary.paid_lines,
        sha256: summary.sha256,
        lines_sha256: summary.lines_sha256,
    })
}

/// The payments that a file of `--ids-from` lists.
///
/// # Errors
/// The first line that names none.
pub fn payment_ids(text: &[u8]) -> Result<Vec<OutboxId>, String> {
    select::ids_of(text, NAME).map_err(|failure| failure.message)
}

/// Whether a URL of a database is taken, from the command line or from the environment.
///
/// # Errors
/// Why not. It shows no password.
pub fn database_url(text: &str, is_on_command_line: bool) -> Result<(), String> {
    let given = if is_on_command_line { Given::OnCommandLine } else { Given::InEnvironment };
    from_url(text, given).map(drop).map_err(|failure| failure.message)
}

/// The service `name` of a connection service file, as a URL; `None` if it has none of that name.
#[must_use]
pub fn service(text: &str, name: &str) -> Option<Result<Url, String>> {
    pg_service::url_in(text, name)
}

/// What the state file of a dispatcher says, and how that would be written.
///
/// # Errors
/// Why it is none that this program wrote.
pub fn state(bytes: &[u8]) -> Result<(Memory, Vec<u8>), String> {
    state_file::reread(bytes).map_err(|error| error.to_string())
}

/// A SHA-256 as a person gives it.
#[must_use]
pub fn sha256(text: &str) -> Option<[u8; 32]> {
    hex::decode_sha256(text)
}

/// A month as a person gives it; its first day.
///
/// # Errors
/// How one is written.
pub fn month(text: &str) -> Result<Date, String> {
    partitions::parse_month(text)
}
