//! Completing: the call, and how one bad value is kept from costing its batch-mates their leases.

use outbox_core::{Outcome, WorkerId};
use sqlx::postgres::PgRow;

use crate::calls::{COMPLETE, in_order, read_applied, read_verdict, signed};
use crate::error::StoreError;
use crate::rows::{Completion, CompletionVerdict};
use crate::session::Session;

const CALL: &str = "complete_outbox_batch";

/// Records what attempts came to; a verdict for each, in order. If the database does not take a value
/// (SQLSTATE class 22 or 23), the batch is halved down to the bad one, which is completed without its
/// free text: a strange answer of a rail must not cost a lease.
///
/// # Errors
/// [`StoreError`]; [`StoreError::Invariant`] if the ledger does not take a result at all: the others are recorded nevertheless; after a timeout or a broken connection, call again: the same result of the same
/// attempt comes back as [`CompletionVerdict::AlreadyApplied`].
pub async fn complete(
    session: &mut Session,
    worker_id: &WorkerId,
    completions: &[&Completion],
) -> Result<Vec<CompletionVerdict>, StoreError> {
    let mut verdicts = Vec::with_capacity(completions.len());
    // A stack of parts still to do, the next one last.
    let mut parts = vec![completions];
    let mut broken = None;
    while let Some(part) = parts.pop() {
        match (call(session, worker_id, part).await, part) {
            (Ok(done), _) => verdicts.extend(done),
            (Err(StoreError::BadValue { .. }), [one]) => match call_bare(session, worker_id, one).await {
                Ok(done) => verdicts.extend(done),
                Err(error @ StoreError::Invariant { .. }) => broken = broken.or(Some(error)),
                Err(error) => return Err(error),
            },
            (Err(StoreError::BadValue { .. }), _) => {
                let (left, right) = part.split_at(part.len() / 2);
                parts.extend([right, left]);
            }
            (Err(error), _) => return Err(error),
        }
    }
    broken.map_or(Ok(verdicts), Err)
}

/// One completion without its free text. If the database does not take even that, the ledger holds
/// what it must not: another row of this attempt, or another terminal one.
async fn call_bare(
    session: &mut Session,
    worker_id: &WorkerId,
    completion: &Completion,
) -> Result<Vec<CompletionVerdict>, StoreError> {
    let result = call(session, worker_id, &[&without_free_text(completion)]).await;
    result.map_err(|error| match error {
        StoreError::BadValue { call, source } => {
            let (id, attempt_no) = (completion.lease.outbox_id, completion.lease.attempt_no);
            let what = format!("the ledger does not take the result of attempt {attempt_no} of {id}: {source}");
            StoreError::Invariant { call, what }
        }
        other => other,
    })
}

/// The outcome, the times and the hashes stay. A reference is a proof: what of it is plain text stays.
fn without_free_text(completion: &Completion) -> Completion {
    let plain = |text: &String| text.chars().filter(|c| c.is_ascii_graphic()).collect::<String>();
    let reference =
        completion.rail_reference.as_ref().map(plain).map(|r| if r.is_empty() { "?".to_owned() } else { r });
    Completion {
        endpoint: None,
        rail_reference: reference,
        rail_code: None,
        error_class: Some("unrecordable_text".to_owned()),
        error_detail: None,
        ..completion.clone()
    }
}

async fn call(
    session: &mut Session,
    worker_id: &WorkerId,
    completions: &[&Completion],
) -> Result<Vec<CompletionVerdict>, StoreError> {
    if completions.is_empty() {
        return Ok(Vec::new());
    }
    let all = completions.iter();
    let query = sqlx::query(COMPLETE)
        .bind(worker_id.as_str())
        .bind(all.clone().map(|c| c.lease.outbox_id.0).collect::<Vec<_>>())
        .bind(all.clone().map(|c| c.lease.attempt_no.0).collect::<Vec<_>>())
        .bind(all.clone().map(|c| c.lease.lease_token.0).collect::<Vec<_>>())
        .bind(all.clone().map(|c| Outcome::name(c.outcome)).collect::<Vec<_>>())
        .bind(all.clone().map(|c| signed(c.delay)).collect::<Vec<_>>())
        .bind(all.clone().map(|c| c.first_byte_at).collect::<Vec<_>>())
        .bind(all.clone().map(|c| c.last_byte_at).collect::<Vec<_>>())
        .bind(all.clone().map(|c| c.endpoint.as_deref()).collect::<Vec<_>>())
        .bind(all.clone().map(|c| c.request_sha256.as_ref().map(<[u8; 32]>::as_slice)).collect::<Vec<_>>())
        .bind(all.clone().map(|c| c.response_sha256.as_ref().map(<[u8; 32]>::as_slice)).collect::<Vec<_>>())
        .bind(all.clone().map(|c| c.rail_reference.as_deref()).collect::<Vec<_>>())
        .bind(all.clone().map(|c| c.rail_code.as_deref()).collect::<Vec<_>>())
        .bind(all.clone().map(|c| c.error_class.as_deref()).collect::<Vec<_>>())
        .bind(all.map(|c| c.error_detail.as_deref()).collect::<Vec<_>>());
    let rows = session.fetch(CALL, query).await?;
    in_order(CALL, completions.len(), &rows, |row: &PgRow| read_verdict(CALL, row, |row| read_applied(CALL, row)))
}
