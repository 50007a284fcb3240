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
    /// `/livez` and `/readyz` are served.
    HEALTH_SERVING = "health.serving";
    /// The health server could not take a connection.
    HEALTH_ACCEPT_FAILED = "health.accept_failed";
    /// A loop of the daemon has not ticked in time, so the watchdog of systemd is not fed.
    WATCHDOG_WITHHELD = "watchdog.withheld";
    /// All loops tick again, and the watchdog of systemd is fed.
    WATCHDOG_RESUMED = "watchdog.resumed";
    /// systemd could not be told how the daemon is.
    NOTIFY_FAILED = "notify.failed";
}
