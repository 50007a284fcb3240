//! `hold`, `cancel`, `retry-now`, `release`, `resolve`, `redrive`: proposes, and carries out what needs nobody else.

use std::io::Write;

use clap::{Args, ValueEnum};
use outbox_store::{ActionKind, Proposal, Session, apply_action, propose_action, read_actions};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::select::{Selection, parse_time};
use super::show::{money, results};
use super::{Change, EXIT_CODES, or_end, with_session};
use crate::commands::output::{Output, utc};
use crate::exit::{Exit, Failure};

/// Payments that one call carries an action out on.
const STEP: u32 = 500;

/// Calls in a row that find every payment left locked by others, before the command gives up.
const LOCKED_STEPS_MAX: u32 = 20;

/// Keep payments from being sent, until they are released or resolved.
///
/// A payment that is under way is held when its attempt has ended without ending it.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Hold {
    #[command(flatten)]
    which: Selection,
    #[command(flatten)]
    change: Change,
}

/// End payments that were certainly never sent.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Cancel {
    #[command(flatten)]
    which: Selection,
    #[command(flatten)]
    change: Change,
}

/// Make waiting payments due now, but not before their not_before.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct RetryNow {
    #[command(flatten)]
    which: Selection,
    #[command(flatten)]
    change: Change,
}

/// Propose that held payments are sent; a second person approves it.
///
/// Without --as-resend only what was certainly never sent is released. Limits on sends, crashes and inquiries count
/// anew; with --as-resend the doubt ends and the key window begins anew as well, so the evidence has to say that the
/// rail did not execute it. not_after stays, unless another is given.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Release {
    #[command(flatten)]
    which: Selection,
    /// Of payments that were sent: again, under the same key
    #[arg(long, requires = "evidence")]
    as_resend: bool,
    /// What proves that they were not executed, such as a reference of the rail
    #[arg(long, value_name = "REF", requires = "as_resend")]
    evidence: Option<String>,
    #[command(flatten)]
    window: Window,
    #[command(flatten)]
    change: Change,
}

/// How a doubt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum As {
    /// The rail executed it
    Dispatched,
    /// The rail did not and will not execute it
    Failed,
}

/// Propose how payments that are held or in doubt have ended; a second person approves it.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Resolve {
    #[command(flatten)]
    which: Selection,
    /// How they ended
    #[arg(long = "as", value_enum)]
    ended: As,
    /// What proves it; for dispatched payments the rail's reference
    #[arg(long, value_name = "REF")]
    evidence: String,
    #[command(flatten)]
    change: Change,
}

/// Propose that ended payments are paid again, under new keys; a second person approves it.
///
/// Of failed payments; of dispatched ones only with evidence that the rail never got them. Each becomes the next
/// generation of its instruction, with a new outbox_id.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Redrive {
    #[command(flatten)]
    which: Selection,
    /// What proves that the rail never got them
    #[arg(long, value_name = "REF")]
    evidence: Option<String>,
    #[command(flatten)]
    window: Window,
    #[command(flatten)]
    change: Change,
}

/// Another end of the time in which payments may be sent.
#[derive(Debug, Args)]
pub(crate) struct Window {
    /// Another not_after (RFC 3339), or `none`
    #[arg(long, value_name = "TIME", value_parser = parse_not_after)]
    not_after: Option<NotAfter>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum NotAfter {
    None,
    At(OffsetDateTime),
}

fn parse_not_after(text: &str) -> Result<NotAfter, String> {
    if text == "none" { Ok(NotAfter::None) } else { parse_time(text).map(NotAfter::At) }
}

impl Window {
    fn parameters(&self) -> String {
        match self.not_after {
            None => "{}".to_owned(),
            Some(NotAfter::None) => json!({ "not_after": null }).to_string(),
            Some(NotAfter::At(at)) => json!({ "not_after": utc(at) }).to_string(),
        }
    }
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Act<'a> {
    kind: ActionKind,
    which: &'a Selection,
    change: &'a Change,
    evidence: Option<&'a str>,
    parameters: String,
}

impl<'a> Act<'a> {
    fn plain(kind: ActionKind, which: &'a Selection, change: &'a Change) -> Self {
        Self { kind, which, change, evidence: None, parameters: "{}".to_owned() }
    }
}

impl<'a> From<&'a Hold> for Act<'a> {
    fn from(command: &'a Hold) -> Self {
        Self::plain(ActionKind::Hold, &command.which, &command.change)
    }
}

impl<'a> From<&'a Cancel> for Act<'a> {
    fn from(command: &'a Cancel) -> Self {
        Self::plain(ActionKind::Cancel, &command.which, &command.change)
    }
}

impl<'a> From<&'a RetryNow> for Act<'a> {
    fn from(command: &'a RetryNow) -> Self {
        Self::plain(ActionKind::RetryNow, &command.which, &command.change)
    }
}

impl<'a> From<&'a Release> for Act<'a> {
    fn from(command: &'a Release) -> Self {
        let kind = if command.as_resend { ActionKind::ReleaseAsResend } else { ActionKind::Release };
        let (evidence, parameters) = (command.evidence.as_deref(), command.window.parameters());
        Self { evidence, parameters, ..Self::plain(kind, &command.which, &command.change) }
    }
}

impl<'a> From<&'a Resolve> for Act<'a> {
    fn from(command: &'a Resolve) -> Self {
        let kind = match command.ended {
            As::Dispatched => ActionKind::ResolveDispatched,
            As::Failed => ActionKind::ResolveFailed,
        };
        Self { evidence: Some(&command.evidence), ..Self::plain(kind, &command.which, &command.change) }
    }
}

impl<'a> From<&'a Redrive> for Act<'a> {
    fn from(command: &'a Redrive) -> Self {
        let (evidence, parameters) = (command.evidence.as_deref(), command.window.parameters());
        Self { evidence, parameters, ..Self::plain(ActionKind::Redrive, &command.which, &command.change) }
    }
}

/// Does it, as far as one person may.
pub(crate) fn run<'a>(command: impl Into<Act<'a>>, out: &mut dyn Write) -> Result<(), Failure> {
    let act = command.into();
    with_session(&act.change.database, async |session| {
        let chosen = act.which.choose(session).await?;
        let mut ids = chosen.ids;
        ids.sort_unstable();
        ids.dedup();
        if act.change.output == Output::Table {
            writeln!(out, "{}: {} payments{}", act.kind.name(), ids.len(), money(&chosen.amounts))?;
        }
        if act.change.dry_run {
            if act.change.output == Output::Json {
                writeln!(
                    out,
                    "{}",
                    json!({"dry_run": act.kind.name(), "payments": ids.len(), "amounts": chosen.amounts})
                )?;
            }
            return Ok(());
        }
        act.change.confirmed(act.kind.name(), (ids.len(), "payments"))?;
        let reason = &act.change.reason;
        let proposed = propose_action(session, act.kind, &ids, reason, act.evidence, &act.parameters).await;
        let proposal = or_end(proposed)?;
        if proposal.needs_approval {
            return show_proposal(&proposal, act.change.output, out);
        }
        carry_out(session, proposal.action_id, act.change.output, out).await
    })
}

pub(crate) fn show_proposal(proposal: &Proposal, output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    let Proposal { action_id, member_count, amounts, .. } = proposal;
    match output {
        Output::Json => writeln!(out, "{}", proposal_document(proposal)?)?,
        Output::Table => writeln!(
            out,
            "proposed as action {action_id}: {member_count} payments, {amounts}\nanother login approves it: outboxd approve {action_id}"
        )?,
    }
    Ok(())
}

/// What was proposed, as JSON.
pub(crate) fn proposal_document(proposal: &Proposal) -> Result<serde_json::Value, Failure> {
    let Proposal { action_id, member_count, amounts, .. } = proposal;
    let amounts: serde_json::Value = super::select::parse(amounts)?;
    Ok(
        json!({"action_id": action_id.to_string(), "payments": member_count, "amounts": amounts, "needs_approval": true}),
    )
}

/// Carries an action out, in steps, until nothing is left or what is left stays locked.
pub(super) async fn carry_out(
    session: &mut Session,
    action_id: Uuid,
    output: Output,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (mut all, mut locked) = (Vec::new(), 0);
    let remaining = loop {
        let report = or_end(apply_action(session, action_id, STEP).await)?;
        locked = if report.results.is_empty() { locked + 1 } else { 0 };
        all.extend(report.results);
        if report.remaining == 0 || locked == LOCKED_STEPS_MAX {
            break report.remaining;
        }
        if locked > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    results(action_id, &all, remaining, output, out)?;
    if remaining > 0 {
        let message = format!("{remaining} payments are locked by others; go on with: outboxd apply {action_id}");
        return Err(Failure::new(Exit::Unavailable, message));
    }
    // Those of all who carried it out: it may have been begun by somebody else.
    let of_all = or_end(read_actions(session, Some(action_id), 1).await)?;
    let of_all: Vec<serde_json::Value> =
        of_all.iter().map(|text| super::select::parse(text)).collect::<Result<_, _>>()?;
    let count = |name: &str| of_all.first().and_then(|action| action[name].as_u64()).unwrap_or(0);
    if count("skipped") > 0 {
        let message = format!("{} of {} payments were skipped", count("skipped"), count("member_count"));
        return Err(Failure::new(Exit::Failure, message));
    }
    Ok(())
}
