//! The names of all log events. A name never changes its meaning, since alarms are built on it; the
//! reference page docs/LOG_EVENTS.md lists the same names, and a test compares the two.

macro_rules! events {
    ($($(#[doc = $doc:literal])+ $name:ident = $value:literal;)*) => {
        $($(#[doc = $doc])+ pub const $name: &str = $value;)*

        /// Every event, with what it says.
        pub const ALL: &[(&str, &str)] = &[$(($value, concat!($($doc),+))),*];
    };
}

events! {
    /// The daemon has read its configuration; `config_sha256` tells which values are in force.
    DAEMON_STARTING = "daemon.starting";
    /// The daemon passed its preflight and may claim.
    DAEMON_READY = "daemon.ready";
    /// A stop was asked for; nothing more is claimed, and sends in flight are waited for.
    DAEMON_STOPPING = "daemon.stopping";
    /// The daemon has ended.
    DAEMON_STOPPED = "daemon.stopped";
    /// A thread panicked: an invariant is broken, and the process ends with exit code 70.
    DAEMON_PANICKED = "daemon.panicked";
    /// The configuration allows what a system that moves money should not.
    CONFIG_WARNING = "config.warning";
    /// So many lines are missing here: the log was not read in time, or could not be written.
    LOG_LINES_DROPPED = "log.lines_dropped";
    /// `/livez`, `/readyz` and `/metrics` are served.
    HEALTH_SERVING = "health.serving";
    /// The database could not be asked for the figures of `/metrics`; those it gave last are shown until they are too old.
    METRICS_SAMPLE_FAILED = "metrics.sample_failed";
    /// The health server could not take a connection.
    HEALTH_ACCEPT_FAILED = "health.accept_failed";
    /// A loop of the daemon has not ticked in time, so the watchdog of systemd is not fed.
    WATCHDOG_WITHHELD = "watchdog.withheld";
    /// All loops tick again, and the watchdog of systemd is fed.
    WATCHDOG_RESUMED = "watchdog.resumed";
    /// systemd could not be told how the daemon is.
    NOTIFY_FAILED = "notify.failed";
    /// The daemon waits for a database to work on.
    DATABASE_WAITING = "database.waiting";
    /// A broken invariant, or a schema this program cannot work with, ends the daemon.
    DAEMON_BROKEN = "daemon.broken";
    /// Sends outlasted the drain; they are recorded as unknown.
    DRAIN_TIMED_OUT = "drain.timed_out";
    /// How far the database was seen could not be written down; a later life of this daemon would not know.
    STATE_NOT_WRITTEN = "state.not_written";
    /// A lane may claim.
    LANE_ON = "lane.on";
    /// A lane sends by the decisions of that `version` of the policy from now on; what is under way ends by those it began with.
    POLICY_TAKEN = "policy.taken";
    /// A lane may not claim, for a reason that a person must mend.
    LANE_OFF = "lane.off";
    /// A rail failed so often that it is left alone for a while; the reason is that of the last failure, `endpoint` says which of several.
    BREAKER_OPENED = "breaker.opened";
    /// A rail that was left alone has answered; it gets more payments at once with each answer.
    BREAKER_RECOVERING = "breaker.recovering";
    /// A rail gets as many payments at once as are configured again.
    BREAKER_CLOSED = "breaker.closed";
    /// Payments were claimed.
    CLAIM_LEASED = "claim.leased";
    /// A claim failed; the lane tries again.
    CLAIM_FAILED = "claim.failed";
    /// The database's clock went back or differs from the host's; claims are held.
    CLOCK_FAULT = "clock.fault";
    /// Lost leases of vanished workers were settled by the rail's contract.
    LEASE_EXPIRED_TAKEN_OVER = "lease.expired_taken_over";
    /// Lost leases could not be looked for, in a lane that claims nothing; it is tried again.
    LEASE_SETTLING_FAILED = "lease.settling_failed";
    /// A lease of this dispatcher was lost before its result was recorded.
    LEASE_LOST = "lease.lost";
    /// Leases could not be renewed; it is tried again.
    RENEW_FAILED = "renew.failed";
    /// The first byte of a payment may leave.
    SEND_STARTED = "send.started";
    /// A payment was not sent after all: its lease is too old, its time is over, it is paused, or the daemon stops; or, with `class`, the endpoint that it is bound to is left alone, not configured, or not known.
    SEND_WITHHELD = "send.withheld";
    /// The exchange with the rail has ended.
    SEND_FINISHED = "send.finished";
    /// The database has the result of an attempt.
    COMPLETE_APPLIED = "complete.applied";
    /// The database had the result before: the answer to an earlier call was lost.
    COMPLETE_ALREADY_APPLIED = "complete.already_applied";
    /// The lease was lost; the result is kept as a late outcome.
    COMPLETE_FENCED = "complete.fenced";
    /// Results could not be recorded; it is tried again until they are.
    COMPLETE_FAILED = "complete.failed";
    /// A payment waits for a person.
    PAYMENT_HELD = "payment.held";
    /// The listener has a connection.
    LISTENER_CONNECTED = "listener.connected";
    /// The server's queue of notifications is more than half full, and no lane sleeps; or, with `sleeping` true, less again.
    LISTENER_QUEUE = "listener.queue";
    /// The listener lost its connection; lanes poll until it has another.
    LISTENER_LOST = "listener.lost";
    /// Another dispatcher missed its heartbeats.
    DISPATCHER_SILENT = "dispatcher.silent";
    /// Heartbeat, contracts or maintenance failed; it is tried again.
    UPKEEP_FAILED = "upkeep.failed";
}
