//! `failover acknowledge`: says that this cluster is dispatched from now on, and from when on commits may be missing.

use std::collections::BTreeMap;
use std::io::Write;

use clap::{Args, Subcommand};
use outbox_store::{PaymentFilter, RailRow, Session, apply_failover, propose_failover, read_payment_rails};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::pending::each_waiting;
use super::select::parse_time;
use super::{EXIT_CODES, or_end, with_session};
use crate::commands::database::DatabaseArgs;
use crate::commands::output::{Output, utc};
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
    /// Show how many payments would be in doubt, and propose nothing
    #[arg(long)]
    dry_run: bool,
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
        if command.dry_run {
            return command.shown(session, out).await;
        }
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

impl Acknowledge {
    /// Shows what it would come to, as payments stand now: all that was tried, is due or held may have been sent.
    async fn shown(&self, session: &mut Session, out: &mut dyn Write) -> Result<(), Failure> {
        let contracts = or_end(read_payment_rails(session).await)?;
        let mut rails: BTreeMap<String, u64> = BTreeMap::new();
        let everything = PaymentFilter::default();
        each_waiting(session, everything, usize::MAX, |one| {
            if one.is_tried() || one.is_due() || one.is_held() || one.is_leased() {
                *rails.entry(one.rail().to_owned()).or_default() += 1;
            }
        })
        .await?;
        let (payments, lost_from) = (rails.values().sum::<u64>(), utc(self.lost_from));
        match self.output {
            Output::Json => {
                let document = json!({"dry_run": "FAILOVER", "lost_from": lost_from, "environment": self.environment,
                                      "payments": payments, "rails": rails});
                writeln!(out, "{document}")?;
            }
            Output::Table => {
                let environment = &self.environment;
                writeln!(
                    out,
                    "it would be proposed that what was sent since {lost_from} may be lost, environment `{environment}`"
                )?;
                writeln!(out, "{payments} payments would be in doubt, as they stand now")?;
                for (rail, count) in &rails {
                    writeln!(out, "  {rail}{}: {count}", contract_of(&contracts, rail))?;
                }
            }
        }
        Ok(())
    }
}

/// What the rail's contract makes of a doubt.
fn contract_of(contracts: &[RailRow], rail: &str) -> String {
    let Some(row) = contracts.iter().find(|row| row.rail.as_str() == rail) else { return String::new() };
    let has_fallback = row.contract.as_ref().is_some_and(|contract| contract.fallback);
    format!(", {}{}", row.on_unknown, if has_fallback { " with fallback" } else { "" })
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
