//! How two policies differ, value by value. Lines of a table of codes are told apart by status and code, endpoints by origin:
//! a line that is put before others changes none of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use outbox_core::PolicyVersion;
use outbox_store::Session;
use serde_json::{Value, json};

use super::{EXIT_CODES, document_of, read, read_active};
use crate::commands::control::{select, with_session};
use crate::commands::database::DatabaseArgs;
use crate::commands::output::{Output, printable};
use crate::config::policy::{self, Policy};
use crate::exit::{Exit, Failure};

/// What is compared.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Diff {
    /// A version, or a file
    #[arg(value_name = "VERSION|FILE")]
    new: String,
    /// What it is compared with; the active version if it is not given
    #[arg(value_name = "VERSION|FILE")]
    old: Option<String>,
    #[command(flatten)]
    database: DatabaseArgs,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// One value that differs; null: it is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) path: String,
    pub(super) old: Value,
    pub(super) new: Value,
}

/// What differs from `old` to `new`, in order of the paths.
pub(super) fn differences(old: &Value, new: &Value) -> Vec<Difference> {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    flatten("", old, &mut before);
    flatten("", new, &mut after);
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let value = |of: &BTreeMap<String, Value>, path: &String| of.get(path).cloned().unwrap_or_default();
    let difference =
        |path: &String| Difference { path: path.clone(), old: value(&before, path), new: value(&after, path) };
    paths.into_iter().map(difference).filter(|one| one.old != one.new).collect()
}

fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, into);
            }
        }
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                flatten(&format!("{path}[{}]", name_of(item, place)), item, into);
            }
        }
        _ => drop(into.insert(path.to_owned(), value.clone())),
    }
}

fn name_of(item: &Value, place: usize) -> String {
    match (&item["status"], item["code"].as_str(), item["origin"].as_str()) {
        (_, _, Some(origin)) => origin.to_owned(),
        (Value::Number(status), Some(code), _) => format!("{status} {code}"),
        (Value::Number(status), None, _) => status.to_string(),
        _ => place.to_string(),
    }
}

/// The differences as lines for people.
pub(super) fn show(all: &[Difference], out: &mut dyn Write) -> Result<(), Failure> {
    for Difference { path, old, new } in all {
        let text = |value: &Value| if value.is_null() { "-".to_owned() } else { printable(&value.to_string()) };
        writeln!(out, "{}: {} -> {}", printable(path), text(old), text(new))?;
    }
    Ok(())
}

/// The differences as JSON.
pub(super) fn documents(all: &[Difference]) -> Value {
    all.iter().map(|one| json!({"path": one.path, "old": one.old, "new": one.new})).collect()
}

/// Compares.
pub(super) fn run(command: &Diff, out: &mut dyn Write) -> Result<(), Failure> {
    with_session(&command.database, async |session| {
        let new = side(session, &command.new).await?;
        let old = match &command.old {
            Some(name) => side(session, name).await?,
            None => document_of(&read_active(session).await?)?,
        };
        let all = differences(&old, &new);
        match command.output {
            Output::Json => writeln!(out, "{}", documents(&all))?,
            Output::Table if all.is_empty() => writeln!(out, "no difference")?,
            Output::Table => show(&all, out)?,
        }
        Ok(())
    })
}

async fn side(session: &mut Session, name: &str) -> Result<Value, Failure> {
    match name.parse() {
        Ok(version) => document_of(&read(session, PolicyVersion(version)).await?),
        Err(_) => select::parse(&from_file(&PathBuf::from(name))?.document()),
    }
}

/// The policy in a file.
///
/// # Errors
/// Every fault of it.
pub(super) fn from_file(path: &Path) -> Result<Policy, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(Exit::NoInput, format!("{}: {error}", path.display())))?;
    policy::parse(path, &text).map_err(|faults| Failure::new(Exit::BadData, format!("the policy is refused\n{faults}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(old: &Value, new: &Value) -> Vec<String> {
        let mut out = Vec::new();
        show(&differences(old, new), &mut out).unwrap();
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_that_is_put_before_others_is_the_only_difference() {
        let line =
            |status: u16, code: Option<&str>, means: &str| json!({"status": status, "code": code, "means": means});
        let old = json!({"codes": [line(409, Some("DUP"), "interim"), line(409, None, "unknown")]});
        let new = json!({"codes": [line(404, None, "refused"), line(409, Some("DUP"), "interim"), line(409, None, "interim")]});
        assert_eq!(
            lines(&old, &new),
            [
                "codes[404].means: - -> \"refused\"",
                "codes[404].status: - -> 404",
                "codes[409].means: \"unknown\" -> \"interim\""
            ]
        );
        assert_eq!(lines(&new, &new), Vec::<String>::new());
    }

    #[test]
    fn what_there_was_not_differs_in_every_value() {
        let new = json!({"a": {"b": 1}, "endpoints": [{"origin": "https://x", "san": null}]});
        assert_eq!(lines(&Value::Null, &new), ["a.b: - -> 1", "endpoints[https://x].origin: - -> \"https://x\""]);
        assert_eq!(lines(&new, &json!({"a": {}}))[0], "a.b: 1 -> -");
    }
}
