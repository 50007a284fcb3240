//! `policy approve`, `reject` and `activate`: the second person's word, and what follows from it.

use std::io::Write;

use clap::Args;
use outbox_core::PolicyVersion;
use outbox_store::{PolicyDecision, Session, activate_policy, decide_policy};
use serde_json::{Value, json};

use super::diff::{Difference, differences, documents, show};
use super::show::facts;
use super::{DIFFERENCES, EXIT_CODES, document_of, read, read_active};
use crate::commands::control::show::field;
use crate::commands::control::{Change, or_end, with_session};
use crate::commands::output::Output;
use crate::config::policy::checksum;
use crate::exit::Failure;
use crate::hex;

/// A version of another person, and the word on it.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Decide {
    /// The version
    version: i32,
    #[command(flatten)]
    change: Change,
}

/// Put an approved version in force
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Activate {
    /// The version
    version: i32,
    #[command(flatten)]
    change: Change,
}

/// What a person sees of a version before a word on it: who proposed it, and how it differs from the active one.
async fn look(
    session: &mut Session,
    version: PolicyVersion,
    change: &Change,
    out: &mut dyn Write,
) -> Result<(Value, Vec<Difference>), Failure> {
    let found = read(session, version).await?;
    let all = differences(&document_of(&read_active(session).await?)?, &document_of(&found)?);
    match (change.output, change.dry_run) {
        (Output::Table, _) => {
            facts(&found, out)?;
            show(&all, out)?;
        }
        (Output::Json, true) => {
            writeln!(
                out,
                "{}",
                json!({"version": version.0, "checksum": found["checksum"], "differences": documents(&all)})
            )?;
        }
        (Output::Json, false) => {}
    }
    Ok((found, all))
}

fn decide(command: &Decide, decision: PolicyDecision, out: &mut dyn Write) -> Result<(), Failure> {
    let Decide { version, change } = command;
    let version = PolicyVersion(*version);
    with_session(&change.database, async |session| {
        let (found, all) = look(session, version, change, out).await?;
        if change.dry_run {
            return Ok(());
        }
        change.confirmed(decision.name(), (all.len(), DIFFERENCES))?;
        // Of what was shown, not of what the row says of it.
        let hash = hex::encode(&checksum(found["document"].as_str().unwrap_or_default()));
        or_end(decide_policy(session, version, decision, &hash, &change.reason).await)?;
        match (change.output, decision) {
            (Output::Json, _) => {
                writeln!(out, "{}", json!({"version": version.0, "checksum": hash, "decision": decision.name()}))?
            }
            (Output::Table, PolicyDecision::Approved) => {
                writeln!(out, "version {version}: APPROVED\nit is put in force by: outboxd policy activate {version}")?;
            }
            (Output::Table, PolicyDecision::Rejected) => writeln!(out, "version {version}: REJECTED")?,
        }
        Ok(())
    })
}

/// Approves.
pub(super) fn approve(command: &Decide, out: &mut dyn Write) -> Result<(), Failure> {
    decide(command, PolicyDecision::Approved, out)
}

/// Turns down.
pub(super) fn reject(command: &Decide, out: &mut dyn Write) -> Result<(), Failure> {
    decide(command, PolicyDecision::Rejected, out)
}

/// Puts in force.
pub(super) fn activate(command: &Activate, out: &mut dyn Write) -> Result<(), Failure> {
    let Activate { version, change } = command;
    let version = PolicyVersion(*version);
    with_session(&change.database, async |session| {
        let (found, all) = look(session, version, change, out).await?;
        if change.dry_run {
            return Ok(());
        }
        change.confirmed("ACTIVATE", (all.len(), DIFFERENCES))?;
        let rails = or_end(activate_policy(session, version, &change.reason).await)?;
        match change.output {
            Output::Json => {
                let rails: serde_json::Map<String, Value> =
                    rails.into_iter().map(|(rail, governed)| (rail.to_string(), governed.into())).collect();
                writeln!(out, "{}", json!({"version": version.0, "checksum": found["checksum"], "rails": rails}))?;
            }
            Output::Table => {
                writeln!(out, "version {version} is in force, checksum {}", field(&found, "checksum"))?;
                for (rail, _) in rails.iter().filter(|(_, governed)| !governed) {
                    writeln!(out, "rail {rail} is not in it: nothing is sent on it any more")?;
                }
            }
        }
        Ok(())
    })
}
