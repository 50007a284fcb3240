//! Whether each configured rail may be claimed for: its contract, what people have paused, and whether they have revoked
//! our certificate. What fits is decided where the daemon decides it.

use outbox_core::RailName;
use outbox_store::{Fingerprint, Pause, RailRow, Session};

use super::database::unasked;
use super::finding::Finding;
use crate::commands::output::utc;
use crate::config::Config;
use crate::dispatch::examine;
use crate::dispatch::identities::{self, Identities};
use crate::hex;

pub(super) const CONTRACT: &str = "contract";
pub(super) const PAUSE: &str = "pause";
pub(super) const CERTIFICATE: &str = "certificate";

/// The contract of each rail, then the pauses of each, then the certificate that we show to each.
pub(super) async fn contracts(session: &mut Session, config: &Config) -> Vec<Finding> {
    let rows = match outbox_store::read_payment_rails(session).await {
        Ok(rows) => rows,
        Err(error) => {
            let skipped = [PAUSE, CERTIFICATE].map(|check| Finding::skipped(check, "the contracts could not be read"));
            return std::iter::once(unasked(CONTRACT, error)).chain(skipped).collect();
        }
    };
    let row = |rail: &RailName| rows.iter().find(|row| row.rail == *rail);
    let mut findings: Vec<Finding> = config.rails.keys().map(|rail| contract(config, rail, row(rail))).collect();
    match outbox_store::read_pauses(session).await {
        Ok(pauses) => findings.extend(config.rails.keys().flat_map(|rail| paused(rail, row(rail), &pauses))),
        Err(error) => findings.push(unasked(PAUSE, error)),
    }
    findings.extend(certificates(session, config).await);
    findings
}

async fn certificates(session: &mut Session, config: &Config) -> Vec<Finding> {
    let own = Identities::of(config).fingerprints();
    let asked: Vec<Fingerprint> = own.values().copied().collect();
    let revoked = match outbox_store::read_revoked_certs(session, &asked).await {
        Ok(revoked) => identities::reasons(&own, &revoked),
        Err(error) => return vec![unasked(CERTIFICATE, error)],
    };
    let finding = |rail: &RailName| match (revoked.get(rail), own.get(rail)) {
        (Some(reason), _) => Finding::fault(CERTIFICATE, reason, "get a new one, and put it into client_cert_file"),
        (None, Some(own)) => Finding::ok(CERTIFICATE, format!("SHA-256 {}, not revoked here", hex::encode(own))),
        (None, None) => Finding::ok(CERTIFICATE, "we show none"),
    };
    config.rails.keys().map(|rail| finding(rail).of(rail)).collect()
}

fn contract(config: &Config, rail: &RailName, row: Option<&RailRow>) -> Finding {
    let contract = row.and_then(|row| row.contract.as_ref());
    let finding = match (examine::lane_off(config, rail, contract), row) {
        (None, Some(row)) => Finding::ok(CONTRACT, format!("on_unknown = {}, and it fits", row.on_unknown)),
        (Some(reason), Some(row)) if row.contract.is_none() => {
            let to_do = "install the version of outboxd that serves it, or change it: outboxd rail set";
            Finding::fault(CONTRACT, format!("{reason}: on_unknown = {}", row.on_unknown), to_do)
        }
        (reason, _) => {
            let to_do = "agree it with the configuration, as an operator: outboxd rail set";
            Finding::fault(CONTRACT, reason.unwrap_or_default(), to_do)
        }
    };
    finding.of(rail)
}

fn paused(rail: &RailName, row: Option<&RailRow>, pauses: &[Pause]) -> Vec<Finding> {
    let resume = "when the reason is gone, as an operator: outboxd resume";
    let mut findings = Vec::new();
    if row.and_then(|row| row.contract.as_ref()).is_some_and(|contract| contract.paused) {
        let to_do = "as an operator: outboxd rail set --paused false";
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
