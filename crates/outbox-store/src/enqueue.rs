//! Enqueueing, for Rust callers: inside the caller's own transaction, next to its own books.

use std::fmt;

use outbox_core::{OutboxId, RailName};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::calls::{ENQUEUE_BATCH, column, in_order};
use crate::error::StoreError;
use crate::session::Session;

const CALL: &str = "enqueue_payment_outbox_batch";

/// A payment to record.
#[derive(Clone)]
pub struct NewPayment {
    /// Who pays.
    pub participant_id: String,
    /// The order to pay, unique for the participant.
    pub instruction_id: String,
    /// The caller's key; the same instruction under another key is refused.
    pub idempotency_key: String,
    /// Over which rail.
    pub rail: RailName,
    /// The bytes that the rail gets.
    pub payload: Vec<u8>,
    /// Their media type.
    pub content_type: String,
    /// The amount in minor units.
    pub amount_minor: Option<i64>,
    /// The currency, ISO 4217.
    pub currency: Option<String>,
    /// Not to be sent before this.
    pub not_before: Option<OffsetDateTime>,
    /// Not to be sent after this.
    pub not_after: Option<OffsetDateTime>,
    /// Payments of one rail with one key are sent one at a time, in the order of their enqueue: the next when the
    /// one before has ended. A held one blocks its key.
    pub ordering_key: Option<String>,
    /// The caller's W3C trace context.
    pub traceparent: Option<String>,
    /// Who asked for it, and by which proof: an accepted attestation of these bytes. It is no part of the identity: a
    /// repetition brings a new one, and is not judged again.
    pub attestation_id: Option<Uuid>,
}

impl fmt::Debug for NewPayment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewPayment")
            .field("participant_id", &self.participant_id)
            .field("instruction_id", &self.instruction_id)
            .field("rail", &self.rail)
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// Whether a sleeping lane is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// It is: the payment leaves at once.
    Wake,
    /// It is not: for transactions that are prepared (two-phase commit), where NOTIFY is not allowed.
    /// The payment leaves at the lane's next poll.
    Quiet,
}

/// A recorded payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enqueued {
    /// The payment.
    pub outbox_id: OutboxId,
    /// Whether this call recorded it; otherwise it was there already.
    pub created: bool,
}

/// Records `payments` in the caller's transaction: pass `&mut *transaction`. One answer for each, in
/// order. They exist when the transaction commits.
///
/// # Errors
/// [`StoreError::Refused`]: `OB001` and `OB002` for an instruction that is recorded with another
/// request or under another key, `OB003` and `OB004` for a bad value or an unknown rail, naming
/// payment and column; `OB021` and `OB022` for an attestation that is missing, does not allow this payment, or rests on a
/// revoked credential. The transaction is then aborted. [`StoreError::Server`] with SQLSTATE 40001
/// above read committed: try the transaction again.
pub async fn enqueue_in(
    connection: &mut PgConnection,
    payments: &[NewPayment],
    hint: Hint,
) -> Result<Vec<Enqueued>, StoreError> {
    let rows = query(payments, hint).fetch_all(connection).await.map_err(|source| StoreError::of(CALL, source))?;
    read(payments, &rows)
}

/// Records `payments` in a transaction of their own.
///
/// # Errors
/// As [`enqueue_in`]. After a timeout or a broken connection, call again: it is safe to repeat.
pub async fn enqueue_batch(
    session: &mut Session,
    payments: &[NewPayment],
    hint: Hint,
) -> Result<Vec<Enqueued>, StoreError> {
    let rows = session.fetch(CALL, query(payments, hint)).await?;
    read(payments, &rows)
}

fn query(payments: &[NewPayment], hint: Hint) -> Query<'_, Postgres, PgArguments> {
    let all = payments.iter();
    sqlx::query(ENQUEUE_BATCH)
        .bind(all.clone().map(|p| p.participant_id.as_str()).collect::<Vec<_>>())
        .bind(all.clone().map(|p| p.instruction_id.as_str()).collect::<Vec<_>>())
        .bind(all.clone().map(|p| p.idempotency_key.as_str()).collect::<Vec<_>>())
        .bind(all.clone().map(|p| p.rail.as_str()).collect::<Vec<_>>())
        .bind(all.clone().map(|p| p.payload.as_slice()).collect::<Vec<_>>())
        .bind(all.clone().map(|p| p.content_type.as_str()).collect::<Vec<_>>())
        .bind(all.clone().map(|p| p.amount_minor).collect::<Vec<_>>())
        .bind(all.clone().map(|p| p.currency.as_deref()).collect::<Vec<_>>())
        .bind(all.clone().map(|p| p.not_before).collect::<Vec<_>>())
        .bind(all.clone().map(|p| p.not_after).collect::<Vec<_>>())
        .bind(all.clone().map(|p| p.ordering_key.as_deref()).collect::<Vec<_>>())
        .bind(all.clone().map(|p| p.traceparent.as_deref()).collect::<Vec<_>>())
        .bind(all.map(|p| p.attestation_id).collect::<Vec<_>>())
        .bind(hint == Hint::Wake)
}

fn read(payments: &[NewPayment], rows: &[PgRow]) -> Result<Vec<Enqueued>, StoreError> {
    in_order(CALL, payments.len(), rows, |row| {
        Ok(Enqueued { outbox_id: OutboxId(column(CALL, row, "outbox_id")?), created: column(CALL, row, "created")? })
    })
}
