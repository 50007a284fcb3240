//! `list`: payments by what they are, page by page; the payments of an action; actions.

use std::io::Write;

use clap::{Args, ValueEnum};
use outbox_core::OutboxId;
use outbox_store::{Session, read_action_members, read_actions, read_payments};
use serde_json::Value;
use uuid::Uuid;

use super::select::{Filters, id_of, parse};
use super::show::{csv, documents};
use super::{or_end, with_session};
use crate::commands::database::DatabaseArgs;
use crate::exit::{Exit, Failure};

/// Rows that one call reads.
const PAGE: usize = 1_000;

const PAYMENT_COLUMNS: [&str; 9] = [
    "outbox_id",
    "rail",
    "participant_id",
    "instruction_id",
    "amount_minor",
    "currency",
    "disposition",
    "hold_reason",
    "ended_as",
];
const MEMBER_COLUMNS: [&str; 12] = [
    "outbox_id",
    "rail",
    "participant_id",
    "instruction_id",
    "amount_minor",
    "currency",
    "result",
    "disposition_now",
    "ended_as",
    "sent",
    "rail_reference",
    "new_outbox_id",
];
const ACTION_COLUMNS: [&str; 10] = [
    "action_id",
    "kind",
    "member_count",
    "amounts",
    "proposed_by",
    "decision",
    "decided_by",
    "applied",
    "skipped",
    "reason",
];

/// The form of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListOutput {
    /// For people
    Table,
    /// A line of JSON for each
    Json,
    /// RFC 4180, with a header; `--ids-from` of other commands takes it
    Csv,
}

/// List payments in order of their enqueue, never with their payloads.
#[derive(Debug, Args)]
#[command(after_help = "Without --state the queue is listed, not what has ended.\n\
Exit codes: 0 listed; 64 wrong words; 66 no such action; 69 no database; 76 no schema that this version knows; 77 the login is refused or may not do it.")]
pub(crate) struct List {
    #[command(flatten)]
    filters: Filters,
    /// The payments of an action, with what became of them; `sent` marks those to recall
    #[arg(long, value_name = "ACTION_ID", conflicts_with = "actions")]
    action: Option<Uuid>,
    /// The last actions instead of payments
    #[arg(long)]
    actions: bool,
    /// Only those of the action that may have left
    #[arg(long, requires = "action")]
    sent: bool,
    /// From behind this payment on
    #[arg(long, value_name = "OUTBOX_ID")]
    after: Option<Uuid>,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    database: DatabaseArgs,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = ListOutput::Table)]
    output: ListOutput,
}

/// Lists.
pub(crate) fn run(command: &List, out: &mut dyn Write) -> Result<(), Failure> {
    if (command.action.is_some() || command.actions) && !command.filters.are_empty() {
        return Err(Failure::new(Exit::Usage, "filters are for payments, not for --action or --actions".to_owned()));
    }
    with_session(&command.database, async |session| {
        if let Some(action_id) = command.action
            && or_end(read_actions(session, Some(action_id), 1).await)?.is_empty()
        {
            return Err(Failure::new(Exit::NoInput, format!("there is no action {action_id}")));
        }
        let (all, columns): (Vec<Value>, &[&str]) = if command.actions {
            let limit = u32::try_from(command.limit).unwrap_or(u32::MAX);
            let texts = or_end(read_actions(session, None, limit).await)?;
            (texts.iter().map(|text| parse(text)).collect::<Result<_, _>>()?, &ACTION_COLUMNS)
        } else {
            (
                payments(command, session).await?,
                if command.action.is_some() { &MEMBER_COLUMNS } else { &PAYMENT_COLUMNS },
            )
        };
        match command.output {
            ListOutput::Json => all.iter().try_for_each(|one| writeln!(out, "{one}"))?,
            ListOutput::Csv => csv(&all, columns, out)?,
            ListOutput::Table => documents(&all, columns, out)?,
        }
        Ok(())
    })
}

async fn payments(command: &List, session: &mut Session) -> Result<Vec<Value>, Failure> {
    let mut filter = command.filters.filter()?;
    filter.after = command.after.map(OutboxId);
    let mut all = Vec::new();
    while all.len() < command.limit {
        let wanted = if command.sent { PAGE } else { PAGE.min(command.limit - all.len()) };
        let limit = u32::try_from(wanted).unwrap_or(u32::MAX);
        let page = match command.action {
            Some(action_id) => or_end(read_action_members(session, action_id, filter.after, limit).await)?,
            None => or_end(read_payments(session, &filter, limit).await)?,
        };
        for text in &page {
            let document = parse(text)?;
            filter.after = Some(id_of(&document)?);
            if !command.sent || document["sent"] == true {
                all.push(document);
            }
        }
        if page.len() < wanted {
            break;
        }
    }
    all.truncate(command.limit);
    Ok(all)
}
