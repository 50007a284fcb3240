//! Whether each rail can be reached from this host, and how long its certificate is good. How it is reached is the
//! rail's own business.

use std::time::SystemTime;

use outbox_core::RailName;
use outbox_rail::{HttpRail, HttpRailSettings, Probe, ProbeFault};
use outbox_store::Rules;
use time::OffsetDateTime;
use tokio::task::JoinHandle;

use super::finding::Finding;
use crate::commands::output::utc;
use crate::config::Config;
use crate::dispatch::govern;
use crate::dispatch::policy_watch::PolicyNow;
use crate::{dispatch, settings};

pub(super) const ENDPOINT: &str = "endpoint";

/// Certificates are mostly renewed a month before their end; one that is nearer to it was forgotten.
const DAYS_MIN: i64 = 30;

/// Probes under way, in the order of the rails and of their endpoints.
pub(super) type Probes = Vec<(RailName, JoinHandle<Finding>)>;

/// Begins to reach every endpoint of every rail at once. `rules`: what the database says, if it could be asked; the name in
/// a certificate may be decided there.
pub(super) fn begin(config: &Config, rules: Option<&Rules>) -> Probes {
    let policy = rules.map_or(PolicyNow::None, PolicyNow::of);
    let mut probes = Vec::new();
    for (rail, configured) in &config.rails {
        let row = rules.and_then(|rules| rules.rails.iter().find(|row| row.rail == *rail));
        match govern(rail, configured, &policy.of_rail(rail, row)) {
            Ok(governed) => {
                let endpoints = settings::http_rails(&governed.rail, &governed.sans, config.credentials);
                probes.extend(endpoints.into_iter().map(|settings| (rail.clone(), tokio::spawn(probe(settings)))));
            }
            Err(why) => {
                probes.push((rail.clone(), tokio::spawn(async move { Finding::skipped(ENDPOINT, why) })));
            }
        }
    }
    probes
}

async fn probe(settings: HttpRailSettings) -> Finding {
    match HttpRail::new(settings) {
        Ok(made) => judge(made.probe().await, SystemTime::now()),
        Err(error) => Finding::fault(ENDPOINT, dispatch::chain(&error), "mend the configuration or the file"),
    }
}

/// Waits for what was begun.
pub(super) async fn end(probes: Probes) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (rail, probe) in probes {
        let finding = probe.await.unwrap_or_else(|error| Finding::skipped(ENDPOINT, error.to_string()));
        findings.push(finding.of(rail));
    }
    findings
}

fn judge(outcome: Result<Probe, ProbeFault>, now: SystemTime) -> Finding {
    let found = match outcome {
        Ok(found) => found,
        Err(fault) => return Finding::fault(ENDPOINT, fault.to_string(), to_do(fault.class)),
    };
    let seen = format!("{} by {}", found.address, if found.is_tls { "TLS" } else { "plain TCP" });
    let Some(ends) = found.certificate_ends else { return Finding::ok(ENDPOINT, seen) };
    let ends = OffsetDateTime::from(ends);
    let days = (ends - OffsetDateTime::from(now)).whole_days();
    let seen = format!("{seen}; certificate good for {days} days, until {}", utc(ends));
    if days < DAYS_MIN {
        return Finding::warning(ENDPOINT, seen, "ask the rail for its renewal");
    }
    Finding::ok(ENDPOINT, seen)
}

fn to_do(class: &str) -> &'static str {
    match class {
        "dns" => "is the host in its url right, and does this host resolve it?",
        "connect" | "connect_timeout" => {
            "is it up, and do firewalls and the unit's IPAddressAllow= let this host reach it?"
        }
        "tls" => "compare its ca_file and server_name with the certificate that the rail shows",
        "tls_refused" => "the rail does not take our certificate, or wants one: mend its client_cert_file",
        "credential" => "mend the file",
        _ => "ask the rail",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_certificate_that_ends_within_a_month_is_warned_of() {
        let now = SystemTime::now();
        for (days, verdict) in [(30, "Ok"), (29, "Warning"), (0, "Warning")] {
            let ends = Some(now + Duration::from_secs(days * 86_400 + 3_600));
            let probe = Probe { address: ([127, 0, 0, 1], 443).into(), is_tls: true, certificate_ends: ends };
            let shown = format!("{:?}", judge(Ok(probe), now));
            assert!(shown.contains(&format!("verdict: {verdict}")), "{shown}");
            assert!(shown.contains(&format!("good for {days} days")), "{shown}");
        }
    }
}
