//! Whether the promises hold, asked of the database.

use crate::calls::{column, only, small};
use crate::error::StoreError;
use crate::session::Session;

pub(crate) const AUDIT: &str = "select outbox.audit_outbox($1, $2)::text as document";

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditScope {
    /// What may have changed since the audits before.
    Changed,
    /// Everything.
    Full,
}

/// Audits, and records that it did. Returns a JSON document with at most `findings_max` findings; all are counted.
///
/// # Errors
/// [`StoreError`].
pub async fn audit(session: &mut Session, scope: AuditScope, findings_max: u32) -> Result<String, StoreError> {
    const CALL: &str = "audit_outbox";
    let query = sqlx::query(AUDIT).bind(scope == AuditScope::Full).bind(small(findings_max));
    let rows = session.fetch(CALL, query).await?;
    column(CALL, only(CALL, &rows)?, "document")
}
