//! Reads the layers (defaults < file < environment < flags), merges them with `config` and has the
//! result checked. Every fault of every layer is reported at once.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::check::{self, Checked, Host};
use super::fault::{Fault, Faults, KeyPath, Origins, Place};
use super::layer::{self, Layer};
use super::model::Config;
use super::raw::RawConfig;
use super::{describe, files, warnings};

/// More than any configuration needs; a larger file is another file.
const FILE_BYTES_MAX: u64 = 1_048_576;

/// Variables of libpq that the database client would take as well, and that no key of ours replaces.
const FOREIGN_VARIABLES: [&str; 4] = ["PGOPTIONS", "PGSSLCERT", "PGSSLKEY", "PGSSLROOTCERT"];

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The file.
    pub file: PathBuf,
    /// The environment: variables that begin with [`super::ENVIRONMENT_PREFIX`] are read, and those of libpq
    /// that would change the connection to the database are refused.
    pub environment: Vec<(OsString, OsString)>,
    /// `KEY=VALUE` of each `--set`.
    pub assignments: Vec<String>,
    /// What of the host matters.
    pub host: Host,
}

/// A configuration that may be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// The fingerprint of the values, without secrets.
    pub config_sha256: String,
    /// What is allowed, but not on a system that moves money.
    pub warnings: Vec<String>,
}

/// Loads and checks the configuration, files of secrets included.
///
/// # Errors
/// Every fault found, with its place.
pub fn load(sources: &Sources) -> Result<Loaded, Faults> {
    let mut origins = Origins::new(sources.file.clone());
    let mut faults = Vec::new();
    let text = read(&sources.file).unwrap_or_else(|fault| {
        faults.push(fault);
        // Only the file is to blame, not the keys it would have held.
        origins.note_refused(KeyPath::default());
        String::new()
    });
    let checked = understand(sources, &text, &mut origins, &mut faults);
    faults.extend(files::faults(&checked.files, checked.config.credentials, &origins));
    if !faults.is_empty() {
        return Err(Faults::new(faults));
    }
    let config_sha256 = describe::sha256(&checked.config);
    let warnings = warnings::warnings(&checked.config);
    Ok(Loaded { config: checked.config, config_sha256, warnings })
}

/// The configuration that `text` in the place of the file, the environment and the flags say. The files that it names are
/// not looked at.
///
/// # Errors
/// Every fault found, with its place.
pub fn parse(sources: &Sources, text: &str) -> Result<Config, Faults> {
    let (mut origins, mut faults) = (Origins::new(sources.file.clone()), Vec::new());
    let checked = understand(sources, text, &mut origins, &mut faults);
    if faults.is_empty() { Ok(checked.config) } else { Err(Faults::new(faults)) }
}

/// Merges the layers and checks what comes out; every fault goes into `faults`.
fn understand(sources: &Sources, text: &str, origins: &mut Origins, faults: &mut Vec<Fault>) -> Checked {
    let raw = merge(sources, text, origins, faults);
    let mut checked = check::check(&raw, origins, &sources.host);
    faults.append(&mut checked.faults);
    checked
}

/// The text of the file at `path`.
pub(super) fn read(path: &Path) -> Result<String, Fault> {
    let fault = |message: String| Fault {
        place: Place::File { path: path.to_owned(), line: 0 },
        key: None,
        message,
        excerpt: None,
    };
    let file = std::fs::File::open(path)
        .map_err(|error| fault(format!("cannot be read: {error}; name another file with --config")))?;
    let mut bytes = Vec::new();
    let length = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    let length = length.map_err(|error| fault(format!("cannot be read: {error}")))?;
    if length as u64 > FILE_BYTES_MAX {
        return Err(fault(format!("is larger than {FILE_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        Fault { place: Place::File { path: path.to_owned(), line }, ..fault("is not UTF-8".to_owned()) }
    })
}

/// Merges the layers; what has a fault of form is left out.
fn merge(sources: &Sources, text: &str, origins: &mut Origins, faults: &mut Vec<Fault>) -> RawConfig {
    let mut builder = config::Config::builder();
    builder = builder.add_source(layer::from_text(&sources.file, text, origins, faults));
    for assignment in environment(sources, faults).into_iter().chain(flags(sources, faults)) {
        builder = builder.add_source(assign(assignment, origins, faults));
    }
    let merged = builder.build().and_then(config::Config::try_deserialize);
    merged.unwrap_or_else(|error| {
        // Each layer has the types of RawConfig, so only a table against a value can get here.
        faults.push(Fault {
            place: origins.place(&KeyPath::default()),
            key: None,
            message: format!("the layers do not go together: {error}"),
            excerpt: None,
        });
        RawConfig::default()
    })
}

/// One value given outside the file.
struct Assignment {
    key: KeyPath,
    value: String,
    place: Place,
}

fn assign(assignment: Assignment, origins: &mut Origins, faults: &mut Vec<Fault>) -> Layer {
    let Assignment { key, value, place } = assignment;
    layer::from_assignment(&key, &value, &place, origins).unwrap_or_else(|fault| {
        faults.push(fault);
        origins.note_refused(key);
        Layer::default()
    })
}

fn environment(sources: &Sources, faults: &mut Vec<Fault>) -> Vec<Assignment> {
    let mut assignments = Vec::new();
    for (name, value) in &sources.environment {
        let name = name.to_string_lossy();
        if FOREIGN_VARIABLES.contains(&&*name) {
            let place = Place::Environment { variable: name.into_owned() };
            let message = "would change the connection to the database behind the configuration; unset it".to_owned();
            faults.push(Fault { place, key: None, message, excerpt: None });
            continue;
        }
        let Some(key) = layer::key_of_variable(&name) else { continue };
        let place = Place::Environment { variable: name.escape_debug().to_string() };
        let mut refuse = |message: String| {
            faults.push(Fault { place: place.clone(), key: None, message, excerpt: None });
        };
        match (key, value.to_str()) {
            (Err(message), _) => refuse(message),
            (Ok(_), None) => refuse("is not UTF-8".to_owned()),
            (Ok(key), Some(value)) => assignments.push(Assignment { key, value: value.to_owned(), place }),
        }
    }
    // A table before the keys in it, whatever the order of the environment.
    assignments.sort_by(|a, b| a.key.cmp(&b.key));
    assignments
}

fn flags(sources: &Sources, faults: &mut Vec<Fault>) -> Vec<Assignment> {
    let mut assignments = Vec::new();
    for given in &sources.assignments {
        let (key, value) = given.split_once('=').unwrap_or_default();
        let key = KeyPath(key.split('.').map(str::to_owned).collect());
        if key.0.iter().any(String::is_empty) {
            let place = Place::Flag { flag: "--set".to_owned() };
            let message = "must be KEY=VALUE, such as dispatcher.poll_max=2s".to_owned();
            faults.push(Fault { place, key: None, message, excerpt: None });
            continue;
        }
        let place = Place::Flag { flag: "--set".to_owned() };
        assignments.push(Assignment { key, value: value.to_owned(), place });
    }
    assignments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_than_ours_is_refused_without_a_fault_for_each_of_its_lines() {
        let host = Host { name: "h".to_owned(), credentials_directory: None, state_directory: None };
        let file = PathBuf::from("f");
        let sources = Sources { file, environment: Vec::new(), assignments: Vec::new(), host };
        let text: String = (0..1_000).map(|line| format!("key{line} = 1\n")).collect();
        assert_eq!(parse(&sources, &text).unwrap_err().iter().count(), 100);
    }
}
