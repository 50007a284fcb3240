//! Statements of rails and what differs: one Rust function for each SQL function.

use outbox_core::{Millis, RailName};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::calls::{column, only, signed, small};
use crate::error::StoreError;
use crate::session::Session;

pub(crate) const BEGIN_RECONCILE: &str =
    "select * from outbox.begin_reconcile($1, $2, $3, $4, $5, $6, $7, $8::jsonb, $9)";
pub(crate) const RECORD_LINES: &str =
    "select outbox.record_statement_lines($1, $2, $3, $4, $5, $6, $7, $8, $9) as recorded";
pub(crate) const FINISH_RECONCILE: &str = "select * from outbox.finish_reconcile($1, $2)";
pub(crate) const RESOLVE_BREAK: &str = "select outbox.resolve_reconcile_break($1, $2, $3)";
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
    /// Their money, a JSON object: a sum in minor units for each currency.
    pub sums: String,
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

/// How a comparison ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Payments on which both sides agree.
    pub matched: i64,
    /// Payments that the edge of the period leaves to the next statement.
    pub at_the_edge: i64,
    /// Breaks found now.
    pub found: i32,
    /// Breaks closed now, because both sides agree.
    pub closed: i32,
    /// Breaks of the rail that are open.
    pub open_breaks: i64,
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
        .bind(&head.sums)
        .bind(&head.reason);
    let rows = session.fetch(CALL, query).await?;
    let row = only(CALL, &rows)?;
    Ok((column(CALL, row, "statement_id")?, column(CALL, row, "lines_recorded")?))
}

/// Records lines of a statement that has not been compared yet; returns how many were new.
///
/// # Errors
/// [`StoreError::Refused`] with `OB003` for a statement that takes no lines.
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
/// [`StoreError::Refused`] with `OB003` if lines are missing or breaks are too many.
pub async fn finish_reconcile(
    session: &mut Session,
    statement_id: Uuid,
    breaks_max: u32,
) -> Result<Comparison, StoreError> {
    const CALL: &str = "finish_reconcile";
    let rows = session.fetch(CALL, sqlx::query(FINISH_RECONCILE).bind(statement_id).bind(small(breaks_max))).await?;
    let row = only(CALL, &rows)?;
    Ok(Comparison {
        matched: column(CALL, row, "matched")?,
        at_the_edge: column(CALL, row, "at_the_edge")?,
        found: column(CALL, row, "breaks_found")?,
        closed: column(CALL, row, "breaks_closed")?,
        open_breaks: column(CALL, row, "open_breaks")?,
    })
}

/// A person closes a break.
///
/// # Errors
/// [`StoreError::Refused`] with `OB003` for a bad value, or a break that is closed already.
pub async fn resolve_break(
    session: &mut Session,
    break_id: Uuid,
    reason: &str,
    action_id: Option<Uuid>,
) -> Result<(), StoreError> {
    let query = sqlx::query(RESOLVE_BREAK).bind(break_id).bind(reason).bind(action_id);
    session.fetch("resolve_reconcile_break", query).await.map(drop)
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
