//! `approve`, `reject`, `withdraw`, `apply`: the second person's word, and what follows from it.

use std::io::Write;

use clap::Args;
use outbox_store::{Proposal, Session, decide_action, read_actions, withdraw_action};
use serde_json::{Value, json};
use uuid::Uuid;

use super::act::carry_out;
use super::failover;
use super::select::parse;
use super::show::field;
use super::{Change, EXIT_CODES, confirmed, or_end, with_session};
use crate::commands::database::DatabaseArgs;
use crate::commands::output::Output;
use crate::exit::{Exit, Failure};

/// Approve an action of another person, and carry it out.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Approve {
    /// The action
    action_id: Uuid,
    #[command(flatten)]
    change: Change,
}

/// Turn an action of another person down.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Reject {
    /// The action
    action_id: Uuid,
    #[command(flatten)]
    change: Change,
}

/// Take back an action of your own that nobody has decided on.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Withdraw {
    /// The action
    action_id: Uuid,
    #[command(flatten)]
    change: Change,
}

/// Go on with an action that is approved, or needs no approval.
///
/// It takes no reason: the action has one, and its approval.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Apply {
    /// The action
    action_id: Uuid,
    /// Show the action, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// How many payments it is to be; nobody is asked without it
    #[arg(long, value_name = "COUNT")]
    confirm: Option<usize>,
    #[command(flatten)]
    database: DatabaseArgs,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// The action as it is on record.
async fn read(session: &mut Session, action_id: Uuid) -> Result<Value, Failure> {
    let found = or_end(read_actions(session, Some(action_id), 1).await)?;
    match found.first() {
        Some(text) => parse(text),
        None => Err(Failure::new(Exit::NoInput, format!("there is no action {action_id}"))),
    }
}

/// What a decision is bound to: the action as this person saw it.
fn seen(action_id: Uuid, action: &Value) -> Result<Proposal, Failure> {
    let unreadable = || Failure::new(Exit::WrongSchema, "the action is not one that this version reads".to_owned());
    let count = action["member_count"].as_i64().and_then(|count| i32::try_from(count).ok());
    let hash = action["members_sha256"].as_str().map(|text| text.trim_start_matches("\\x").to_owned());
    Ok(Proposal {
        action_id,
        member_count: count.ok_or_else(unreadable)?,
        members_sha256: hash.ok_or_else(unreadable)?,
        amounts: action["amounts"].to_string(),
        needs_approval: true,
    })
}

fn show(action: &Value, output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    if output == Output::Json {
        return Ok(writeln!(out, "{action}")?);
    }
    for (label, name) in [
        ("action", "action_id"),
        ("what", "kind"),
        ("payments", "member_count"),
        ("amounts", "amounts"),
        ("stood", "standings"),
        ("parameters", "parameters"),
        ("reason", "reason"),
        ("evidence", "evidence"),
        ("proposed by", "proposed_by"),
        ("proposed at", "proposed_at"),
        ("decision", "decision"),
    ] {
        let text = field(action, name);
        if !text.is_empty() {
            writeln!(out, "{label:12} {text}")?;
        }
    }
    Ok(())
}

/// Shows the action, asks, and decides.
async fn decide(
    session: &mut Session,
    (action_id, change, approve): (Uuid, &Change, bool),
    out: &mut dyn Write,
) -> Result<Option<Value>, Failure> {
    let action = read(session, action_id).await?;
    let seen = seen(action_id, &action)?;
    if change.dry_run {
        return show(&action, change.output, out).map(|()| None);
    }
    if change.output == Output::Table {
        show(&action, Output::Table, out)?;
    }
    let count = usize::try_from(seen.member_count).unwrap_or(0);
    change.confirmed(&field(&action, "kind"), (count, "payments"))?;
    or_end(decide_action(session, &seen, approve, &change.reason).await)?;
    Ok(Some(action))
}

async fn go_on(
    session: &mut Session,
    action: &Value,
    id: Uuid,
    output: Output,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if action["kind"] == "FAILOVER" {
        failover::carry_out(session, id, output, out).await
    } else {
        carry_out(session, id, output, out).await
    }
}

/// Approves and carries out.
pub(crate) fn approve(command: &Approve, out: &mut dyn Write) -> Result<(), Failure> {
    let Approve { action_id, change } = command;
    with_session(&change.database, async |session| match decide(session, (*action_id, change, true), out).await? {
        Some(action) => go_on(session, &action, *action_id, change.output, out).await,
        None => Ok(()),
    })
}

/// Turns down.
pub(crate) fn reject(command: &Reject, out: &mut dyn Write) -> Result<(), Failure> {
    let Reject { action_id, change } = command;
    with_session(&change.database, async |session| match decide(session, (*action_id, change, false), out).await? {
        Some(_) => over(*action_id, "REJECTED", change.output, out),
        None => Ok(()),
    })
}

/// What decides on nothing new asks nobody; but a number that is given has to be right.
fn not_another(action: &Value, confirm: Option<usize>) -> Result<(), Failure> {
    let count = action["member_count"].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    if confirm.is_some() { confirmed(confirm, &field(action, "kind"), (count, "payments")) } else { Ok(()) }
}

fn over(action_id: Uuid, decision: &str, output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    match output {
        Output::Json => writeln!(out, "{}", json!({"action_id": action_id.to_string(), "decision": decision}))?,
        Output::Table => writeln!(out, "action {action_id}: {decision}")?,
    }
    Ok(())
}

/// Takes back.
pub(crate) fn withdraw(command: &Withdraw, out: &mut dyn Write) -> Result<(), Failure> {
    let Withdraw { action_id, change } = command;
    with_session(&change.database, async |session| {
        let action = read(session, *action_id).await?;
        if change.dry_run {
            return show(&action, change.output, out);
        }
        if change.output == Output::Table {
            show(&action, Output::Table, out)?;
        }
        not_another(&action, change.confirm)?;
        or_end(withdraw_action(session, *action_id, &change.reason).await)?;
        over(*action_id, "WITHDRAWN", change.output, out)
    })
}

/// Goes on.
pub(crate) fn apply(command: &Apply, out: &mut dyn Write) -> Result<(), Failure> {
    let Apply { action_id, dry_run, confirm, database, output } = command;
    with_session(database, async |session| {
        let action = read(session, *action_id).await?;
        if *dry_run {
            return show(&action, *output, out);
        }
        not_another(&action, *confirm)?;
        go_on(session, &action, *action_id, *output, out).await
    })
}
