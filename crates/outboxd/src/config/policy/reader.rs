//! A strict reading of one table of a policy: each key is taken once, by its type; what is left over is a fault. Null is as
//! good as absent, so that a document with every default written out is read like a file without them.

use serde_json::{Map, Value};

use super::super::check::Findings;
use super::super::fault::KeyPath;
use super::super::raw::{RawCode, RawInquiry, RawPossibleDuplicate};

/// A table that is being read.
pub(in crate::config) struct Reader<'a, 'f> {
    pub(in crate::config) path: KeyPath,
    pub(in crate::config) findings: &'a mut Findings<'f>,
    left: Map<String, Value>,
}

impl<'a, 'f> Reader<'a, 'f> {
    /// Begins to read `value`, which must be a table.
    pub(in crate::config) fn new(path: KeyPath, value: &Value, findings: &'a mut Findings<'f>) -> Self {
        let left = value.as_object().cloned();
        if left.is_none() {
            findings.add(&path, "must be a table");
        }
        Self { path, findings, left: left.unwrap_or_default() }
    }

    /// What is at `key`, if anything.
    pub(in crate::config) fn value(&mut self, key: &str) -> Option<Value> {
        self.left.remove(key).filter(|value| !value.is_null())
    }

    fn typed<T>(&mut self, key: &str, expected: &str, read: impl Fn(&Value) -> Option<T>) -> Option<T> {
        let value = self.value(key)?;
        let read = read(&value);
        if read.is_none() {
            self.findings.add(&self.path.join(key), format!("must be {expected}"));
        }
        read
    }

    /// A text.
    pub(in crate::config) fn text(&mut self, key: &str) -> Option<String> {
        self.typed(key, "a text", |value| value.as_str().map(str::to_owned))
    }

    /// Yes or no, with its default.
    pub(in crate::config) fn flag(&mut self, key: &str, default: bool) -> bool {
        self.typed(key, "true or false", Value::as_bool).unwrap_or(default)
    }

    /// A whole number within `bounds`.
    pub(in crate::config) fn number(&mut self, key: &str, (from, to): (u64, u64)) -> Option<u64> {
        let number = self.typed(key, "a whole number, and not below zero", Value::as_u64)?;
        if (from..=to).contains(&number) {
            return Some(number);
        }
        self.findings.add(&self.path.join(key), format!("is {number}, and must be from {from} to {to}"));
        None
    }

    /// The tables of a list, each with its path.
    pub(in crate::config) fn tables(&mut self, key: &str) -> Vec<(KeyPath, Value)> {
        let items = self.typed(key, "a list", |value| value.as_array().cloned()).unwrap_or_default();
        let path = self.path.join(key);
        items.into_iter().enumerate().map(|(place, item)| (path.join(&place.to_string()), item)).collect()
    }

    /// A table of codes.
    pub(in crate::config) fn codes(&mut self) -> Vec<RawCode> {
        let mut codes = Vec::new();
        for (path, item) in self.tables("codes") {
            let mut one = Reader::new(path, &item, self.findings);
            let status = one.number("status", (0, u64::from(u16::MAX))).and_then(|status| u16::try_from(status).ok());
            codes.push(RawCode { status, code: one.text("code"), means: one.text("means") });
            one.finish();
        }
        codes
    }

    /// The header of a possible duplicate.
    pub(in crate::config) fn possible_duplicate(&mut self) -> Option<RawPossibleDuplicate> {
        let value = self.value("possible_duplicate")?;
        let mut one = Reader::new(self.path.join("possible_duplicate"), &value, self.findings);
        let read = RawPossibleDuplicate { header: one.text("header"), value: one.text("value") };
        one.finish();
        Some(read)
    }

    /// How the rail is asked.
    pub(in crate::config) fn inquiry(&mut self) -> Option<RawInquiry> {
        let value = self.value("inquiry")?;
        let mut one = Reader::new(self.path.join("inquiry"), &value, self.findings);
        let read = RawInquiry {
            path: one.text("path"),
            reference_json_pointer: one.text("reference_json_pointer"),
            reference_header: one.text("reference_header"),
            code_json_pointer: one.text("code_json_pointer"),
            code_header: one.text("code_header"),
            codes: one.codes(),
        };
        one.finish();
        Some(read)
    }

    /// The tables of a table, each with its name and path.
    pub(in crate::config) fn named_tables(&mut self, key: &str) -> Vec<(String, KeyPath, Value)> {
        let items = self.typed(key, "a table", |value| value.as_object().cloned()).unwrap_or_default();
        let path = self.path.join(key);
        items.into_iter().map(|(name, item)| (name.clone(), path.join(&name), item)).collect()
    }

    /// Ends the reading: every key that nobody took is unknown.
    pub(in crate::config) fn finish(self) {
        self.finish_as("a policy");
    }

    /// The same, of another kind of file.
    pub(in crate::config) fn finish_as(self, what: &str) {
        for key in self.left.keys() {
            self.findings.add(&self.path.join(key), format!("is not a key of {what}"));
        }
    }
}
