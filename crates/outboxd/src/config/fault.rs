//! What is wrong with a configuration: each fault with its place and what to do about it. No value
//! of an unknown key is ever shown, since it may be a secret put in the wrong place.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// A key by its path of tables, `["rails", "sepa", "timeout"]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPath(pub Vec<String>);

impl KeyPath {
    /// The path of these segments.
    #[must_use]
    pub fn of(segments: &[&str]) -> Self {
        Self(segments.iter().map(|s| (*s).to_owned()).collect())
    }

    /// The path of `key` inside the table at `self`.
    #[must_use]
    pub fn join(&self, key: &str) -> Self {
        let mut segments = self.0.clone();
        segments.push(key.to_owned());
        Self(segments)
    }

    fn starts_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(".")?;
            }
            let bare = !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
            if bare { f.write_str(segment)? } else { write!(f, "\"{}\"", segment.escape_debug())? }
        }
        Ok(())
    }
}

/// Where a value was given. The order is the order in which faults are listed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the file, at a line; 0 where no line is to blame.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// In an environment variable.
    Environment {
        /// The variable's name.
        variable: String,
    },
    /// In a flag of the command line.
    Flag {
        /// The flag and the key it sets.
        flag: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: 0 } => write!(f, "{}", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment { variable } => f.write_str(variable),
            Self::Flag { flag } => f.write_str(flag),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// The key, where the fault is about one.
    pub key: Option<KeyPath>,
    /// What, and what to do.
    pub message: String,
    /// The line with a caret under the spot, for faults of form.
    pub excerpt: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&shown(&self.message))?;
        if let Some(excerpt) = &self.excerpt {
            write!(f, "\n{}", shown(excerpt))?;
        }
        Ok(())
    }
}

/// `text` of a file as a terminal may be given it, each character as wide as before.
fn shown(text: &str) -> String {
    let shown = |c: char| match c {
        '\t' => ' ',
        // Messages of the reader of TOML have several lines.
        '\n' => c,
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(shown).collect()
}

/// Everything that is wrong, in the order of the file, then the environment, then the flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// `faults` in order, none twice.
    #[must_use]
    pub fn new(mut faults: Vec<Fault>) -> Self {
        faults.sort();
        faults.dedup();
        Self(faults)
    }

    /// Each fault.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.0 {
            writeln!(f, "{fault}")?;
        }
        match self.0.len() {
            1 => f.write_str("1 fault in the configuration"),
            count => write!(f, "{count} faults in the configuration"),
        }
    }
}

impl std::error::Error for Faults {}

/// Where each key was given last, and which keys were refused for their form.
#[derive(Clone, Debug)]
pub(super) struct Origins {
    file: PathBuf,
    places: BTreeMap<KeyPath, Place>,
    refused: Vec<KeyPath>,
}

impl Origins {
    /// No key yet; keys given nowhere are asked of `file`.
    #[must_use]
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file, places: BTreeMap::new(), refused: Vec::new() }
    }

    /// The file.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Notes that `key` was given at `place`, over any place before.
    pub(super) fn note(&mut self, key: KeyPath, place: Place) {
        self.places.insert(key, place);
    }

    /// Notes that `key` was refused for its form, so that it is not called missing as well.
    pub(super) fn note_refused(&mut self, key: KeyPath) {
        self.refused.push(key);
    }

    /// Whether `key`, or a table around it, was refused for its form.
    #[must_use]
    pub(super) fn was_refused(&self, key: &KeyPath) -> bool {
        self.refused.iter().any(|refused| key.starts_with(refused))
    }

    /// The place of `key`, or of the nearest table around it, or of the file as a whole.
    #[must_use]
    pub(super) fn place(&self, key: &KeyPath) -> Place {
        let around = (1..=key.0.len()).rev().map(|length| KeyPath(key.0[..length].to_vec()));
        let known = around.into_iter().find_map(|path| self.places.get(&path));
        known.cloned().unwrap_or_else(|| Place::File { path: self.file.clone(), line: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_gives_a_terminal_no_control_character_of_the_file() {
        let fault = Fault {
            place: Place::File { path: PathBuf::from("f"), line: 3 },
            key: Some(KeyPath::of(&["a\u{1b}"])),
            message: "unknown field `\u{1b}[2J`".to_owned(),
            excerpt: Some("  3 | a\u{1b}[2J\t= 1\n    | ^".to_owned()),
        };
        let shown = "f:3: \"a\\u{1b}\": unknown field `\u{fffd}[2J`\n  3 | a\u{fffd}[2J = 1\n    | ^";
        assert_eq!(fault.to_string(), shown);
    }
}
