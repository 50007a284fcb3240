//! Whether each configured rail may be claimed for: the policy, its contract, what people have paused, and whether they
//! have revoked our certificate. What fits is decided where the daemon decides it.

use std::collections::BTreeMap;

use outbox_core::RailName;
use outbox_store::{Fingerprint, Pause, RailRow, RevokedCert, Session};

use super::database::unasked;
use super::finding::Finding;
use crate::commands::output::utc;
use crate::config::Config;
use crate::config::policy::checksum;
use crate::dispatch::examine;
use crate::dispatch::identities::{self, Identities};
use crate::dispatch::policy_watch::PolicyNow;
use crate::hex;

pub(super) const CONTRACT: &str = "contract";
pub(super) const POLICY: &str = "policy";
pub(super) const PAUSE: &str = "pause";
pub(super) const CERTIFICATE: &str = "certificate";

/// The contract of each rail, then the pauses of each, then the certificate that we show to each.
pub(super) async fn contracts(session: &mut Session, config: &Config) -> Vec<Finding> {
    let own = Identities::of(config).fingerprints();
    let asked: Vec<Fingerprint> = own.values().copied().collect();
    let rules = match outbox_store::read_rules(session, &asked, None).await {
        Ok(rules) => rules,
        Err(error) => {
            let skipped = |check| Finding::skipped(check, "the contracts could not be read");
            return vec![skipped(POLICY), unasked(CONTRACT, error), skipped(PAUSE), skipped(CERTIFICATE)];
        }
    };
    let now = PolicyNow::of(&rules);
    let row = |rail: &RailName| rules.rails.iter().find(|row| row.rail == *rail);
    let rails = config.rails.keys();
    let contracts = rails.clone().map(|rail| contract(config, rail, row(rail), &now));
    let pauses = rails.flat_map(|rail| paused(rail, row(rail), &rules.pauses, &now));
    let certificates = certificates(config, &own, &rules.revoked);
    std::iter::once(policy(&now)).chain(contracts).chain(pauses).chain(certificates).collect()
}

fn certificates(config: &Config, own: &BTreeMap<RailName, Fingerprint>, revoked: &[RevokedCert]) -> Vec<Finding> {
    let revoked = identities::reasons(own, revoked);
    let finding = |rail: &RailName| match (revoked.get(rail), own.get(rail)) {
        (Some(reason), _) => Finding::fault(CERTIFICATE, reason, "get a new one, and put it into client_cert_file"),
        (None, Some(own)) => Finding::ok(CERTIFICATE, format!("SHA-256 {}, not revoked here", hex::encode(own))),
        (None, None) => Finding::ok(CERTIFICATE, "we show none"),
    };
    config.rails.keys().map(|rail| finding(rail).of(rail)).collect()
}

fn policy(now: &PolicyNow) -> Finding {
    match now {
        PolicyNow::Active(version, policy) => {
            let hash = hex::encode(&checksum(&policy.document()));
            Finding::ok(POLICY, format!("version {version} is active: rails: {}, SHA-256 {hash}", policy.rails.len()))
        }
        PolicyNow::Lies(why) => {
            let to_do = "stop: who wrote to the tables of policies? outboxd audit, then propose it anew";
            Finding::fault(POLICY, why, to_do)
        }
        PolicyNow::None => {
            let seen = "no policy is active: one person sets contracts, and a file on this host says what answers mean";
            Finding::warning(POLICY, seen, "for development only; else outboxd policy propose, by two logins")
        }
    }
}

fn contract(config: &Config, rail: &RailName, row: Option<&RailRow>, now: &PolicyNow) -> Finding {
    let finding = match (examine::lane_off(config, rail, row, now), row) {
        (None, Some(row)) => Finding::ok(CONTRACT, format!("on_unknown = {}, and it fits", row.on_unknown)),
        (Some(reason), Some(row)) if row.contract.is_none() => {
            let to_do = "install the version of outboxd that serves it, or change it: outboxd rail set";
            Finding::fault(CONTRACT, format!("{reason}: on_unknown = {}", row.on_unknown), to_do)
        }
        (reason, _) => {
            let to_do = match now {
                PolicyNow::None => "agree it with the configuration, as an operator: outboxd rail set",
                _ => "agree it with the configuration; a policy is changed by outboxd policy propose",
            };
            Finding::fault(CONTRACT, reason.unwrap_or_default(), to_do)
        }
    };
    finding.of(rail)
}

fn paused(rail: &RailName, row: Option<&RailRow>, pauses: &[Pause], now: &PolicyNow) -> Vec<Finding> {
    let resume = "when the reason is gone, as an operator: outboxd resume";
    let mut findings = Vec::new();
    if row.and_then(|row| row.contract.as_ref()).is_some_and(|contract| contract.paused) {
        let to_do = match now {
            PolicyNow::None => "as an operator: outboxd rail set --paused false",
            _ => "propose a policy that does not pause it: outboxd policy propose",
        };
        findings.push(Finding::fault(PAUSE, "the contract says paused", to_do));
    }
    for pause in pauses.iter().filter(|pause| pause.rail.as_deref().is_none_or(|name| name == rail.as_str())) {
        let Pause { participant_id, paused_by, paused_at, reason, .. } = pause;
        let by = format!("by {paused_by} at {}: {reason}", utc(*paused_at));
        findings.push(match (participant_id, &pause.rail) {
            (Some(who), _) => Finding::warning(PAUSE, format!("participant {who}, {by}"), resume),
            (None, Some(_)) => Finding::fault(PAUSE, format!("the rail, {by}"), resume),
            (None, None) => Finding::fault(PAUSE, format!("everything, {by}"), resume),
        });
    }
    if findings.is_empty() {
        findings.push(Finding::ok(PAUSE, "nothing is paused"));
    }
    findings.into_iter().map(|finding| finding.of(rail)).collect()
}
