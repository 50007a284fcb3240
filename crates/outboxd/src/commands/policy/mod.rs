//! `outboxd policy`: the decisions about money, from a file to what is in force. One login proposes, another approves; what may
//! follow what is decided in the database.

mod decide;
mod diff;
mod propose;
mod show;

use std::io::Write;

use clap::Subcommand;
use outbox_core::PolicyVersion;
use outbox_store::{Session, read_policy_versions};
use serde_json::Value;

use super::control::or_end;
use crate::exit::{Exit, Failure};

/// The exit codes, alike for all of them.
const EXIT_CODES: &str = "Exit codes: 0 done; 64 wrong words, or not confirmed; 65 a file or a version that is refused, with why; \
66 no such file or version; 69 no database; 76 no schema that this version knows; 77 the login is refused or may not do it.";

/// What is counted of a change of a policy.
const DIFFERENCES: &str = "differences from the active policy";

/// What is done with policies.
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Put an approved version in force
    Activate(decide::Activate),
    /// Approve a version of another person, as its difference from the active one
    Approve(decide::Decide),
    /// Show how two versions differ, or a file and the active version
    Diff(diff::Diff),
    /// Propose a file, TOML or JSON, as the next version; another login approves it
    Propose(propose::Propose),
    /// Turn a version of another person down
    Reject(decide::Decide),
    /// Show a version, or the list of all
    Show(show::Show),
}

/// Does it.
pub(crate) fn run(command: &Policy, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        Policy::Activate(command) => decide::activate(command, out),
        Policy::Approve(command) => decide::approve(command, out),
        Policy::Diff(command) => diff::run(command, out),
        Policy::Propose(command) => propose::run(command, out),
        Policy::Reject(command) => decide::reject(command, out),
        Policy::Show(command) => show::run(command, out),
    }
}

/// A version as it is on record, its document included.
async fn read(session: &mut Session, version: PolicyVersion) -> Result<Value, Failure> {
    let found = or_end(read_policy_versions(session, Some(version), 1).await)?;
    match found.first() {
        Some(text) => super::control::select::parse(text),
        None => Err(Failure::new(Exit::NoInput, format!("there is no policy version {version}"))),
    }
}

/// The active version as it is on record; null if there is none.
async fn read_active(session: &mut Session) -> Result<Value, Failure> {
    let rules = or_end(outbox_store::read_rules(session, &[], None).await)?;
    match rules.policy {
        Some(policy) => read(session, policy.version).await,
        None => Ok(Value::Null),
    }
}

/// The document of a version that was read; null if there is none.
fn document_of(version: &Value) -> Result<Value, Failure> {
    match version["document"].as_str() {
        Some(text) => super::control::select::parse(text),
        None => Ok(Value::Null),
    }
}
