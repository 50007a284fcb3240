//! From a configuration as typed to a checked one: a pure function that finds every fault at once,
//! relations between values included. Whether the files it names can be used is `files`' part.

mod answers;
mod database;
mod dispatcher;
mod findings;
mod policy;
mod pulled;
mod rail;

use std::collections::BTreeMap;
use std::path::PathBuf;

use outbox_core::RailName;

use super::defaults;
use super::fault::{Fault, KeyPath, Origins};
use super::model::{Config, Credentials, Health, Log, LogFormat, SecretSource};
use super::raw::{RawConfig, RawHealth, RawLog};

pub(super) use database::is_loopback;
pub(super) use findings::{Findings, human};
pub(super) use policy::check as policy;
pub(super) use pulled::check as pulled;

/// What of the host a configuration depends on.
#[derive(Clone, Debug)]
pub struct Host {
    /// The host's name: the dispatcher's, where none is configured.
    pub name: String,
    /// `$CREDENTIALS_DIRECTORY`, where systemd put the unit's credentials.
    pub credentials_directory: Option<PathBuf>,
    /// `$STATE_DIRECTORY`, which systemd made for the unit.
    pub state_directory: Option<PathBuf>,
}

/// A file the configuration names, and the key that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedFile {
    /// The key.
    pub key: KeyPath,
    /// The file.
    pub path: PathBuf,
    /// What it must hold.
    pub holds: Holds,
}

/// What a file must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// The certificates of authorities to trust.
    Authorities,
    /// Our certificate and its chain.
    Certificate,
    /// Our private key.
    Key {
        /// The file of the certificate that it belongs to, if that is known.
        of: Option<PathBuf>,
    },
    /// One line that is secret: a password, a token.
    SecretLine,
}

/// What a check came to.
#[derive(Debug)]
pub(super) struct Checked {
    /// The checked values; those with a fault are at their default and must not be used.
    pub config: Config,
    /// Every fault found.
    pub faults: Vec<Fault>,
    /// Every file named.
    pub files: Vec<NamedFile>,
}

/// Checks `raw`; `origins` tells where each value was given.
#[must_use]
pub(super) fn check(raw: &RawConfig, origins: &Origins, host: &Host) -> Checked {
    let mut findings = Findings::new(origins, host);
    let dispatcher = dispatcher::check(&raw.dispatcher, &mut findings);
    let database = database::check(&raw.database, &mut findings);
    dispatcher::check_with_database(&dispatcher, &database, &mut findings);
    let health = check_health(&raw.health, &mut findings);
    let log = check_log(&raw.log, &mut findings);
    let mut rails = BTreeMap::new();
    for (name, raw_rail) in &raw.rails {
        let path = KeyPath::of(&["rails", name]);
        let rail = rail::check(raw_rail, &path, &mut findings);
        match RailName::new(name.as_str()) {
            Ok(valid) => {
                dispatcher::check_with_rail(&dispatcher, &rail, &path, &mut findings);
                rails.insert(valid, rail);
            }
            Err(error) => findings.add(&path, error.to_string()),
        }
    }
    if raw.rails.is_empty() {
        findings.add(&KeyPath::of(&["rails"]), "no rail is configured; add a table [rails.NAME] with its url");
    }
    dispatcher::check_with_rails(&dispatcher, &rails, &mut findings);
    let credentials = Credentials { allow_world_readable: raw.credentials.allow_world_readable.unwrap_or_default() };
    let (faults, files) = findings.into_parts();
    Checked { config: Config { dispatcher, database, health, log, credentials, rails }, faults, files }
}

fn check_health(raw: &RawHealth, findings: &mut Findings<'_>) -> Health {
    let given = raw.listen.as_deref().unwrap_or(defaults::HEALTH_LISTEN);
    if given == "off" {
        return Health { listen: None };
    }
    let listen = given.parse().ok();
    if listen.is_none() {
        let message = format!("must be an address with a port, such as {}, or \"off\"", defaults::HEALTH_LISTEN);
        findings.add(&KeyPath::of(&["health", "listen"]), message);
    }
    Health { listen }
}

fn check_log(raw: &RawLog, findings: &mut Findings<'_>) -> Log {
    let format = match raw.format.as_deref().unwrap_or(defaults::LOG_FORMAT) {
        "auto" => LogFormat::Auto,
        "json" => LogFormat::Json,
        "text" => LogFormat::Text,
        _ => {
            findings.add(&KeyPath::of(&["log", "format"]), "must be \"auto\", \"json\" or \"text\"");
            LogFormat::Auto
        }
    };
    let filter = raw.filter.clone().unwrap_or_else(|| defaults::LOG_FILTER.to_owned());
    if let Err(error) = tracing_subscriber::EnvFilter::builder().parse(&filter) {
        let example = defaults::LOG_FILTER;
        findings.add(&KeyPath::of(&["log", "filter"]), format!("is no filter such as \"{example}\": {error}"));
    }
    Log { format, filter }
}

/// A secret given either as a file or as the name of a systemd credential.
struct SecretKeys<'a> {
    file_key: KeyPath,
    file: Option<&'a PathBuf>,
    credential_key: KeyPath,
    credential: Option<&'a str>,
    holds: Holds,
}

impl SecretKeys<'_> {
    /// The source of the secret, if one is given.
    fn source(&self, findings: &mut Findings<'_>) -> Option<SecretSource> {
        match (self.file, self.credential) {
            (None, None) => None,
            (Some(_), Some(_)) => {
                let message = format!("give either this or {}, not both", self.file_key);
                findings.add(&self.credential_key, message);
                None
            }
            (Some(path), None) => {
                findings.file(&self.file_key, path, self.holds.clone()).map(|path| SecretSource { path })
            }
            (None, Some(name)) => {
                findings.credential(&self.credential_key, name, self.holds.clone()).map(|path| SecretSource { path })
            }
        }
    }
}
