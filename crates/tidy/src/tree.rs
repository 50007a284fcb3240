//! The files that the rules look at, by their path from the root, and what a rule reports. Build output
//! and version control are left out; everything else that is there is looked at, tracked or not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

/// Directories that `.gitignore` names, and git's own.
const LEFT_OUT: [&str; 3] = [".git", "target", ".demo"];

/// One breach of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Path from the root.
    pub path: String,
    /// Line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl Finding {
    /// A finding at one line.
    pub fn at(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }

    /// A finding about a file as a whole.
    pub fn whole(path: &str, what: impl Into<String>) -> Self {
        Self::at(path, 0, what)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.what),
            line => write!(f, "{}:{line}: {}", self.path, self.what),
        }
    }
}

/// Every file with its text; a file that is not text has an empty one.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    files: BTreeMap<String, String>,
    links: BTreeSet<String>,
}

impl Tree {
    /// Reads the tree below `root`.
    ///
    /// # Errors
    /// When a directory or a file cannot be read.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        tree.read_directory(root, "")?;
        Ok(tree)
    }

    /// A tree of the given paths and texts, for the rules' own tests.
    #[must_use]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        Self { files, links: BTreeSet::new() }
    }

    /// The same tree with one of its files being a symbolic link, for the rules' own tests.
    #[must_use]
    pub fn with_link(mut self, path: &str) -> Self {
        self.links.insert(path.to_owned());
        self
    }

    /// Whether a path is a symbolic link.
    #[must_use]
    pub fn is_link(&self, path: &str) -> bool {
        self.links.contains(path)
    }

    fn read_directory(&mut self, directory: &Path, prefix: &str) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            if LEFT_OUT.contains(&path.as_str()) {
                continue;
            }
            let kind = entry.file_type()?;
            if kind.is_symlink() {
                // Not followed: what it leads to may lie anywhere, or nowhere.
                self.links.insert(path.clone());
                self.files.insert(path, String::new());
            } else if kind.is_dir() {
                self.read_directory(&entry.path(), &format!("{path}/"))?;
            } else {
                let bytes = fs::read(entry.path())?;
                self.files.insert(path, String::from_utf8(bytes).unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Paths and texts in order of path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The files whose path ends with `suffix`.
    pub fn ending(&self, suffix: &str) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter(move |(path, _)| path.ends_with(suffix))
    }

    /// The text of one file.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Whether a file or a directory of that path is there.
    #[must_use]
    pub fn exists(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let directory = format!("{path}/");
        path.is_empty() || self.files.contains_key(path) || self.files.keys().any(|file| file.starts_with(&directory))
    }

    /// The names directly in a directory (`""` is the root), files and directories alike, each once.
    #[must_use]
    pub fn names_in(&self, directory: &str) -> Vec<&str> {
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let below = self.files.keys().filter_map(|path| path.strip_prefix(&prefix));
        let mut names: Vec<&str> = below.map(|rest| rest.split('/').next().unwrap_or(rest)).collect();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_exist_through_their_files() {
        let tree = Tree::of(&[("a/b/c.md", ""), ("a/d", ""), ("e", "")]);
        for path in ["a", "a/", "a/b", "a/b/c.md", "e", ""] {
            assert!(tree.exists(path), "{path}");
        }
        assert!(!tree.exists("a/b/c") && !tree.exists("a/x"));
        assert_eq!(tree.names_in(""), ["a", "e"]);
        assert_eq!(tree.names_in("a"), ["b", "d"]);
    }
}
