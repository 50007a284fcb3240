//! Statements of rails and what differs: one Rust function for each SQL function.

use outbox_core::{Millis, RailName};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::calls::{column, only, signed, small};
use crate::error::StoreError;
use crate::session::Session;

pub(crate) const BEGIN_RECONCILE: &str =
    "select * from outbox.begin_reconcile($1, $2, $3, $4, $5, $6, $7, $8, $9::jsonb, $10, $11)";
pub(crate) const RECORD_LINES: &str =
    "select outbox.record_statement_lines($1, $2, $3, $4, $5, $6, $7, $8, $9) as recorded";
pub(crate) const FINISH_RECONCILE: &str = "select * from outbox.finish_reconcile($1, $2)";
pub(crate) const VOID_STATEMENT: &str = "select outbox.void_reconcile_statement($1, $2) as reopened";
pub(crate) const RESOLVE_BREAKS: &str = "select outbox.resolve_reconcile_breaks($1, $2, $3) as closed";
pub(crate) const READ_BREAKS: &str =
    "select to_jsonb(b)::text as document from outbox.read_reconcile_breaks($1, $2, $3, $4) as b";

/// A statement without its lines.
#[derive(Clone, Debug)]
pub struct StatementHead {
    /// The rail that wrote it.
    pub rail: RailName,
    /// The beginning of its period.
    pub booked_from: OffsetDateTime,
    /// The end of its period, not included.
    pub booked_until: OffsetDateTime,
    /// By how much a booking may lie outside the time from first byte to completion.
    pub slack: Millis,
    /// What the file is called.
    pub file_name: String,
    /// SHA-256 of the file.
    pub file_sha256: Vec<u8>,
    /// How many lines follow.
    pub line_count: i64,
    /// What [`LinesHash`] says of them.
    pub lines_sha256: Vec<u8>,
    /// The money of the paid ones, a JSON object: a sum in minor units for each currency.
    pub sums: String,
    /// Which statuses mean paid.
    pub paid_statuses: Vec<String>,
    /// Why it is compared.
    pub reason: String,
}

/// One line of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementLine {
    /// Where it begins in the file, from 1.
    pub line_no: i64,
    /// The key under which the payment was sent: its `outbox_id`.
    pub wire_key: Option<String>,
    /// The rail's reference.
    pub rail_reference: Option<String>,
    /// In minor units.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// When the rail booked it.
    pub booked_at: Option<OffsetDateTime>,
    /// The rail's word for how it stands.
    pub status: Option<String>,
    /// Whether that means that the money has left.
    pub is_paid: bool,
}

/// Hashes the lines of a statement in order, as `statement_lines_sha256` does with those on record.
#[derive(Clone, Debug, Default)]
pub struct LinesHash(Sha256);

impl LinesHash {
    /// Takes the next line.
    pub fn add(&mut self, line: &StatementLine) {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let booked_at = line.booked_at.map(|at| at.unix_timestamp_nanos().div_euclid(1_000).to_string());
        let fields = [
            line.line_no.to_string(),
            text(&line.wire_key),
            text(&line.rail_reference),
            line.amount_minor.to_string(),
            line.currency.clone(),
            booked_at.unwrap_or_default(),
            text(&line.status),
            if line.is_paid { "t" } else { "f" }.to_owned(),
        ];
        self.0.update(Sha256::digest(fields.join("\u{1f}")));
    }

    /// The hash of all lines.
    #[must_use]
    pub fn done(self) -> Vec<u8> {
        self.0.finalize().to_vec()
    }
}

/// How a comparison ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Payments on which both sides agree.
    pub matched: i64,
    /// Payments without a line that wait for another statement.
    pub at_the_edge: i64,
    /// Payments without a line that may have been booked before the rail's first statement.
    pub before_cover: i64,
    /// Breaks found now.
    pub found: i32,
    /// Breaks closed now, because both sides agree.
    pub closed: i32,
    /// Breaks of the rail that are open.
    pub open_breaks: i64,
    /// What lies between the rail's statements and is in none.
    pub gaps: Vec<(OffsetDateTime, OffsetDateTime)>,
}

/// Puts a statement on record; returns it, and how many of its lines are there from an earlier run.
///
/// # Errors
/// [`StoreError::Refused`] with `OB003` or `OB004` for a bad value.
pub async fn begin_reconcile(session: &mut Session, head: &StatementHead) -> Result<(Uuid, i64), StoreError> {
    const CALL: &str = "begin_reconcile";
    let query = sqlx::query(BEGIN_RECONCILE)
        .bind(head.rail.as_str())
        .bind(head.booked_from)
        .bind(head.booked_until)
        .bind(signed(head.slack))
        .bind(&head.file_name)
        .bind(&head.file_sha256)
        .bind(head.line_count)
        .bind(&head.lines_sha256)
        .bind(&head.sums)
        .bind(&head.paid_statuses)
        .bind(&head.reason);
    let rows = session.fetch(CALL, query).await?;
    let row = only(CALL, &rows)?;
    Ok((column(CALL, row, "statement_id")?, column(CALL, row, "lines_recorded")?))
}

/// Records lines of a statement that has not been compared yet; returns how many were new.
///
/// # Errors
/// [`StoreError::Refused`] with `OB003` for a statement that takes no lines of this login.
pub async fn record_lines(
    session: &mut Session,
    statement_id: Uuid,
    lines: &[StatementLine],
) -> Result<i32, StoreError> {
    const CALL: &str = "record_statement_lines";
    let query = sqlx::query(RECORD_LINES)
        .bind(statement_id)
        .bind(lines.iter().map(|line| line.line_no).collect::<Vec<_>>())
        .bind(lines.iter().map(|line| line.wire_key.clone()).collect::<Vec<_>>())
        .bind(lines.iter().map(|line| line.rail_reference.clone()).collect::<Vec<_>>())
        .bind(lines.iter().map(|line| line.amount_minor).collect::<Vec<_>>())
        .bind(lines.iter().map(|line| line.currency.clone()).collect::<Vec<_>>())
        .bind(lines.iter().map(|line| line.booked_at).collect::<Vec<_>>())
        .bind(lines.iter().map(|line| line.status.clone()).collect::<Vec<_>>())
        .bind(lines.iter().map(|line| line.is_paid).collect::<Vec<_>>());
    let rows = session.fetch(CALL, query).await?;
    column(CALL, only(CALL, &rows)?, "recorded")
}

/// Compares a statement with our ledger, and records what differs; refused if that is more than `breaks_max`.
///
/// # Errors
/// [`StoreError::Refused`] with `OB003` if the lines are not those announced or breaks are too many.
pub async fn finish_reconcile(
    session: &mut Session,
    statement_id: Uuid,
    breaks_max: u32,
) -> Result<Comparison, StoreError> {
    const CALL: &str = "finish_reconcile";
    let rows = session.fetch(CALL, sqlx::query(FINISH_RECONCILE).bind(statement_id).bind(small(breaks_max))).await?;
    let row = only(CALL, &rows)?;
    let times = |name| column::<Vec<OffsetDateTime>>(CALL, row, name);
    Ok(Comparison {
        gaps: times("gaps_from")?.into_iter().zip(times("gaps_until")?).collect(),
        matched: column(CALL, row, "matched")?,
        at_the_edge: column(CALL, row, "at_the_edge")?,
        before_cover: column(CALL, row, "before_cover")?,
        found: column(CALL, row, "breaks_found")?,
        closed: column(CALL, row, "breaks_closed")?,
        open_breaks: column(CALL, row, "open_breaks")?,
    })
}

/// A statement counts no more; returns how many breaks that it had closed are open again.
///
/// # Errors
/// [`StoreError::Refused`] with `OB003` for a bad value, or a statement that is void already.
pub async fn void_statement(session: &mut Session, statement_id: Uuid, reason: &str) -> Result<i32, StoreError> {
    const CALL: &str = "void_reconcile_statement";
    let rows = session.fetch(CALL, sqlx::query(VOID_STATEMENT).bind(statement_id).bind(reason)).await?;
    column(CALL, only(CALL, &rows)?, "reopened")
}

/// A person closes breaks, all or none; returns how many.
///
/// # Errors
/// [`StoreError::Refused`] with `OB003` for a bad value, or a break that is closed already; with `OB012` for one that this
/// login's statement found.
pub async fn resolve_breaks(
    session: &mut Session,
    break_ids: &[Uuid],
    reason: &str,
    action_id: Option<Uuid>,
) -> Result<i32, StoreError> {
    const CALL: &str = "resolve_reconcile_breaks";
    let rows = session.fetch(CALL, sqlx::query(RESOLVE_BREAKS).bind(break_ids).bind(reason).bind(action_id)).await?;
    column(CALL, only(CALL, &rows)?, "closed")
}

/// A page of breaks in the order in which they were found, as JSON documents.
///
/// # Errors
/// [`StoreError`].
pub async fn read_breaks(
    session: &mut Session,
    only_open: bool,
    rail: Option<&RailName>,
    after: Option<Uuid>,
    limit: u32,
) -> Result<Vec<String>, StoreError> {
    const CALL: &str = "read_reconcile_breaks";
    let query = sqlx::query(READ_BREAKS).bind(only_open).bind(rail.map(RailName::as_str)).bind(after);
    let rows = session.fetch(CALL, query.bind(small(limit))).await?;
    rows.iter().map(|row| column(CALL, row, "document")).collect()
}
