//! `outboxd evidence verify`: whether a file is whole, says what follows from it, and still speaks of a tree and of a
//! database. What differs is named.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::collect::{database, read};
use super::document::{Database, Document, FORMAT};
use super::fingerprint::sha256_at;
use super::gates::listed;
use crate::commands::control::with_session;
use crate::commands::database::DatabaseArgs;
use crate::exit::{Exit, Failure};

/// Verify a file of evidence.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 it is whole, says PASS, and fits; 64 wrong words; 65 it does not, by name; 66 it cannot be read; \
69 no database; 77 the login is refused."
)]
pub(crate) struct Verify {
    /// The file
    file: PathBuf,
    /// Compare the inputs of the gates, and their list, with this tree
    #[arg(long, value_name = "DIRECTORY")]
    tree: Option<PathBuf>,
    /// The list of gates in that tree
    #[arg(long, value_name = "FILE", default_value = "scripts/audit/gates.txt")]
    gates: PathBuf,
    /// Compare schema and migrations with the database that is given or found in the environment
    #[arg(long)]
    with_database: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Verifies.
pub(crate) fn run(command: &Verify, out: &mut dyn Write) -> Result<(), Failure> {
    let text = read(&command.file)?;
    let document: Document = serde_json::from_str(&text).map_err(|error| {
        Failure::new(Exit::BadData, format!("{}: not a file of evidence: {error}", command.file.display()))
    })?;
    let mut differing = of_itself(&document);
    if let Some(tree) = &command.tree {
        differing.extend(of_tree(&document, tree, &command.gates)?);
    }
    if command.with_database {
        let now = with_session(&command.database, async |session| database(session).await)?;
        differing.extend(of_database(document.database.as_ref(), &now));
    }
    for what in &differing {
        writeln!(out, "differs  {what}")?;
    }
    if !differing.is_empty() {
        return Err(Failure::new(Exit::BadData, format!("{} things differ", differing.len())));
    }
    writeln!(out, "{}  {}  {}", document.status.name(), document.sha256, document.collected_at)?;
    Ok(())
}

fn of_itself(document: &Document) -> Vec<String> {
    let mut differing = Vec::new();
    if document.format != FORMAT {
        differing.push(format!("its form is `{}`, not {FORMAT}", document.format.escape_debug()));
    }
    if document.hash() != document.sha256 {
        differing.push("its hash is not the one that it ends with: it was changed".to_owned());
    }
    if document.judged() != document.status {
        let (says, follows) = (document.status.name(), document.judged().name());
        differing.push(format!("it says {says}, and what stands in it says {follows}"));
    }
    differing.extend(document.missing.iter().map(|what| format!("missing when it was made: {what}")));
    let failed = document.gates.iter().filter(|gate| gate.status == super::document::Status::Fail);
    differing.extend(failed.map(|gate| format!("gate {} failed: {}", gate.name, gate.said)));
    if document.database.is_none() {
        differing.push("it knows no database".to_owned());
    }
    differing
}

fn of_tree(document: &Document, tree: &Path, gates: &Path) -> Result<Vec<String>, Failure> {
    let mut differing = Vec::new();
    let list = listed(&read(&tree.join(gates))?)?;
    for gate in list.iter().filter(|gate| !document.gates.iter().any(|other| other.name == gate.name)) {
        differing.push(format!("gate {} is listed in the tree and was not run", gate.name));
    }
    for gate in &document.gates {
        match list.iter().find(|other| other.name == gate.name) {
            None => differing.push(format!("gate {} is not listed in the tree", gate.name)),
            Some(other) if other.command != gate.command => {
                differing.push(format!("gate {} has another command in the tree", gate.name));
            }
            Some(_) => {}
        }
        for input in &gate.inputs {
            match sha256_at(tree, &input.path) {
                Ok(sha256) if sha256 == input.sha256 => {}
                Ok(_) => differing.push(format!("gate {}: {} is another", gate.name, input.path)),
                Err(error) => differing.push(format!("gate {}: {}: {error}", gate.name, input.path)),
            }
        }
    }
    Ok(differing)
}

fn of_database(then: Option<&Database>, now: &Database) -> Vec<String> {
    let Some(then) = then else { return Vec::new() };
    let mut differing = Vec::new();
    if then.schema_sha256 != now.schema_sha256 {
        differing.push(format!("the schema: {} then, {} now", then.schema_sha256, now.schema_sha256));
    }
    if then.migrations != now.migrations {
        differing.push("the migrations that are applied".to_owned());
    }
    if then.policy != now.policy {
        differing.push("the active policy".to_owned());
    }
    if now.conservation.breaches != 0 {
        differing.push(format!("{} promises are broken now, see outboxd audit", now.conservation.breaches));
    }
    differing
}
