//! Whether each configured rail may be claimed for: its contract, and what people have paused. What fits is decided
//! where the daemon decides it.

use outbox_core::RailName;
use outbox_store::{Pause, RailRow, Session};

use super::database::unasked;
use super::finding::Finding;
use crate::commands::output::utc;
use crate::config::Config;
use crate::dispatch::examine;

pub(super) const CONTRACT: &str = "contract";
pub(super) const PAUSE: &str = "pause";

/// The contract of each rail, then the pauses of each.
pub(super) async fn contracts(session: &mut Session, config: &Config) -> Vec<Finding> {
    let rows = match outbox_store::read_payment_rails(session).await {
        Ok(rows) => rows,
        Err(error) => {
            return vec![unasked(CONTRACT, error), Finding::skipped(PAUSE, "the contracts could not be read")];
        }
    };
    let row = |rail: &RailName| rows.iter().find(|row| row.rail == *rail);
    let mut findings: Vec<Finding> = config.rails.keys().map(|rail| contract(config, rail, row(rail))).collect();
    match outbox_store::read_pauses(session).await {
        Ok(pauses) => findings.extend(config.rails.keys().flat_map(|rail| paused(rail, row(rail), &pauses))),
        Err(error) => findings.push(unasked(PAUSE, error)),
    }
    findings
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
