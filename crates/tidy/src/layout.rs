//! What lies at the top of the repository, what can be read, how decision records are named, and how scripts begin.

use crate::tree::{Finding, Tree};

/// What a reader finds at the top, always.
const REQUIRED: [&str; 14] = [
    ".ci",
    ".github",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "crates",
    "docs",
    "evidence",
    "migrations",
    "rust-toolchain.toml",
    "scripts",
];
/// What a tool needs there; files and folders that begin with a dot are of that kind as well.
const FOR_TOOLS: [&str; 2] = ["rustfmt.toml", "sqlx.toml"];

/// A decision that does not fit on a page is two decisions.
const DECISION_LINES_MAX: usize = 70;

/// The top level holds what it must, and nothing else.
#[must_use]
pub fn top_level_is_as_agreed(tree: &Tree) -> Vec<Finding> {
    let names = tree.names_in("");
    let missing = REQUIRED.iter().filter(|name| !names.contains(name)).map(|name| Finding::whole(name, "is missing"));
    let extra =
        names.iter().filter(|name| !REQUIRED.contains(name) && !FOR_TOOLS.contains(name) && !name.starts_with('.'));
    missing.chain(extra.map(|name| Finding::whole(name, "does not belong at the top level"))).collect()
}

/// Files in TOML are TOML, those too that no build reads; the corpus of the parsers and what lints refuse need not be.
#[must_use]
pub fn toml_can_be_read(tree: &Tree) -> Vec<Finding> {
    let is_example =
        |path: &str| path.starts_with("crates/outbox-fuzz/corpus/") || path.starts_with("scripts/security/fixtures/");
    let files = tree.ending(".toml").filter(|(path, _)| !is_example(path));
    let unread = files.filter_map(|(path, text)| Some((path, text.parse::<toml::Table>().err()?)));
    unread.map(|(path, error)| Finding::whole(path, error.to_string())).collect()
}

/// Decision records are `YYYY-MM-DD-slug.md`, a page each.
#[must_use]
pub fn decisions_are_named_by_date(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let names = tree.names_in("docs/decisions");
    if names.is_empty() {
        findings.push(Finding::whole("docs/decisions", "holds no decision record"));
    }
    for name in names {
        let path = format!("docs/decisions/{name}");
        if !is_decision_name(name) {
            findings.push(Finding::whole(&path, "is not named YYYY-MM-DD-slug.md"));
        }
        if tree.text(&path).is_some_and(|text| text.lines().count() > DECISION_LINES_MAX) {
            findings.push(Finding::whole(&path, format!("has more than {DECISION_LINES_MAX} lines")));
        }
    }
    findings
}

fn is_decision_name(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".md") else { return false };
    let parts: Vec<&str> = stem.splitn(4, '-').collect();
    let [year, month, day, slug] = parts[..] else { return false };
    let is_number = |text: &str, digits: usize, max: u32| {
        text.len() == digits && text.parse().is_ok_and(|number: u32| (1..=max).contains(&number))
    };
    let is_slug = !slug.is_empty() && slug.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    is_number(year, 4, 9999) && is_number(month, 2, 12) && is_number(day, 2, 31) && is_slug
}

/// A script that is run stops at its first failure and says in a comment what it is for.
#[must_use]
pub fn scripts_stop_at_the_first_failure(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let run = tree.ending(".sh").filter(|(path, _)| path.starts_with("scripts/") && !path.starts_with("scripts/lib/"));
    for (path, text) in run {
        let mut lines = text.lines();
        if lines.next() != Some("#!/usr/bin/env bash") {
            findings.push(Finding::at(path, 1, "does not begin with #!/usr/bin/env bash"));
        }
        if !lines.next().is_some_and(|line| line.starts_with("# ")) {
            findings.push(Finding::at(path, 2, "does not say what it is for"));
        }
        if !text.lines().any(|line| line == "set -euo pipefail") {
            findings.push(Finding::whole(path, "does not `set -euo pipefail`"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_in_a_file_of_toml_is_found() {
        let broken = "# A comment [[store]]\n[[equivalent]] has the rest";
        let tree = Tree::of(&[
            ("scripts/a.toml", broken),
            ("scripts/b.toml", "a = 1"),
            ("scripts/security/fixtures/c.toml", broken),
        ]);
        let found: Vec<String> = toml_can_be_read(&tree).into_iter().map(|finding| finding.path).collect();
        assert_eq!(found, ["scripts/a.toml"]);
    }

    #[test]
    fn missing_and_extra_entries_are_found() {
        let mut files: Vec<(String, &str)> = REQUIRED.iter().map(|name| ((*name).to_owned(), "")).collect();
        files.push((".editorconfig".to_owned(), ""));
        let check = |files: &[(String, &str)]| {
            let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
            top_level_is_as_agreed(&Tree::of(&files)).len()
        };
        assert_eq!(check(&files), 0);
        files.push(("notes.txt".to_owned(), ""));
        assert_eq!(check(&files), 1);
        files.remove(0);
        assert_eq!(check(&files), 2);
    }

    #[test]
    fn only_dated_slugs_are_decisions() {
        assert!(is_decision_name("2026-01-31-partial-index.md"));
        for name in
            ["2026-13-01-x.md", "2026-1-01-x.md", "partial-index.md", "2026-01-01-.md", "2026-01-01-X.md", "a.txt"]
        {
            assert!(!is_decision_name(name), "{name}");
        }
        assert_eq!(decisions_are_named_by_date(&Tree::default()).len(), 1);
        let long = "\n".repeat(71);
        assert_eq!(decisions_are_named_by_date(&Tree::of(&[("docs/decisions/2026-01-31-a.md", &long)])).len(), 1);
    }

    #[test]
    fn careless_script_is_found() {
        let good = "#!/usr/bin/env bash\n# Does it.\nset -euo pipefail\n";
        let count = |text: &str| scripts_stop_at_the_first_failure(&Tree::of(&[("scripts/a.sh", text)])).len();
        assert_eq!((count(good), count("echo\n")), (0, 3));
    }
}
