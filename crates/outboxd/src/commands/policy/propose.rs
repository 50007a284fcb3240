//! `policy propose`: a file becomes a version that another login may approve.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use outbox_store::propose_policy;
use serde_json::json;

use super::diff::{differences, documents, from_file, show};
use super::{DIFFERENCES, EXIT_CODES, document_of, read_active};
use crate::commands::control::{Change, or_end, select, with_session};
use crate::commands::output::Output;
use crate::config::policy::checksum;
use crate::exit::Failure;
use crate::hex;

/// Propose a file, TOML or JSON, as the next version; another login approves it
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Propose {
    /// The file; see packaging/policy.example.toml
    file: PathBuf,
    #[command(flatten)]
    change: Change,
}

/// Proposes.
pub(super) fn run(command: &Propose, out: &mut dyn Write) -> Result<(), Failure> {
    let Propose { file, change } = command;
    let document = from_file(file)?.document();
    let hash = hex::encode(&checksum(&document));
    with_session(&change.database, async |session| {
        let all = differences(&document_of(&read_active(session).await?)?, &select::parse(&document)?);
        if change.output == Output::Table {
            show(&all, out)?;
        }
        if change.dry_run {
            match change.output {
                Output::Json => writeln!(
                    out,
                    "{}",
                    json!({"dry_run": "propose", "checksum": hash, "differences": documents(&all)})
                )?,
                Output::Table => writeln!(out, "{} differences, checksum {hash}: nothing was proposed", all.len())?,
            }
            return Ok(());
        }
        change.confirmed("propose", (all.len(), DIFFERENCES))?;
        let proposal = or_end(propose_policy(session, &document, &change.reason).await)?;
        let (version, base) = (proposal.version.0, proposal.base_version.map(|version| version.0));
        match change.output {
            Output::Json => writeln!(
                out,
                "{}",
                json!({"version": version, "checksum": proposal.checksum, "base_version": base, "differences": all.len()})
            )?,
            Output::Table => writeln!(
                out,
                "proposed as version {version}: {} differences, checksum {}\nanother login approves it: outboxd policy approve {version}",
                all.len(),
                proposal.checksum
            )?,
        }
        Ok(())
    })
}
