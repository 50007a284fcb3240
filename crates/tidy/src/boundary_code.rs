//! What the code of the crates that touch money says of other files and libraries, read from its tokens, so that it is found
//! inside a macro as well. The rules about manifests and files are in `boundary`.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::rust_code::RustCode;
use crate::tree::{Finding, Tree};

/// The only files outside its crate that a crate may have in itself, and who: the migrations that it applies.
const INCLUDED: (&str, &str, &str) = ("outbox-store", "migrations/", "scripts/db/catalogue.sql");

/// Breaches in the code of one crate that is compiled into a program: `src` and `examples`. Tests are free.
#[must_use]
pub fn of_crate(tree: &Tree, crate_name: &str) -> Vec<Finding> {
    let folder = format!("crates/{crate_name}/");
    let mut findings = Vec::new();
    for (path, text) in tree.ending(".rs").filter(|(path, _)| path.starts_with(&folder)) {
        let inside = &path[folder.len()..];
        if !inside.starts_with("src/") && !inside.starts_with("examples/") {
            continue;
        }
        match text.parse::<TokenStream>() {
            Ok(tokens) => {
                let mut found = Vec::new();
                scan(tokens, &mut |line, rule, what| found.push((line, rule, what)));
                let is_ours = |what: &str| is_included(path, &folder, crate_name, what);
                findings.extend(
                    found
                        .into_iter()
                        .filter(|(_, rule, what)| *rule != "include-from-outside" || !is_ours(what))
                        .map(|(line, rule, what)| Finding::at(path, line, format!("{rule}: {what}"))),
                );
            }
            Err(error) => findings.push(Finding::whole(path, format!("file-kind: is not Rust: {error}"))),
        }
    }
    findings
}

/// Whether the literal that `include_str!` names lies in the crate's own `src`, or is one of the migrations, or the query that
/// evidence asks of a database from outside.
fn is_included(path: &str, folder: &str, crate_name: &str, literal: &str) -> bool {
    let Some(named) = literal.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return false };
    let mut parts: Vec<&str> = path.rsplit_once('/').map_or("", |(place, _)| place).split('/').collect();
    for part in named.split('/') {
        match part {
            // An absolute path begins with an empty part.
            "" => return false,
            "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return false;
                }
            }
            name => parts.push(name),
        }
    }
    let target = parts.join("/");
    let is_own =
        target.starts_with(folder) && (target.starts_with(&format!("{folder}src/")) || target.contains("/packaging/"));
    let is_ours = target.starts_with(INCLUDED.1) || target == INCLUDED.2;
    is_own || (crate_name == INCLUDED.0 && is_ours)
}

/// Goes through tokens at every depth and reports line, rule and what was found.
fn scan(tokens: TokenStream, report: &mut impl FnMut(usize, &'static str, String)) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (index, token) in tokens.iter().enumerate() {
        if let TokenTree::Group(group) = token {
            if group.delimiter() == Delimiter::Bracket && is_attribute(&tokens[..index]) {
                scan_attribute(group.stream(), report);
            }
            scan(group.stream(), report);
        }
        let TokenTree::Ident(word) = token else { continue };
        let line = word.span().start().line;
        if word == "extern" && matches!(tokens.get(index + 1), Some(TokenTree::Literal(_))) {
            report(line, "foreign-code", "extern with an ABI".to_owned());
        }
        let (Some(TokenTree::Punct(mark)), Some(TokenTree::Group(group))) =
            (tokens.get(index + 1), tokens.get(index + 2))
        else {
            continue;
        };
        if mark.as_char() != '!' {
            continue;
        }
        let inside = group.stream().to_string();
        match word.to_string().as_str() {
            "include" => report(line, "include-code", inside),
            "include_str" | "include_bytes" => report(line, "include-from-outside", inside),
            // Cargo's own words about the package; anything else is the machine's.
            "env" | "option_env" if !inside.starts_with("\"CARGO_PKG_") => report(line, "build-environment", inside),
            _ => {}
        }
    }
}

/// Whether what stands before a bracket makes it an attribute.
fn is_attribute(before: &[TokenTree]) -> bool {
    let is_mark = |token: &TokenTree, mark: char| matches!(token, TokenTree::Punct(punct) if punct.as_char() == mark);
    match before {
        [.., hash, bang] if is_mark(bang, '!') => is_mark(hash, '#'),
        [.., hash] => is_mark(hash, '#'),
        [] => false,
    }
}

fn scan_attribute(tokens: TokenStream, report: &mut impl FnMut(usize, &'static str, String)) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (index, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => scan_attribute(group.stream(), report),
            TokenTree::Ident(word) if word == "unsafe_code" => {
                report(word.span().start().line, "lints-not-inherited", "unsafe_code is set for a part".to_owned());
            }
            TokenTree::Ident(word) if word == "path" => {
                let is_value = matches!(tokens.get(index + 1), Some(TokenTree::Punct(mark)) if mark.as_char() == '=');
                if let (true, Some(value)) = (is_value, tokens.get(index + 2)) {
                    report(word.span().start().line, "module-path", value.to_string());
                }
            }
            _ => {}
        }
    }
}

/// Lines below a folder, outside of tests, that name one of the refused libraries: a word before `::`, or after `use` or `crate`.
#[must_use]
pub fn names_in(tree: &Tree, folder: &str, refused: &BTreeSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending(".rs").filter(|(path, _)| path.starts_with(folder)) {
        let (Ok(code), Ok(tokens)) = (RustCode::parse(text), text.parse::<TokenStream>()) else {
            findings.push(Finding::whole(path, "file-kind: is not Rust"));
            continue;
        };
        let mut named = Vec::new();
        names(tokens, refused, &mut named);
        let found = named.into_iter().filter(|(line, _)| !code.is_test_line(*line));
        findings.extend(found.map(|(line, name)| Finding::at(path, line, format!("dispatch-names: {name}"))));
    }
    findings
}

fn names(tokens: TokenStream, refused: &BTreeSet<String>, found: &mut Vec<(usize, String)>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let is_colon = |at: Option<&TokenTree>| matches!(at, Some(TokenTree::Punct(mark)) if mark.as_char() == ':');
    let is_path_start = |index: usize| {
        // `a::clap::b` is a part of another path; `::clap::b` begins at the root.
        let before = index.checked_sub(3).and_then(|at| tokens.get(at));
        index < 2
            || !is_colon(tokens.get(index - 1))
            || !matches!(before, Some(TokenTree::Ident(word)) if word != "use")
    };
    for (index, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => names(group.stream(), refused, found),
            TokenTree::Ident(word) if refused.contains(&word.to_string()) => {
                let is_path = is_colon(tokens.get(index + 1)) && is_colon(tokens.get(index + 2));
                let is_used = tokens[..index].iter().rev().find_map(|token| match token {
                    TokenTree::Ident(word) => Some(word == "use" || word == "crate"),
                    TokenTree::Punct(mark) if mark.as_char() == ':' => None,
                    _ => Some(false),
                });
                if (is_path || is_used == Some(true)) && is_path_start(index) {
                    found.push((word.span().start().line, word.to_string()));
                }
            }
            _ => {}
        }
    }
}
