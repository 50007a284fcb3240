//! The register of invariants, `docs/invariants.toml`: whether it is whole, whether the page generated from it is that page,
//! whether what is promised elsewhere points into it, and whether what it calls implemented was verified by the tests of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use toml::{Table, Value};

use crate::invariants::{architecture_tests, test_names};
use crate::junit::Outcome;
use crate::markdown;
use crate::tree::{Finding, Tree};

/// What the page is generated from.
pub const REGISTER: &str = "docs/invariants.toml";
/// The page.
pub const PAGE: &str = "docs/INVARIANTS.md";
/// Documents with a list of promises, and its heading.
const PROMISES: [(&str, &str); 2] = [("README.md", "What is promised"), ("docs/PROTOCOL.md", "Promises")];

/// One invariant.
#[derive(Debug, Clone, Default)]
struct Invariant {
    id: String,
    statement: String,
    enforced_by: Vec<String>,
    verified_by: Vec<String>,
    status: String,
}

impl Invariant {
    fn is_implemented(&self) -> bool {
        self.status == "implemented"
    }
}

/// Whether a word is written like the id of an invariant.
#[must_use]
pub fn is_id(word: &str) -> bool {
    word.strip_prefix("INV-")
        .is_some_and(|number| number.len() == 3 && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The ids of the register.
#[must_use]
pub fn ids(tree: &Tree) -> BTreeSet<String> {
    read(tree).into_iter().map(|invariant| invariant.id).collect()
}

/// The invariants; what cannot be read is missing, which `register_is_whole` reports.
fn read(tree: &Tree) -> Vec<Invariant> {
    let table: Table = tree.text(REGISTER).unwrap_or_default().parse().unwrap_or_default();
    let entries = table.get("invariant").and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let texts = |entry: &Value, key: &str| {
        let values = entry.get(key).and_then(Value::as_array).into_iter().flatten();
        values.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let invariant = |entry: &Value| Invariant {
        id: text(entry, "id"),
        statement: text(entry, "statement"),
        enforced_by: texts(entry, "enforced_by"),
        verified_by: texts(entry, "verified_by"),
        status: text(entry, "status"),
    };
    entries.iter().map(invariant).collect()
}

/// Each invariant has an id of its own, a statement, what enforces it and a status; what is named exists.
#[must_use]
pub fn register_is_whole(tree: &Tree) -> Vec<Finding> {
    let invariants = read(tree);
    let tests = test_names(tree);
    let mut findings = Vec::new();
    if invariants.is_empty() {
        findings.push(Finding::whole(REGISTER, "has no invariant that can be read"));
    }
    let mut before = "";
    for invariant in &invariants {
        let mut found = |what: String| findings.push(Finding::whole(REGISTER, format!("{}: {what}", invariant.id)));
        if !is_id(&invariant.id) || invariant.id.as_str() <= before {
            found("is no id, or does not follow the one before".to_owned());
        }
        before = &invariant.id;
        if invariant.statement.is_empty() || invariant.enforced_by.is_empty() {
            found("says not what holds, or by what".to_owned());
        }
        if !["implemented", "roadmap"].contains(&invariant.status.as_str()) {
            found(format!("has the status {:?}", invariant.status));
        }
        if invariant.is_implemented() && invariant.verified_by.is_empty() {
            found("is implemented and names no test".to_owned());
        }
        for test in invariant.verified_by.iter().filter(|test| !tests.contains(*test)) {
            found(format!("there is no test {test}"));
        }
        for span in invariant.enforced_by.iter().flat_map(|text| text.split('`').skip(1).step_by(2)) {
            if !tree.exists(span) && !is_in_source(tree, span) {
                found(format!("{span} is in no migration and no source"));
            }
        }
    }
    findings
}

/// Whether a word stands in the migrations or in the source of a crate.
fn is_in_source(tree: &Tree, word: &str) -> bool {
    tree.files()
        .filter(|(path, _)| path.starts_with("migrations/") || (path.starts_with("crates/") && path.contains("/src/")))
        .any(|(_, text)| text.contains(word))
}

/// The page is the one that the register gives.
#[must_use]
pub fn invariants_page_is_generated(tree: &Tree) -> Vec<Finding> {
    if tree.text(PAGE) == Some(page(tree).as_str()) {
        return Vec::new();
    }
    vec![Finding::whole(PAGE, format!("is not what {REGISTER} gives: scripts/check_invariants.sh --write"))]
}

/// The page as the register gives it.
#[must_use]
pub fn page(tree: &Tree) -> String {
    let invariants = read(tree);
    let implemented = invariants.iter().filter(|invariant| invariant.is_implemented()).count();
    let mut page = format!(
        "# Invariants\n\nGenerated from `{REGISTER}`. {implemented} of {} are implemented: each of their tests has to run and pass in\n\
         the build. The others are on the roadmap, and what they name is a part.\n",
        invariants.len()
    );
    for invariant in &invariants {
        let tests: Vec<String> = invariant.verified_by.iter().map(|test| format!("`{test}`")).collect();
        let verified = if tests.is_empty() { "nothing yet".to_owned() } else { tests.join(", ") };
        // Writing to a String does not fail.
        let _ = write!(
            page,
            "\n## {}\n\n{}\n\n- enforced by: {}\n- verified by: {verified}\n- status: {}\n",
            invariant.id,
            invariant.statement,
            invariant.enforced_by.join("; "),
            invariant.status
        );
    }
    page
}

/// Each promise of the README and of the protocol names invariants that are implemented.
#[must_use]
pub fn promises_point_to_invariants(tree: &Tree) -> Vec<Finding> {
    let implemented: BTreeSet<String> =
        read(tree).into_iter().filter(Invariant::is_implemented).map(|invariant| invariant.id).collect();
    let mut findings = Vec::new();
    for (path, heading) in PROMISES {
        let promises = numbered(markdown::section(tree.text(path).unwrap_or_default(), heading));
        if promises.is_empty() {
            findings.push(Finding::whole(path, format!("has no list under `## {heading}`")));
        }
        for (line, promise) in promises {
            let named: Vec<&str> =
                promise.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').filter(|word| is_id(word)).collect();
            if named.is_empty() {
                findings.push(Finding::at(path, line, "the promise names no invariant"));
            }
            for id in named.into_iter().filter(|id| !implemented.contains(*id)) {
                findings.push(Finding::at(path, line, format!("{id} is promised and not implemented")));
            }
        }
    }
    findings
}

/// The items of a numbered list with their first line, what follows indented among them.
fn numbered(lines: Vec<(usize, &str)>) -> Vec<(usize, String)> {
    let mut items: Vec<(usize, String)> = Vec::new();
    for (number, line) in lines {
        if line.split_once(". ").is_some_and(|(no, _)| no.parse::<u32>().is_ok()) {
            items.push((number, line.to_owned()));
        } else if let (true, Some((_, item))) = (line.starts_with(' '), items.last_mut()) {
            item.push(' ');
            item.push_str(line.trim());
        }
    }
    items
}

/// Every test that guards an invariant of the architecture verifies one of the register.
#[must_use]
pub fn architecture_is_in_the_register(tree: &Tree) -> Vec<Finding> {
    let verified: BTreeSet<String> = read(tree).into_iter().flat_map(|invariant| invariant.verified_by).collect();
    let missing = architecture_tests(tree).into_iter().filter(|test| !verified.contains(test));
    missing
        .map(|test| Finding::whole(REGISTER, format!("no invariant is verified by {test}, which guards one")))
        .collect()
}

/// What is called implemented and was not verified in the run that left these outcomes.
#[must_use]
pub fn unverified(tree: &Tree, outcomes: &BTreeMap<String, Outcome>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for invariant in read(tree).iter().filter(|invariant| invariant.is_implemented()) {
        for test in &invariant.verified_by {
            let fault = match outcomes.get(test) {
                Some(Outcome::Passed) => continue,
                Some(Outcome::Failed) => "failed",
                Some(Outcome::Skipped) => "was skipped",
                None => "did not run",
            };
            findings.push(Finding::whole(REGISTER, format!("{} is not verified: {test} {fault}", invariant.id)));
        }
        if invariant.verified_by.is_empty() {
            findings.push(Finding::whole(REGISTER, format!("{} is not verified: it names no test", invariant.id)));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "[[invariant]]\nid = \"INV-001\"\nstatement = \"It holds.\"\nenforced_by = [\"`the_function`\"]\n\
        verified_by = [\"it_holds\"]\nstatus = \"implemented\"\n\
        [[invariant]]\nid = \"INV-002\"\nstatement = \"Later.\"\nenforced_by = [\"nothing yet\"]\nverified_by = []\nstatus = \"roadmap\"\n";

    fn tree(register: &str, readme: &str) -> Tree {
        Tree::of(&[
            (REGISTER, register),
            ("README.md", readme),
            ("docs/PROTOCOL.md", "## Promises\n1. It holds (INV-001).\n"),
            ("docs/ARCHITECTURE.md", "## Invariants\n- It holds (tests: `it_holds`, `and_this`).\n"),
            ("crates/x/src/a.rs", "#[test] fn it_holds() { the_function() }"),
        ])
    }

    fn whole(from: &str, to: &str) -> usize {
        assert!(SOUND.contains(from), "{from}");
        register_is_whole(&tree(&SOUND.replacen(from, to, 1), "")).len()
    }

    #[test]
    fn a_register_that_is_not_whole_is_found() {
        assert_eq!(whole("Later.", "Later."), 0);
        assert_eq!(whole("INV-002", "INV-001"), 1);
        assert_eq!(whole("INV-002", "INV-2"), 1);
        assert_eq!(whole("It holds.", ""), 1);
        assert_eq!(whole("[\"`the_function`\"]", "[]"), 1);
        assert_eq!(whole("the_function", "no_function"), 1);
        assert_eq!(whole("[\"it_holds\"]", "[\"it_is_gone\"]"), 1);
        assert_eq!(whole("[\"it_holds\"]", "[]"), 1);
        assert_eq!(whole("\"roadmap\"", "\"planned\""), 1);
        assert_eq!(register_is_whole(&tree("not = [toml", "")).len(), 1);
    }

    #[test]
    fn a_page_that_was_written_by_hand_is_found() {
        let tree = tree(SOUND, "");
        assert_eq!(invariants_page_is_generated(&tree).len(), 1);
        let page = page(&tree);
        assert!(page.contains("1 of 2 are implemented") && page.contains("\n## INV-002\n\nLater.\n"), "{page}");
        let written = |text: &str| invariants_page_is_generated(&Tree::of(&[(REGISTER, SOUND), (PAGE, text)])).len();
        assert_eq!((written(&page), written(&page.replace("Later", "Now"))), (0, 1));
    }

    #[test]
    fn a_promise_that_names_no_implemented_invariant_is_found() {
        let check = |list: &str| {
            promises_point_to_invariants(&tree(SOUND, &format!("## What is promised\n{list}")))
                .into_iter()
                .map(|f| f.what)
                .collect::<Vec<_>>()
        };
        assert_eq!(check("1. It holds,\n   always (INV-001).\n"), Vec::<String>::new());
        assert_eq!(check("1. It holds.\n"), ["the promise names no invariant"]);
        assert_eq!(check("1. It holds (INV-001, INV-002).\n"), ["INV-002 is promised and not implemented"]);
        assert_eq!(check("Nothing.\n").len(), 1);
    }

    #[test]
    fn a_guard_of_the_architecture_that_is_not_in_the_register_is_found() {
        let found = architecture_is_in_the_register(&tree(SOUND, ""));
        assert_eq!(found.len(), 1);
        assert!(found[0].what.contains("and_this"), "{found:?}");
    }

    #[test]
    fn implemented_without_a_test_that_passed_in_the_run_is_refused() {
        let said = |outcome: Option<Outcome>| {
            let outcomes = outcome.map(|outcome| ("it_holds".to_owned(), outcome)).into_iter().collect();
            unverified(&tree(SOUND, ""), &outcomes).into_iter().map(|finding| finding.what).collect::<Vec<_>>()
        };
        assert_eq!(said(Some(Outcome::Passed)), Vec::<String>::new());
        assert_eq!(said(Some(Outcome::Failed)), ["INV-001 is not verified: it_holds failed"]);
        assert_eq!(said(Some(Outcome::Skipped)), ["INV-001 is not verified: it_holds was skipped"]);
        assert_eq!(said(None), ["INV-001 is not verified: it_holds did not run"]);
        let nameless = SOUND.replace("[\"it_holds\"]", "[]");
        assert_eq!(unverified(&tree(&nameless, ""), &BTreeMap::new()).len(), 1);
    }
}
