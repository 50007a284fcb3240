//! The words that `docs/GLOSSARY.md` rules out, in names and in prose alike. Only what cannot be meant
//! otherwise is refused: a task of the runtime is a task.

use crate::tree::{Finding, Tree};

/// Sequences of words, in names or prose, and what to say instead.
const REFUSED: [(&[&str], &str); 8] = [
    (&["job"], "payment"),
    (&["jobs"], "payments"),
    (&["lock", "token"], "lease token"),
    (&["payment", "task"], "payment"),
    (&["payment", "tasks"], "payments"),
    (&["task", "for", "a", "payment"], "attempt"),
    (&["queue", "item"], "payment"),
    (&["queue", "items"], "payments"),
];

/// Where the words may stand, because the place is about them.
const ALLOWED: [&str; 3] = ["docs/GLOSSARY.md", "docs/STYLE.md", "crates/tidy/"];

/// Names, comments and documents use the words of the glossary.
#[must_use]
pub fn words_are_the_glossarys(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let looked_at = tree.files().filter(|(path, _)| {
        [".rs", ".sql", ".md", ".toml"].iter().any(|suffix| path.ends_with(suffix))
            && !ALLOWED.iter().any(|allowed| path.starts_with(allowed))
    });
    for (path, text) in looked_at {
        for (index, line) in text.lines().enumerate() {
            let words = words_of(line);
            for (refused, instead) in REFUSED {
                if words.windows(refused.len()).any(|window| window == refused) {
                    findings.push(Finding::at(path, index + 1, format!("{:?}: say {instead}", refused.join(" "))));
                }
            }
        }
    }
    findings
}

/// The words of a line in lower case; names fall apart at underscores and at capitals.
fn words_of(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for character in line.chars() {
        if !character.is_alphanumeric() || (character.is_uppercase() && after_lower) {
            words.push(String::new());
        }
        if character.is_alphanumeric() {
            words.last_mut().expect("there is always a last word").extend(character.to_lowercase());
        }
        after_lower = character.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_words_are_found_in_every_spelling() {
        let text = "let job_id = 1;\nstruct LockToken;\n// the lock token\nfn payment_tasks() {}\nJobs wait.\n";
        let lines: Vec<_> = words_are_the_glossarys(&Tree::of(&[("a.rs", text)])).iter().map(|f| f.line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn other_words_and_the_glossary_pass() {
        let text = "tokio::task::spawn(x); // lock, then token\nlet jobber = lease_token;\n";
        assert!(words_are_the_glossarys(&Tree::of(&[("a.rs", text), ("docs/GLOSSARY.md", "not job")])).is_empty());
    }
}
