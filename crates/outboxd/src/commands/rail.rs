//! `outboxd rail`: the contracts of the rails, shown and set. Made for development: no reason is asked
//! for and no second person approves. What a contract may say is the database's decision.

use std::io::{Write, stderr};
use std::time::Duration;

use clap::{Args, Subcommand};
use outbox_core::{Millis, RailName};
use outbox_store::{ContractChange, RailRow, Session, read_payment_rails, set_payment_rail};
use serde_json::{Map, Value, json};

use super::database::{DatabaseArgs, block_on};
use super::output::{Output, render, table};
use super::store_failure::store_failure;
use crate::exit::{Exit, Failure};

/// What is done with contracts.
#[derive(Debug, Subcommand)]
pub(crate) enum Rail {
    /// Make or change a rail's contract; what no option names stays as it is, or gets its default
    Set(Box<SetRail>),
    /// Show the contracts of all rails
    List(ListRails),
}

/// A change to one rail's contract.
#[derive(Debug, Args)]
#[command(after_help = "Times are such as 500ms, 30s or 24h.\n\
Exit codes: 0 done; 64 wrong words; 65 the database refuses the contract; 69 no database; 76 no schema that this \
version knows; 77 the login is refused or may not do it.")]
pub(crate) struct SetRail {
    /// The rail
    #[arg(value_name = "NAME", value_parser = parse_rail)]
    rail: RailName,
    #[command(flatten)]
    database: DatabaseArgs,
    /// What may follow an unknown outcome: resend (the rail executes a key at most once), inquire (the rail
    /// is asked what became of it) or hold (a person decides)
    #[arg(long, value_name = "CONTRACT")]
    on_unknown: Option<String>,
    /// How long after the first send the rail still knows the key; resend needs it
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    idempotency_window: Option<Duration>,
    /// Whether "not found", once the quarantine is over, means that the payment was never executed
    #[arg(long, value_name = "BOOL")]
    not_found_is_final: Option<bool>,
    /// How long one exchange with the rail may take
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    rail_timeout: Option<Duration>,
    /// How long after an exchange the rail may still be executing it
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    processing_bound: Option<Duration>,
    /// Whether a payment must have an amount
    #[arg(long, value_name = "BOOL")]
    amount_required: Option<bool>,
    /// Sends before a payment is held
    #[arg(long, value_name = "COUNT")]
    max_sends: Option<u32>,
    /// Answered inquiries before a payment that is still in doubt is held
    #[arg(long, value_name = "COUNT")]
    max_inquiries: Option<u32>,
    /// Attempts a second, over all dispatchers together; 0 for no rate
    #[arg(long, value_name = "COUNT")]
    max_sends_per_s: Option<u32>,
    /// Lost leases before a payment is held
    #[arg(long, value_name = "COUNT")]
    max_crashes: Option<u32>,
    /// The first wait between sends
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    backoff_base: Option<Duration>,
    /// The longest wait between sends
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    backoff_cap: Option<Duration>,
    /// How long a lease lasts; longer than an exchange
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    lease_duration: Option<Duration>,
    /// Whether dispatchers may have fallback_urls, for what the first endpoint has certainly not executed
    #[arg(long, value_name = "BOOL")]
    fallback: Option<bool>,
    /// Whether enqueue refuses a new payment without an accepted attestation of its bytes
    #[arg(long, value_name = "BOOL")]
    require_attestation: Option<bool>,
    /// Whether nothing is claimed
    #[arg(long, value_name = "BOOL")]
    paused: Option<bool>,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// The contracts.
#[derive(Debug, Args)]
pub(crate) struct ListRails {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl SetRail {
    fn change(&self) -> ContractChange {
        ContractChange {
            on_unknown: self.on_unknown.clone(),
            idempotency_window: self.idempotency_window.map(Millis::from),
            not_found_is_final: self.not_found_is_final,
            rail_timeout: self.rail_timeout.map(Millis::from),
            processing_bound: self.processing_bound.map(Millis::from),
            amount_required: self.amount_required,
            max_sends: self.max_sends,
            max_inquiries: self.max_inquiries,
            max_sends_per_s: self.max_sends_per_s,
            max_crashes: self.max_crashes,
            backoff_base: self.backoff_base.map(Millis::from),
            backoff_cap: self.backoff_cap.map(Millis::from),
            lease_duration: self.lease_duration.map(Millis::from),
            fallback: self.fallback,
            require_attestation: self.require_attestation,
            paused: self.paused,
        }
    }
}

/// Reads the name of a rail from the command line.
pub(crate) fn parse_rail(name: &str) -> Result<RailName, String> {
    RailName::new(name).map_err(|bad| bad.to_string())
}

fn changes_nothing(change: &ContractChange) -> bool {
    let times = [
        change.idempotency_window,
        change.rail_timeout,
        change.processing_bound,
        change.backoff_base,
        change.backoff_cap,
        change.lease_duration,
    ];
    let counts = [change.max_sends, change.max_inquiries, change.max_sends_per_s, change.max_crashes];
    let flags =
        [change.amount_required, change.not_found_is_final, change.fallback, change.require_attestation, change.paused];
    change.on_unknown.is_none()
        && times.iter().all(Option::is_none)
        && counts.iter().all(Option::is_none)
        && flags.iter().all(Option::is_none)
}

/// Shows or sets.
pub(crate) fn run(command: &Rail, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        Rail::Set(command) => block_on(set(command, out)),
        Rail::List(command) => block_on(list(command, out)),
    }
}

async fn set(command: &SetRail, out: &mut dyn Write) -> Result<(), Failure> {
    let mut session = Session::new(command.database.settings()?.into());
    let before = values_of(&mut session, &command.rail).await?;
    let change = command.change();
    if before.is_some() && changes_nothing(&change) {
        return Err(Failure::new(Exit::Usage, format!("rail {}: no option says what to change", command.rail)));
    }
    set_payment_rail(&mut session, &command.rail, &change).await.map_err(|error| store_failure(&error))?;
    let after = values_of(&mut session, &command.rail).await?.unwrap_or_default();
    session.close().await;
    if let Some(warning) = warning_of(&after) {
        let _ = writeln!(stderr().lock(), "warning: rail {}: {warning}", command.rail);
    }
    let made = before.is_none();
    let before = before.unwrap_or_default();
    let changed: Vec<(&String, &Value, &Value)> = after
        .iter()
        .map(|(key, new)| (key, before.get(key).unwrap_or(&Value::Null), new))
        .filter(|(_, old, new)| made || old != new)
        .collect();
    match command.output {
        Output::Json => {
            let changes: Map<String, Value> =
                changed.iter().map(|(key, old, new)| ((*key).clone(), json!({"old": old, "new": new}))).collect();
            writeln!(out, "{}", json!({"rail": command.rail.as_str(), "created": made, "changes": changes}))?;
        }
        Output::Table => {
            let what = if made { "created" } else { "changed" };
            let s = if changed.len() == 1 { "" } else { "s" };
            writeln!(out, "rail {} {what}, {} value{s}", command.rail, changed.len())?;
            let mut rows = table(&["value", "old", "new"], 1);
            for (key, old, new) in changed {
                rows.add_row([key.clone(), text(old), text(new)]);
            }
            out.write_all(render(&rows).as_bytes())?;
        }
    }
    Ok(())
}

/// What is allowed, holds payments rather than pays them twice, and is hardly what was meant.
fn warning_of(contract: &Map<String, Value>) -> Option<String> {
    let time = |name: &str| contract.get(name)?.as_u64();
    let (window, lease) = (time("idempotency_window_ms")?, time("lease_duration_ms")?);
    (contract.get("on_unknown")? == "resend" && window <= lease).then(|| {
        format!(
            "the idempotency_window of {window} ms is not longer than the lease_duration of {lease} ms, so no payment in \
             doubt can be sent again in time: each is held at once, as with on_unknown hold"
        )
    })
}

async fn list(command: &ListRails, out: &mut dyn Write) -> Result<(), Failure> {
    let mut session = Session::new(command.database.settings()?.into());
    let rails = read_payment_rails(&mut session).await.map_err(|error| store_failure(&error))?;
    session.close().await;
    match command.output {
        Output::Json => {
            let all: Map<String, Value> =
                rails.iter().map(|row| (row.rail.to_string(), Value::Object(values(row)))).collect();
            writeln!(out, "{}", Value::Object(all))?;
        }
        Output::Table => {
            let mut rows = table(&["rail", "value", "setting"], 2);
            for row in &rails {
                for (key, value) in values(row) {
                    rows.add_row([row.rail.to_string(), key, text(&value)]);
                }
            }
            out.write_all(render(&rows).as_bytes())?;
        }
    }
    Ok(())
}

async fn values_of(session: &mut Session, rail: &RailName) -> Result<Option<Map<String, Value>>, Failure> {
    let rails = read_payment_rails(session).await.map_err(|error| store_failure(&error))?;
    Ok(rails.iter().find(|row| row.rail == *rail).map(values))
}

/// A contract by the names of its columns, times in milliseconds.
fn values(row: &RailRow) -> Map<String, Value> {
    let mut values = Map::new();
    let mut put = |name: &str, value: Value| values.insert(name.to_owned(), value);
    put("on_unknown", json!(row.on_unknown));
    put("amount_required", json!(row.amount_required));
    put("require_attestation", json!(row.require_attestation));
    if let Some(contract) = &row.contract {
        put("idempotency_window_ms", json!(contract.idempotency_window.map(|window| window.0)));
        put("not_found_is_final", json!(contract.not_found_is_final));
        put("rail_timeout_ms", json!(contract.rail_timeout.0));
        put("processing_bound_ms", json!(contract.processing_bound.0));
        put("max_sends", json!(contract.max_sends));
        put("max_inquiries", json!(contract.max_inquiries));
        put("max_sends_per_s", json!(contract.max_sends_per_s));
        put("max_crashes", json!(contract.max_crashes));
        put("backoff_base_ms", json!(contract.backoff_base.0));
        put("backoff_cap_ms", json!(contract.backoff_cap.0));
        put("lease_duration_ms", json!(contract.lease_duration.0));
        put("fallback", json!(contract.fallback));
        put("paused", json!(contract.paused));
    }
    values
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
