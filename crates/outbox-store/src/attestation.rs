//! What the entrance attests of a request: whose it was, by which proof, and whether it was let in. For programs that
//! check proofs; nothing is checked here, and what a row may hold is the database's decision.

use std::fmt;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::calls::{column, known, only};
use crate::error::StoreError;
use crate::session::Session;

pub(crate) const RECORD_ATTESTATION: &str = "select * from outbox.record_ingress_attestation($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";

const CALL: &str = "record_ingress_attestation";

/// How a request was proved. What it is proved by is named, so that it can be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// A client certificate: its fingerprint is named.
    Mtls,
    /// A signature over the payload (RFC 7515): its key is named.
    Jws,
    /// A bearer token (RFC 7519): itself or its key is named.
    Jwt,
    /// A signature over the HTTP message (RFC 9421): its key is named.
    HttpSignature,
    /// A code with a shared key, which is named.
    Hmac,
    /// A key for a program, known by its name.
    ApiKey,
    /// A key of a session in which files are delivered.
    Ssh,
    /// None was shown; only for what is rejected.
    Nothing,
}

impl AuthMethod {
    /// The name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mtls => "MTLS",
            Self::Jws => "JWS",
            Self::Jwt => "JWT",
            Self::HttpSignature => "HTTPSIG",
            Self::Hmac => "HMAC",
            Self::ApiKey => "APIKEY",
            Self::Ssh => "SSH",
            Self::Nothing => "NONE",
        }
    }
}

/// Whether a request was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It was.
    Accepted,
    /// It was turned away.
    Rejected,
}

impl Decision {
    /// The name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "ACCEPTED",
            Self::Rejected => "REJECTED",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Accepted, Self::Rejected].into_iter().find(|decision| decision.name() == name)
    }
}

/// What is attested of a request. It has no payload, and no token, key or password.
#[derive(Clone)]
pub struct NewAttestation {
    /// The request, unique for the participant. One with several payments has an attestation, and a `request_id`, for each.
    pub request_id: String,
    /// Whose request.
    pub participant_id: String,
    /// The order to pay; required for what is accepted.
    pub instruction_id: Option<String>,
    /// For whom the entrance serves the participant, where it serves several.
    pub tenant_id: Option<String>,
    /// When it came, by the clock of the entrance.
    pub received_at: OffsetDateTime,
    /// SHA-256 over the bytes that are enqueued.
    pub payload_sha256: [u8; 32],
    /// How it was proved.
    pub auth_method: AuthMethod,
    /// SHA-256 over the client certificate (DER).
    pub client_cert_fingerprint: Option<[u8; 32]>,
    /// The name of the key.
    pub key_id: Option<String>,
    /// The issuer of the token.
    pub jwt_iss: Option<String>,
    /// The name of the token.
    pub jti: Option<String>,
    /// The algorithm of the signature.
    pub signature_alg: Option<String>,
    /// The signature, at most 4,096 bytes, without what was signed.
    pub signature: Option<Vec<u8>>,
    /// Whether it was let in, as far as the entrance is concerned.
    pub decision: Decision,
    /// Why; required for what is rejected.
    pub reason_code: Option<String>,
    /// Under which policy.
    pub policy_version: Option<String>,
}

impl fmt::Debug for NewAttestation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewAttestation")
            .field("request_id", &self.request_id)
            .field("participant_id", &self.participant_id)
            .field("instruction_id", &self.instruction_id)
            .field("decision", &self.decision)
            .finish_non_exhaustive()
    }
}

/// A recorded attestation, and what holds now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attested {
    /// The attestation, to be enqueued with the payment.
    pub attestation_id: Uuid,
    /// The decision: [`Decision::Rejected`] for the reason `REVOKED` where the credential is revoked, whatever was asked for.
    pub decision: Decision,
    /// Why.
    pub reason_code: Option<String>,
    /// Whether this call recorded it; otherwise it was there already.
    pub created: bool,
}

/// Records an attestation in the caller's transaction: pass `&mut *transaction`, before the payment is enqueued in it.
///
/// # Errors
/// [`StoreError::Refused`]: `OB020` for a request that is recorded with other content, `OB003` for a bad value, naming the
/// column; the transaction is then aborted.
pub async fn record_attestation_in(
    connection: &mut PgConnection,
    attestation: &NewAttestation,
) -> Result<Attested, StoreError> {
    let rows = query(attestation).fetch_all(connection).await.map_err(|source| StoreError::of(CALL, source))?;
    read(&rows)
}

/// Records an attestation in a transaction of its own: what is rejected has no other.
///
/// # Errors
/// As [`record_attestation_in`]. After a timeout or a broken connection, call again: it is safe to repeat.
pub async fn record_attestation(session: &mut Session, attestation: &NewAttestation) -> Result<Attested, StoreError> {
    read(&session.fetch(CALL, query(attestation)).await?)
}

fn query(attestation: &NewAttestation) -> Query<'_, Postgres, PgArguments> {
    sqlx::query(RECORD_ATTESTATION)
        .bind(&attestation.request_id)
        .bind(&attestation.participant_id)
        .bind(&attestation.instruction_id)
        .bind(attestation.received_at)
        .bind(attestation.payload_sha256.as_slice())
        .bind(attestation.auth_method.name())
        .bind(attestation.decision.name())
        .bind(&attestation.reason_code)
        .bind(&attestation.tenant_id)
        .bind(attestation.client_cert_fingerprint.as_ref().map(<[u8; 32]>::as_slice))
        .bind(&attestation.key_id)
        .bind(&attestation.jwt_iss)
        .bind(&attestation.jti)
        .bind(&attestation.signature_alg)
        .bind(&attestation.signature)
        .bind(&attestation.policy_version)
}

fn read(rows: &[PgRow]) -> Result<Attested, StoreError> {
    let row = only(CALL, rows)?;
    let decision: &str = column(CALL, row, "decision")?;
    Ok(Attested {
        attestation_id: column(CALL, row, "attestation_id")?,
        decision: known(CALL, "decision", decision, Decision::from_name(decision))?,
        reason_code: column(CALL, row, "reason_code")?,
        created: column(CALL, row, "created")?,
    })
}
