//! The only crate that speaks SQL: one Rust function for each SQL function, the listener, and the
//! embedded migrations. It decides nothing about payments, and it knows no rail.

mod attestation;
mod audit;
mod calls;
mod claim;
mod complete;
mod connect;
mod control;
mod enqueue;
mod error;
mod evidence;
mod health;
mod listener;
mod memory;
mod migrate;
mod partitions;
mod policy;
mod reading;
mod reconcile;
mod revocation;
mod rows;
mod session;

pub use attestation::{Attested, AuthMethod, Decision, NewAttestation, record_attestation, record_attestation_in};
pub use audit::{AuditScope, audit};
#[doc(hidden)]
pub use calls::STATEMENTS;
pub use calls::{
    dispatcher_heartbeat, expire_leases, preflight, read_payment_rails, release_leases, renew_leases, set_payment_rail,
    unpark,
};
pub use claim::claim;
pub use complete::complete;
pub use connect::{ClientIdentity, ConnectSettings, Password, Tls};
pub use control::{
    ActionKind, ActionResult, ApplyReport, FailoverStep, Pause, PaymentFilter, Proposal, Rules, apply_action,
    apply_failover, decide_action, propose_action, propose_failover, read_action_members, read_actions, read_pauses,
    read_payments, read_rules, set_pause, withdraw_action,
};
pub use enqueue::{Enqueued, Hint, NewPayment, enqueue_batch, enqueue_in};
pub use error::{Class, StoreError};
pub use evidence::{
    AppliedMigration, ServerFacts, read_applied_migrations, read_catalogue, read_policy_checksum, read_server_facts,
};
pub use health::{OutboxHealth, check_epoch, read_health};
pub use listener::{Probed, WakeupListener};
pub use memory::{EpochFault, LogMark, Memory};
pub use migrate::{
    MIGRATION_TABLE, MIGRATIONS, MigrationFile, MigrationReport, check_migrations, migrate, migrate_files,
};
pub use partitions::{
    Detaching, MonthToDetach, PartitionRow, PartitionStep, Receipt, TableHash, ensure_partitions, hash_table,
    read_partitions,
};
pub use policy::{
    ActivePolicy, PolicyDecision, PolicyProposal, activate_policy, decide_policy, propose_policy, read_policy_versions,
};
pub use reading::{read_blocked_keys, read_metrics, read_status, read_timelines};
pub use reconcile::{
    Comparison, LinesHash, StatementHead, StatementLine, begin_reconcile, finish_reconcile, read_breaks, record_lines,
    resolve_breaks, void_statement,
};
pub use revocation::{
    Fingerprint, Revocation, RevokedCert, TokenName, read_revoked_certs, revoke_client_cert, revoke_token,
};
pub use rows::{
    BlockedKey, ClaimBatch, ClaimCursor, ClaimRequest, ClaimSummary, ClaimedPayment, Completion, CompletionVerdict,
    ContractChange, DispatcherState, ExpireReport, Figure, Heartbeat, HeartbeatReply, HeldLease, HeldPayment, LaneBeat,
    Preflight, RailRow, RailStatus, RenewVerdict, RiskHorizon, SilentDispatcher, UnparkReport,
};
pub use session::Session;

/// The version of the functions' interface that this crate calls. The schema says which it serves.
pub const API_VERSION: i32 = 1;
