//! `reconcile`: compares a rail's statement with what was dispatched, lists what differs, and closes it. What differs is
//! decided in the database; the file is read in `statement_file`.

mod compare;
mod statement_file;

use std::io::Write;

use clap::{Args, Subcommand};
use outbox_core::RailName;
use outbox_store::{Session, read_breaks, resolve_break};
use serde_json::Value;
use uuid::Uuid;

use super::control::select::parse;
use super::control::show::{csv, documents};
use super::control::{confirmed, list::ListOutput, or_end, with_session};
use super::database::DatabaseArgs;
use super::output::{age, printable};
use super::rail::parse_rail;
use crate::exit::{Exit, Failure};

/// Breaks a page.
const PAGE: u32 = 1_000;

const COLUMNS: [&str; 9] =
    ["kind", "outbox_id", "rail_reference", "line_no", "ours", "theirs", "standing_now", "age", "break_id"];
const CSV_COLUMNS: [&str; 16] = [
    "break_id",
    "rail",
    "kind",
    "outbox_id",
    "wire_key",
    "rail_reference",
    "line_no",
    "our_amount_minor",
    "our_currency",
    "their_amount_minor",
    "their_currency",
    "standing",
    "standing_now",
    "found_at",
    "resolved_by",
    "resolution",
];

/// Compare a statement of a rail with what was dispatched.
///
/// A statement is a CSV file with the columns wire_key (our outbox_id), rail_reference, amount_minor and currency, and
/// optionally booked_at and status. Lines are found by wire_key, otherwise by rail_reference. What differs is recorded as a
/// break, which stays open until a later comparison agrees or a person resolves it.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Exit codes: 0 all agrees and no break of the rail is open; 3 breaks are open; 64 wrong words, or not confirmed; \
65 refused, with why, such as a bad line; 66 no such file; 69 no database; 76 no schema that this version knows; 77 the login is \
refused or may not do it."
)]
pub(crate) struct Reconcile {
    #[command(subcommand)]
    command: Option<Other>,
    #[command(flatten)]
    compare: Option<compare::Compare>,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Debug, Subcommand)]
enum Other {
    /// List breaks that are open, oldest first
    List(List),
    /// Close a break, with a reason
    Resolve(Resolve),
}

/// List breaks that are open, oldest first.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: as of reconcile; 3 if a listed break is open.")]
struct List {
    /// Closed ones as well
    #[arg(long)]
    all: bool,
    /// Of this rail
    #[arg(long, value_parser = parse_rail)]
    rail: Option<RailName>,
    #[command(flatten)]
    database: DatabaseArgs,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = ListOutput::Table)]
    output: ListOutput,
}

/// Close breaks, with a reason.
#[derive(Debug, Args)]
struct Resolve {
    /// The breaks
    #[arg(required = true, value_name = "BREAK_ID")]
    breaks: Vec<Uuid>,
    /// How it was cleared, for the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The operator action that cleared it
    #[arg(long, value_name = "ACTION_ID")]
    action: Option<Uuid>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// How many breaks it is to be; without it, a terminal is asked
    #[arg(long, value_name = "COUNT")]
    confirm: Option<usize>,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Does it.
pub(crate) fn run(command: &Reconcile, out: &mut dyn Write) -> Result<(), Failure> {
    match (&command.command, &command.compare) {
        (Some(Other::List(list)), _) => list.run(out),
        (Some(Other::Resolve(resolve)), _) => resolve.run(out),
        (None, Some(compare)) => compare.run(&command.database, out),
        (None, None) => Err(Failure::new(
            Exit::Usage,
            "say --statement FILE --rail NAME --from TIME --until TIME --reason TEXT, or list",
        )),
    }
}

impl List {
    fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        with_session(&self.database, async |session| {
            let all = breaks(session, !self.all, self.rail.as_ref()).await?;
            match self.output {
                ListOutput::Json => all.iter().try_for_each(|one| writeln!(out, "{one}"))?,
                ListOutput::Csv => csv(&all, &CSV_COLUMNS, out)?,
                ListOutput::Table => show(&all, out)?,
            }
            open_or_done(all.iter().filter(|one| one["resolved_at"].is_null()).count())
        })
    }
}

impl Resolve {
    fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        with_session(&self.database, async |session| {
            let open = breaks(session, true, None).await?;
            let chosen = self.breaks.iter().map(|id| {
                let found = open.iter().find(|one| one["break_id"] == id.to_string());
                found.cloned().ok_or_else(|| Failure::new(Exit::NoInput, format!("no break {id} is open")))
            });
            let chosen: Vec<Value> = chosen.collect::<Result<_, _>>()?;
            show(&chosen, out)?;
            if self.dry_run {
                return Ok(());
            }
            confirmed(self.confirm, "close breaks, each of a payment", chosen.len())?;
            for id in &self.breaks {
                or_end(resolve_break(session, *id, &self.reason, self.action).await)?;
            }
            Ok(writeln!(out, "closed {} breaks", self.breaks.len())?)
        })
    }
}

/// The end of a command that found `count` breaks open.
fn open_or_done(count: usize) -> Result<(), Failure> {
    if count == 0 { Ok(()) } else { Err(Failure::new(Exit::OpenBreaks, format!("{count} breaks are open"))) }
}

/// All breaks, or those that are open.
async fn breaks(session: &mut Session, only_open: bool, rail: Option<&RailName>) -> Result<Vec<Value>, Failure> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let after = all.last().and_then(|last| Uuid::parse_str(last["break_id"].as_str()?).ok());
        let page = or_end(read_breaks(session, only_open, rail, after, PAGE).await)?;
        for text in &page {
            all.push(parse(text)?);
        }
        if page.len() < PAGE as usize {
            return Ok(all);
        }
    }
}

/// Breaks as a table for people.
fn show(all: &[Value], out: &mut dyn Write) -> Result<(), Failure> {
    let shaped: Vec<Value> = all.iter().map(shaped).collect();
    documents(&shaped, &COLUMNS, out)
}

/// A break with its money and its age in words.
fn shaped(one: &Value) -> Value {
    let mut shaped = one.clone();
    for (name, whose) in [("ours", "our"), ("theirs", "their")] {
        let currency = one[format!("{whose}_currency")].as_str();
        let amount = &one[format!("{whose}_amount_minor")];
        shaped[name] = currency.map_or(Value::Null, |currency| format!("{amount} {currency}").into());
    }
    if shaped["rail_reference"].is_null() {
        shaped["rail_reference"] = one["wire_key"].as_str().map(printable).into();
    }
    let length = one["age_ms"].as_u64().unwrap_or(0);
    shaped["age"] = age(outbox_core::Millis(length)).into();
    shaped
}
