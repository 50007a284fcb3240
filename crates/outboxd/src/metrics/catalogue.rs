//! Every metric: its name, its type, its labels and what it says. A name never changes its meaning, since alerts are
//! built on it; docs/METRICS.md lists the same, and a test compares the two.

/// How a metric is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, until the process ends.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How often a value lay below each of some bounds.
    Histogram,
}

impl Kind {
    /// The name in the text format.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $name:ident = $kind:ident $full:literal [$($label:literal),*];)*) => {
        $($(#[doc = $doc])+ pub const $name: Metric =
            Metric { name: $full, kind: Kind::$kind, labels: &[$($label),*], help: concat!($($doc),+) };)*

        /// Every metric.
        pub const ALL: &[Metric] = &[$($name),*];
    };
}

metrics! {
    /// The running program; always 1.
    BUILD_INFO = Gauge "outboxd_build_info" ["version"];
    /// Whether the daemon may claim, as /readyz says: 1 or 0.
    READY = Gauge "outboxd_ready" [];
    /// Whether a person has to mend something before the lane claims: 1 or 0.
    LANE_OFF = Gauge "outboxd_lane_off" ["rail"];
    /// How many endpoints of the rail this dispatcher has: its URL and the fallbacks.
    ENDPOINTS = Gauge "outboxd_endpoints" ["rail"];
    /// How many endpoints of the rail this dispatcher leaves alone because they fail.
    BREAKER_OPEN = Gauge "outboxd_breaker_open" ["rail"];
    /// How often it began to, each longer opening in a row included.
    BREAKER_OPENINGS = Counter "outboxd_breaker_openings_total" ["rail"];
    /// Claims by result: payments, empty or failed.
    CLAIMS = Counter "outboxd_claims_total" ["rail", "result"];
    /// Payments whose leases were granted.
    LEASES = Counter "outboxd_leases_total" ["rail"];
    /// Exchanges with the rail under way.
    SENDS_IN_FLIGHT = Gauge "outboxd_sends_in_flight" ["rail"];
    /// Exchanges that ended, by kind (SUBMIT, INQUIRE) and outcome. What was never begun is not in it.
    SENDS = Counter "outboxd_sends_total" ["rail", "kind", "outcome"];
    /// From the enqueue, or from `not_before`, to the first byte of a first attempt, by the database's clock.
    COMMIT_TO_FIRST_BYTE = Histogram "outboxd_commit_to_first_byte_seconds" ["rail"];
    /// From the first byte of a payment to the last byte of the rail's answer. Without an answer nothing is counted.
    RAIL_LATENCY = Histogram "outboxd_rail_latency_seconds" ["rail"];
    /// Results and releases by the database's verdict: applied, already_applied, fenced or busy.
    COMPLETIONS = Counter "outboxd_completions_total" ["rail", "verdict"];
    /// Attempts that were recorded, by the state they ended in.
    ATTEMPTS = Counter "outboxd_attempts_total" ["rail", "state"];
    /// Results that the database does not have yet.
    UNRECORDED = Gauge "outboxd_unrecorded_results" [];
    /// How long the oldest of them has waited; 0 if there is none.
    OLDEST_UNRECORDED = Gauge "outboxd_oldest_unrecorded_result_seconds" [];
    /// Whether hints can be heard: 1 or 0. Without them lanes poll.
    LISTENER_CONNECTED = Gauge "outboxd_listener_connected" [];
    /// Log lines that were not written.
    LOG_LINES_DROPPED = Counter "outboxd_log_lines_dropped_total" [];
    /// Age of what follows; before the first sample, of the daemon.
    SAMPLE_AGE = Gauge "outboxd_queue_sample_age_seconds" [];
    /// How long the last sample took.
    SAMPLE_DURATION = Gauge "outboxd_queue_sample_duration_seconds" [];
    /// Samples that failed.
    SAMPLES_FAILED = Counter "outboxd_queue_samples_failed_total" [];
    /// Payments that could be claimed now.
    DUE = Gauge "outboxd_payments_due" ["rail"];
    /// Since when the oldest of them has been due; 0 if there is none.
    OLDEST_DUE = Gauge "outboxd_oldest_due_age_seconds" ["rail"];
    /// Since when the oldest payment that was tried, is not in doubt and has not ended could have been sent, or since people released it; 0 if there is none.
    OLDEST_RETRYING = Gauge "outboxd_oldest_retrying_age_seconds" ["rail"];
    /// Payments that are not due before a later time.
    WAITING = Gauge "outboxd_payments_waiting" ["rail"];
    /// Payments under a lease that holds, over all dispatchers.
    LEASED = Gauge "outboxd_payments_leased" ["rail"];
    /// Payments that stand behind another of their ordering key, or whose participant is paused.
    PARKED = Gauge "outboxd_payments_parked" ["rail"];
    /// Payments that may have been executed and are neither held nor in flight; lost leases included.
    IN_DOUBT = Gauge "outboxd_payments_in_doubt" ["rail"];
    /// Payments that ended without success and that the rail accepted, as it said later. Of all time.
    FAILED_BUT_ACCEPTED = Gauge "outboxd_payments_failed_but_accepted" ["rail"];
    /// Payments for which the rail gave more than one reference. Of all time.
    ACCEPTED_TWICE = Gauge "outboxd_payments_accepted_twice" ["rail"];
    /// Age of the oldest doubt; 0 if there is none.
    OLDEST_IN_DOUBT = Gauge "outboxd_oldest_in_doubt_age_seconds" ["rail"];
    /// Money of the payments in doubt, in minor units.
    IN_DOUBT_AMOUNT = Gauge "outboxd_in_doubt_amount_minor" ["rail", "currency"];
    /// Payments that wait for a person.
    HELD = Gauge "outboxd_payments_held" ["rail", "reason"];
    /// Time since the oldest of them was enqueued.
    OLDEST_HELD = Gauge "outboxd_oldest_held_enqueued_age_seconds" ["rail", "reason"];
    /// Their money, in minor units.
    HELD_AMOUNT = Gauge "outboxd_held_amount_minor" ["rail", "reason", "currency"];
    /// Whether the sums of money are whole; 0: more payments than are looked at, and the sums are too small.
    AMOUNTS_COMPLETE = Gauge "outboxd_amounts_complete" [];
    /// Whether the contract or a pause stops the rail for everybody: 1 or 0.
    RAIL_PAUSED = Gauge "outboxd_rail_paused" ["rail"];
    /// Participants that are paused, on one rail or on all.
    PARTICIPANTS_PAUSED = Gauge "outboxd_participants_paused" [];
    /// Time until what is due is through, at the rate of the last samples over all dispatchers; +Inf: nothing ends.
    DRAIN_FORECAST = Gauge "outboxd_drain_forecast_seconds" ["rail"];
    /// The first `not_after` of a payment that is due, waits or is parked.
    EARLIEST_NOT_AFTER = Gauge "outboxd_earliest_not_after_timestamp_seconds" ["rail"];
    /// Payments that are at risk of missing their `not_after`.
    AT_RISK = Gauge "outboxd_payments_not_after_at_risk" ["rail"];
    /// Their money, in minor units.
    AT_RISK_AMOUNT = Gauge "outboxd_not_after_at_risk_amount_minor" ["rail", "currency"];
    /// Time since a dispatcher's last heartbeat; those that stopped in order are left out.
    HEARTBEAT_AGE = Gauge "outboxd_dispatcher_heartbeat_age_seconds" ["dispatcher"];
    /// How many rails a dispatcher serves.
    DISPATCHER_LANES = Gauge "outboxd_dispatcher_lanes" ["dispatcher"];
    /// A dispatcher's version and state; always 1.
    DISPATCHER_INFO = Gauge "outboxd_dispatcher_info" ["dispatcher", "version", "state"];
    /// Dead rows of the hot table, as the server estimates them.
    DEAD_ROWS = Gauge "outboxd_queue_dead_rows" [];
    /// The age, in transactions, of the oldest snapshot that keeps dead rows from being removed.
    OLDEST_SNAPSHOT = Gauge "outboxd_oldest_snapshot_age_transactions" [];
    /// How full the server's notification queue is, from 0 to 1.
    NOTIFICATION_QUEUE = Gauge "outboxd_notification_queue_usage_ratio" [];
    /// Months after this one that have partitions.
    PARTITION_HEADROOM = Gauge "outboxd_partition_headroom_months" [];
    /// The version of the active policy; 0 if there is none.
    POLICY_VERSION = Gauge "outboxd_policy_version" [];
}

/// The metric of this name, without its prefix.
#[must_use]
pub fn by_short_name(name: &str) -> Option<&'static Metric> {
    ALL.iter().find(|metric| metric.name.strip_prefix("outboxd_") == Some(name))
}
