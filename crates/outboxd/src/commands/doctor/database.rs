//! The database as the dispatcher's login finds it: there, durable, the right one, and who dispatches from it. Its
//! judgements are those of the daemon.

use std::sync::Arc;

use outbox_core::Millis;
use outbox_store::{OutboxHealth, Preflight, Rules, Session, StoreError};

use super::contracts::{CERTIFICATE, CONTRACT, PAUSE, POLICY, contracts};
use super::finding::Finding;
use super::queue::{QUEUE, queue};
use crate::commands::status::HEADROOM_MIN_MONTHS;
use crate::config::Config;
use crate::dispatch::examine;
use crate::settings;

pub(super) const DATABASE: &str = "database";
pub(super) const PREFLIGHT: &str = "preflight";
pub(super) const SESSIONS: &str = "sessions";
pub(super) const CLOCK: &str = "clock";
pub(super) const EPOCH: &str = "epoch";
pub(super) const DISPATCHERS: &str = "dispatchers";
pub(super) const PARTITIONS: &str = "partitions";

const AFTER_DATABASE: [&str; 11] =
    [PREFLIGHT, SESSIONS, CLOCK, EPOCH, POLICY, CONTRACT, PAUSE, CERTIFICATE, DISPATCHERS, PARTITIONS, QUEUE];

/// The major versions of Postgres that the tests run on.
const MAJOR_MIN: i32 = 15;
const MAJOR_MAX: i32 = 18;

/// Below what keeps the daemon from claiming, and more than clocks that are kept by NTP are ever apart.
const CLOCK_WARNING: Millis = Millis(1_000);

/// The contracts and the policy, if the database can be asked.
pub(super) async fn rules(config: &Config) -> Option<Rules> {
    let mut session = Session::new(Arc::new(settings::connection(&config.database, config.credentials)));
    let rules = outbox_store::read_rules(&mut session, &[], None).await.ok();
    session.close().await;
    rules
}

/// Everything about the database.
pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    let settings = Arc::new(settings::connection(&config.database, config.credentials));
    let mut session = Session::new(Arc::clone(&settings));
    let findings = match outbox_store::preflight(&mut session).await {
        Err(error) => {
            let skipped = AFTER_DATABASE.iter().map(|check| Finding::skipped(check, "there is no database to ask"));
            [unreachable(config, error)].into_iter().chain(skipped).collect()
        }
        Ok(found) => {
            let mut findings = vec![version(&found)];
            let refusals = examine::refusals(&found, config);
            findings.extend(preflight(&refusals));
            findings.push(match refusals.is_empty() {
                true => sessions(examine::sessions(&settings, config).await),
                false => Finding::skipped(SESSIONS, "the preflight has faults"),
            });
            findings.push(clock(examine::clock_difference(&mut session).await));
            findings.push(epoch(&mut session, config).await);
            findings.extend(contracts(&mut session, config).await);
            findings.extend(health(outbox_store::read_health(&mut session).await, config));
            findings.extend(queue(&mut session, config).await);
            findings
        }
    };
    session.close().await;
    findings
}

fn unreachable(config: &Config, error: StoreError) -> Finding {
    let is_login = matches!(error, StoreError::LoginRefused { .. });
    let to_do = match error {
        _ if error.is_of_a_pooler() => "point database.host and database.port at the server itself",
        StoreError::LoginRefused { .. } => "mend the password or certificate, pg_hba.conf, or database.name",
        StoreError::NotPermitted { .. } | StoreError::Invariant { .. } => {
            "is it the right database? outboxd migrate makes the schema; grant outbox_dispatcher to the login"
        }
        StoreError::Credential(_) => "mend the file",
        _ => "is the server up, and do database.host and database.port name it?",
    };
    let words = examine::store_words(error);
    let seen = if is_login { format!("as `{}`: {words}", config.database.user) } else { words };
    Finding::fault(DATABASE, seen, to_do)
}

fn version(found: &Preflight) -> Finding {
    let (major, minor) = (found.server_version_num / 10_000, found.server_version_num % 10_000);
    let seen = format!("PostgreSQL {major}.{minor}, login `{}`", found.login);
    match major {
        ..MAJOR_MIN => Finding::fault(DATABASE, seen, format!("upgrade it: {MAJOR_MIN} to {MAJOR_MAX} are served")),
        MAJOR_MIN..=MAJOR_MAX => Finding::ok(DATABASE, seen),
        _ => Finding::warning(DATABASE, seen, format!("{MAJOR_MIN} to {MAJOR_MAX} are tested")),
    }
}

fn preflight(refusals: &[String]) -> Vec<Finding> {
    if refusals.is_empty() {
        return vec![Finding::ok(PREFLIGHT, "a durable primary, a login without excess, a schema that fits")];
    }
    // What is to be done stands after the colon of most.
    let split = |what: &String| what.split_once(": ").map(|(seen, to_do)| (seen.to_owned(), to_do.to_owned()));
    let waits = "point database.host at the primary; a daemon waits for it";
    let finding = |what| {
        let (seen, to_do) = split(what).unwrap_or_else(|| (what.clone(), waits.to_owned()));
        Finding::fault(PREFLIGHT, seen, to_do)
    };
    refusals.iter().map(finding).collect()
}

fn sessions(outcome: Result<(), String>) -> Finding {
    match outcome {
        Ok(()) => Finding::ok(SESSIONS, "each connection has a session of its own, and hears hints"),
        Err(what) => {
            Finding::fault(SESSIONS, what, "connect to the server itself; max_connections: lanes + 5 a daemon")
        }
    }
}

fn clock(outcome: Result<Millis, StoreError>) -> Finding {
    let to_do = "look at the time service of this host and of the database's";
    match outcome {
        Err(error) => unasked(CLOCK, error),
        Ok(apart) => {
            let seen = format!("this host and the database are {apart} apart");
            match apart {
                apart if apart > examine::DIFFERENCE_MAX => {
                    Finding::fault(CLOCK, format!("{seen}: nothing is claimed"), to_do)
                }
                apart if apart > CLOCK_WARNING => Finding::warning(CLOCK, seen, to_do),
                _ => Finding::ok(CLOCK, seen),
            }
        }
    }
}

async fn epoch(session: &mut Session, config: &Config) -> Finding {
    let environment = config.dispatcher.environment.as_deref();
    let seen = match examine::seen(config) {
        Ok(seen) => seen,
        Err(what) => return Finding::fault(EPOCH, what, "run this as the daemon's user; mend what it says"),
    };
    let known = if seen.is_some() { "as far as the state file knows" } else { "this host remembers no state of it" };
    match outbox_store::check_epoch(session, environment, seen.unwrap_or_default()).await {
        Ok(()) => Finding::ok(EPOCH, format!("the cluster on record, or none is yet; {known}")),
        Err(StoreError::Refused { message, hint, .. }) => {
            Finding::fault(EPOCH, message, hint.unwrap_or_else(|| "see `claim.failed` in the log".to_owned()))
        }
        Err(error) => unasked(EPOCH, error),
    }
}

fn health(outcome: Result<OutboxHealth, StoreError>, config: &Config) -> Vec<Finding> {
    match outcome {
        Err(error) => {
            vec![unasked(DISPATCHERS, error), Finding::skipped(PARTITIONS, "as an operator: outboxd status")]
        }
        Ok(health) => {
            let mut findings = dispatchers(&health, config);
            findings.push(partitions(health.partition_headroom_months));
            findings
        }
    }
}

fn dispatchers(health: &OutboxHealth, config: &Config) -> Vec<Finding> {
    let start = "look at systemctl status outboxd and at the log; start it";
    let mut findings = Vec::new();
    if !health.silent.is_empty() {
        let seen = format!("missed three heartbeats: {}", health.silent.join(", "));
        findings.push(Finding::warning(DISPATCHERS, seen, "look at its host; its leases run out, and others go on"));
    }
    if health.running.is_empty() {
        findings.push(Finding::fault(DISPATCHERS, "none is running", start));
        return findings;
    }
    let unserved = config.rails.keys().filter(|rail| !health.lanes.iter().any(|lane| lane == rail.as_str()));
    let unserved: Vec<Finding> = unserved
        .map(|rail| {
            Finding::fault(DISPATCHERS, "none that is running has this rail", "restart it: configuration is read once")
                .of(rail)
        })
        .collect();
    if unserved.is_empty() {
        findings.push(Finding::ok(DISPATCHERS, format!("running: {}", health.running.join(", "))));
    }
    findings.extend(unserved);
    findings
}

fn partitions(months: i32) -> Finding {
    let migrate = "run outboxd migrate, which makes them";
    match months {
        ..0 => Finding::fault(PARTITIONS, "this month has none: nothing can be enqueued", migrate),
        months if months < HEADROOM_MIN_MONTHS => Finding::warning(PARTITIONS, format!("for {months} months"), migrate),
        months => Finding::ok(PARTITIONS, format!("for {months} months")),
    }
}

/// A question that the database did not answer. A function that is not there belongs to a newer schema.
pub(super) fn unasked(check: &'static str, error: StoreError) -> Finding {
    if matches!(error, StoreError::NotPermitted { .. }) && error.sqlstate().as_deref() == Some("42883") {
        return Finding::skipped(
            check,
            "the schema is older than this program; see the daemon's log, and run outboxd migrate",
        );
    }
    Finding::fault(check, examine::store_words(error), "mend the database, then look again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(finding: &Finding, verdict: &str, words: &str) {
        let shown = format!("{finding:?}");
        assert!(shown.contains(&format!("verdict: {verdict}")) && shown.contains(words), "{shown}");
    }

    #[test]
    fn clocks_apart_are_a_warning_before_they_stop_claims() {
        for (ms, verdict) in [(0, "Ok"), (1_000, "Ok"), (1_001, "Warning"), (10_000, "Warning"), (10_001, "Fault")] {
            check(&clock(Ok(Millis(ms))), verdict, "apart");
        }
    }

    #[test]
    fn a_month_without_partition_is_a_fault_and_few_months_are_a_warning() {
        for (months, verdict) in [(24, "Ok"), (12, "Ok"), (11, "Warning"), (0, "Warning"), (-1, "Fault")] {
            check(&partitions(months), verdict, "");
        }
    }
}
