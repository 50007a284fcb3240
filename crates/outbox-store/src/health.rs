//! What a dispatcher's login may ask about why nothing is paid. Nothing here reads a payment, and nothing is judged.

use crate::Memory;
use crate::calls::{column, only};
use crate::error::StoreError;
use crate::session::Session;

pub(crate) const CHECK_EPOCH: &str = "select outbox.check_epoch($1, $2, $3, $4, $5)";
pub(crate) const READ_HEALTH: &str = "select * from outbox.read_outbox_health()";

/// Who dispatches, and whether payments can be enqueued for long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxHealth {
    /// The worker ids of the dispatchers that show themselves and claim.
    pub running: Vec<String>,
    /// The rails of those.
    pub lanes: Vec<String>,
    /// The worker ids of those that missed three heartbeats within a day.
    pub silent: Vec<String>,
    /// Months ahead that have partitions.
    pub partition_headroom_months: i32,
}

/// Whether a claim by a dispatcher of `environment` that remembers what it has `seen` would be let in.
///
/// # Errors
/// [`StoreError::Refused`] with `OB011` or `OB015` if not; another [`StoreError`] if that could not be asked.
pub async fn check_epoch(session: &mut Session, environment: Option<&str>, seen: Memory) -> Result<(), StoreError> {
    let query = sqlx::query(CHECK_EPOCH)
        .bind(environment)
        .bind(seen.mark.epoch_us)
        .bind(seen.mark.log_position)
        .bind(seen.id)
        .bind(seen.mark.beat);
    session.fetch("check_epoch", query).await.map(drop)
}

/// Who dispatches, and whether payments can be enqueued for long.
///
/// # Errors
/// [`StoreError`].
pub async fn read_health(session: &mut Session) -> Result<OutboxHealth, StoreError> {
    const CALL: &str = "read_outbox_health";
    let rows = session.fetch(CALL, sqlx::query(READ_HEALTH)).await?;
    let row = only(CALL, &rows)?;
    Ok(OutboxHealth {
        running: column(CALL, row, "running")?,
        lanes: column(CALL, row, "lanes")?,
        silent: column(CALL, row, "silent")?,
        partition_headroom_months: column(CALL, row, "partition_headroom_months")?,
    })
}
