//! What people and monitors read.

use outbox_core::{Millis, OutboxId};
use sqlx::postgres::PgRow;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::calls::{READ_BLOCKED_KEYS, READ_METRICS, READ_STATUS, READ_TIMELINES, column, signed};
use crate::error::StoreError;
use crate::rows::{BlockedKey, Figure, RailStatus, RiskHorizon};
use crate::session::Session;

/// Where the payments of each rail are; dispatched and failed ones count from `since` on.
///
/// # Errors
/// [`StoreError`].
pub async fn read_status(session: &mut Session, since: Option<OffsetDateTime>) -> Result<Vec<RailStatus>, StoreError> {
    const CALL: &str = "read_outbox_status";
    let rows = session.fetch(CALL, sqlx::query(READ_STATUS).bind(since)).await?;
    let age = |row: &PgRow, name: &str| -> Result<Option<Millis>, StoreError> {
        let value: Option<i64> = column(CALL, row, name)?;
        Ok(value.map(|age| Millis(u64::try_from(age).unwrap_or(0))))
    };
    rows.iter()
        .map(|row| {
            Ok(RailStatus {
                rail: column(CALL, row, "rail")?,
                paused: column(CALL, row, "paused")?,
                due: column(CALL, row, "due")?,
                waiting: column(CALL, row, "waiting")?,
                in_flight: column(CALL, row, "in_flight")?,
                in_doubt: column(CALL, row, "in_doubt")?,
                held: column(CALL, row, "held")?,
                parked: column(CALL, row, "parked")?,
                late_successes: column(CALL, row, "late_successes")?,
                dispatched: column(CALL, row, "dispatched")?,
                failed: column(CALL, row, "failed")?,
                failed_but_accepted: column(CALL, row, "failed_but_accepted")?,
                accepted_twice: column(CALL, row, "accepted_twice")?,
                oldest_due: age(row, "oldest_due_ms")?,
                oldest_in_doubt: age(row, "oldest_in_doubt_ms")?,
                partition_headroom_months: column(CALL, row, "partition_headroom_months")?,
            })
        })
        .collect()
}

/// The figures that operators watch; of rails without a horizon no amounts at risk.
///
/// # Errors
/// [`StoreError`].
pub async fn read_metrics(session: &mut Session, horizons: &[RiskHorizon]) -> Result<Vec<Figure>, StoreError> {
    const CALL: &str = "read_outbox_metrics";
    let rails: Vec<&str> = horizons.iter().map(|horizon| horizon.rail.as_str()).collect();
    let ahead: Vec<i64> = horizons.iter().map(|horizon| signed(horizon.ahead)).collect();
    let rows = session.fetch(CALL, sqlx::query(READ_METRICS).bind(rails).bind(ahead)).await?;
    rows.iter()
        .map(|row| {
            Ok(Figure {
                name: column(CALL, row, "figure")?,
                labels: column(CALL, row, "labels")?,
                value: column(CALL, row, "value")?,
            })
        })
        .collect()
}

/// Everything known of the payments with this id, as JSON documents without payloads. `id` is an
/// `outbox_id` or an `instruction_id`, which `participant_id` narrows.
///
/// # Errors
/// [`StoreError`].
pub async fn read_timelines(
    session: &mut Session,
    id: &str,
    participant_id: Option<&str>,
) -> Result<Vec<String>, StoreError> {
    const CALL: &str = "read_payment_timelines";
    let rows = session.fetch(CALL, sqlx::query(READ_TIMELINES).bind(id).bind(participant_id)).await?;
    rows.iter().map(|row| column(CALL, row, "document")).collect()
}

/// The ordering keys under which payments wait for an earlier one, held ones first, at most `limit`.
///
/// # Errors
/// [`StoreError`].
pub async fn read_blocked_keys(session: &mut Session, limit: i32) -> Result<Vec<BlockedKey>, StoreError> {
    const CALL: &str = "read_blocked_keys";
    let rows = session.fetch(CALL, sqlx::query(READ_BLOCKED_KEYS).bind(limit)).await?;
    rows.iter()
        .map(|row| {
            Ok(BlockedKey {
                rail: column(CALL, row, "rail")?,
                ordering_key: column(CALL, row, "ordering_key")?,
                first: OutboxId(column::<Uuid>(CALL, row, "first_outbox_id")?),
                disposition: column(CALL, row, "disposition")?,
                hold_reason: column(CALL, row, "hold_reason")?,
                first_enqueued_at: column(CALL, row, "first_enqueued_at")?,
                blocked: column(CALL, row, "blocked")?,
                amounts: column(CALL, row, "amounts_text")?,
            })
        })
        .collect()
}
