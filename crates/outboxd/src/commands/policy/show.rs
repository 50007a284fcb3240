//! `policy show`: one version with its document, or the list of all.

use std::io::Write;

use clap::Args;
use outbox_core::PolicyVersion;
use outbox_store::read_policy_versions;
use serde_json::Value;

use super::{EXIT_CODES, document_of, read};
use crate::commands::control::show::{documents, field};
use crate::commands::control::{or_end, select, with_session};
use crate::commands::database::DatabaseArgs;
use crate::commands::output::{Output, printable};
use crate::exit::Failure;

/// How many versions the list has.
const LIST_MAX: u32 = 100;

const COLUMNS: [&str; 8] =
    ["version", "status", "proposed_by", "decided_by", "activated_by", "activated_at", "checksum", "reason"];

/// Show a version, or the list of all
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Show {
    /// The version; without it, the last hundred are listed
    version: Option<i32>,
    /// Only the document, in a form that `policy propose` reads
    #[arg(long, requires = "version")]
    document: bool,
    #[command(flatten)]
    database: DatabaseArgs,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// What is known of a version, a line each.
pub(super) fn facts(version: &Value, out: &mut dyn Write) -> Result<(), Failure> {
    for (label, name) in [
        ("version", "version"),
        ("status", "status"),
        ("checksum", "checksum"),
        ("follows", "base_version"),
        ("reason", "reason"),
        ("proposed by", "proposed_by"),
        ("proposed at", "proposed_at"),
        ("decided by", "decided_by"),
        ("decided at", "decided_at"),
        ("because", "decision_reason"),
        ("activated by", "activated_by"),
        ("activated at", "activated_at"),
    ] {
        let text = field(version, name);
        if !text.is_empty() {
            writeln!(out, "{label:12} {text}")?;
        }
    }
    Ok(())
}

fn pretty(document: &Value) -> String {
    let text = serde_json::to_string_pretty(document).unwrap_or_default();
    text.lines().map(|line| printable(line) + "\n").collect()
}

/// Shows.
pub(super) fn run(command: &Show, out: &mut dyn Write) -> Result<(), Failure> {
    with_session(&command.database, async |session| {
        let Some(version) = command.version else {
            let all = or_end(read_policy_versions(session, None, LIST_MAX).await)?;
            let all: Vec<Value> = all.iter().map(|text| select::parse(text)).collect::<Result<_, _>>()?;
            return match command.output {
                Output::Json => Ok(all.iter().try_for_each(|one| writeln!(out, "{one}"))?),
                Output::Table => documents(&all, &COLUMNS, out),
            };
        };
        let found = read(session, PolicyVersion(version)).await?;
        let document = document_of(&found)?;
        match (command.document, command.output) {
            (true, _) => out.write_all(pretty(&document).as_bytes())?,
            (false, Output::Json) => writeln!(out, "{found}")?,
            (false, Output::Table) => {
                facts(&found, out)?;
                out.write_all(pretty(&document).as_bytes())?;
            }
        }
        Ok(())
    })
}
