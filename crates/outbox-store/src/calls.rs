//! The calls: one Rust function for each SQL function, each one line of SQL. `complete` and `enqueue`
//! have files of their own, because they do more than call.

use outbox_core::{
    AttemptNo, AttemptState, HoldReason, Millis, OnUnknown, OutboxId, PolicyVersion, RailContract, RailName, WorkerId,
};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::attestation;
use crate::audit;
use crate::control;
use crate::error::StoreError;
use crate::evidence;
use crate::health;
use crate::memory::{EpochFault, LogMark};
use crate::partitions;
use crate::policy;
use crate::reconcile;
use crate::revocation;
use crate::rows::{
    ClaimCursor, CompletionVerdict, ContractChange, ExpireReport, Heartbeat, HeartbeatReply, HeldLease, HeldPayment,
    Preflight, RailRow, RenewVerdict, SilentDispatcher, UnparkReport,
};
use crate::session::Session;

/// Every statement that this crate sends, but for LISTEN. A test prepares each on a migrated database.
pub(crate) const CLAIM: &str =
    "select * from outbox.claim_outbox_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
pub(crate) const EXPIRE: &str = "select * from outbox.expire_outbox_leases($1, $2, $3, $4)";
pub(crate) const UNPARK: &str = "select * from outbox.unpark_outbox_rows($1, $2)";
pub(crate) const RENEW: &str = "select * from outbox.renew_outbox_leases($1, $2, $3, $4)";
pub(crate) const RELEASE: &str = "select * from outbox.release_outbox_leases($1, $2, $3, $4)";
pub(crate) const COMPLETE: &str =
    "select * from outbox.complete_outbox_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";
pub(crate) const HEARTBEAT: &str =
    "select * from outbox.dispatcher_heartbeat($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
pub(crate) const PREFLIGHT: &str = "select * from outbox.dispatcher_preflight()";
pub(crate) const LIMITS_IN_FORCE: &str = "select pg_catalog.bool_and(s.setting::integer between 1 and l.ms) as in_force from pg_catalog.pg_settings as s \
     join (values ('statement_timeout', $1::bigint), ('lock_timeout', $2), ('idle_in_transaction_session_timeout', $3)) \
     as l (name, ms) on l.name = s.name";
pub(crate) const READ_RAILS: &str = "select * from outbox.read_payment_rails()";
pub(crate) const SET_RAIL: &str = "select outbox.set_payment_rail($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) as is_new";
pub(crate) const READ_STATUS: &str = "select * from outbox.read_outbox_status($1)";
pub(crate) const READ_METRICS: &str = "select * from outbox.read_outbox_metrics($1, $2)";
pub(crate) const READ_BLOCKED_KEYS: &str =
    "select b.*, b.amounts::text as amounts_text from outbox.read_blocked_keys($1) as b";
pub(crate) const READ_TIMELINES: &str =
    "select t.document::text from outbox.read_payment_timelines($1, $2) as t (document)";
pub(crate) const TRY_WAKEUP_LOCK: &str = "select outbox.try_wakeup_lock($1) as taken";
pub(crate) const RELEASE_WAKEUP_LOCK: &str = "select outbox.release_wakeup_lock($1) as held";
pub(crate) const ENQUEUE_BATCH: &str =
    "select * from outbox.enqueue_payment_outbox_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
pub(crate) const ENSURE_PARTITIONS: &str = "select outbox.ensure_outbox_partitions() as made";

/// The same statements by name, for that test.
#[doc(hidden)]
pub const STATEMENTS: &[(&str, &str)] = &[
    ("CLAIM", CLAIM),
    ("EXPIRE", EXPIRE),
    ("UNPARK", UNPARK),
    ("RENEW", RENEW),
    ("RELEASE", RELEASE),
    ("COMPLETE", COMPLETE),
    ("HEARTBEAT", HEARTBEAT),
    ("PREFLIGHT", PREFLIGHT),
    ("LIMITS_IN_FORCE", LIMITS_IN_FORCE),
    ("READ_RAILS", READ_RAILS),
    ("SET_RAIL", SET_RAIL),
    ("READ_STATUS", READ_STATUS),
    ("READ_METRICS", READ_METRICS),
    ("READ_BLOCKED_KEYS", READ_BLOCKED_KEYS),
    ("READ_TIMELINES", READ_TIMELINES),
    ("TRY_WAKEUP_LOCK", TRY_WAKEUP_LOCK),
    ("RELEASE_WAKEUP_LOCK", RELEASE_WAKEUP_LOCK),
    ("ENQUEUE_BATCH", ENQUEUE_BATCH),
    ("ENSURE_PARTITIONS", ENSURE_PARTITIONS),
    ("PROPOSE", control::PROPOSE),
    ("DECIDE", control::DECIDE),
    ("WITHDRAW", control::WITHDRAW),
    ("APPLY", control::APPLY),
    ("SET_PAUSE", control::SET_PAUSE),
    ("READ_PAUSES", control::READ_PAUSES),
    ("READ_RULES", control::READ_RULES),
    ("PROPOSE_FAILOVER", control::PROPOSE_FAILOVER),
    ("APPLY_FAILOVER", control::APPLY_FAILOVER),
    ("READ_ACTIONS", control::READ_ACTIONS),
    ("READ_MEMBERS", control::READ_MEMBERS),
    ("READ_PAYMENTS", control::READ_PAYMENTS),
    ("BEGIN_RECONCILE", reconcile::BEGIN_RECONCILE),
    ("RECORD_LINES", reconcile::RECORD_LINES),
    ("FINISH_RECONCILE", reconcile::FINISH_RECONCILE),
    ("VOID_STATEMENT", reconcile::VOID_STATEMENT),
    ("RESOLVE_BREAKS", reconcile::RESOLVE_BREAKS),
    ("READ_BREAKS", reconcile::READ_BREAKS),
    ("RECORD_ATTESTATION", attestation::RECORD_ATTESTATION),
    ("REVOKE_CERT", revocation::REVOKE_CERT),
    ("REVOKE_TOKEN", revocation::REVOKE_TOKEN),
    ("READ_REVOKED_CERTS", revocation::READ_REVOKED_CERTS),
    ("READ_PARTITIONS", partitions::READ_PARTITIONS),
    ("NEXT_PARTITION_STEP", partitions::NEXT_PARTITION_STEP),
    ("SEAL_MONTH", partitions::SEAL_MONTH),
    ("HASH_CHUNK", partitions::HASH_CHUNK),
    ("RECORD_RECEIPTS", partitions::RECORD_RECEIPTS),
    ("AUDIT", audit::AUDIT),
    ("CATALOGUE", evidence::CATALOGUE),
    ("PATH", evidence::PATH),
    ("APPLIED", evidence::APPLIED),
    ("POLICY", evidence::POLICY),
    ("SERVER", evidence::SERVER),
    ("CHECK_EPOCH", health::CHECK_EPOCH),
    ("READ_HEALTH", health::READ_HEALTH),
    ("PROPOSE_POLICY", policy::PROPOSE_POLICY),
    ("DECIDE_POLICY", policy::DECIDE_POLICY),
    ("ACTIVATE_POLICY", policy::ACTIVATE_POLICY),
    ("READ_POLICY_VERSIONS", policy::READ_POLICY_VERSIONS),
];

/// A reply without an expected column, or with one of another type: the schema is not the one that
/// this version calls.
pub(crate) fn column<'r, T>(call: &'static str, row: &'r PgRow, name: &str) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(name)
        .map_err(|error| StoreError::Invariant { call, what: format!("column {name} of the reply: {error}") })
}

pub(crate) fn count(call: &'static str, row: &PgRow, name: &str) -> Result<u32, StoreError> {
    let value: i32 = column(call, row, name)?;
    u32::try_from(value).map_err(|_| StoreError::Invariant { call, what: format!("{name} is negative") })
}

pub(crate) fn millis(call: &'static str, row: &PgRow, name: &str) -> Result<Millis, StoreError> {
    let value: i64 = column(call, row, name)?;
    u64::try_from(value).map(Millis).map_err(|_| StoreError::Invariant { call, what: format!("{name} is negative") })
}

pub(crate) fn known<T>(call: &'static str, what: &'static str, name: &str, found: Option<T>) -> Result<T, StoreError> {
    found.ok_or_else(|| StoreError::Invariant {
        call,
        what: format!("the reply has the {what} `{name}`, unknown to this version"),
    })
}

pub(crate) fn signed(value: Millis) -> i64 {
    i64::try_from(value.0).unwrap_or(i64::MAX)
}

pub(crate) fn small(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

pub(crate) fn read_held(call: &'static str, row: &PgRow) -> Result<HeldPayment, StoreError> {
    let reason: &str = column(call, row, "hold_reason")?;
    Ok(HeldPayment {
        outbox_id: OutboxId(column(call, row, "outbox_id")?),
        attempt_no: AttemptNo(column(call, row, "attempt_no")?),
        reason: known(call, "hold reason", reason, HoldReason::from_name(reason))?,
    })
}

pub(crate) fn read_cursor(
    call: &'static str,
    row: &PgRow,
    at: &str,
    id: &str,
) -> Result<Option<ClaimCursor>, StoreError> {
    let due_at: Option<OffsetDateTime> = column(call, row, at)?;
    let outbox_id: Option<Uuid> = column(call, row, id)?;
    Ok(due_at.zip(outbox_id).map(|(due_at, id)| ClaimCursor { due_at, outbox_id: OutboxId(id) }))
}

/// Settles lost leases of a lane that does not claim, looking at `limit` rows from `after` on.
///
/// # Errors
/// [`StoreError`].
pub async fn expire_leases(
    session: &mut Session,
    rail: &RailName,
    limit: u32,
    after: Option<ClaimCursor>,
) -> Result<ExpireReport, StoreError> {
    const CALL: &str = "expire_outbox_leases";
    let query = sqlx::query(EXPIRE)
        .bind(rail.as_str())
        .bind(small(limit))
        .bind(after.map(|cursor| cursor.due_at))
        .bind(after.map(|cursor| cursor.outbox_id.0));
    let rows = session.fetch(CALL, query).await?;
    let mut report = ExpireReport { due_again: Vec::new(), held: Vec::new(), next: None };
    for row in &rows {
        match column::<Option<Uuid>>(CALL, row, "outbox_id")? {
            None if count(CALL, row, "examined")? >= limit => {
                report.next = read_cursor(CALL, row, "last_at", "last_id")?;
            }
            None => {}
            Some(_) if column::<Option<&str>>(CALL, row, "hold_reason")?.is_some() => {
                report.held.push(read_held(CALL, row)?);
            }
            Some(id) => report.due_again.push(OutboxId(id)),
        }
    }
    Ok(report)
}

/// Brings back parked payments of `rail` that could not be brought back at once, and holds those past `not_after`:
/// at most `limit` of each.
///
/// # Errors
/// [`StoreError`].
pub async fn unpark(session: &mut Session, rail: &RailName, limit: u32) -> Result<UnparkReport, StoreError> {
    const CALL: &str = "unpark_outbox_rows";
    let rows = session.fetch(CALL, sqlx::query(UNPARK).bind(rail.as_str()).bind(small(limit))).await?;
    let mut report = UnparkReport { held: Vec::new(), keys: 0, is_full: false };
    for row in &rows {
        match column::<Option<Uuid>>(CALL, row, "outbox_id")? {
            Some(id) => report.held.push(OutboxId(id)),
            None => {
                report.keys = count(CALL, row, "unparked")?;
                report.is_full = column(CALL, row, "is_full")?;
            }
        }
    }
    Ok(report)
}

fn lease_arrays(leases: &[HeldLease]) -> (Vec<Uuid>, Vec<i32>, Vec<Uuid>) {
    let ids = leases.iter().map(|lease| lease.outbox_id.0).collect();
    let numbers = leases.iter().map(|lease| lease.attempt_no.0).collect();
    let tokens = leases.iter().map(|lease| lease.lease_token.0).collect();
    (ids, numbers, tokens)
}

/// Extends leases; a verdict for each, in order.
///
/// # Errors
/// [`StoreError`].
pub async fn renew_leases(
    session: &mut Session,
    worker_id: &WorkerId,
    leases: &[HeldLease],
) -> Result<Vec<RenewVerdict>, StoreError> {
    const CALL: &str = "renew_outbox_leases";
    let (ids, numbers, tokens) = lease_arrays(leases);
    let query = sqlx::query(RENEW).bind(worker_id.as_str()).bind(ids).bind(numbers).bind(tokens);
    let rows = session.fetch(CALL, query).await?;
    in_order(CALL, leases.len(), &rows, |row| match column::<&str>(CALL, row, "verdict")? {
        "renewed" => Ok(RenewVerdict::Renewed(millis(CALL, row, "lease_ms")?)),
        "fenced" => Ok(RenewVerdict::Fenced),
        "busy" => Ok(RenewVerdict::Busy),
        other => known(CALL, "verdict", other, None),
    })
}

/// Gives back leases whose payments were certainly not sent; a verdict for each, in order.
///
/// # Errors
/// [`StoreError`].
pub async fn release_leases(
    session: &mut Session,
    worker_id: &WorkerId,
    leases: &[HeldLease],
) -> Result<Vec<CompletionVerdict>, StoreError> {
    const CALL: &str = "release_outbox_leases";
    let (ids, numbers, tokens) = lease_arrays(leases);
    let query = sqlx::query(RELEASE).bind(worker_id.as_str()).bind(ids).bind(numbers).bind(tokens);
    let rows = session.fetch(CALL, query).await?;
    in_order(CALL, leases.len(), &rows, |row| {
        read_verdict(CALL, row, |_| {
            Ok(CompletionVerdict::Applied { state: AttemptState::Released, held: None, next_attempt_at: None })
        })
    })
}

/// The verdicts of `rows` by ordinal, of which there must be exactly `expected`.
pub(crate) fn in_order<T>(
    call: &'static str,
    expected: usize,
    rows: &[PgRow],
    read: impl Fn(&PgRow) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let ordered = rows.iter().enumerate().all(|(place, row)| {
        column::<i32>(call, row, "ordinal").is_ok_and(|ordinal| usize::try_from(ordinal).is_ok_and(|o| o == place + 1))
    });
    if !ordered || rows.len() != expected {
        let what = format!("{} answers to {expected} questions, or out of order", rows.len());
        return Err(StoreError::Invariant { call, what });
    }
    rows.iter().map(read).collect()
}

pub(crate) fn read_verdict(
    call: &'static str,
    row: &PgRow,
    applied: impl Fn(&PgRow) -> Result<CompletionVerdict, StoreError>,
) -> Result<CompletionVerdict, StoreError> {
    match column::<&str>(call, row, "verdict")? {
        "applied" => applied(row),
        "already_applied" => Ok(CompletionVerdict::AlreadyApplied),
        "fenced" => Ok(CompletionVerdict::Fenced),
        "busy" => Ok(CompletionVerdict::Busy),
        other => known(call, "verdict", other, None),
    }
}

pub(crate) fn read_applied(call: &'static str, row: &PgRow) -> Result<CompletionVerdict, StoreError> {
    let state: &str = column(call, row, "state")?;
    let held: Option<&str> = column(call, row, "hold_reason")?;
    Ok(CompletionVerdict::Applied {
        state: known(call, "state", state, AttemptState::ALL.into_iter().find(|s| s.name() == state))?,
        held: held.map(|name| known(call, "hold reason", name, HoldReason::from_name(name))).transpose()?,
        next_attempt_at: column(call, row, "next_attempt_at")?,
    })
}

/// Shows this dispatcher; returns the others that fell silent, and what it has to remember.
///
/// # Errors
/// [`StoreError`].
pub async fn dispatcher_heartbeat(session: &mut Session, beat: &Heartbeat) -> Result<HeartbeatReply, StoreError> {
    const CALL: &str = "dispatcher_heartbeat";
    let lanes: Vec<&str> = beat.lanes.iter().map(|lane| lane.rail.as_str()).collect();
    let settled: Vec<i64> = beat.lanes.iter().map(|lane| i64::try_from(lane.settled).unwrap_or(i64::MAX)).collect();
    let query = sqlx::query(HEARTBEAT)
        .bind(beat.worker_id.as_str())
        .bind(&beat.version)
        .bind(crate::API_VERSION)
        .bind(beat.state.name())
        .bind(lanes)
        .bind(small(beat.in_flight))
        .bind(signed(beat.interval))
        .bind(beat.environment.as_deref())
        .bind(settled)
        .bind(beat.seen.mark.epoch_us)
        .bind(beat.seen.mark.log_position)
        .bind(beat.seen.id)
        .bind(beat.seen.mark.beat);
    let rows = session.fetch(CALL, query).await?;
    let (last, others) = rows
        .split_last()
        .ok_or_else(|| StoreError::Invariant { call: CALL, what: "the reply does not say how far it is".to_owned() })?;
    let silent = others.iter().map(|row| {
        Ok(SilentDispatcher {
            worker_id: column(CALL, row, "worker_id")?,
            silent_for: millis(CALL, row, "silent_ms")?,
            interval: millis(CALL, row, "heartbeat_interval_ms")?,
            lanes: column(CALL, row, "lanes")?,
        })
    });
    let fault: Option<&str> = column(CALL, last, "fault")?;
    Ok(HeartbeatReply {
        silent: silent.collect::<Result<_, StoreError>>()?,
        mark: LogMark { beat: column(CALL, last, "beat")?, ..LogMark::read(CALL, last)? },
        fault: fault.map(|name| known(CALL, "fault", name, EpochFault::from_name(name))).transpose()?,
    })
}

pub(crate) fn only<'r>(call: &'static str, rows: &'r [PgRow]) -> Result<&'r PgRow, StoreError> {
    match rows {
        [row] => Ok(row),
        _ => Err(StoreError::Invariant { call, what: format!("{} rows in a reply of one", rows.len()) }),
    }
}

/// What this connection is and may do.
///
/// # Errors
/// [`StoreError`].
pub async fn preflight(session: &mut Session) -> Result<Preflight, StoreError> {
    const CALL: &str = "dispatcher_preflight";
    let limits = session.server_limits().map(signed);
    let query = sqlx::query(LIMITS_IN_FORCE).bind(limits[0]).bind(limits[1]).bind(limits[2]);
    let in_force = column(CALL, only(CALL, &session.fetch(CALL, query).await?)?, "in_force")?;
    let rows = session.fetch(CALL, sqlx::query(PREFLIGHT)).await?;
    let row = only(CALL, &rows)?;
    Ok(Preflight {
        login: column(CALL, row, "login")?,
        backend_pid: column(CALL, row, "backend_pid")?,
        limits_in_force: in_force,
        excess_privilege: column(CALL, row, "excess_privilege")?,
        fsync: column(CALL, row, "fsync")?,
        full_page_writes: column(CALL, row, "full_page_writes")?,
        synchronous_commit: column(CALL, row, "synchronous_commit")?,
        in_recovery: column(CALL, row, "in_recovery")?,
        read_only: column(CALL, row, "read_only")?,
        server_encoding: column(CALL, row, "server_encoding")?,
        server_version_num: column(CALL, row, "server_version_num")?,
        api_versions: column(CALL, row, "api_min")?..=column(CALL, row, "api_max")?,
        db_now: column(CALL, row, "db_now")?,
    })
}

/// All rails with their contracts.
///
/// # Errors
/// [`StoreError`].
pub async fn read_payment_rails(session: &mut Session) -> Result<Vec<RailRow>, StoreError> {
    const CALL: &str = "read_payment_rails";
    let rows = session.fetch(CALL, sqlx::query(READ_RAILS)).await?;
    rows.iter().map(|row| read_rail(CALL, row)).collect()
}

pub(crate) fn read_rail(call: &'static str, row: &PgRow) -> Result<RailRow, StoreError> {
    let name: String = column(call, row, "rail")?;
    let rail = RailName::new(name).map_err(|bad| StoreError::Invariant { call, what: bad.to_string() })?;
    let on_unknown: String = column(call, row, "on_unknown")?;
    let contract = match OnUnknown::from_name(&on_unknown) {
        None => None,
        Some(on_unknown) => Some(RailContract {
            rail: rail.clone(),
            on_unknown,
            idempotency_window: column::<Option<i64>>(call, row, "idempotency_window_ms")?
                .and_then(|window| u64::try_from(window).ok())
                .map(Millis),
            not_found_is_final: column(call, row, "not_found_is_final")?,
            rail_timeout: millis(call, row, "rail_timeout_ms")?,
            processing_bound: millis(call, row, "processing_bound_ms")?,
            max_sends: count(call, row, "max_sends")?,
            max_inquiries: count(call, row, "max_inquiries")?,
            max_sends_per_s: column::<Option<i32>>(call, row, "max_sends_per_s")?.map(i32::unsigned_abs),
            max_crashes: count(call, row, "max_crashes")?,
            backoff_base: millis(call, row, "backoff_base_ms")?,
            backoff_cap: millis(call, row, "backoff_cap_ms")?,
            lease_duration: millis(call, row, "lease_duration_ms")?,
            fallback: column(call, row, "fallback")?,
            paused: column(call, row, "paused")?,
        }),
    };
    let policy_version: Option<i32> = column(call, row, "policy_version")?;
    Ok(RailRow {
        rail,
        on_unknown,
        amount_required: column(call, row, "amount_required")?,
        require_attestation: column(call, row, "require_attestation")?,
        contract,
        policy_version: policy_version.map(PolicyVersion),
        columns: column(call, row, "columns")?,
    })
}

/// Makes or changes a rail's contract; returns whether it is new.
///
/// # Errors
/// [`StoreError`]; [`StoreError::Refused`] for a contract that the schema does not serve.
pub async fn set_payment_rail(
    session: &mut Session,
    rail: &RailName,
    change: &ContractChange,
) -> Result<bool, StoreError> {
    const CALL: &str = "set_payment_rail";
    let query = sqlx::query(SET_RAIL)
        .bind(rail.as_str())
        .bind(&change.on_unknown)
        .bind(change.idempotency_window.map(signed))
        .bind(change.rail_timeout.map(signed))
        .bind(change.processing_bound.map(signed))
        .bind(change.amount_required)
        .bind(change.max_sends.map(small))
        .bind(change.max_crashes.map(small))
        .bind(change.backoff_base.map(signed))
        .bind(change.backoff_cap.map(signed))
        .bind(change.lease_duration.map(signed))
        .bind(change.paused)
        .bind(change.not_found_is_final)
        .bind(change.max_inquiries.map(small))
        .bind(change.max_sends_per_s.map(small))
        .bind(change.fallback)
        .bind(change.require_attestation);
    let rows = session.fetch(CALL, query).await?;
    column(CALL, only(CALL, &rows)?, "is_new")
}
