//! An invariant of `docs/ARCHITECTURE.md` is a list item that ends by naming the tests that guard it:
//! ``(test: `name`)`` or ``(tests: `one`, `two`)``. Each of them must exist.

use std::collections::BTreeSet;

use crate::markdown;
use crate::rust_code::RustCode;
use crate::tree::{Finding, Tree};

const ARCHITECTURE: &str = "docs/ARCHITECTURE.md";

/// Every invariant names a test, and every test so named exists.
#[must_use]
pub fn invariants_name_their_tests(tree: &Tree) -> Vec<Finding> {
    let items = items(markdown::section(tree.text(ARCHITECTURE).unwrap_or_default(), "Invariants"));
    if items.is_empty() {
        return vec![Finding::whole(ARCHITECTURE, "has no list under `## Invariants`")];
    }
    let tests = test_names(tree);
    let mut findings = Vec::new();
    for (line, item) in items {
        let named = tests_named_by(&item);
        if named.is_empty() {
            findings.push(Finding::at(ARCHITECTURE, line, "the invariant does not end with (test: `name`)"));
        }
        for name in named.into_iter().filter(|name| !tests.contains(*name)) {
            findings.push(Finding::at(ARCHITECTURE, line, format!("there is no test {name}")));
        }
    }
    findings
}

/// The tests that guard the invariants of the architecture.
pub(crate) fn architecture_tests(tree: &Tree) -> BTreeSet<String> {
    let items = items(markdown::section(tree.text(ARCHITECTURE).unwrap_or_default(), "Invariants"));
    items.iter().flat_map(|(_, item)| tests_named_by(item)).map(str::to_owned).collect()
}

/// List items with their first line; what follows indented belongs to them.
fn items(lines: Vec<(usize, &str)>) -> Vec<(usize, String)> {
    let mut items: Vec<(usize, String)> = Vec::new();
    for (number, line) in lines {
        let is_start = line.starts_with("- ") || line.split_once(". ").is_some_and(|(n, _)| n.parse::<u32>().is_ok());
        if is_start {
            items.push((number, line.to_owned()));
        } else if let (true, Some((_, item))) = (line.starts_with(' '), items.last_mut()) {
            item.push(' ');
            item.push_str(line.trim());
        }
    }
    items
}

fn tests_named_by(item: &str) -> Vec<&str> {
    let Some(start) = item.rfind("(test") else { return Vec::new() };
    let end = item[start..].trim_end_matches('.');
    let Some(inside) = end.strip_suffix(')') else { return Vec::new() };
    // `crate::module::name` is welcome; the last part is the function.
    inside.split('`').skip(1).step_by(2).map(|name| name.rsplit("::").next().unwrap_or(name)).collect()
}

/// The names of all tests.
pub(crate) fn test_names(tree: &Tree) -> BTreeSet<String> {
    tests_of_files(tree).map(|(_, name)| name).collect()
}

/// All tests as `file::name`, the file without its ending.
pub(crate) fn test_places(tree: &Tree) -> BTreeSet<String> {
    tests_of_files(tree).map(|(module, name)| format!("{module}::{name}")).collect()
}

/// File and name of each test, those that a macro writes included.
fn tests_of_files(tree: &Tree) -> impl Iterator<Item = (String, String)> {
    tree.ending(".rs").flat_map(|(path, text)| {
        let file = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".rs").to_owned();
        let code = RustCode::parse(text).unwrap_or_default();
        let mut names: Vec<String> =
            code.functions.into_iter().filter(|function| function.is_test).map(|function| function.name).collect();
        // proptest! hides its functions in a macro, where the syntax shows only words.
        if text.contains("proptest!") {
            names.extend(text.split("#[test]").skip(1).filter_map(|rest| {
                let (_, after) = rest.split_once("fn ")?;
                Some(after.split('(').next()?.trim().to_owned())
            }));
        }
        // So does `rules!` of tidy's own tests: a test for each rule, under the rule's name.
        if path == "crates/tidy/tests/it/main.rs" {
            let listed = text.split("\nrules! {").nth(1).unwrap_or_default().split('}').next().unwrap_or_default();
            names.extend(listed.split(',').filter_map(|rule| Some(rule.split("::").nth(1)?.trim().to_owned())));
        }
        names.into_iter().map(move |name| (file.clone(), name)).collect::<Vec<_>>()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &str) -> Vec<String> {
        let page = format!("# A\n## Invariants\n{list}\n## Next\n- nothing\n");
        let code = "#[tokio::test] async fn real_one() { x() }\nfn no_test() {}\nproptest! { #[test] fn hidden_one(a in 0..1) { y() } }";
        let tree = Tree::of(&[(ARCHITECTURE, &page), ("a.rs", code)]);
        invariants_name_their_tests(&tree).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn unguarded_invariants_are_found() {
        assert_eq!(check("- It holds.").len(), 1);
        assert_eq!(check("- It holds (test: `gone`)."), ["there is no test gone"]);
        assert_eq!(check("- It holds (test: `no_test`)."), ["there is no test no_test"]);
        assert_eq!(check("Nothing.").len(), 1);
    }

    #[test]
    fn guarded_invariants_pass() {
        assert!(
            check("- It holds,\n  always (tests: `real_one`,\n  `a::hidden_one`)\n- And this (test: `real_one`).")
                .is_empty()
        );
    }
}
