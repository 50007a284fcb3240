//! What goes into the calls and what comes out, in the core's types. Reading rows is done here;
//! deciding what they mean is not.

use std::fmt;

use outbox_core::{
    AttemptKind, AttemptNo, AttemptState, HoldReason, LeaseToken, Millis, OutboxId, Outcome, PolicyVersion,
    RailContract, RailName, WorkerId,
};
use time::OffsetDateTime;

use crate::memory::{EpochFault, LogMark, Memory};

/// Where a lane's claims go on: the greatest pair of its last non-empty claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimCursor {
    /// When that payment was due.
    pub due_at: OffsetDateTime,
    /// That payment.
    pub outbox_id: OutboxId,
}

/// A claim.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// The rail.
    pub rail: RailName,
    /// Who claims.
    pub worker_id: WorkerId,
    /// At most this many payments.
    pub limit: u32,
    /// What one send and its completion need; a contract with a shorter lease is refused.
    pub min_lease: Millis,
    /// Sends of this lane under way.
    pub in_flight: u32,
    /// Where to go on; `None` sweeps from the beginning.
    pub after: Option<ClaimCursor>,
    /// What the dispatcher is configured for; another than the database's is refused.
    pub environment: Option<String>,
    /// Where the lane sends now, by name; payments in doubt stay where they were sent.
    pub endpoint: Option<String>,
    /// How far the dispatcher has ever seen the database; one that is not as far is refused.
    pub seen: Memory,
    /// The policy by whose tables the answers will be read; under another the claim is refused.
    pub policy_version: Option<PolicyVersion>,
}

/// A payment whose lease was granted.
#[derive(Clone)]
pub struct ClaimedPayment {
    /// What the lease is for.
    pub kind: AttemptKind,
    /// The payment, and its wire key.
    pub outbox_id: OutboxId,
    /// The attempt.
    pub attempt_no: AttemptNo,
    /// The proof of the lease.
    pub lease_token: LeaseToken,
    /// How long the lease lasts from the claim on.
    pub lease_duration: Millis,
    /// Who pays.
    pub participant_id: String,
    /// Where to send it, or to ask, by name; `None` on a rail with one endpoint.
    pub endpoint: Option<String>,
    /// The bytes to send; none for an inquiry.
    pub payload: Vec<u8>,
    /// Their media type.
    pub content_type: String,
    /// The caller's W3C trace context.
    pub traceparent: Option<String>,
    /// Since when it was due; of a first attempt, its enqueue or its `not_before`.
    pub due_at: OffsetDateTime,
    /// Not to be sent after this.
    pub not_after: Option<OffsetDateTime>,
    /// The database's clock at the claim.
    pub db_now: OffsetDateTime,
    /// Workers that vanished with this payment.
    pub crash_count: u32,
    /// Whether an earlier attempt was not certainly unsent.
    pub is_resend: bool,
}

impl fmt::Debug for ClaimedPayment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClaimedPayment")
            .field("outbox_id", &self.outbox_id)
            .field("attempt_no", &self.attempt_no)
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// A payment that a claim found and that now waits for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldPayment {
    /// The payment.
    pub outbox_id: OutboxId,
    /// Its last attempt; zero if it has none.
    pub attempt_no: AttemptNo,
    /// Why.
    pub reason: HoldReason,
}

/// What a claim says beside the payments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimSummary {
    /// The database's clock.
    pub db_now: OffsetDateTime,
    /// The next time a payment is due; `None` if the claim was full or nothing waits.
    pub next_due_at: Option<OffsetDateTime>,
    /// The greatest pair that was looked at; `None` if there was none.
    pub cursor: Option<ClaimCursor>,
    /// Lost leases that were settled; those not held are due again, at the beginning of the queue.
    pub expired: u32,
    /// Payments that crashed two workers and wait for an empty lane.
    pub suspects: u32,
    /// Payments that stand behind another of their ordering key, and left the queue's head.
    pub parked: u32,
    /// Whether nothing is claimed: the contract, or a pause, says so.
    pub paused: bool,
    /// How far the database is.
    pub mark: LogMark,
}

/// The reply to a claim.
#[derive(Clone, Debug)]
pub struct ClaimBatch {
    /// Payments to send, or to ask after.
    pub leased: Vec<ClaimedPayment>,
    /// Payments that now wait for a person.
    pub held: Vec<HeldPayment>,
    /// The rest.
    pub summary: ClaimSummary,
}

/// One lease, as renew, release and complete name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldLease {
    /// The payment.
    pub outbox_id: OutboxId,
    /// The attempt.
    pub attempt_no: AttemptNo,
    /// The proof of the lease.
    pub lease_token: LeaseToken,
}

/// What an attempt came to, with its evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The lease.
    pub lease: HeldLease,
    /// What is known.
    pub outcome: Outcome,
    /// The wait before another send, if there is one.
    pub delay: Millis,
    /// When the first byte of the request could leave, by the worker's clock.
    pub first_byte_at: Option<OffsetDateTime>,
    /// When the last byte of the answer came, by the worker's clock.
    pub last_byte_at: Option<OffsetDateTime>,
    /// Where it was sent.
    pub endpoint: Option<String>,
    /// What was sent.
    pub request_sha256: Option<[u8; 32]>,
    /// What was answered.
    pub response_sha256: Option<[u8; 32]>,
    /// The rail's reference.
    pub rail_reference: Option<String>,
    /// The rail's code.
    pub rail_code: Option<String>,
    /// What went wrong, one word.
    pub error_class: Option<String>,
    /// What went wrong.
    pub error_detail: Option<String>,
}

/// What became of a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompletionVerdict {
    /// It is recorded, and the payment moved on.
    Applied {
        /// The attempt's state.
        state: AttemptState,
        /// Why the payment is held, if it is.
        held: Option<HoldReason>,
        /// When it is due again, if it is.
        next_attempt_at: Option<OffsetDateTime>,
    },
    /// The same result of this attempt was recorded before.
    AlreadyApplied,
    /// The lease was lost; what was learned is kept as a late outcome.
    Fenced,
    /// Somebody has the payment locked: try again.
    Busy,
}

/// What became of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewVerdict {
    /// The lease lasts this long from now.
    Renewed(Millis),
    /// The lease is lost.
    Fenced,
    /// Somebody has the payment locked: try again.
    Busy,
}

/// What a pass over lost leases found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpireReport {
    /// Payments that may be sent again.
    pub due_again: Vec<OutboxId>,
    /// Payments that now wait for a person.
    pub held: Vec<HeldPayment>,
    /// Where the next pass goes on; `None`: from the beginning.
    pub next: Option<ClaimCursor>,
}

/// What a dispatcher says it is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DispatcherState {
    /// It claims.
    Running,
    /// It claims no more and waits for what it sent.
    Draining,
    /// It has ended in order.
    Stopped,
}

impl DispatcherState {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Draining => "DRAINING",
            Self::Stopped => "STOPPED",
        }
    }
}

/// What a heartbeat says of one lane.
#[derive(Clone, Debug)]
pub struct LaneBeat {
    /// Its rail.
    pub rail: RailName,
    /// How many of its payments this dispatcher saw dispatched or failed.
    pub settled: u64,
}

/// A heartbeat.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// Who.
    pub worker_id: WorkerId,
    /// The program's version.
    pub version: String,
    /// What it is doing.
    pub state: DispatcherState,
    /// Its rails.
    pub lanes: Vec<LaneBeat>,
    /// Sends under way.
    pub in_flight: u32,
    /// When the next one is due.
    pub interval: Millis,
    /// What the dispatcher is configured for.
    pub environment: Option<String>,
    /// What it remembers of the database.
    pub seen: Memory,
}

/// The reply to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatReply {
    /// Other dispatchers that fell silent.
    pub silent: Vec<SilentDispatcher>,
    /// How far the database is, this heartbeat included.
    pub mark: LogMark,
    /// Why it is not the database that the dispatcher knows; then the heartbeat was not counted.
    pub fault: Option<EpochFault>,
}

/// Another dispatcher that missed three heartbeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SilentDispatcher {
    /// Who.
    pub worker_id: String,
    /// For how long.
    pub silent_for: Millis,
    /// Its heartbeat interval.
    pub interval: Millis,
    /// Its rails.
    pub lanes: Vec<String>,
}

/// What a connection is and may do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a report of independent facts, read by name")]
pub struct Preflight {
    /// The database login.
    pub login: String,
    /// The server process behind this connection.
    pub backend_pid: i32,
    /// The limits that we asked the server to keep for us are in force.
    pub limits_in_force: bool,
    /// The first thing the login may do and should not.
    pub excess_privilege: Option<String>,
    /// `fsync` is on.
    pub fsync: bool,
    /// `full_page_writes` is on.
    pub full_page_writes: bool,
    /// The setting `synchronous_commit`.
    pub synchronous_commit: String,
    /// The server is a standby.
    pub in_recovery: bool,
    /// Transactions are read-only.
    pub read_only: bool,
    /// The database's encoding.
    pub server_encoding: String,
    /// The server's version, 150018 for 15.18.
    pub server_version_num: i32,
    /// The interface versions that the schema serves.
    pub api_versions: std::ops::RangeInclusive<i32>,
    /// The database's clock.
    pub db_now: OffsetDateTime,
}

/// What a pass over parked payments did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnparkReport {
    /// Payments past their `not_after`, held now.
    pub held: Vec<OutboxId>,
    /// Ordering keys and payments that were looked at: if any, there is something to claim.
    pub keys: u32,
    /// Whether the limit was reached: more may be owed.
    pub is_full: bool,
}

/// An ordering key under which payments wait for an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockedKey {
    /// The rail.
    pub rail: String,
    /// The key.
    pub ordering_key: String,
    /// The payment that the others wait for.
    pub first: OutboxId,
    /// How it stands; `None` if it has just ended.
    pub disposition: Option<String>,
    /// Why it is held.
    pub hold_reason: Option<String>,
    /// When it was enqueued.
    pub first_enqueued_at: Option<OffsetDateTime>,
    /// How many wait.
    pub blocked: i64,
    /// Their money, a JSON object: a sum in minor units for each currency.
    pub amounts: String,
}

/// Where the payments of one rail are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RailStatus {
    /// The rail.
    pub rail: String,
    /// Whether nothing is claimed.
    pub paused: bool,
    /// Could be claimed now.
    pub due: i64,
    /// Not before a later time.
    pub waiting: i64,
    /// Under a lease that holds.
    pub in_flight: i64,
    /// May have been executed, lost leases included, and not held.
    pub in_doubt: i64,
    /// Wait for a person.
    pub held: i64,
    /// Stand behind another of their ordering key.
    pub parked: i64,
    /// Pending, though a late success is known.
    pub late_successes: i64,
    /// Accepted by the rail.
    pub dispatched: i64,
    /// Refused for good.
    pub failed: i64,
    /// Ended without success, though the rail said later that it had accepted them. Of all time.
    pub failed_but_accepted: i64,
    /// For which the rail gave more than one reference. Of all time.
    pub accepted_twice: i64,
    /// Age of the oldest due payment.
    pub oldest_due: Option<Millis>,
    /// Age of the oldest doubt.
    pub oldest_in_doubt: Option<Millis>,
    /// Months ahead that have partitions.
    pub partition_headroom_months: i32,
}

/// How far ahead the due payments of a rail count as at risk of missing their `not_after`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RiskHorizon {
    /// The rail.
    pub rail: RailName,
    /// From now on.
    pub ahead: Millis,
}

/// A figure of the database: of a rail, a sum of money, a dispatcher, or the database itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Its name.
    pub name: String,
    /// The values of its labels, in the order of docs/METRICS.md.
    pub labels: Vec<String>,
    /// Seconds, minor units of money, or a count.
    pub value: f64,
}

/// A change to a rail's contract; `None` leaves a value as it is, or at its default.
#[derive(Clone, Debug, Default)]
pub struct ContractChange {
    /// `resend`, `inquire` or `hold`; the database refuses any other, by name.
    pub on_unknown: Option<String>,
    /// How long the rail knows a key.
    pub idempotency_window: Option<Millis>,
    /// Whether "not found" means never executed, once the quarantine is over.
    pub not_found_is_final: Option<bool>,
    /// How long one exchange may take.
    pub rail_timeout: Option<Millis>,
    /// How long the rail may go on executing afterwards.
    pub processing_bound: Option<Millis>,
    /// Whether a payment must have an amount.
    pub amount_required: Option<bool>,
    /// Sends before a payment is held.
    pub max_sends: Option<u32>,
    /// Answered inquiries before a payment in doubt is held.
    pub max_inquiries: Option<u32>,
    /// Attempts a second, over all dispatchers; 0 for no rate.
    pub max_sends_per_s: Option<u32>,
    /// Lost leases before a payment is held.
    pub max_crashes: Option<u32>,
    /// The first wait between sends.
    pub backoff_base: Option<Millis>,
    /// The longest wait between sends.
    pub backoff_cap: Option<Millis>,
    /// How long a lease lasts.
    pub lease_duration: Option<Millis>,
    /// Whether dispatchers may have further endpoints.
    pub fallback: Option<bool>,
    /// Whether a new payment needs an accepted attestation of its bytes.
    pub require_attestation: Option<bool>,
    /// Whether nothing is claimed.
    pub paused: Option<bool>,
}

/// A rail as the database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RailRow {
    /// The rail.
    pub rail: RailName,
    /// What may follow an unknown outcome, by its name in the database.
    pub on_unknown: String,
    /// Whether a payment must have an amount.
    pub amount_required: bool,
    /// Whether a new payment needs an accepted attestation of its bytes.
    pub require_attestation: bool,
    /// The contract; `None` if this version cannot serve what `on_unknown` asks for.
    pub contract: Option<RailContract>,
    /// The policy that it is of.
    pub policy_version: Option<PolicyVersion>,
    /// All of the contract, a JSON object, as the document of a policy has it.
    pub columns: String,
}
