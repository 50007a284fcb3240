//! `list`: payments by what they are, page by page; the payments of an action; actions.

use std::io::{Write, stderr};
use std::num::NonZeroUsize;

use clap::{Args, ValueEnum};
use outbox_core::{Millis, OutboxId};
use outbox_store::{Session, read_action_members, read_actions, read_payments};
use serde_json::Value;
use uuid::Uuid;

use super::select::{Filters, id_of, parse};
use super::show::{csv_header, csv_lines, documents};
use super::{or_end, with_session};
use crate::commands::database::DatabaseArgs;
use crate::commands::output::age;
use crate::exit::{Exit, Failure};

/// Rows that one call reads.
const PAGE: usize = 1_000;

/// What is listed of payments if `--limit` does not say.
const LIMIT: NonZeroUsize = NonZeroUsize::new(100).expect("it is not zero");

// A table has an age besides, CSV the time of the enqueue.
const PAYMENT_COLUMNS: [&str; 12] = [
    "outbox_id",
    "rail",
    "participant_id",
    "instruction_id",
    "amount_minor",
    "currency",
    "disposition",
    "hold_reason",
    "ended_as",
    "waits_for",
    "taken_up_by",
    "action_id",
];
const MEMBER_COLUMNS: [&str; 13] = [
    "outbox_id",
    "wire_key",
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
#[command(
    after_help = "Without --state the queue is listed, not what has ended. A list that --limit cuts says so on standard error, \
with how to go on; the last of its lines of JSON has more_follow.\n\
Exit codes: 0 listed; 64 wrong words; 66 no such action; 69 no database; 76 no schema that this version knows; 77 the login is refused or may not do it."
)]
pub(crate) struct List {
    #[command(flatten)]
    filters: Filters,
    /// The payments of an action, with what became of them; `sent` marks those to recall, by the key at the rail, `wire_key`
    #[arg(long, value_name = "ACTION_ID", conflicts_with = "actions")]
    action: Option<Uuid>,
    /// The last actions instead of payments
    #[arg(long)]
    actions: bool,
    /// Only those of the action that may have left
    #[arg(long, requires = "action")]
    sent: bool,
    /// From behind this payment on
    #[arg(long, value_name = "OUTBOX_ID", conflicts_with = "actions")]
    after: Option<Uuid>,
    /// At most so many [default: 100; with --action, all]
    #[arg(long, value_name = "COUNT")]
    limit: Option<NonZeroUsize>,
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
        if command.actions { actions(command, session, out).await } else { payments(command, session, out).await }
    })
}

/// Writes documents in the form that was asked for, part by part: a long list is never in memory as a whole.
struct Listing<'a> {
    output: ListOutput,
    columns: Vec<&'static str>,
    is_begun: bool,
    out: &'a mut dyn Write,
}

impl Listing<'_> {
    /// Writes a part. A table begins anew with each.
    fn write(&mut self, part: &[Value]) -> Result<(), Failure> {
        match self.output {
            ListOutput::Json => part.iter().try_for_each(|one| writeln!(self.out, "{one}"))?,
            ListOutput::Csv => {
                if !self.is_begun {
                    csv_header(&self.columns, self.out)?;
                }
                csv_lines(part, &self.columns, self.out)?;
            }
            ListOutput::Table => documents(part, &self.columns, self.out)?,
        }
        self.is_begun = true;
        Ok(())
    }

    /// Writes the last part, and says whether a limit has cut the list; `on`: how to go on.
    fn end(mut self, mut rest: Vec<Value>, is_cut: bool, on: &str) -> Result<(), Failure> {
        if let (true, Some(last)) = (is_cut, rest.last_mut()) {
            last["more_follow"] = true.into();
        }
        if !rest.is_empty() || !self.is_begun {
            self.write(&rest)?;
        }
        if is_cut {
            let _ = writeln!(stderr().lock(), "there are more: go on with {on}");
        }
        Ok(())
    }
}

async fn actions(command: &List, session: &mut Session, out: &mut dyn Write) -> Result<(), Failure> {
    let limit = command.limit.unwrap_or(LIMIT).get();
    let one_more = u32::try_from(limit.saturating_add(1)).unwrap_or(u32::MAX);
    let texts = or_end(read_actions(session, None, one_more).await)?;
    let listed = texts.iter().take(limit).map(|text| parse(text)).collect::<Result<_, _>>()?;
    let listing = Listing { output: command.output, columns: ACTION_COLUMNS.to_vec(), is_begun: false, out };
    listing.end(listed, texts.len() > limit, "a larger --limit")
}

/// Where a payment goes on, it does so from the key of the one before: no page costs more than another.
async fn payments(command: &List, session: &mut Session, out: &mut dyn Write) -> Result<(), Failure> {
    let default = command.action.map_or(LIMIT, |_| NonZeroUsize::MAX);
    let limit = command.limit.unwrap_or(default).get();
    let mut filter = command.filters.filter()?;
    filter.after = command.after.map(OutboxId);
    let columns = if command.action.is_some() { &MEMBER_COLUMNS[..] } else { &PAYMENT_COLUMNS };
    let time = if command.output == ListOutput::Table { "age" } else { "enqueued_at" };
    let columns = [columns, &[time]].concat();
    let mut listing = Listing { output: command.output, columns, is_begun: false, out };
    let (mut found, mut count, mut is_cut): (Vec<Value>, usize, bool) = (Vec::new(), 0, false);
    let mut last = None;
    while !is_cut {
        let wanted = if command.sent { PAGE } else { PAGE.min((limit - count).saturating_add(1)) };
        let size = u32::try_from(wanted).unwrap_or(u32::MAX);
        let page = match command.action {
            Some(action_id) => or_end(read_action_members(session, action_id, filter.after, size).await)?,
            None => or_end(read_payments(session, &filter, size).await)?,
        };
        for text in &page {
            let mut document = parse(text)?;
            let id = id_of(&document)?;
            filter.after = Some(id);
            if command.sent && document["sent"] != true {
                continue;
            } else if count == limit {
                is_cut = true;
                break;
            }
            if command.output == ListOutput::Table {
                document["age"] = age(Millis(document["age_ms"].as_u64().unwrap_or(0))).into();
            }
            found.push(document);
            last = Some(id);
            count += 1;
        }
        if page.len() < wanted {
            break;
        }
        // The last of them stays until it is known whether more follow.
        if found.len() > PAGE {
            let kept = found.pop();
            listing.write(&found)?;
            found = kept.into_iter().collect();
        }
    }
    let on = last.map_or_else(String::new, |id| format!("--after {id}"));
    listing.end(found, is_cut, &on)
}
