//! Where the checks write what they found, and the checks of single values. Relations between
//! values are the business of the section they belong to.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderName;
use outbox_core::Millis;

use super::super::fault::{Fault, KeyPath, Origins};
use super::{Holds, Host, NamedFile};

/// The longest time any setting takes: one day, beyond which a typing error is likelier than a wish.
pub(super) const DAY: Millis = Millis(86_400_000);

/// What was found so far.
pub(in crate::config) struct Findings<'a> {
    origins: &'a Origins,
    pub(super) host: &'a Host,
    faults: Vec<Fault>,
    faulty: Vec<KeyPath>,
    files: Vec<NamedFile>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(origins: &'a Origins, host: &'a Host) -> Self {
        Self { origins, host, faults: Vec::new(), faulty: Vec::new(), files: Vec::new() }
    }

    pub(super) fn into_parts(self) -> (Vec<Fault>, Vec<NamedFile>) {
        (self.faults, self.files)
    }

    /// Notes a fault of `key`, unless its form was refused already.
    pub(in crate::config) fn add(&mut self, key: &KeyPath, message: impl Into<String>) {
        self.faulty.push(key.clone());
        if !self.origins.was_refused(key) {
            let place = self.origins.place(key);
            self.faults.push(Fault { place, key: Some(key.clone()), message: message.into(), excerpt: None });
        }
    }

    /// Notes that the relation between `key` and `other` does not hold, unless one of the two has a
    /// fault of its own, which may be the cause.
    pub(super) fn relation(&mut self, key: &KeyPath, other: &KeyPath, message: impl Into<String>) {
        let settled = |path| !self.faulty.contains(path) && !self.origins.was_refused(path);
        if settled(key) && settled(other) {
            self.add(key, message);
        }
    }

    /// A length of time within `bounds`.
    pub(super) fn time(
        &mut self,
        key: &KeyPath,
        given: Option<Duration>,
        default: Millis,
        bounds: RangeInclusive<Millis>,
    ) -> Millis {
        let Some(given) = given else { return default };
        let millis = Millis::from(given);
        if Duration::from(millis) != given {
            self.add(key, "must be a whole number of milliseconds");
        } else if !bounds.contains(&millis) {
            let (from, to) = (human(*bounds.start()), human(*bounds.end()));
            self.add(key, format!("is {}, and must be from {from} to {to}", human(millis)));
        } else {
            return millis;
        }
        default
    }

    /// A number within `bounds`.
    pub(super) fn number(
        &mut self,
        key: &KeyPath,
        given: Option<u32>,
        default: u32,
        bounds: RangeInclusive<u32>,
    ) -> u32 {
        match given {
            Some(number) if !bounds.contains(&number) => {
                self.add(key, format!("is {number}, and must be from {} to {}", bounds.start(), bounds.end()));
                default
            }
            Some(number) => number,
            None => default,
        }
    }

    /// A text that must be given and not be empty.
    pub(super) fn required(&mut self, key: &KeyPath, given: Option<&String>, what: &str) -> String {
        match given.map(String::as_str) {
            None => self.add(key, format!("is missing: {what}")),
            Some("") => self.add(key, format!("is empty: {what}")),
            Some(text) if text.chars().any(char::is_control) => self.add(key, "must not have control characters"),
            Some(text) => return text.to_owned(),
        }
        String::new()
    }

    /// The absolute path of a file.
    pub(super) fn file(&mut self, key: &KeyPath, path: &Path, holds: Holds) -> Option<PathBuf> {
        if !path.is_absolute() {
            self.add(key, "must be an absolute path");
            return None;
        }
        self.files.push(NamedFile { key: key.clone(), path: path.to_owned(), holds });
        Some(path.to_owned())
    }

    /// The path of a systemd credential.
    pub(super) fn credential(&mut self, key: &KeyPath, name: &str, holds: Holds) -> Option<PathBuf> {
        let valid = (1..=255).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            && !name.starts_with('.');
        if !valid {
            self.add(key, "must be the name of a credential: 1 to 255 of A-Z, a-z, 0-9, '.', '_' and '-'");
            return None;
        }
        let Some(directory) = &self.host.credentials_directory else {
            let message = "CREDENTIALS_DIRECTORY is not set: add LoadCredential= to the unit, or name a file instead";
            self.add(key, message);
            return None;
        };
        let path = directory.join(name);
        self.files.push(NamedFile { key: key.clone(), path: path.clone(), holds });
        Some(path)
    }

    /// A header's name.
    pub(super) fn header_name(&mut self, key: &KeyPath, name: &str) -> Option<HeaderName> {
        let parsed = HeaderName::from_bytes(name.as_bytes()).ok();
        if parsed.is_none() {
            self.add(key, "is no header name (RFC 9110: letters, digits and !#$%&'*+-.^_`|~)");
        }
        parsed
    }
}

/// `millis` the way it is typed in the configuration.
pub(crate) fn human(millis: Millis) -> String {
    match millis.0 {
        ms if ms > 0 && ms % 86_400_000 == 0 => format!("{}d", ms / 86_400_000),
        ms if ms > 0 && ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms > 0 && ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms > 0 && ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}
