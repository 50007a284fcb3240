//! Claiming: the call, and the reading of its rows.

use outbox_core::{AttemptKind, AttemptNo, LeaseToken, OutboxId};
use sqlx::postgres::PgRow;

use crate::calls::{CLAIM, column, count, known, millis, read_cursor, read_held, signed, small};
use crate::error::StoreError;
use crate::memory::LogMark;
use crate::rows::{ClaimBatch, ClaimRequest, ClaimSummary, ClaimedPayment, HeldPayment};
use crate::session::Session;

/// Leases at most `request.limit` due payments.
///
/// # Errors
/// [`StoreError`]; after a timeout or a broken connection the leases may be granted, and nothing of
/// them may be sent: they run out.
pub async fn claim(session: &mut Session, request: &ClaimRequest) -> Result<ClaimBatch, StoreError> {
    const CALL: &str = "claim_outbox_batch";
    let query = sqlx::query(CLAIM)
        .bind(request.rail.as_str())
        .bind(request.worker_id.as_str())
        .bind(small(request.limit))
        .bind(signed(request.min_lease))
        .bind(small(request.in_flight))
        .bind(request.after.map(|cursor| cursor.due_at))
        .bind(request.after.map(|cursor| cursor.outbox_id.0))
        .bind(request.environment.as_deref())
        .bind(request.endpoint.as_deref())
        .bind(request.seen.mark.epoch_us)
        .bind(request.seen.mark.log_position)
        .bind(request.seen.id)
        .bind(request.seen.mark.beat)
        .bind(request.policy_version.map(|version| version.0));
    let rows = session.fetch(CALL, query).await?;
    let mut batch: (Vec<ClaimedPayment>, Vec<HeldPayment>, Option<ClaimSummary>) = (Vec::new(), Vec::new(), None);
    for row in &rows {
        match column::<&str>(CALL, row, "kind")? {
            "HELD" => batch.1.push(read_held(CALL, row)?),
            "SUMMARY" => batch.2 = Some(read_summary(CALL, row)?),
            other => batch.0.push(read_claimed(CALL, row, known(CALL, "kind", other, AttemptKind::from_name(other))?)?),
        }
    }
    let (leased, held, summary) = batch;
    if leased.len() > request.limit as usize {
        let what = format!("asked for {} payments and got {}", request.limit, leased.len());
        return Err(StoreError::Invariant { call: CALL, what });
    }
    let summary =
        summary.ok_or_else(|| StoreError::Invariant { call: CALL, what: "the reply has no summary".to_owned() })?;
    Ok(ClaimBatch { leased, held, summary })
}

fn read_claimed(call: &'static str, row: &PgRow, kind: AttemptKind) -> Result<ClaimedPayment, StoreError> {
    let payload: Option<Vec<u8>> = column(call, row, "payload")?;
    if kind == AttemptKind::Submit && payload.is_none() {
        return Err(StoreError::Invariant { call, what: "a payment to send came without its payload".to_owned() });
    }
    Ok(ClaimedPayment {
        kind,
        outbox_id: OutboxId(column(call, row, "outbox_id")?),
        attempt_no: AttemptNo(column(call, row, "attempt_no")?),
        lease_token: LeaseToken(column(call, row, "lease_token")?),
        lease_duration: millis(call, row, "lease_ms")?,
        participant_id: column(call, row, "participant_id")?,
        endpoint: column(call, row, "endpoint")?,
        payload: payload.unwrap_or_default(),
        content_type: column(call, row, "content_type")?,
        traceparent: column(call, row, "traceparent")?,
        due_at: column(call, row, "due_at")?,
        not_after: column(call, row, "not_after")?,
        db_now: column(call, row, "db_now")?,
        crash_count: count(call, row, "crash_count")?,
        is_resend: column(call, row, "is_resend")?,
    })
}

fn read_summary(call: &'static str, row: &PgRow) -> Result<ClaimSummary, StoreError> {
    Ok(ClaimSummary {
        db_now: column(call, row, "db_now")?,
        next_due_at: column(call, row, "next_due_at")?,
        cursor: read_cursor(call, row, "due_at", "outbox_id")?,
        expired: count(call, row, "expired_count")?,
        suspects: count(call, row, "suspect_count")?,
        parked: count(call, row, "parked_count")?,
        paused: column(call, row, "paused")?,
        mark: LogMark::read(call, row)?,
    })
}
