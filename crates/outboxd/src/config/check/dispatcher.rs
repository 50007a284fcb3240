//! Checks of `[dispatcher]`, and of what goes together with it elsewhere.

use std::collections::BTreeMap;
use std::path::PathBuf;

use outbox_core::{Millis, RailName, WorkerId};
use uuid::Uuid;

use super::super::defaults;
use super::super::fault::KeyPath;
use super::super::model::{Database, Dispatcher, Rail};
use super::super::raw::RawDispatcher;
use super::findings::{DAY, Findings, human};

/// The longest lease a rail may need: a lost one holds its payment as long.
const MIN_LEASE_MAX: Millis = Millis(3_600_000);
/// The design's bound on how long a dead listener goes unnoticed.
const LISTENER_PROBE_MAX: Millis = Millis(10_000);
/// Longer, and an alert would come later than the trouble it is about.
const METRICS_INTERVAL_MAX: Millis = Millis(300_000);
const MILLI: Millis = Millis(1);
const SECOND: Millis = Millis(1_000);

fn key(name: &str) -> KeyPath {
    KeyPath::of(&["dispatcher", name])
}

fn check_name(raw: &RawDispatcher, findings: &mut Findings<'_>) -> String {
    let name = raw.name.clone().unwrap_or_else(|| findings.host.name.clone());
    if let Err(error) = WorkerId::new(&name, Uuid::nil()) {
        let source = if raw.name.is_none() { "; it is the host's name, so set this key" } else { "" };
        findings.add(&key("name"), format!("{error}{source}"));
    }
    name
}

fn check_environment(raw: &RawDispatcher, findings: &mut Findings<'_>) -> Option<String> {
    let is_name = |text: &String| (1..=60).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if raw.environment.as_ref().is_some_and(|text| !is_name(text)) {
        findings.add(&key("environment"), "must be 1 to 60 visible ASCII characters without spaces");
    }
    raw.environment.clone()
}

fn check_state_directory(raw: &RawDispatcher, findings: &mut Findings<'_>) -> Option<PathBuf> {
    let directory = raw.state_directory.clone().or_else(|| findings.host.state_directory.clone())?;
    if !directory.is_absolute() {
        findings.add(&key("state_directory"), "must be an absolute path");
    }
    Some(directory)
}

fn check_metrics_interval(raw: &RawDispatcher, findings: &mut Findings<'_>) -> Millis {
    let bounds = SECOND..=METRICS_INTERVAL_MAX;
    findings.time(&key("metrics_interval"), raw.metrics_interval, defaults::METRICS_INTERVAL, bounds)
}

pub(super) fn check(raw: &RawDispatcher, findings: &mut Findings<'_>) -> Dispatcher {
    let (name, environment) = (check_name(raw, findings), check_environment(raw, findings));
    let mut time =
        |name: &str, given, default, from: Millis, to: Millis| findings.time(&key(name), given, default, from..=to);
    let dispatcher = Dispatcher {
        name,
        environment,
        drain_timeout: time("drain_timeout", raw.drain_timeout, defaults::DRAIN_TIMEOUT, SECOND, MIN_LEASE_MAX),
        poll_min: time("poll_min", raw.poll_min, defaults::POLL_MIN, MILLI, SECOND),
        poll_max: time("poll_max", raw.poll_max, defaults::POLL_MAX, MILLI, Millis(60_000)),
        completion_flush_interval: time(
            "completion_flush_interval",
            raw.completion_flush_interval,
            defaults::COMPLETION_FLUSH_INTERVAL,
            MILLI,
            Millis(10_000),
        ),
        completion_budget: time(
            "completion_budget",
            raw.completion_budget,
            defaults::COMPLETION_BUDGET,
            MILLI,
            MIN_LEASE_MAX,
        ),
        lease_margin: time("lease_margin", raw.lease_margin, defaults::LEASE_MARGIN, MILLI, MIN_LEASE_MAX),
        heartbeat_interval: time(
            "heartbeat_interval",
            raw.heartbeat_interval,
            defaults::HEARTBEAT_INTERVAL,
            Millis(100),
            Millis(60_000),
        ),
        listener_probe_interval: time(
            "listener_probe_interval",
            raw.listener_probe_interval,
            defaults::LISTENER_PROBE_INTERVAL,
            Millis(100),
            LISTENER_PROBE_MAX,
        ),
        maintenance_interval: time(
            "maintenance_interval",
            raw.maintenance_interval,
            defaults::MAINTENANCE_INTERVAL,
            Millis(100),
            DAY,
        ),
        metrics_interval: check_metrics_interval(raw, findings),
        state_directory: check_state_directory(raw, findings),
        claim_batch_max: findings.number(
            &key("claim_batch_max"),
            raw.claim_batch_max,
            defaults::CLAIM_BATCH_MAX,
            1..=10_000,
        ),
        completion_batch_size: findings.number(
            &key("completion_batch_size"),
            raw.completion_batch_size,
            defaults::COMPLETION_BATCH_SIZE,
            1..=10_000,
        ),
        completion_queue_max: findings.number(
            &key("completion_queue_max"),
            raw.completion_queue_max,
            defaults::COMPLETION_QUEUE_MAX,
            1..=1_000_000,
        ),
    };
    check_relations(&dispatcher, findings);
    dispatcher
}

fn check_relations(dispatcher: &Dispatcher, findings: &mut Findings<'_>) {
    if dispatcher.poll_min > dispatcher.poll_max {
        let (min, max) = (human(dispatcher.poll_min), human(dispatcher.poll_max));
        let message = format!("is {min}, longer than poll_max ({max}); lower it or raise poll_max");
        findings.relation(&key("poll_min"), &key("poll_max"), message);
    }
    if dispatcher.completion_batch_size > dispatcher.completion_queue_max {
        let (batch, queue) = (dispatcher.completion_batch_size, dispatcher.completion_queue_max);
        let message = format!("is {batch}, more than completion_queue_max ({queue}), so no batch would ever be full");
        findings.relation(&key("completion_batch_size"), &key("completion_queue_max"), message);
    }
}

/// A call and the wait before it must fit into the budget that a lease keeps free for them.
pub(super) fn check_with_database(dispatcher: &Dispatcher, database: &Database, findings: &mut Findings<'_>) {
    let needed = dispatcher.completion_flush_interval.plus(database.call_timeout);
    if needed > dispatcher.completion_budget {
        let message = format!(
            "is {}, shorter than completion_flush_interval + database.call_timeout ({}): a result could be recorded \
             after its lease is over; raise it or lower those",
            human(dispatcher.completion_budget),
            human(needed)
        );
        let call_timeout = KeyPath::of(&["database", "call_timeout"]);
        findings.relation(&key("completion_budget"), &call_timeout, message);
    }
}

pub(super) fn check_with_rail(dispatcher: &Dispatcher, rail: &Rail, path: &KeyPath, findings: &mut Findings<'_>) {
    let needed = dispatcher.min_lease(rail);
    if needed > MIN_LEASE_MAX {
        let message = format!(
            "timeout + completion_budget + lease_margin is {}, and no lease may be longer than {}; lower them",
            human(needed),
            human(MIN_LEASE_MAX)
        );
        findings.relation(&path.join("timeout"), &key("completion_budget"), message);
    }
}

/// Every send in flight may end while the database is away, and no result is ever dropped.
pub(super) fn check_with_rails(dispatcher: &Dispatcher, rails: &BTreeMap<RailName, Rail>, findings: &mut Findings<'_>) {
    let in_flight: u64 = rails.values().map(|rail| u64::from(rail.concurrency)).sum();
    if in_flight > u64::from(dispatcher.completion_queue_max) {
        let message = format!(
            "is {}, less than the concurrency of all rails together ({in_flight}), each of which may wait with a \
             result; raise it or lower those",
            dispatcher.completion_queue_max
        );
        findings.relation(&key("completion_queue_max"), &KeyPath::of(&["rails"]), message);
    }
}
