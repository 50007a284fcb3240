//! Rules for Rust files: length, header, names, and what tests may not do.

use crate::rust_code::RustCode;
use crate::tree::{Finding, Tree};

/// A longer file holds more than one concept.
const FILE_LINES_MAX: usize = 500;
/// A longer function is not read in one piece.
const FUNCTION_LINES_MAX: usize = 70;
/// Names that say nothing about what is in the file.
const EMPTY_NAMES: [&str; 9] =
    ["utils", "util", "helpers", "helper", "common", "manager", "managers", "misc", "shared"];

/// Files of Rust and shell are at most 500 lines.
#[must_use]
pub fn files_are_short(tree: &Tree) -> Vec<Finding> {
    let sources = tree.files().filter(|(path, _)| path.ends_with(".rs") || path.ends_with(".sh"));
    let long = sources.filter(|(_, text)| text.lines().count() > FILE_LINES_MAX);
    long.map(|(path, text)| Finding::whole(path, format!("{} lines, at most {FILE_LINES_MAX}", text.lines().count())))
        .collect()
}

/// Functions are at most 70 lines.
#[must_use]
pub fn functions_are_short(tree: &Tree) -> Vec<Finding> {
    for_each_file(tree, |path, code, findings| {
        for function in code.functions.iter().filter(|function| function.length > FUNCTION_LINES_MAX) {
            let what = format!("fn {} has {} lines, at most {FUNCTION_LINES_MAX}", function.name, function.length);
            findings.push(Finding::at(path, function.line, what));
        }
    })
}

/// Every file begins with `//!` and a sentence.
#[must_use]
pub fn files_have_a_header(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending(".rs") {
        let first = text.lines().next().unwrap_or_default();
        match first.strip_prefix("//!") {
            None => findings.push(Finding::at(path, 1, "does not begin with //!")),
            Some(said) if said.split_whitespace().count() < 3 => {
                findings.push(Finding::at(path, 1, "the header does not say what the file does"));
            }
            Some(_) => {}
        }
    }
    findings
}

/// No file, directory or crate has a name that says nothing.
#[must_use]
pub fn names_say_something(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, _) in tree.ending(".rs") {
        let parts = path.trim_end_matches(".rs").split('/').skip(1);
        for part in parts {
            if let Some(word) = part.split(['_', '-']).find(|word| EMPTY_NAMES.contains(word)) {
                findings.push(Finding::whole(path, format!("a name with {word:?} does not say what is in it")));
            }
        }
    }
    findings
}

/// No `#[ignore]`, no `#[should_panic]`, no test with an empty body.
#[must_use]
pub fn tests_run_and_can_fail(tree: &Tree) -> Vec<Finding> {
    for_each_file(tree, |path, code, findings| {
        for function in &code.functions {
            for refused in ["ignore", "should_panic"] {
                if function.attributes.iter().any(|name| name == refused) {
                    findings.push(Finding::at(path, function.line, format!("#[{refused}] on {}", function.name)));
                }
            }
            if function.is_test && function.is_empty {
                findings.push(Finding::at(path, function.line, format!("test {} cannot fail", function.name)));
            }
        }
    })
}

/// Comments hold no tests: no build runs them, since building for them takes half a minute and there are none.
#[must_use]
pub fn comments_hold_no_tests(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending(".rs") {
        let fences = text.lines().enumerate().filter(|(_, line)| {
            let line = line.trim_start();
            (line.starts_with("///") || line.starts_with("//!")) && line.contains("```")
        });
        let at = |(index, _)| Finding::at(path, index + 1, "code in a comment that no build runs: make it a test");
        findings.extend(fences.step_by(2).map(at));
    }
    findings
}

/// Tests wait for a condition or a signal; they never sleep.
#[must_use]
pub fn tests_do_not_sleep(tree: &Tree) -> Vec<Finding> {
    for_each_file(tree, |path, code, findings| {
        let is_test_file = path.contains("/tests/");
        for line in code.sleeps.iter().filter(|line| is_test_file || code.is_test_line(**line)) {
            findings.push(Finding::at(path, *line, "a sleep in a test: wait for a condition with a deadline"));
        }
    })
}

/// A crate's integration tests are one binary, `tests/it/main.rs`.
#[must_use]
pub fn integration_tests_are_one_binary(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, _) in tree.ending(".rs") {
        let parts: Vec<&str> = path.split('/').collect();
        let binary = matches!(parts[..], ["crates", _, "tests", _]) || {
            matches!(parts[..], ["crates", _, "tests", directory, "main.rs"] if directory != "it")
        };
        if binary {
            findings.push(Finding::whole(path, "a second test binary: make it a module of tests/it"));
        }
    }
    findings
}

fn for_each_file(tree: &Tree, mut rule: impl FnMut(&str, &RustCode, &mut Vec<Finding>)) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending(".rs") {
        match RustCode::parse(text) {
            Ok(code) => rule(path, &code, &mut findings),
            Err((line, reason)) => findings.push(Finding::at(path, line, reason)),
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_file_is_found() {
        assert_eq!(files_are_short(&Tree::of(&[("crates/a/src/b.rs", &"\n".repeat(501))])).len(), 1);
        assert!(files_are_short(&Tree::of(&[("crates/a/src/b.rs", &"\n".repeat(500))])).is_empty());
    }

    #[test]
    fn long_function_is_found() {
        let text = |body: usize| format!("impl A {{ fn f() {{\n{}}} }}", "x();\n".repeat(body));
        assert_eq!(functions_are_short(&Tree::of(&[("a.rs", &text(69))])).len(), 1);
        assert!(functions_are_short(&Tree::of(&[("a.rs", &text(68))])).is_empty());
    }

    #[test]
    fn missing_or_empty_header_is_found() {
        let tree =
            Tree::of(&[("a.rs", "use x;\n"), ("b.rs", "//! Placeholder.\n"), ("c.rs", "//! Says what it does.\n")]);
        let paths: Vec<_> = files_have_a_header(&tree).into_iter().map(|finding| finding.path).collect();
        assert_eq!(paths, ["a.rs", "b.rs"]);
    }

    #[test]
    fn empty_names_are_found() {
        let tree = Tree::of(&[
            ("crates/a/src/utils.rs", ""),
            ("crates/a/src/common/x.rs", ""),
            ("crates/a/src/lease_manager.rs", ""),
            ("crates/a/src/commonly_used.rs", ""),
        ]);
        assert_eq!(names_say_something(&tree).len(), 3);
    }

    #[test]
    fn ignored_panicking_and_empty_tests_are_found() {
        let text = "#[test] #[ignore] fn a() { x() }\n#[test] #[should_panic] fn b() { x() }\n#[test] fn c() {}\n";
        let lines: Vec<_> = tests_run_and_can_fail(&Tree::of(&[("a.rs", text)])).iter().map(|f| f.line).collect();
        assert_eq!(lines, [1, 2, 3]);
    }

    #[test]
    fn sleep_is_found_in_tests_only() {
        let text = "fn a() { sleep(x) }\n#[cfg(test)]\nmod tests { fn b() { tokio::time::sleep(x).await } }\n";
        let lines = |path| tests_do_not_sleep(&Tree::of(&[(path, text)])).iter().map(|f| f.line).collect::<Vec<_>>();
        assert_eq!(lines("crates/a/src/a.rs"), [3]);
        assert_eq!(lines("crates/a/tests/it/a.rs"), [1, 3]);
    }

    #[test]
    fn test_in_a_comment_is_found() {
        let text = "//! Says.\n\n/// Does.\n///\n/// ```\n/// assert!(true);\n/// ```\nfn a() {}\nconst A: &str = \"/// ```\";\n";
        let lines: Vec<_> = comments_hold_no_tests(&Tree::of(&[("a.rs", text)])).iter().map(|f| f.line).collect();
        assert_eq!(lines, [5]);
    }

    #[test]
    fn second_test_binary_is_found() {
        let tree = Tree::of(&[
            ("crates/a/tests/it/main.rs", ""),
            ("crates/a/tests/it/x.rs", ""),
            ("crates/a/tests/other.rs", ""),
            ("crates/a/tests/more/main.rs", ""),
        ]);
        assert_eq!(integration_tests_are_one_binary(&tree).len(), 2);
    }
}
