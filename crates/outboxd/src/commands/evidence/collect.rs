//! `outboxd evidence collect`: reads the results of the gates, the tree and the database, and writes the file. What is
//! missing is written into it and makes it `FAIL`; only what makes no sense ends without a file.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use outbox_store::{
    AuditScope, MIGRATIONS, Session, StoreError, audit, read_applied_migrations, read_catalogue, read_policy_checksum,
    read_server_facts,
};
use serde_json::Value;
use time::OffsetDateTime;

use super::document::{Conservation, Database, Document, FORMAT, Migration, Policy, Setting, Source, Status};
use super::fingerprint::sha256_of;
use super::gates::{Ran, listed, matched, results};
use crate::commands::control::with_session;
use crate::commands::database::DatabaseArgs;
use crate::commands::output::utc;
use crate::commands::store_failure::store_failure;
use crate::exit::{Exit, Failure};

/// Write one file of evidence.
///
/// Everything that should be known and is not makes it FAIL, by name; the file is written all the same.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 the file says PASS; 1 it cannot be written; 64 wrong words; 65 the file says FAIL, or what was \
given makes no sense; 66 a list cannot be read."
)]
pub(crate) struct Collect {
    /// The list of gates: name, inputs, command, separated by tabs
    #[arg(long, value_name = "FILE", default_value = "scripts/audit/gates.txt")]
    gates: PathBuf,
    /// What the gates' runs left: lines of JSON with gate, `exit_code`, seconds and output
    #[arg(long, value_name = "FILE")]
    results: PathBuf,
    /// Where the inputs of the gates are
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    tree: PathBuf,
    /// The commit of the tree
    #[arg(long, value_name = "SHA")]
    git_sha: Option<String>,
    /// Whether the tree differs from that commit
    #[arg(long, value_name = "BOOL")]
    dirty: Option<bool>,
    /// The file to write, which must not be there
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Collects.
pub(crate) fn run(command: &Collect, out: &mut dyn Write) -> Result<(), Failure> {
    let list = listed(&read(&command.gates)?)?;
    let results = results(&read(&command.results)?)?;
    let document = collected(command, &list, &results);
    let mut file = fs::File::create_new(&command.out)
        .map_err(|error| Failure::new(Exit::Failure, format!("{}: {error}", command.out.display())))?;
    file.write_all(document.text().as_bytes())?;
    file.sync_all()?;
    for what in &document.missing {
        writeln!(out, "missing  {what}")?;
    }
    for gate in document.gates.iter().filter(|gate| gate.status == Status::Fail) {
        writeln!(out, "failed   {}", gate.name)?;
    }
    writeln!(out, "{}  {}  {}", document.status.name(), document.sha256, command.out.display())?;
    match document.status {
        Status::Pass | Status::FailClosed => Ok(()),
        Status::Fail => Err(Failure::new(Exit::BadData, "the evidence says FAIL: what is missing or failed is listed")),
    }
}

/// The text of `path`.
pub(super) fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure::new(Exit::NoInput, format!("{}: {error}", path.display())))
}

fn collected(command: &Collect, list: &[super::gates::Listed], results: &[Ran]) -> Document {
    let (gates, mut missing) = matched(list, results, &command.tree);
    match &command.git_sha {
        Some(sha) if sha.len() == 40 && sha.bytes().all(|byte| byte.is_ascii_hexdigit()) => {}
        Some(sha) => missing.push(format!("source: `{}` is no commit", sha.escape_debug())),
        None => missing.push("source: the commit is not known".to_owned()),
    }
    match command.dirty {
        Some(false) => {}
        Some(true) => missing.push("source: the tree has changes that are in no commit".to_owned()),
        None => missing.push("source: whether the tree has changes is not known".to_owned()),
    }
    let database = match with_session(&command.database, async |session| database(session).await) {
        Ok(database) => {
            missing.extend(faults_of(&database));
            Some(database)
        }
        Err(failure) => {
            missing.push(format!("database: {failure}"));
            None
        }
    };
    let mut document = Document {
        format: FORMAT.to_owned(),
        status: Status::Fail,
        collected_at: utc(OffsetDateTime::now_utc()),
        program: format!("outboxd {}", env!("CARGO_PKG_VERSION")),
        source: Source { git_sha: command.git_sha.clone(), is_dirty: command.dirty },
        database,
        gates,
        missing,
        sha256: String::new(),
    };
    document.status = document.judged();
    document.sha256 = document.hash();
    document
}

/// What the database says of itself, as it is now.
pub(super) async fn database(session: &mut Session) -> Result<Database, Failure> {
    let failed = |error: StoreError| store_failure(&error);
    let server = read_server_facts(session).await.map_err(failed)?;
    let facts = read_catalogue(session).await.map_err(failed)?;
    let applied = read_applied_migrations(session).await.map_err(failed)?;
    let policy = read_policy_checksum(session).await.map_err(failed)?;
    let report = audit(session, AuditScope::Full, 0).await.map_err(failed)?;
    let report: Value = serde_json::from_str(&report)
        .map_err(|error| Failure::new(Exit::WrongSchema, format!("the answer of the audit: {error}")))?;
    let count = |name: &str| report[name].as_i64();
    let needed = |name: &str| {
        count(name).ok_or_else(|| Failure::new(Exit::WrongSchema, format!("the answer of the audit has no {name}")))
    };
    let setting = |(name, value): (&str, String)| Setting { name: name.to_owned(), value };
    Ok(Database {
        server_version_num: server.version_num,
        system_identifier: server.system_identifier,
        durability: server.durability.map(setting).into(),
        schema_sha256: sha256_of((facts.join("\n") + "\n").as_bytes()),
        schema_facts: facts.len(),
        migrations: applied
            .into_iter()
            .filter(|one| one.success)
            .map(|one| Migration { version: one.version, description: one.description, checksum: one.checksum })
            .collect(),
        policy: policy.map(policy_of).transpose()?,
        conservation: Conservation {
            identities: count("identities"),
            pending: needed("pending")?,
            examined: needed("examined")?,
            breaches: needed("breaches")?,
        },
    })
}

/// The policy, if its document is the one on record.
fn policy_of((version, on_record, reckoned): (i32, String, String)) -> Result<Policy, Failure> {
    if on_record != reckoned {
        let what = format!("policy version {version} has checksum {on_record}, its document {reckoned}");
        return Err(Failure::new(Exit::InvariantBroken, what));
    }
    Ok(Policy { version, sha256: reckoned })
}

/// What is not as it has to be.
fn faults_of(database: &Database) -> Vec<String> {
    let mut faults = Vec::new();
    for setting in database.durability.iter().filter(|setting| setting.value == "off") {
        faults.push(format!("database: {} is off", setting.name));
    }
    let ours: Vec<i64> = MIGRATIONS.iter().map(|file| file.version).collect();
    let applied: Vec<i64> = database.migrations.iter().map(|one| one.version).collect();
    if ours != applied {
        faults.push(format!("database: migrations {applied:?} are applied, this program has {ours:?}"));
    }
    if database.conservation.breaches != 0 {
        faults.push(format!("database: {} promises are broken, see outboxd audit", database.conservation.breaches));
    }
    faults
}
