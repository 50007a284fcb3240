//! The documents that must be there, and the crate list of `docs/ARCHITECTURE.md` against the tree.

use std::collections::BTreeSet;

use crate::tree::{Finding, Tree};

/// What a reader is promised.
const REQUIRED: [&str; 7] = [
    "docs/ARCHITECTURE.md",
    "docs/GLOSSARY.md",
    "docs/INVARIANTS.md",
    "docs/OPERATIONS.md",
    "docs/PROTOCOL.md",
    "docs/STYLE.md",
    "README.md",
];
const ARCHITECTURE: &str = "docs/ARCHITECTURE.md";
/// A longer page is not read before the code.
const ARCHITECTURE_LINES_MAX: usize = 250;

/// Every promised document is there.
#[must_use]
pub fn documents_are_there(tree: &Tree) -> Vec<Finding> {
    let missing = REQUIRED.iter().filter(|path| tree.text(path).is_none_or(|text| text.trim().is_empty()));
    missing.map(|path| Finding::whole(path, "is missing")).collect()
}

/// The architecture page names exactly the crates that exist, and is short.
#[must_use]
pub fn architecture_lists_the_crates(tree: &Tree) -> Vec<Finding> {
    let Some(text) = tree.text(ARCHITECTURE) else { return vec![Finding::whole(ARCHITECTURE, "is missing")] };
    let mut findings = Vec::new();
    if text.lines().count() > ARCHITECTURE_LINES_MAX {
        findings.push(Finding::whole(ARCHITECTURE, format!("has more than {ARCHITECTURE_LINES_MAX} lines")));
    }
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let mentions = text.match_indices("crates/").map(|(at, found)| &text[at + found.len()..]);
    let named: BTreeSet<&str> = mentions
        .map(|rest| &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())])
        .filter(|name| !name.is_empty())
        .collect();
    let there: BTreeSet<&str> = tree.names_in("crates").into_iter().collect();
    findings.extend(
        there.difference(&named).map(|name| Finding::whole(ARCHITECTURE, format!("does not name crates/{name}"))),
    );
    findings.extend(
        named
            .difference(&there)
            .map(|name| Finding::whole(ARCHITECTURE, format!("names crates/{name}, which is not there"))),
    );
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_and_invented_crates_are_found() {
        let tree = Tree::of(&[
            (ARCHITECTURE, "crates/a decides; `crates/b/src` is gone; see crates/*"),
            ("crates/a/Cargo.toml", ""),
            ("crates/c/Cargo.toml", ""),
        ]);
        assert_eq!(architecture_lists_the_crates(&tree).len(), 2);
        assert_eq!(documents_are_there(&tree).len(), REQUIRED.len() - 1);
    }
}
