//! The policy: the decisions about money as one document, that two people put in force. It is read from a file by whoever
//! proposes it, and from the database by whoever acts by it; both by the same strict pass. A table of contents.

mod canonical;
mod model;
mod reader;

pub use canonical::{canonical, checksum};
pub use model::{Contract, Policy, PolicyEndpoint, PolicyRail};
pub(super) use reader::Reader;

use std::path::Path;

use serde_json::Value;

use super::check;
use super::fault::{Fault, Faults, Place};
use super::layer;

/// Reads a policy from a file's `text`, TOML or JSON.
///
/// # Errors
/// Every fault found.
pub fn parse(path: &Path, text: &str) -> Result<Policy, Faults> {
    let read = if text.trim_start().starts_with('{') {
        let value = serde_json::from_str::<Value>(text).map_err(|error| error.to_string());
        let has_one_reading = || outbox_rail::has_one_reading(text.as_bytes());
        value.and_then(|value| if has_one_reading() { Ok(value) } else { Err("a table has a key twice".to_owned()) })
    } else {
        let table = toml::from_str::<toml::Table>(text).map_err(|error| error.to_string());
        table.and_then(|table| layer::as_json(table).ok_or_else(|| layer::NO_JSON.to_owned()))
    };
    let fault =
        |message| Fault { place: Place::File { path: path.to_owned(), line: 0 }, key: None, message, excerpt: None };
    let value = read.map_err(|message| Faults::new(vec![fault(message)]))?;
    check::policy(path, &value)
}

/// Reads a policy from the document that is on record.
///
/// # Errors
/// What of it this version does not understand, or that it is not canonical: then it is not what `outboxd` proposed, and two
/// readers may read it as two policies.
pub fn parse_document(document: &str) -> Result<Policy, String> {
    let value: Value = serde_json::from_str(document).map_err(|error| error.to_string())?;
    if canonical(&value) != document {
        return Err("it is not in canonical form".to_owned());
    }
    check::policy(Path::new("policy"), &value).map_err(|faults| faults.to_string())
}
