//! Nothing is named that is not there, and no script is there that nobody names. Paths in documents are in `mentions`, the
//! tests of the architecture's invariants in `invariants`; here is the rest: paths in scripts and CI, tests that a decision
//! gives as its evidence, ids of invariants, and the scripts themselves.

use std::collections::BTreeSet;

use crate::invariants::test_places;
use crate::markdown;
use crate::mentions::missing_paths;
use crate::register::{ids, is_id};
use crate::tree::{Finding, Tree};

/// Files that a lint refuses: what they name need not be there, and they are run as a folder.
const FIXTURES: &str = "scripts/security/fixtures/";
/// Where what is run by people and machines is written, beside the documents.
const RUN_FROM: [&str; 4] = [".github/", ".ci/", ".config/", "scripts/"];

/// Paths that CI and scripts name lead somewhere.
#[must_use]
pub fn paths_in_scripts_and_ci_exist(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| is_run(path)) {
        for (index, line) in text.lines().enumerate() {
            let line = line.replace("$ROOT/", "").replace(['=', '<', '>', ':'], " ");
            for missing in missing_paths(tree, &line) {
                findings.push(Finding::at(path, index + 1, format!("{missing} does not exist")));
            }
        }
    }
    findings
}

fn is_run(path: &str) -> bool {
    RUN_FROM.iter().any(|folder| path.starts_with(folder)) && !path.starts_with(FIXTURES)
}

/// Every script is named in a document, in CI, in another script or in a test: one that nobody names, nobody runs.
#[must_use]
pub fn every_script_is_named(tree: &Tree) -> Vec<Finding> {
    let scripts = tree.files().filter(|(path, _)| path.starts_with("scripts/") && !path.starts_with(FIXTURES));
    let unnamed =
        scripts.filter(|(script, _)| !tree.files().any(|(path, text)| path != *script && names(path, text, script)));
    unnamed.map(|(script, _)| Finding::whole(script, "nothing names it")).collect()
}

/// Whether a file names a script: by its path, as a module of Python, or by a pattern of its folder.
fn names(path: &str, text: &str, script: &str) -> bool {
    let (folder, name) = script.rsplit_once('/').unwrap_or(("", script));
    let module = name.strip_suffix(".py").filter(|_| path.starts_with(folder) && path.ends_with(".py"));
    let is_imported = module.is_some_and(|module| text.lines().any(|line| line == format!("import {module}")));
    let is_in_pattern = text.match_indices(&format!("{folder}/")).any(|(at, found)| {
        let word = text[at + found.len()..]
            .split(|c: char| c.is_whitespace() || "\"'`);".contains(c))
            .next()
            .unwrap_or_default();
        let (start, end) = match word.split_once('$') {
            Some((start, rest)) => (start, rest.rsplit_once('.').map_or("", |(_, end)| end)),
            None => return false,
        };
        !start.is_empty() && name.starts_with(start) && name.ends_with(end)
    });
    // A neighbour may be named by its name alone, as psql's \ir does.
    let is_neighbour =
        path.rsplit_once('/').is_some_and(|(place, _)| place == folder) && text.contains(&format!("\\ir {name}"));
    text.contains(script) || is_imported || is_in_pattern || is_neighbour
}

/// The tests that a decision record gives as its evidence exist, in the file that it says: `file::name`, or `file::tests` for all.
#[must_use]
pub fn evidence_names_tests_that_exist(tree: &Tree) -> Vec<Finding> {
    let places = test_places(tree);
    let names: BTreeSet<&str> = places.iter().filter_map(|place| Some(place.split_once("::")?.1)).collect();
    let mut findings = Vec::new();
    for (path, text) in tree.ending(".md").filter(|(path, _)| path.starts_with("docs/decisions/")) {
        let lines = markdown::section(text, "Evidence");
        if lines.is_empty() {
            findings.push(Finding::whole(path, "has no evidence"));
        }
        for (line, text) in lines {
            for span in text.split('`').skip(1).step_by(2).filter(|span| is_test_like(span)) {
                let is_there = match span.rsplit_once("::") {
                    Some((file, "tests")) => places.iter().any(|place| place.starts_with(&format!("{file}::"))),
                    Some(_) => places.contains(span),
                    None => names.contains(span),
                };
                if !is_there {
                    findings.push(Finding::at(path, line, format!("there is no test {span}")));
                }
            }
        }
    }
    findings
}

/// `module::name`, or a name that is a sentence.
fn is_test_like(span: &str) -> bool {
    let is_word =
        !span.is_empty() && span.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:".contains(c));
    is_word && (span.contains("::") || span.matches('_').count() >= 4)
}

/// Every id of an invariant that is written anywhere is in the register.
#[must_use]
pub fn invariant_ids_exist(tree: &Tree) -> Vec<Finding> {
    let known = ids(tree);
    let mut findings = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| !path.starts_with("crates/tidy/src/")) {
        for (index, line) in text.lines().enumerate() {
            for word in line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').filter(|word| is_id(word)) {
                if !known.contains(word) {
                    findings.push(Finding::at(path, index + 1, format!("there is no invariant {word}")));
                }
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(findings: Vec<Finding>) -> Vec<String> {
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_path_that_is_not_there_is_found_in_scripts_and_ci() {
        let script =
            "exec \"$ROOT/scripts/gone.sh\" --out=evidence/none.txt\n. scripts/lib/a.sh\ncat scripts/db/$name.sql\n";
        let workflow = "      - run: scripts/nowhere.sh\n      - run: scripts/a.sh\n";
        let tree = Tree::of(&[
            ("scripts/a.sh", script),
            ("scripts/lib/a.sh", ""),
            ("scripts/db/b.sql", ""),
            (".github/workflows/ci.yml", workflow),
            ("scripts/security/fixtures/x.sql", "-- docs/decisions/none.md"),
        ]);
        let found = said(paths_in_scripts_and_ci_exist(&tree));
        assert_eq!(
            found,
            [
                ".github/workflows/ci.yml:1: scripts/nowhere.sh does not exist",
                "scripts/a.sh:1: scripts/gone.sh does not exist",
                "scripts/a.sh:1: evidence/none.txt does not exist"
            ]
        );
    }

    #[test]
    fn a_script_that_nothing_names_is_found() {
        let tree = Tree::of(&[
            ("README.md", "run scripts/a.sh"),
            ("scripts/a.sh", "psql -f scripts/db/mutant_$name.sql; python scripts/one.py # scripts/a.sh"),
            ("scripts/db/mutant_x.sql", "\\ir part.sql\n"),
            ("scripts/db/part.sql", ""),
            ("scripts/db/other.sql", ""),
            ("scripts/one.py", "import two\n"),
            ("scripts/two.py", ""),
            ("scripts/three.py", "import three\n"),
            ("scripts/alone.sh", "# scripts/alone.sh"),
        ]);
        let found: Vec<String> = every_script_is_named(&tree).into_iter().map(|finding| finding.path).collect();
        assert_eq!(found, ["scripts/alone.sh", "scripts/db/other.sql", "scripts/three.py"]);
    }

    #[test]
    fn evidence_that_is_no_test_is_found() {
        let page = "# A\n## Evidence\n`claim::it_holds`, `other::it_holds`, `claim`, `claim::tests`, `gone::tests`,\n`one_that_is_not_there`, `cargo test`, `a_b`.\n";
        let tree = Tree::of(&[
            ("docs/decisions/2026-01-01-a.md", page),
            ("docs/decisions/2026-01-02-b.md", "# B\n"),
            ("crates/x/tests/it/claim.rs", "#[test] fn it_holds() { x() }"),
        ]);
        let found: Vec<String> =
            evidence_names_tests_that_exist(&tree).into_iter().map(|finding| finding.what).collect();
        let gone =
            ["other::it_holds", "gone::tests", "one_that_is_not_there"].map(|name| format!("there is no test {name}"));
        assert_eq!(found, [gone.as_slice(), &["has no evidence".to_owned()]].concat());
    }

    #[test]
    fn an_id_that_is_not_in_the_register_is_found() {
        let register = "[[invariant]]\nid = \"INV-001\"\n";
        let tree =
            Tree::of(&[("docs/invariants.toml", register), ("README.md", "(INV-001, INV-002), INV-X, INVALID-001")]);
        assert_eq!(said(invariant_ids_exist(&tree)), ["README.md:1: there is no invariant INV-002"]);
    }
}
