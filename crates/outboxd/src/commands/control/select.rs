//! Which payments: named one by one, in a file, as the members of an earlier action, or by what they are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, stdin};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use outbox_core::{OutboxId, RailName};
use outbox_store::{PaymentFilter, Session, read_action_members, read_payments};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::or_end;
use crate::commands::csv_reader::CsvReader;
use crate::commands::rail::parse_rail;
use crate::exit::{Exit, Failure};

/// Payments a page; what is chosen is read page by page.
const PAGE: u32 = 1_000;

/// The database takes no more in one action.
const ACTION_MAX: usize = 100_000;

/// Where a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum State {
    /// Waits to be sent
    Ready,
    /// The rail is to be asked
    InDoubt,
    /// Waits for a person
    Held,
    /// Behind another of its ordering key, or its participant is paused
    Parked,
    /// Accepted by the rail
    Dispatched,
    /// Refused
    Failed,
    /// Cancelled
    Cancelled,
}

/// By what payments are found.
#[derive(Debug, Args)]
pub(crate) struct Filters {
    /// Of this rail
    #[arg(long, value_parser = parse_rail)]
    rail: Option<RailName>,
    /// Of this participant
    #[arg(long, value_name = "PARTICIPANT")]
    participant: Option<String>,
    /// That stand so
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Held for this reason, such as UNKNOWN
    #[arg(long, value_name = "REASON")]
    hold_reason: Option<String>,
    /// Enqueued from this time on (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<OffsetDateTime>,
    /// Enqueued before this time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<OffsetDateTime>,
}

/// Reads a time from the command line.
pub(crate) fn parse_time(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339).map_err(|_| "a time is like 2026-01-31T08:00:00Z (RFC 3339)".to_owned())
}

impl Filters {
    pub(crate) fn are_empty(&self) -> bool {
        let texts = self.participant.is_none() && self.hold_reason.is_none();
        self.rail.is_none() && texts && self.state.is_none() && self.since.is_none() && self.until.is_none()
    }

    /// # Errors
    /// A usage error, where two filters exclude each other: one that did not count would choose more than was said.
    pub(crate) fn filter(&self) -> Result<PaymentFilter, Failure> {
        if self.hold_reason.is_some() && !matches!(self.state, None | Some(State::Held)) {
            let message = "--hold-reason is of what is held: leave --state out, or say --state held";
            return Err(Failure::new(Exit::Usage, message.to_owned()));
        }
        let (disposition, ended_as) = match self.state {
            None => (None, None),
            Some(State::Ready) => (Some("READY"), None),
            Some(State::InDoubt) => (Some("IN_DOUBT"), None),
            Some(State::Held) => (Some("HELD"), None),
            Some(State::Parked) => (Some("PARKED"), None),
            Some(State::Dispatched) => (None, Some("DISPATCHED")),
            Some(State::Failed) => (None, Some("FAILED")),
            Some(State::Cancelled) => (None, Some("CANCELLED")),
        };
        Ok(PaymentFilter {
            rail: self.rail.as_ref().map(ToString::to_string),
            participant_id: self.participant.clone(),
            disposition: disposition.map(str::to_owned),
            hold_reason: self.hold_reason.as_ref().map(|reason| reason.to_uppercase()),
            ended_as: ended_as.map(str::to_owned),
            since: self.since,
            until: self.until,
            after: None,
        })
    }
}

/// Which payments a change is for: exactly one way of saying so.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// Payments, by outbox_id
    #[arg(value_name = "OUTBOX_ID")]
    ids: Vec<Uuid>,
    /// A file with an outbox_id a line, or CSV with a column outbox_id, or `-`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ids", "action"])]
    ids_from: Option<PathBuf>,
    /// The payments of an earlier action
    #[arg(long, value_name = "ACTION_ID", conflicts_with = "ids")]
    action: Option<Uuid>,
    #[command(flatten)]
    filters: Filters,
}

/// Payments that were chosen, and their money.
#[derive(Debug, Default)]
pub(crate) struct Chosen {
    pub(crate) ids: Vec<OutboxId>,
    /// In minor units by currency; empty where only ids were given.
    pub(crate) amounts: BTreeMap<String, i128>,
}

impl Chosen {
    fn add(&mut self, document: &Value) -> Result<OutboxId, Failure> {
        let id = id_of(document)?;
        self.ids.push(id);
        if let (Some(amount), Some(currency)) = (document["amount_minor"].as_i64(), document["currency"].as_str()) {
            *self.amounts.entry(currency.to_owned()).or_default() += i128::from(amount);
        }
        Ok(id)
    }
}

/// The payment that a document is about.
pub(crate) fn id_of(document: &Value) -> Result<OutboxId, Failure> {
    let id = document["outbox_id"].as_str().and_then(|id| Uuid::parse_str(id).ok());
    id.map(OutboxId).ok_or_else(|| unreadable("a payment without an outbox_id"))
}

/// A document of the database as JSON.
pub(crate) fn parse(text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|error| unreadable(&error.to_string()))
}

fn unreadable(why: &str) -> Failure {
    Failure::new(Exit::WrongSchema, format!("the answer is not one that this version reads: {why}"))
}

impl Selection {
    /// The payments.
    ///
    /// # Errors
    /// None or several ways of saying which; a file that cannot be read, by line.
    pub(crate) async fn choose(&self, session: &mut Session) -> Result<Chosen, Failure> {
        let ways = [!self.ids.is_empty(), self.ids_from.is_some(), self.action.is_some(), !self.filters.are_empty()];
        if ways.iter().filter(|way| **way).count() != 1 {
            let message =
                "say which payments: by outbox_id, --ids-from, --action, or filters such as --rail and --state";
            return Err(Failure::new(Exit::Usage, message.to_owned()));
        }
        let chosen = if let Some(action_id) = self.action {
            members(session, action_id).await?
        } else if !self.filters.are_empty() {
            found(session, self.filters.filter()?).await?
        } else {
            let ids = match &self.ids_from {
                Some(path) => read_ids(path)?,
                None => self.ids.iter().map(|id| OutboxId(*id)).collect(),
            };
            Chosen { ids, ..Chosen::default() }
        };
        match chosen.ids.len() {
            0 => Err(Failure::new(Exit::NoInput, "no payment is like that".to_owned())),
            count if count > ACTION_MAX => {
                let message = format!("more than {ACTION_MAX} payments: an action takes no more, choose fewer");
                Err(Failure::new(Exit::Usage, message))
            }
            _ => Ok(chosen),
        }
    }
}

async fn found(session: &mut Session, mut filter: PaymentFilter) -> Result<Chosen, Failure> {
    let mut chosen = Chosen::default();
    while chosen.ids.len() <= ACTION_MAX {
        let page = or_end(read_payments(session, &filter, PAGE).await)?;
        for text in &page {
            filter.after = Some(chosen.add(&parse(text)?)?);
        }
        if page.len() < PAGE as usize {
            break;
        }
    }
    Ok(chosen)
}

async fn members(session: &mut Session, action_id: Uuid) -> Result<Chosen, Failure> {
    let (mut chosen, mut after) = (Chosen::default(), None);
    loop {
        let page = or_end(read_action_members(session, action_id, after, PAGE).await)?;
        for text in &page {
            let mut member = parse(text)?;
            after = Some(id_of(&member)?);
            // A redriven payment goes on as the new one.
            if !member["new_outbox_id"].is_null() {
                member["outbox_id"] = member["new_outbox_id"].take();
            }
            chosen.add(&member)?;
        }
        if page.len() < PAGE as usize {
            return Ok(chosen);
        }
    }
}

fn read_ids(path: &PathBuf) -> Result<Vec<OutboxId>, Failure> {
    let unreadable = |error: std::io::Error| Failure::new(Exit::NoInput, format!("{}: {error}", path.display()));
    let input: Box<dyn Read> =
        if path.as_os_str() == "-" { Box::new(stdin()) } else { Box::new(File::open(path).map_err(unreadable)?) };
    ids_of(input, &path.display().to_string())
}

/// The payments that `input` lists, which messages call `name`.
pub(crate) fn ids_of(input: impl Read, name: &str) -> Result<Vec<OutboxId>, Failure> {
    let bad = |line: u64, why: &str| Failure::new(Exit::BadData, format!("{name}:{line}: {why}"));
    let (mut reader, mut ids, mut column) = (CsvReader::new(input), Vec::new(), None);
    while let Some((line, record)) = reader.next().map_err(|fault| bad(fault.line, &fault.why))? {
        // The header of what `list` and `reconcile list` write says where; without one, the first column.
        if column.is_none() {
            column = record.iter().position(|name| name == "outbox_id");
            if column.is_some() {
                continue;
            }
        }
        let text = record.get(*column.get_or_insert(0)).map_or("", String::as_str);
        let id = Uuid::parse_str(text).map_err(|_| bad(line, &format!("`{}` is no outbox_id", text.escape_debug())))?;
        ids.push(OutboxId(id));
    }
    Ok(ids)
}
