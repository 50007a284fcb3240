//! `reconcile`: compares a rail's statement with what was dispatched, lists what differs, and closes it. What differs is
//! decided in the database; the file is read in `statement_file`.

mod compare;
pub(crate) mod statement_file;

use std::collections::BTreeSet;
use std::io::Write;

use clap::{Args, Subcommand};
use outbox_core::RailName;
use outbox_store::{Session, read_breaks, resolve_breaks, void_statement};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::control::select::parse;
use super::control::show::{csv, documents};
use super::control::{Change, list::ListOutput, or_end, with_session};
use super::database::DatabaseArgs;
use super::output::{Output, age, printable, utc};
use super::rail::parse_rail;
use crate::exit::{Exit, Failure};

/// Breaks a page.
const PAGE: u32 = 1_000;

const COLUMNS: [&str; 9] =
    ["kind", "outbox_id", "rail_reference", "line_no", "ours", "theirs", "standing_now", "age", "break_id"];
const CSV_COLUMNS: [&str; 18] = [
    "break_id",
    "statement_id",
    "is_void",
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
/// optionally booked_at and status. Lines are found by wire_key, those without one by rail_reference. What differs is recorded as a
/// break, which stays open until a later comparison agrees or a person resolves it.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Exit codes: 0 all agrees and no break of the rail is open; 3 breaks are open, or its statements leave a gap; 64 wrong words, or not confirmed; \
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
    /// Close breaks that another login's statement found, with a reason
    Resolve(Resolve),
    /// Make a statement that is wrong count no more, with a reason
    Void(Void),
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

/// Close breaks that another login's statement found, with a reason.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: as of reconcile; 0 if all are closed, otherwise none is.")]
struct Resolve {
    /// The breaks
    #[arg(required = true, value_name = "BREAK_ID")]
    breaks: Vec<Uuid>,
    /// The operator action that cleared it, which has the payment of each
    #[arg(long, value_name = "ACTION_ID")]
    action: Option<Uuid>,
    #[command(flatten)]
    change: Change,
}

/// Make a statement that is wrong count no more, with a reason.
///
/// What it judged is judged again, and what it closed is open again. The breaks that it found stay open. The same file can
/// then be compared anew. What is confirmed is how many breaks are open again; --dry-run shows them.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: as of reconcile.")]
struct Void {
    /// The statement
    #[arg(value_name = "STATEMENT_ID")]
    statement: Uuid,
    #[command(flatten)]
    change: Change,
}

/// Does it.
pub(crate) fn run(command: &Reconcile, out: &mut dyn Write) -> Result<(), Failure> {
    match (&command.command, &command.compare) {
        (Some(Other::List(list)), _) => list.run(out),
        (Some(Other::Resolve(resolve)), _) => resolve.run(out),
        (Some(Other::Void(void)), _) => void.run(out),
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
            open_or_done(all.iter().filter(|one| one["resolved_at"].is_null()).count(), &[])
        })
    }
}

impl Resolve {
    fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        with_session(&self.change.database, async |session| {
            let open = breaks(session, true, None).await?;
            let ids: BTreeSet<Uuid> = self.breaks.iter().copied().collect();
            let chosen = ids.iter().map(|id| {
                let found = open.iter().find(|one| one["break_id"] == id.to_string());
                found.cloned().ok_or_else(|| Failure::new(Exit::NoInput, format!("no break {id} is open")))
            });
            let chosen: Vec<Value> = chosen.collect::<Result<_, _>>()?;
            if self.change.output == Output::Table {
                show(&chosen, out)?;
            }
            let closed = if self.change.dry_run {
                0
            } else {
                self.change.confirmed("close", (chosen.len(), "breaks"))?;
                let ids: Vec<Uuid> = ids.into_iter().collect();
                or_end(resolve_breaks(session, &ids, &self.change.reason, self.action).await)?
            };
            match self.change.output {
                Output::Json => writeln!(out, "{}", json!({"closed": closed, "breaks": chosen}))?,
                Output::Table if self.change.dry_run => {}
                Output::Table => writeln!(out, "closed {closed} breaks")?,
            }
            Ok(())
        })
    }
}

impl Void {
    fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        with_session(&self.change.database, async |session| {
            let id = self.statement.to_string();
            let mut closed: Vec<Value> = Vec::new();
            each_break(session, false, None, |one| {
                if one["resolved_by_statement"] == id {
                    closed.push(one);
                }
            })
            .await?;
            if self.change.output == Output::Table && !closed.is_empty() {
                show(&closed, out)?;
            }
            let reopened = if self.change.dry_run {
                0
            } else {
                self.change.confirmed("open again", (closed.len(), "breaks"))?;
                or_end(void_statement(session, self.statement, &self.change.reason).await)?
            };
            match self.change.output {
                Output::Json => {
                    writeln!(out, "{}", json!({"statement_id": id, "reopened": reopened, "breaks": closed}))?
                }
                Output::Table if self.change.dry_run => {
                    writeln!(out, "{} breaks that it closed would be open again", closed.len())?;
                }
                Output::Table => {
                    writeln!(out, "statement {id} is void; {reopened} breaks that it had closed are open")?
                }
            }
            Ok(())
        })
    }
}

/// The end of a command that found `count` breaks open, and these gaps between the statements.
fn open_or_done(count: usize, gaps: &[(OffsetDateTime, OffsetDateTime)]) -> Result<(), Failure> {
    let open = (count > 0).then(|| format!("{count} breaks are open"));
    let gaps = gaps.iter().map(|(from, until)| format!("no statement covers {} until {}", utc(*from), utc(*until)));
    let why: Vec<String> = open.into_iter().chain(gaps).collect();
    if why.is_empty() { Ok(()) } else { Err(Failure::new(Exit::OpenBreaks, why.join("; "))) }
}

/// All breaks, or those that are open.
async fn breaks(session: &mut Session, only_open: bool, rail: Option<&RailName>) -> Result<Vec<Value>, Failure> {
    let mut all: Vec<Value> = Vec::new();
    each_break(session, only_open, rail, |one| all.push(one)).await?;
    Ok(all)
}

/// Gives each break to `take`, page by page.
async fn each_break(
    session: &mut Session,
    only_open: bool,
    rail: Option<&RailName>,
    mut take: impl FnMut(Value),
) -> Result<(), Failure> {
    let mut after = None;
    loop {
        let page = or_end(read_breaks(session, only_open, rail, after, PAGE).await)?;
        for text in &page {
            let one = parse(text)?;
            after = one["break_id"].as_str().and_then(|id| Uuid::parse_str(id).ok());
            take(one);
        }
        if page.len() < PAGE as usize {
            return Ok(());
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
