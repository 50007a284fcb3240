//! The strict pass over one layer (the file, one environment variable, one flag): TOML of the types
//! of `RawConfig`, no unknown key, every fault of form with its line. `config` merges the layers
//! afterwards; it would coerce 5.9 to 6 and "yes" to 1, so nothing reaches it unchecked.

use std::ops::Range;
use std::path::Path;

use config::{Map, Source, Value, ValueKind};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, KeyPath, Origins, Place};
use super::raw::RawConfig;

/// What begins the name of every environment variable that is a layer; `__` stands between tables.
pub const ENVIRONMENT_PREFIX: &str = "OUTBOXD__";

/// More faults of form than anybody reads at once.
const FORM_FAULTS_MAX: usize = 100;

/// Keys that passed the strict pass, ready to be merged.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

/// Reads the file's `text`; keys with a fault are left out of the layer.
pub(super) fn from_text(path: &Path, text: &str, origins: &mut Origins, faults: &mut Vec<Fault>) -> Layer {
    let at = |span: &Range<usize>| Place::File { path: path.to_owned(), line: line_of(text, span.start) };
    let Some(mut tree) = parse(path, text, origins, faults) else { return Layer::default() };
    while let Err(error) = RawConfig::deserialize(toml::Deserializer::from(tree.clone())) {
        let span = error.span().unwrap_or(0..0);
        let removed = remove(tree.get_mut(), &span, &KeyPath::default());
        let is_unknown = matches!(removed, Some((_, Part::Key)));
        let key = removed.map(|(key, _)| key);
        let (message, show) = wording(error.message(), key.as_ref());
        let excerpt = Some(excerpt(text, &span, if is_unknown { Show::NoValue } else { show }));
        origins.note_refused(key.clone().unwrap_or_default());
        faults.push(Fault { place: at(&span), key: key.clone(), message, excerpt });
        // Each costs a reading of the whole, and another file than ours has as many as lines.
        if key.is_none() || faults.len() >= FORM_FAULTS_MAX {
            origins.note_refused(KeyPath::default());
            return Layer::default();
        }
    }
    Layer(values(tree.get_ref(), &KeyPath::default(), &mut |key, span| origins.note(key, at(span))))
}

/// Notes the places of all keys in a file's `text`, for whoever checks them by other means.
pub(super) fn note_places(path: &Path, text: &str, origins: &mut Origins, faults: &mut Vec<Fault>) {
    let at = |span: &Range<usize>| Place::File { path: path.to_owned(), line: line_of(text, span.start) };
    if let Some(tree) = parse(path, text, origins, faults) {
        values(tree.get_ref(), &KeyPath::default(), &mut |key, span| origins.note(key, at(span)));
    }
}

/// What is wrong with a table that is no JSON.
pub(super) const NO_JSON: &str = "holds nan or inf, which no key takes";

/// `table` as JSON, if nothing of it becomes null there, as good as no value. A date becomes a table, which no key takes.
pub(super) fn as_json(table: toml::Table) -> Option<serde_json::Value> {
    fn is_kept(value: &toml::Value) -> bool {
        match value {
            toml::Value::Float(number) => number.is_finite(),
            toml::Value::Array(items) => items.iter().all(is_kept),
            toml::Value::Table(table) => table.values().all(is_kept),
            toml::Value::String(_) | toml::Value::Integer(_) | toml::Value::Boolean(_) | toml::Value::Datetime(_) => {
                true
            }
        }
    }
    table.values().all(is_kept).then(|| serde_json::to_value(table).ok()).flatten()
}

/// The tree of a file's `text`, if it has the form of TOML.
fn parse<'a>(
    path: &Path,
    text: &'a str,
    origins: &mut Origins,
    faults: &mut Vec<Fault>,
) -> Option<Spanned<DeTable<'a>>> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        let place = Place::File { path: path.to_owned(), line: line_of(text, span.start) };
        let excerpt = Some(excerpt(text, &span, Show::NoValue));
        faults.push(Fault { place, key: None, message: error.message().to_owned(), excerpt });
    }
    if errors.is_empty() {
        return Some(tree);
    }
    // What the parser made of the rest is a guess; keys it lost are not to be called missing.
    origins.note_refused(KeyPath::default());
    None
}

/// Reads one `value` for `key`, given as a string outside a file: as that string where the key takes
/// one, otherwise as a TOML value.
pub(super) fn from_assignment(
    key: &KeyPath,
    value: &str,
    place: &Place,
    origins: &mut Origins,
) -> Result<Layer, Fault> {
    let quoted = serde_json::Value::from(value).to_string();
    let as_string = single(key, &quoted);
    let is_literal = DeValue::parse(value).is_ok_and(|value| !value.get_ref().is_str());
    let document = match (as_string, is_literal) {
        (Ok(document), _) => document,
        (Err(_), true) => single(key, value).map_err(|message| fault(key, place, message))?,
        (Err(message), false) => return Err(fault(key, place, message)),
    };
    let tree = DeTable::parse(&document).map_err(|error| fault(key, place, error.message().to_owned()))?;
    let mut note = |key, _: &Range<usize>| origins.note(key, place.clone());
    // Only the key itself was given here, not the tables around it.
    let mut note_leaf = |given: KeyPath, span: &Range<usize>| {
        if given.0.len() >= key.0.len() {
            note(given, span);
        }
    };
    Ok(Layer(values(tree.get_ref(), &KeyPath::default(), &mut note_leaf)))
}

/// The key that the environment variable `name` sets, if it is one of ours.
pub(super) fn key_of_variable(name: &str) -> Option<Result<KeyPath, String>> {
    let rest = name.strip_prefix(ENVIRONMENT_PREFIX)?;
    let segments: Vec<String> = rest.split("__").map(str::to_ascii_lowercase).collect();
    let upper = rest.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    let valid = upper && segments.iter().all(|s| !s.is_empty());
    Some(if valid {
        Ok(KeyPath(segments))
    } else {
        Err("the name must be upper case, with `__` between tables and key, \
             such as OUTBOXD__DISPATCHER__POLL_MAX"
            .to_owned())
    })
}

fn fault(key: &KeyPath, place: &Place, message: String) -> Fault {
    let (message, _) = wording(&message, Some(key));
    Fault { place: place.clone(), key: Some(key.clone()), message, excerpt: None }
}

/// What of an error of form is said, and whether its line may be shown. A text, or any value, where
/// something else belongs may be a secret put in the wrong place, so only what is expected is said.
fn wording(message: &str, key: Option<&KeyPath>) -> (String, Show) {
    let Some((given, expected)) = message.rsplit_once(", expected ").filter(|_| message.starts_with("invalid ")) else {
        return (message.to_owned(), Show::Line);
    };
    let (expected, is_table) = match expected {
        "a map" => ("a table", true),
        name if name.starts_with("struct ") => ("a table", true),
        "a sequence" => ("an array", true),
        name => (name, false),
    };
    let in_headers = key.is_some_and(|key| key.0.iter().any(|part| part == "headers" || part == "secret_headers"));
    let misplaced_text = given.contains(": string") && expected != "a duration";
    if is_table || in_headers || misplaced_text {
        return (format!("invalid type: expected {expected}"), Show::NoValue);
    }
    (message.to_owned(), Show::Line)
}

/// The document that sets only `key`, if it passes the strict pass.
fn single(key: &KeyPath, literal: &str) -> Result<String, String> {
    let path: Vec<String> = key.0.iter().map(|segment| serde_json::Value::from(segment.as_str()).to_string()).collect();
    let document = format!("{} = {literal}", path.join("."));
    match toml::from_str::<RawConfig>(&document) {
        Ok(_) => Ok(document),
        Err(error) => Err(error.message().to_owned()),
    }
}

/// Which part of an entry an error is about.
#[derive(Clone, Copy)]
enum Part {
    Key,
    Value,
}

/// Takes the entry that `span` is about out of `table`, innermost first.
fn remove(table: &mut DeTable<'_>, span: &Range<usize>, path: &KeyPath) -> Option<(KeyPath, Part)> {
    for (key, value) in table.iter_mut() {
        let inner = path.join(key.get_ref());
        let removed = match value.get_mut() {
            DeValue::Table(table) => remove(table, span, &inner),
            DeValue::Array(items) => items.iter_mut().enumerate().find_map(|(position, item)| {
                let inner = inner.join(&position.to_string());
                if let DeValue::Table(table) = item.get_mut() { remove(table, span, &inner) } else { None }
            }),
            _ => None,
        };
        if removed.is_some() {
            return removed;
        }
    }
    let hit = |(key, value): (&Spanned<_>, &Spanned<_>)| {
        if key.span() == *span {
            Some(Part::Key)
        } else if value.span() == *span {
            Some(Part::Value)
        } else {
            None
        }
    };
    let (key, part) = table.iter().find_map(|(k, v)| hit((&k.clone(), &v.clone())).map(|part| (k.clone(), part)))?;
    table.remove(&key);
    Some((path.join(key.get_ref()), part))
}

/// The values of `table` for `config`, each key told to `note` with its place.
fn values(table: &DeTable<'_>, path: &KeyPath, note: &mut dyn FnMut(KeyPath, &Range<usize>)) -> Map<String, Value> {
    let mut map = Map::new();
    for (key, value) in table {
        let inner = path.join(key.get_ref());
        note(inner.clone(), &key.span());
        map.insert(key.get_ref().to_string(), value_of(value, &inner, note));
    }
    map
}

fn value_of(value: &Spanned<DeValue<'_>>, path: &KeyPath, note: &mut dyn FnMut(KeyPath, &Range<usize>)) -> Value {
    let kind = match value.get_ref() {
        DeValue::String(text) => ValueKind::String(text.to_string()),
        DeValue::Boolean(flag) => ValueKind::Boolean(*flag),
        // The strict pass has read it as an integer of at most 32 bits.
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or(ValueKind::Nil, ValueKind::I64)
        }
        DeValue::Array(items) => ValueKind::Array(
            items
                .iter()
                .enumerate()
                .map(|(position, item)| {
                    let inner = path.join(&position.to_string());
                    note(inner.clone(), &item.span());
                    value_of(item, &inner, note)
                })
                .collect(),
        ),
        DeValue::Table(table) => ValueKind::Table(values(table, path, note)),
        // No key takes either, so the strict pass has refused it.
        DeValue::Float(_) | DeValue::Datetime(_) => ValueKind::Nil,
    };
    Value::new(None, kind)
}

/// What of a line is shown.
#[derive(Clone, Copy)]
enum Show {
    /// All of it.
    Line,
    /// Nothing that may be a value: letters and digits behind the first `=` are starred.
    NoValue,
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count() + 1
}

/// The line at `span` with carets under it.
fn excerpt(text: &str, span: &Range<usize>, show: Show) -> String {
    let start = span.start.min(text.len());
    let begin = text.as_bytes()[..start].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let line = text[begin..].lines().next().unwrap_or_default();
    let shown: String = match show {
        Show::Line => line.to_owned(),
        Show::NoValue => {
            let mut behind = false;
            line.chars()
                .map(|c| {
                    let starred = behind && c.is_alphanumeric();
                    behind |= c == '=';
                    if starred { '*' } else { c }
                })
                .collect()
        }
    };
    let number = line_of(text, start).to_string();
    let column = text.get(begin..start).map_or(0, |before| before.chars().count());
    let width = text.get(span.clone()).and_then(|hit| hit.lines().next()).map_or(1, |hit| hit.chars().count().max(1));
    let margin = " ".repeat(number.len());
    format!("  {number} | {shown}\n  {margin} | {}{}", " ".repeat(column), "^".repeat(width))
}
