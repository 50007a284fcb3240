//! The deny lists of credentials, beside what their PKI or issuer says: entries, and whether a certificate is on one.
//! What a revocation stops is the database's decision.

use sqlx::Postgres;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::calls::{column, only};
use crate::error::StoreError;
use crate::session::Session;

pub(crate) const REVOKE_CERT: &str = "select * from outbox.revoke_client_cert($1, $2, $3)";
pub(crate) const REVOKE_TOKEN: &str = "select * from outbox.revoke_token($1, $2, $3, $4, $5)";
pub(crate) const READ_REVOKED_CERTS: &str = "select c.fingerprint as revoked_fingerprint, c.revoked_at, c.revoked_by, c.reason as revoked_reason from outbox.read_revoked_client_certs($1) c";

/// SHA-256 over a client certificate (DER).
pub type Fingerprint = [u8; 32];

/// What a revocation of tokens names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenName {
    /// One token.
    Jti(String),
    /// A key, and with it all that it signs.
    KeyId(String),
}

/// An entry of a deny list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The entry.
    pub revocation_id: Uuid,
    /// Since when it counts.
    pub revoked_at: OffsetDateTime,
    /// Whether this call made it; otherwise one that counts as long was there already.
    pub created: bool,
}

/// A client certificate that is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedCert {
    /// The certificate.
    pub fingerprint: Fingerprint,
    /// Since when.
    pub revoked_at: OffsetDateTime,
    /// By whom.
    pub revoked_by: String,
    /// Why.
    pub reason: String,
}

/// Revokes a client certificate until `expires_at`, for ever without one.
///
/// # Errors
/// [`StoreError::Refused`] with `OB003` for a bad value.
pub async fn revoke_client_cert(
    session: &mut Session,
    fingerprint: &Fingerprint,
    reason: &str,
    expires_at: Option<OffsetDateTime>,
) -> Result<Revocation, StoreError> {
    let query = sqlx::query(REVOKE_CERT).bind(fingerprint.as_slice()).bind(reason).bind(expires_at);
    revoke(session, "revoke_client_cert", query).await
}

/// Revokes a token or a key, of one issuer or of any, until `expires_at`, for ever without one.
///
/// # Errors
/// [`StoreError::Refused`] with `OB003` for a bad value.
pub async fn revoke_token(
    session: &mut Session,
    token: &TokenName,
    issuer: Option<&str>,
    reason: &str,
    expires_at: Option<OffsetDateTime>,
) -> Result<Revocation, StoreError> {
    let (jti, key_id) = match token {
        TokenName::Jti(jti) => (Some(jti), None),
        TokenName::KeyId(key_id) => (None, Some(key_id)),
    };
    let query = sqlx::query(REVOKE_TOKEN).bind(jti).bind(key_id).bind(issuer).bind(reason).bind(expires_at);
    revoke(session, "revoke_token", query).await
}

async fn revoke(
    session: &mut Session,
    call: &'static str,
    query: Query<'_, Postgres, PgArguments>,
) -> Result<Revocation, StoreError> {
    let rows = session.fetch(call, query).await?;
    let row = only(call, &rows)?;
    Ok(Revocation {
        revocation_id: column(call, row, "revocation_id")?,
        revoked_at: column(call, row, "revoked_at")?,
        created: column(call, row, "created")?,
    })
}

/// Those of `fingerprints` that are revoked.
///
/// # Errors
/// [`StoreError`].
pub async fn read_revoked_certs(
    session: &mut Session,
    fingerprints: &[Fingerprint],
) -> Result<Vec<RevokedCert>, StoreError> {
    const CALL: &str = "read_revoked_client_certs";
    let rows = session.fetch(CALL, sqlx::query(READ_REVOKED_CERTS).bind(bytes(fingerprints))).await?;
    rows.iter().map(|row| revoked_cert(CALL, row)).collect()
}

pub(crate) fn bytes(fingerprints: &[Fingerprint]) -> Vec<&[u8]> {
    fingerprints.iter().map(Fingerprint::as_slice).collect()
}

pub(crate) fn revoked_cert(call: &'static str, row: &PgRow) -> Result<RevokedCert, StoreError> {
    let fingerprint: &[u8] = column(call, row, "revoked_fingerprint")?;
    Ok(RevokedCert {
        fingerprint: fingerprint.try_into().map_err(|_| StoreError::Invariant {
            call,
            what: format!("a fingerprint of {} bytes", fingerprint.len()),
        })?,
        revoked_at: column(call, row, "revoked_at")?,
        revoked_by: column(call, row, "revoked_by")?,
        reason: column(call, row, "revoked_reason")?,
    })
}
