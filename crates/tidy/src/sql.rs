//! Rules for the SQL functions of `migrations/functions`: one function a file, short, explained where
//! `\sf` shows it, with a pinned search path and errors of our own class. What only a server can tell
//! (privileges, plans) is tested in outbox-store.

use crate::tree::{Finding, Tree};

const FOLDER: &str = "migrations/functions/";
/// A longer function is not reviewed as one piece.
const FUNCTION_LINES_MAX: usize = 120;
/// With `pg_temp` named last, a temporary object never hides one of the catalogue.
const SEARCH_PATH: &str = "set search_path = pg_catalog, pg_temp";
/// Written in lower case, so these in capitals outside of texts and comments are found.
const KEYWORDS: [&str; 24] = [
    "SELECT", "INSERT", "UPDATE", "DELETE", "FROM", "WHERE", "CREATE", "ALTER", "TABLE", "FUNCTION", "BEGIN", "END",
    "RETURN", "RETURNS", "IF", "THEN", "ELSE", "LOOP", "AND", "OR", "NOT", "NULL", "SET", "DECLARE",
];

/// Files of functions obey the SQL part of the style.
#[must_use]
pub fn function_files_are_reviewable(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| path.starts_with(FOLDER)) {
        let Some(stem) = path.strip_prefix(FOLDER).and_then(|name| name.strip_suffix(".sql")) else {
            findings.push(Finding::whole(path, "only SQL files belong here"));
            continue;
        };
        check_function(path, stem, text, &mut findings);
    }
    findings
}

fn check_function(path: &str, stem: &str, text: &str, findings: &mut Vec<Finding>) {
    let lines = text.lines().count();
    if lines > FUNCTION_LINES_MAX {
        findings.push(Finding::whole(path, format!("{lines} lines, at most {FUNCTION_LINES_MAX}")));
    }
    let starts: Vec<&str> = text.lines().filter(|line| line.starts_with("create ")).collect();
    let names_itself = |line: &&str| {
        ["function", "procedure"]
            .iter()
            .any(|kind| line.starts_with(&format!("create or replace {kind} outbox.{stem}(")))
    };
    if starts.len() != 1 || !starts.iter().all(names_itself) {
        findings.push(Finding::whole(path, format!("holds exactly one `create or replace function outbox.{stem}(…)`")));
    }
    let (head, body) = text.split_once("as $$").unwrap_or((text, ""));
    // A pinned path keeps a plain SQL function from being inlined; it runs with its caller's path and rights.
    let is_inlined = head.contains("language sql") && !head.contains("security definer");
    if !is_inlined && !head.contains(SEARCH_PATH) {
        findings.push(Finding::whole(path, format!("does not `{SEARCH_PATH}`")));
    }
    // A line of pragma may come first: plpgsql wants it there.
    let first = body.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    if !first.is_some_and(|line| line.starts_with("-- Purpose:")) {
        findings.push(Finding::whole(path, "the body does not begin with `-- Purpose:`"));
    }
}

/// Every `raise exception` carries a SQLSTATE of class OB.
#[must_use]
pub fn errors_are_of_our_class(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| path.starts_with(FOLDER)) {
        for (index, _) in text.match_indices("raise exception") {
            let statement = text[index..].split(";\n").next().unwrap_or_default();
            let code = statement.split_once("errcode =").map(|(_, code)| code);
            if !code.is_some_and(|code| code.contains("'OB")) {
                let line = text[..index].lines().count().max(1);
                findings.push(Finding::at(path, line, "raise exception without errcode = 'OB…'"));
            }
        }
    }
    findings
}

/// Keywords are in lower case in every SQL file.
#[must_use]
pub fn keywords_are_lower_case(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending(".sql").filter(|(path, _)| *path != "migrations/schema.sql") {
        for (index, line) in text.lines().enumerate() {
            let code = without_texts(line.split("--").next().unwrap_or_default());
            let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
            if let Some(word) = words.find(|word| KEYWORDS.contains(word)) {
                findings.push(Finding::at(path, index + 1, format!("{word} in capitals")));
            }
        }
    }
    findings
}

/// A security definer function anywhere in the migrations pins its search path.
#[must_use]
pub fn security_definers_are_pinned(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in
        tree.ending(".sql").filter(|(path, _)| path.starts_with("migrations/") && *path != "migrations/schema.sql")
    {
        for (index, _) in text.match_indices("security definer") {
            // From the function's start to its body.
            let from = text[..index].rfind("create ").unwrap_or(0);
            let head = text[from..].split("$$").next().unwrap_or_default();
            if !head.contains(SEARCH_PATH) {
                let line = text[..index].lines().count().max(1);
                findings.push(Finding::at(path, line, format!("security definer without `{SEARCH_PATH}`")));
            }
        }
    }
    findings
}

/// The line with everything between single quotes left out.
fn without_texts(line: &str) -> String {
    line.split('\'').step_by(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "create or replace function outbox.f(p_a text) returns text\nlanguage sql security definer\n\
        set search_path = pg_catalog, pg_temp\nas $$\n-- Purpose: gives back p_a.\nselect p_a where 'NOT' <> '' -- NULL\n$$;\n";

    fn count(text: &str) -> usize {
        let tree = Tree::of(&[("migrations/functions/f.sql", text)]);
        let rules = [
            function_files_are_reviewable,
            errors_are_of_our_class,
            keywords_are_lower_case,
            security_definers_are_pinned,
        ];
        rules.iter().map(|rule| rule(&tree).len()).sum()
    }

    #[test]
    fn each_breach_is_found_and_a_good_file_passes() {
        assert_eq!(count(GOOD), 0);
        assert_eq!(count(&format!("{GOOD}{}", "\n".repeat(120))), 1);
        assert_eq!(count(&GOOD.replace("outbox.f", "outbox.g")), 1);
        assert_eq!(count(&format!("{GOOD}create table t ();\n")), 1);
        assert_eq!(count(&GOOD.replace("pg_catalog, pg_temp", "pg_catalog, public")), 2);
        let inlined = GOOD.replace(" security definer\nset search_path = pg_catalog, pg_temp", "");
        assert_eq!(count(&inlined), 0);
        assert_eq!(count(&inlined.replace("language sql", "language plpgsql")), 1);
        assert_eq!(count(&GOOD.replace("-- Purpose: ", "-- ")), 1);
        assert_eq!(count(&GOOD.replace("select", "SELECT")), 1);
        assert_eq!(count(&GOOD.replace("select", "raise exception 'no'; select")), 1);
        assert_eq!(count(&GOOD.replace("select", "raise exception 'no' using errcode = 'OB001';\nselect")), 0);
    }
}
