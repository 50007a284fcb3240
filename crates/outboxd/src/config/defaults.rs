//! The value of every key that may be left out. `packaging/outboxd.example.toml` shows the same
//! values, and a test compares the two.

use outbox_core::Millis;

/// Where the configuration is, unless told otherwise.
pub const CONFIG_FILE: &str = "/etc/outboxd/outboxd.toml";

/// Longer than most exchanges with a rail. A drain may take twice this: the unit's `TimeoutStopSec` is above.
pub(super) const DRAIN_TIMEOUT: Millis = Millis(30_000);
/// Bounds the rows one claim locks and one reply carries; more would make one lost reply cost more leases.
pub(super) const CLAIM_BATCH_MAX: u32 = 200;
/// A hint that got lost costs at least this much latency; shorter polls load the database for nothing.
pub(super) const POLL_MIN: Millis = Millis(2);
/// Bounds the latency of a payment whose hint got lost, and the polls of an idle lane.
pub(super) const POLL_MAX: Millis = Millis(1_000);
/// Where one call already costs next to nothing a row.
pub(super) const COMPLETION_BATCH_SIZE: u32 = 200;
/// Bounds what a result waits for company.
pub(super) const COMPLETION_FLUSH_INTERVAL: Millis = Millis(20);
/// Room for one flush, one call that times out, and a little more.
pub(super) const COMPLETION_BUDGET: Millis = Millis(5_000);
/// Bounds the memory that results take while the database is away.
pub(super) const COMPLETION_QUEUE_MAX: u32 = 10_000;
/// Covers the way from the claim's reply to the first byte.
pub(super) const LEASE_MARGIN: Millis = Millis(2_000);
/// How soon operators, and the other dispatchers, notice a dead one: after three of them.
pub(super) const HEARTBEAT_INTERVAL: Millis = Millis(5_000);
/// Bounds how long a dead listener goes unnoticed.
pub(super) const LISTENER_PROBE_INTERVAL: Millis = Millis(5_000);
/// Bounds how long a lost lease of a lane that does not claim stays unsettled.
pub(super) const MAINTENANCE_INTERVAL: Millis = Millis(10_000);
/// The usual interval of a scrape. Each sample reads the whole queue, once for each dispatcher.
pub(super) const METRICS_INTERVAL: Millis = Millis(15_000);

/// The port of Postgres.
pub(super) const DATABASE_PORT: u16 = 5432;
/// Longer than a TLS handshake to a busy server takes.
pub(super) const DATABASE_CONNECT_TIMEOUT: Millis = Millis(5_000);
/// With the flush, inside the completion budget.
pub(super) const CALL_TIMEOUT: Millis = Millis(4_000);
/// Below the call timeout: the server gives up first, and the call has certainly had no effect.
pub(super) const STATEMENT_TIMEOUT: Millis = Millis(3_000);
/// Nothing on this path waits for a lock for long; whoever holds one is an accident.
pub(super) const LOCK_TIMEOUT: Millis = Millis(1_000);
/// The daemon opens no transactions, so any that is idle is a fault.
pub(super) const IDLE_IN_TRANSACTION_TIMEOUT: Millis = Millis(5_000);

/// Where health is served.
pub(super) const HEALTH_LISTEN: &str = "127.0.0.1:9464";
/// Text on a terminal, JSON elsewhere.
pub(super) const LOG_FORMAT: &str = "auto";
/// Everything an operator needs; libraries only when something is wrong.
pub(super) const LOG_FILTER: &str = "warn,outboxd=info";

/// For development; a policy says so itself.
pub(super) const RAIL_DECISIONS: &str = "file";
/// Enough to keep a rail busy that answers in 100 ms with 320 payments a second.
pub(super) const RAIL_CONCURRENCY: u32 = 32;
/// More than a rail that is up answers with in a row by accident; each may be a payment in doubt.
pub(super) const RAIL_BREAKER_FAILURES: u32 = 10;
/// Longer than a rail's restart of one process, and short enough for nobody to wait for it.
pub(super) const RAIL_BREAKER_OPEN_MIN: Millis = Millis(1_000);
/// Bounds how long a rail that is back goes unnoticed, and how often one that is not is tried.
pub(super) const RAIL_BREAKER_OPEN_MAX: Millis = Millis(60_000);
/// The whole exchange.
pub(super) const RAIL_TIMEOUT: Millis = Millis(20_000);
/// Connect and TLS handshake.
pub(super) const RAIL_CONNECT_TIMEOUT: Millis = Millis(5_000);
/// Below the idle limits of common servers (5 s and more), so that it is this side that closes; the other way round,
/// a connection is reset just as a payment is put on it, and that payment is unknown.
pub(super) const RAIL_POOL_IDLE_TIMEOUT: Millis = Millis(4_000);
/// draft-ietf-httpapi-idempotency-key-header.
pub(super) const RAIL_KEY_HEADER: &str = "Idempotency-Key";
/// The draft's structured-field string.
pub(super) const RAIL_KEY_FORMAT: &str = "quoted";
/// An answer is a reference and a code; a longer one is a fault.
pub(super) const RAIL_RESPONSE_BODY_MAX_BYTES: u32 = 65_536;

/// The value of a header that tells of a possible duplicate.
pub(super) const RAIL_POSSIBLE_DUPLICATE: &str = "true";
