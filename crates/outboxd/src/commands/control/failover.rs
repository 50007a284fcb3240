//! `failover acknowledge`: says that this cluster is dispatched from now on, and from when on commits may be missing.

use std::io::Write;

use clap::{Args, Subcommand};
use outbox_store::{Session, apply_failover, propose_failover};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::select::parse_time;
use super::{EXIT_CODES, or_end, with_session};
use crate::commands::database::DatabaseArgs;
use crate::commands::output::Output;
use crate::exit::Failure;

/// Payments that one call marks.
const STEP: u32 = 5_000;

/// What is done about a failover.
#[derive(Debug, Subcommand)]
pub(crate) enum Failover {
    /// Propose that this cluster is dispatched; a second person approves it
    Acknowledge(Acknowledge),
}

/// After a promotion, a restore, or where a copy is meant to be dispatched.
///
/// Claims stay refused until it is approved. Then every payment that may have been sent since --lost-from is doubtful:
/// on a hold rail, and where the contract says fallback, it is held; else on an inquire rail the rail is asked, on a
/// resend rail its key window counts from --lost-from.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Acknowledge {
    /// The last moment of which nothing is missing (RFC 3339): rather too early than too late
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    lost_from: OffsetDateTime,
    /// What the dispatchers of this database are configured for (dispatcher.environment)
    #[arg(long, value_name = "NAME", default_value = "")]
    environment: String,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    database: DatabaseArgs,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Proposes it.
pub(crate) fn run(command: &Failover, out: &mut dyn Write) -> Result<(), Failure> {
    let Failover::Acknowledge(command) = command;
    with_session(&command.database, async |session| {
        let proposed = propose_failover(session, command.lost_from, &command.environment, &command.reason).await;
        let action_id = or_end(proposed)?;
        match command.output {
            Output::Json => writeln!(out, "{}", json!({"action_id": action_id.to_string(), "needs_approval": true}))?,
            Output::Table => {
                writeln!(
                    out,
                    "proposed as action {action_id}\nanother login approves it: outboxd approve {action_id} --confirm 0"
                )?;
            }
        }
        Ok(())
    })
}

/// Marks what may have been sent, and records the epoch.
pub(super) async fn carry_out(
    session: &mut Session,
    action_id: Uuid,
    output: Output,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (mut doubtful, mut held) = (0, 0);
    loop {
        let step = or_end(apply_failover(session, action_id, STEP).await)?;
        doubtful += i64::from(step.doubtful);
        held += i64::from(step.held);
        if step.is_over {
            break;
        }
    }
    match output {
        Output::Json => {
            writeln!(out, "{}", json!({"action_id": action_id.to_string(), "doubtful": doubtful, "held": held}))?
        }
        Output::Table => {
            writeln!(out, "the epoch is on record; {doubtful} payments are doubtful, {held} of them held")?
        }
    }
    Ok(())
}
