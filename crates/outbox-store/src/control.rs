//! What people do to payments, and what they read of it: one Rust function for each SQL function. Lists come as
//! JSON documents, for people to read.

use outbox_core::{OutboxId, RailName};
use sqlx::postgres::PgRow;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::calls::{column, only, read_rail, small};
use crate::error::StoreError;
use crate::policy::{ActivePolicy, read_policy};
use crate::revocation::{Fingerprint, RevokedCert, bytes, revoked_cert};
use crate::rows::RailRow;
use crate::session::Session;

pub(crate) const PROPOSE: &str = "select p.*, p.amounts::text as amounts_text, encode(p.members_sha256, 'hex') as hash from outbox.propose_operator_action($1, $2, $3, $4, $5::jsonb) as p";
pub(crate) const DECIDE: &str = "select outbox.decide_operator_action($1, $2, $3, decode($4, 'hex'), $5, $6::jsonb)";
pub(crate) const WITHDRAW: &str = "select outbox.withdraw_operator_action($1, $2)";
pub(crate) const APPLY: &str = "select * from outbox.apply_operator_action($1, $2)";
pub(crate) const SET_PAUSE: &str = "select outbox.set_outbox_pause($1, $2, $3, $4) as action_id";
pub(crate) const READ_PAUSES: &str = "select u.rail as paused_rail, u.participant_id, u.paused_by, u.paused_at, u.reason from outbox.read_outbox_pauses() u";
pub(crate) const READ_RULES: &str = "select r.*, u.rail as paused_rail, u.participant_id, u.paused_by, u.paused_at, u.reason, \
     c.fingerprint as revoked_fingerprint, c.revoked_at, c.revoked_by, c.reason as revoked_reason, \
     p.active_version, p.document, p.checksum, p.approved_checksum, p.activated_checksum \
     from outbox.read_payment_rails() r full join outbox.read_outbox_pauses() u on false \
     full join outbox.read_revoked_client_certs($1) c on false full join outbox.read_active_policy($2) p on false";
pub(crate) const PROPOSE_FAILOVER: &str = "select outbox.propose_failover($1, $2, $3) as action_id";
pub(crate) const APPLY_FAILOVER: &str = "select * from outbox.apply_failover($1, $2)";
pub(crate) const READ_ACTIONS: &str =
    "select to_jsonb(a)::text as document from outbox.read_operator_actions($1, $2) as a";
pub(crate) const READ_MEMBERS: &str =
    "select to_jsonb(m)::text as document from outbox.read_action_members($1, $2, $3) as m";
pub(crate) const READ_PAYMENTS: &str =
    "select to_jsonb(p)::text as document from outbox.read_outbox_payments($1, $2, $3, $4, $5, $6, $7, $8, $9) as p";

/// What is done to a list of payments. See `apply_to_payment` for what each does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionKind {
    /// Keep it from being sent.
    Hold,
    /// End it; only if it was certainly never sent.
    Cancel,
    /// Do not wait any longer.
    RetryNow,
    /// Send it; only if it was certainly never sent.
    Release,
    /// Send it again under the same key, by evidence that it was not executed.
    ReleaseAsResend,
    /// It was executed, by evidence.
    ResolveDispatched,
    /// It was not and will not be executed, by evidence.
    ResolveFailed,
    /// Pay it again under a new key.
    Redrive,
}

impl ActionKind {
    /// The name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hold => "HOLD",
            Self::Cancel => "CANCEL",
            Self::RetryNow => "RETRY_NOW",
            Self::Release => "RELEASE",
            Self::ReleaseAsResend => "RELEASE_AS_RESEND",
            Self::ResolveDispatched => "RESOLVE_DISPATCHED",
            Self::ResolveFailed => "RESOLVE_FAILED",
            Self::Redrive => "REDRIVE",
        }
    }
}

/// An action as its maker proposed it: what an approval is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The action.
    pub action_id: Uuid,
    /// How many payments.
    pub member_count: i32,
    /// SHA-256 over their ids, in order, in hexadecimal.
    pub members_sha256: String,
    /// Their money, a JSON object: a sum in minor units for each currency.
    pub amounts: String,
    /// Whether a second person has to approve it.
    pub needs_approval: bool,
}

/// What became of one payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionResult {
    /// The payment.
    pub outbox_id: OutboxId,
    /// Whether the action was done; otherwise it was not, for a reason in `detail`.
    pub applied: bool,
    /// Why not, or how.
    pub detail: Option<String>,
    /// The new payment of a redrive.
    pub new_outbox_id: Option<OutboxId>,
}

/// One step of carrying an action out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyReport {
    /// What became of the payments of this step.
    pub results: Vec<ActionResult>,
    /// How many are left; those that somebody had locked are among them.
    pub remaining: i64,
}

/// What may not be sent now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// The rail; `None` for all.
    pub rail: Option<String>,
    /// The participant; `None` for all.
    pub participant_id: Option<String>,
    /// Who paused it.
    pub paused_by: String,
    /// When.
    pub paused_at: OffsetDateTime,
    /// Why.
    pub reason: String,
}

/// One step of acknowledging a failover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailoverStep {
    /// Payments marked as possibly executed.
    pub doubtful: i32,
    /// Those of them that wait for a person.
    pub held: i32,
    /// Whether all are marked, and the epoch is on record.
    pub is_over: bool,
}

/// Which payments to list; `None` does not filter.
#[derive(Clone, Debug, Default)]
pub struct PaymentFilter {
    /// Of this rail.
    pub rail: Option<String>,
    /// Of this participant.
    pub participant_id: Option<String>,
    /// `READY`, `IN_DOUBT`, `HELD` or `PARKED`.
    pub disposition: Option<String>,
    /// Why it is held.
    pub hold_reason: Option<String>,
    /// `DISPATCHED`, `FAILED` or `CANCELLED`: from the ledger instead of the queue.
    pub ended_as: Option<String>,
    /// Enqueued from then on.
    pub since: Option<OffsetDateTime>,
    /// Enqueued before.
    pub until: Option<OffsetDateTime>,
    /// The last payment of the page before.
    pub after: Option<OutboxId>,
}

/// Freezes a list of payments and what is to be done with them. `parameters` is a JSON object.
///
/// # Errors
/// [`StoreError::Refused`] with `OB003` for a bad value or an unknown payment, by name.
pub async fn propose_action(
    session: &mut Session,
    kind: ActionKind,
    ids: &[OutboxId],
    reason: &str,
    evidence: Option<&str>,
    parameters: &str,
) -> Result<Proposal, StoreError> {
    const CALL: &str = "propose_operator_action";
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let query = sqlx::query(PROPOSE).bind(kind.name()).bind(ids).bind(reason).bind(evidence).bind(parameters);
    let rows = session.fetch(CALL, query).await?;
    let row = only(CALL, &rows)?;
    Ok(Proposal {
        action_id: column(CALL, row, "action_id")?,
        member_count: column(CALL, row, "member_count")?,
        members_sha256: column(CALL, row, "hash")?,
        amounts: column(CALL, row, "amounts_text")?,
        needs_approval: column(CALL, row, "needs_approval")?,
    })
}

/// The second person's word on a proposal as that person saw it.
///
/// # Errors
/// [`StoreError::Refused`]: `OB012` for the maker's own action, `OB013` if it is decided already, `OB003` if the
/// proposal is another.
pub async fn decide_action(
    session: &mut Session,
    seen: &Proposal,
    approve: bool,
    reason: &str,
) -> Result<(), StoreError> {
    let query = sqlx::query(DECIDE)
        .bind(seen.action_id)
        .bind(if approve { "APPROVED" } else { "REJECTED" })
        .bind(reason)
        .bind(seen.members_sha256.clone())
        .bind(seen.member_count)
        .bind(seen.amounts.clone());
    session.fetch("decide_operator_action", query).await.map(drop)
}

/// The maker takes an action back that nobody has decided on.
///
/// # Errors
/// [`StoreError::Refused`]: `OB012` for another's action, `OB013` if it is decided already.
pub async fn withdraw_action(session: &mut Session, action_id: Uuid, reason: &str) -> Result<(), StoreError> {
    session.fetch("withdraw_operator_action", sqlx::query(WITHDRAW).bind(action_id).bind(reason)).await.map(drop)
}

/// Carries an action out on at most `limit` payments that it has not reached yet.
///
/// # Errors
/// [`StoreError::Refused`] with `OB014` if it is not approved.
pub async fn apply_action(session: &mut Session, action_id: Uuid, limit: u32) -> Result<ApplyReport, StoreError> {
    const CALL: &str = "apply_operator_action";
    let rows = session.fetch(CALL, sqlx::query(APPLY).bind(action_id).bind(small(limit))).await?;
    let mut report = ApplyReport { results: Vec::new(), remaining: 0 };
    for row in &rows {
        match column::<Option<Uuid>>(CALL, row, "outbox_id")? {
            None => report.remaining = column(CALL, row, "remaining")?,
            Some(id) => report.results.push(ActionResult {
                outbox_id: OutboxId(id),
                applied: column::<&str>(CALL, row, "result")? == "APPLIED",
                detail: column(CALL, row, "detail")?,
                new_outbox_id: column::<Option<Uuid>>(CALL, row, "new_outbox_id")?.map(OutboxId),
            }),
        }
    }
    Ok(report)
}

/// Pauses, or lets go on, everything, a rail, a participant, or a participant on a rail. Returns the action.
///
/// # Errors
/// [`StoreError::Refused`] with `OB003` or `OB004` for a bad value.
pub async fn set_pause(
    session: &mut Session,
    rail: Option<&RailName>,
    participant_id: Option<&str>,
    paused: bool,
    reason: &str,
) -> Result<Uuid, StoreError> {
    const CALL: &str = "set_outbox_pause";
    let query = sqlx::query(SET_PAUSE).bind(rail.map(RailName::as_str)).bind(participant_id).bind(paused).bind(reason);
    let rows = session.fetch(CALL, query).await?;
    column(CALL, only(CALL, &rows)?, "action_id")
}

/// What is paused, apart from what contracts pause.
///
/// # Errors
/// [`StoreError`].
pub async fn read_pauses(session: &mut Session) -> Result<Vec<Pause>, StoreError> {
    const CALL: &str = "read_outbox_pauses";
    let rows = session.fetch(CALL, sqlx::query(READ_PAUSES)).await?;
    rows.iter().map(|row| pause(CALL, row)).collect()
}

fn pause(call: &'static str, row: &PgRow) -> Result<Pause, StoreError> {
    Ok(Pause {
        rail: column(call, row, "paused_rail")?,
        participant_id: column(call, row, "participant_id")?,
        paused_by: column(call, row, "paused_by")?,
        paused_at: column(call, row, "paused_at")?,
        reason: column(call, row, "reason")?,
    })
}

/// What dispatchers go by, all of one moment.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The contracts.
    pub rails: Vec<RailRow>,
    /// What is paused, apart from what contracts pause.
    pub pauses: Vec<Pause>,
    /// Which of the certificates asked for are revoked.
    pub revoked: Vec<RevokedCert>,
    /// The active policy.
    pub policy: Option<ActivePolicy>,
}

/// The contracts, the pauses, those of `fingerprints` that are revoked, and the active policy, in one call and one snapshot:
/// dispatchers ask twice a second. `known`: the SHA-256 of the policy's document that the caller has.
///
/// # Errors
/// [`StoreError`].
pub async fn read_rules(
    session: &mut Session,
    fingerprints: &[Fingerprint],
    known: Option<[u8; 32]>,
) -> Result<Rules, StoreError> {
    const CALL: &str = "read_rules";
    let query = sqlx::query(READ_RULES).bind(bytes(fingerprints)).bind(known.map(|hash| hash.to_vec()));
    let rows = session.fetch(CALL, query).await?;
    let mut rules = Rules { rails: Vec::new(), pauses: Vec::new(), revoked: Vec::new(), policy: None };
    for row in &rows {
        // A row is of one of the four.
        if column::<Option<String>>(CALL, row, "rail")?.is_some() {
            rules.rails.push(read_rail(CALL, row)?);
        } else if column::<Option<&[u8]>>(CALL, row, "revoked_fingerprint")?.is_some() {
            rules.revoked.push(revoked_cert(CALL, row)?);
        } else if column::<Option<i32>>(CALL, row, "active_version")?.is_some() {
            rules.policy = Some(read_policy(CALL, row)?);
        } else {
            rules.pauses.push(pause(CALL, row)?);
        }
    }
    Ok(rules)
}

/// Proposes that this cluster is dispatched from now on. Returns the action.
///
/// # Errors
/// [`StoreError::Refused`] with `OB003` for a bad value.
pub async fn propose_failover(
    session: &mut Session,
    lost_from: OffsetDateTime,
    environment: &str,
    reason: &str,
) -> Result<Uuid, StoreError> {
    const CALL: &str = "propose_failover";
    let rows =
        session.fetch(CALL, sqlx::query(PROPOSE_FAILOVER).bind(lost_from).bind(environment).bind(reason)).await?;
    column(CALL, only(CALL, &rows)?, "action_id")
}

/// Marks what may have been sent by the cluster before this one, at most `limit` payments behind those of the steps before.
///
/// # Errors
/// [`StoreError::Refused`]: `OB014` if it is not approved, `OB013` if it is on record already.
pub async fn apply_failover(session: &mut Session, action_id: Uuid, limit: u32) -> Result<FailoverStep, StoreError> {
    const CALL: &str = "apply_failover";
    let query = sqlx::query(APPLY_FAILOVER).bind(action_id).bind(small(limit));
    let rows = session.fetch(CALL, query).await?;
    let row = only(CALL, &rows)?;
    Ok(FailoverStep {
        doubtful: column(CALL, row, "doubtful")?,
        held: column(CALL, row, "held")?,
        is_over: column(CALL, row, "is_over")?,
    })
}

fn documents(call: &'static str, rows: &[PgRow]) -> Result<Vec<String>, StoreError> {
    rows.iter().map(|row| column(call, row, "document")).collect()
}

/// One action, or the last `limit`.
///
/// # Errors
/// [`StoreError`].
pub async fn read_actions(
    session: &mut Session,
    action_id: Option<Uuid>,
    limit: u32,
) -> Result<Vec<String>, StoreError> {
    const CALL: &str = "read_operator_actions";
    documents(CALL, &session.fetch(CALL, sqlx::query(READ_ACTIONS).bind(action_id).bind(small(limit))).await?)
}

/// A page of the payments of an action.
///
/// # Errors
/// [`StoreError`].
pub async fn read_action_members(
    session: &mut Session,
    action_id: Uuid,
    after: Option<OutboxId>,
    limit: u32,
) -> Result<Vec<String>, StoreError> {
    const CALL: &str = "read_action_members";
    let query = sqlx::query(READ_MEMBERS).bind(action_id).bind(after.map(|id| id.0)).bind(small(limit));
    documents(CALL, &session.fetch(CALL, query).await?)
}

/// A page of payments.
///
/// # Errors
/// [`StoreError`].
pub async fn read_payments(
    session: &mut Session,
    filter: &PaymentFilter,
    limit: u32,
) -> Result<Vec<String>, StoreError> {
    const CALL: &str = "read_outbox_payments";
    let query = sqlx::query(READ_PAYMENTS)
        .bind(&filter.rail)
        .bind(&filter.participant_id)
        .bind(&filter.disposition)
        .bind(&filter.hold_reason)
        .bind(&filter.ended_as)
        .bind(filter.since)
        .bind(filter.until)
        .bind(filter.after.map(|id| id.0))
        .bind(small(limit));
    documents(CALL, &session.fetch(CALL, query).await?)
}
