//! `pause` and `resume`: the kill switch, for everything, a rail, a participant, or a participant on a rail.

use std::io::{Write, stderr};

use clap::Args;
use outbox_core::RailName;
use outbox_store::{PaymentFilter, read_payments, set_pause};
use serde_json::json;

use super::{EXIT_CODES, or_end, with_session};
use crate::commands::database::DatabaseArgs;
use crate::commands::output::Output;
use crate::commands::rail::parse_rail;
use crate::exit::{Exit, Failure};

/// Stop claiming, and give back what is leased and not begun; what is on the wire goes on to its end.
///
/// `resume` lets go on what was paused with the same scope.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Pause {
    /// Everything
    #[arg(long, conflicts_with_all = ["rail", "participant"])]
    all: bool,
    /// A rail
    #[arg(long, value_parser = parse_rail)]
    rail: Option<RailName>,
    /// A participant, on all rails or on the one named
    #[arg(long, value_name = "PARTICIPANT")]
    participant: Option<String>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    database: DatabaseArgs,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Pauses, or lets go on.
pub(crate) fn run(command: &Pause, paused: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let (rail, participant) = (command.rail.as_ref(), command.participant.as_deref());
    if !command.all && rail.is_none() && participant.is_none() {
        return Err(Failure::new(Exit::Usage, "say what: --all, --rail or --participant".to_owned()));
    }
    with_session(&command.database, async |session| {
        let action_id = or_end(set_pause(session, rail, participant, paused, &command.reason).await)?;
        let verb = if paused { "paused" } else { "resumed" };
        match command.output {
            Output::Json => writeln!(out, "{}", json!({"action_id": action_id.to_string(), "paused": paused}))?,
            Output::Table => {
                let rail = rail.map_or_else(|| "all rails".to_owned(), |rail| format!("rail {rail}"));
                let participant = participant.map_or_else(String::new, |name| format!(", participant {name}"));
                writeln!(out, "{verb}: {rail}{participant} (action {action_id})")?;
            }
        }
        // Stopped first: whoever pauses is in a hurry.
        if let (true, Some(name)) = (paused, participant) {
            let filter = PaymentFilter {
                participant_id: Some(name.to_owned()),
                rail: rail.map(ToString::to_string),
                ..PaymentFilter::default()
            };
            if or_end(read_payments(session, &filter, 1).await)?.is_empty() {
                let warning =
                    format!("warning: no payment of participant {name} is in the queue now: is the name right?");
                let _ = writeln!(stderr().lock(), "{warning}");
            }
        }
        Ok(())
    })
}
