//! Policies: proposing, deciding, activating, and reading the one that is active. What a document means is not known here.

use outbox_core::{PolicyVersion, RailName};
use sqlx::postgres::PgRow;

use crate::calls::{column, only, small};
use crate::error::StoreError;
use crate::session::Session;

pub(crate) const PROPOSE_POLICY: &str = "select * from outbox.propose_policy($1, $2)";
pub(crate) const DECIDE_POLICY: &str = "select outbox.decide_policy($1, $2, $3, $4)";
pub(crate) const ACTIVATE_POLICY: &str = "select * from outbox.activate_policy($1, $2)";
pub(crate) const READ_POLICY_VERSIONS: &str =
    "select p.document::text from outbox.read_policy_versions($1, $2) as p (document)";

/// A policy as its maker proposed it: what an approval is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyProposal {
    /// Its version.
    pub version: PolicyVersion,
    /// SHA-256 over its document, in hexadecimal.
    pub checksum: String,
    /// The version that was active.
    pub base_version: Option<PolicyVersion>,
}

/// The second person's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyDecision {
    /// It may be activated.
    Approved,
    /// It never is.
    Rejected,
}

impl PolicyDecision {
    /// The name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Approved => "APPROVED",
            Self::Rejected => "REJECTED",
        }
    }
}

/// The active policy, as its rows have it; whether they agree is the caller's to judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActivePolicy {
    /// Its version.
    pub version: PolicyVersion,
    /// Its document; `None` if it is the one that the caller has, by its hash.
    pub document: Option<String>,
    /// The checksum beside the document, the one that was approved and the one that was activated; `None` where that
    /// row is missing.
    pub checksums: [Option<Vec<u8>>; 3],
}

/// Records a policy that somebody wants: canonical JSON.
///
/// # Errors
/// [`StoreError::Refused`] with `OB003` for a bad value, by name.
pub async fn propose_policy(session: &mut Session, document: &str, reason: &str) -> Result<PolicyProposal, StoreError> {
    const CALL: &str = "propose_policy";
    let rows = session.fetch(CALL, sqlx::query(PROPOSE_POLICY).bind(document).bind(reason)).await?;
    let row = only(CALL, &rows)?;
    Ok(PolicyProposal {
        version: PolicyVersion(column(CALL, row, "version")?),
        checksum: column(CALL, row, "checksum")?,
        base_version: column::<Option<i32>>(CALL, row, "base_version")?.map(PolicyVersion),
    })
}

/// The second person's word on the policy with this checksum.
///
/// # Errors
/// [`StoreError::Refused`]: `OB012` for the maker's own, `OB013` if it is decided already, `OB016` if another is active
/// than when it was proposed, `OB003` if the document is another.
pub async fn decide_policy(
    session: &mut Session,
    version: PolicyVersion,
    decision: PolicyDecision,
    checksum: &str,
    reason: &str,
) -> Result<(), StoreError> {
    let query = sqlx::query(DECIDE_POLICY).bind(version.0).bind(decision.name()).bind(checksum).bind(reason);
    session.fetch("decide_policy", query).await.map(drop)
}

/// Puts an approved policy in force; every rail, and whether the policy has it.
///
/// # Errors
/// [`StoreError::Refused`]: `OB014` if it is not approved, `OB016` if another is active than when it was proposed.
pub async fn activate_policy(
    session: &mut Session,
    version: PolicyVersion,
    reason: &str,
) -> Result<Vec<(RailName, bool)>, StoreError> {
    const CALL: &str = "activate_policy";
    let rows = session.fetch(CALL, sqlx::query(ACTIVATE_POLICY).bind(version.0).bind(reason)).await?;
    let one = |row: &PgRow| {
        let rail = RailName::new(column::<String>(CALL, row, "rail")?)
            .map_err(|bad| StoreError::Invariant { call: CALL, what: bad.to_string() })?;
        Ok((rail, column(CALL, row, "is_governed")?))
    };
    rows.iter().map(one).collect()
}

pub(crate) fn read_policy(call: &'static str, row: &PgRow) -> Result<ActivePolicy, StoreError> {
    Ok(ActivePolicy {
        version: PolicyVersion(column(call, row, "active_version")?),
        document: column(call, row, "document")?,
        checksums: [
            column(call, row, "checksum")?,
            column(call, row, "approved_checksum")?,
            column(call, row, "activated_checksum")?,
        ],
    })
}

/// One policy with its text, or the last `limit` without: JSON objects, the newest first.
///
/// # Errors
/// [`StoreError`].
pub async fn read_policy_versions(
    session: &mut Session,
    version: Option<PolicyVersion>,
    limit: u32,
) -> Result<Vec<String>, StoreError> {
    const CALL: &str = "read_policy_versions";
    let query = sqlx::query(READ_POLICY_VERSIONS).bind(version.map(|version| version.0)).bind(small(limit));
    session.fetch(CALL, query).await?.iter().map(|row| column(CALL, row, "document")).collect()
}
