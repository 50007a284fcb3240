//! `outboxd inspect`: everything known of a payment, as a timeline. Never its payload, which the
//! database does not hand out here.

mod chain;
mod detached;
mod timeline;

use std::io::{Write, stderr};

use clap::Args;
use outbox_store::{Session, read_timelines};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::database::{DatabaseArgs, block_on};
use super::output::{Output, printable};
use super::store_failure::store_failure;
use crate::exit::{Exit, Failure};
use detached::Remains;
use timeline::Timeline;

/// As many as the database returns for one id.
const PAYMENTS_MAX: usize = 100;

/// The payment.
#[derive(Debug, Args)]
#[command(after_help = "Times are in UTC. Claimed, completed and enqueued are by the database's clock; the first and \
the last byte by the worker's.\n\
Exit codes: 0 shown; 64 wrong words; 66 there is no such payment; 69 no database; 76 no schema that this version \
knows; 77 the login is refused or may not do it.")]
pub(crate) struct Inspect {
    /// An outbox_id or an instruction_id
    id: String,
    /// Whose instruction; an instruction_id is unique only for its participant
    #[arg(long, value_name = "PARTICIPANT")]
    participant: Option<String>,
    #[command(flatten)]
    database: DatabaseArgs,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Which of the two documents it is: a payment that was detached has receipts in the place of instruction and attempts.
#[derive(Debug, Deserialize)]
struct Kind {
    detached: Option<IgnoredAny>,
}

/// Shows it.
pub(crate) fn run(command: &Inspect, out: &mut dyn Write) -> Result<(), Failure> {
    let settings = command.database.settings()?.for_people();
    let documents = block_on(async {
        let mut session = Session::new(settings.into());
        let found = read_timelines(&mut session, &command.id, command.participant.as_deref()).await;
        session.close().await;
        found.map_err(|error| store_failure(&error))
    })?;
    if documents.is_empty() {
        let whose = command.participant.as_deref().map(|p| format!(" of participant `{}`", printable(p)));
        let message =
            format!("no payment with the id `{}`{} is recorded", printable(&command.id), whose.unwrap_or_default());
        return Err(Failure::new(Exit::NoInput, message));
    }
    let unreadable = |error: serde_json::Error| {
        Failure::new(Exit::WrongSchema, format!("the timeline is not one that this version reads: {error}"))
    };
    match command.output {
        Output::Json => {
            let raw: Result<Vec<Box<RawValue>>, _> = documents.into_iter().map(RawValue::from_string).collect();
            let all = serde_json::to_string(&raw.map_err(unreadable)?).map_err(unreadable)?;
            writeln!(out, "{all}")?;
        }
        Output::Table => {
            for (place, document) in documents.iter().enumerate() {
                if place > 0 {
                    writeln!(out)?;
                }
                let is_detached = serde_json::from_str::<Kind>(document).map_err(unreadable)?.detached.is_some();
                let text = if is_detached {
                    serde_json::from_str::<Remains>(document).map_err(unreadable)?.describe()
                } else {
                    serde_json::from_str::<Timeline>(document).map_err(unreadable)?.describe()
                };
                out.write_all(text.as_bytes())?;
            }
            if documents.len() >= PAYMENTS_MAX {
                // Nothing can be done for a reader who has closed the stream of warnings.
                let _ = writeln!(stderr().lock(), "warning: there may be more; name the participant");
            }
        }
    }
    Ok(())
}
