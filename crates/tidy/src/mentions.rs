//! Every path, command and option that a document mentions exists. The commands are read from the
//! daemon's own command-line definition, so a document cannot promise what the program does not have.

use std::collections::BTreeSet;

use syn::visit::Visit;

use crate::markdown;
use crate::tree::{Finding, Tree};

/// A token that begins like this is a path of the repository.
const FOLDERS: [&str; 8] = ["scripts/", "docs/", "crates/", "migrations/", "evidence/", ".github/", ".ci/", ".config/"];
/// Clap adds these to every command.
const GIVEN_OPTIONS: [&str; 2] = ["help", "version"];
/// Where the daemon's commands are defined.
const COMMANDS_FOLDER: &str = "crates/outboxd/src/";

fn documents(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    tree.ending(".md").filter(|(path, _)| !path.contains('/') || path.starts_with("docs/"))
}

/// Paths and relative links in documents lead somewhere.
#[must_use]
pub fn mentioned_paths_exist(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in documents(tree) {
        for (index, line) in text.lines().enumerate() {
            for mentioned in missing_paths(tree, line) {
                findings.push(Finding::at(path, index + 1, format!("{mentioned} does not exist")));
            }
        }
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for link in markdown::links(text) {
            let is_elsewhere = link.text.contains("://") || link.text.starts_with("mailto:") || link.text.is_empty();
            if !is_elsewhere && !resolve(folder, &link.text).is_some_and(|target| tree.exists(&target)) {
                findings.push(Finding::at(path, link.line, format!("the link to {} leads nowhere", link.text)));
            }
        }
    }
    findings
}

/// The paths of the repository that a line mentions and that are not there.
pub(crate) fn missing_paths<'a>(tree: &Tree, line: &'a str) -> Vec<&'a str> {
    let words = line.split(|c: char| c.is_whitespace() || "()[]{}\"'`,;|…".contains(c));
    let paths = words.filter_map(|word| {
        let word = word.trim_start_matches("./").trim_end_matches(['.', ':', '!', '?']);
        word.split(['#', ':']).next()
    });
    paths
        .filter(|path| FOLDERS.iter().any(|folder| path.starts_with(folder)) && !tree.exists(fixed_part(path)))
        .collect()
}

/// The path up to its first placeholder: `migrations/functions/<name>.sql` stands for its folder.
fn fixed_part(path: &str) -> &str {
    let is_placeholder = |part: &str| {
        part.contains(['<', '*', '$', '%']) || ["NNNN", "YYYY", "NAME", "OBJECT"].iter().any(|word| part.contains(word))
    };
    let mut end = 0;
    for part in path.split('/') {
        if is_placeholder(part) {
            return path[..end].trim_end_matches('/');
        }
        end = (end + part.len() + 1).min(path.len());
    }
    path
}

fn resolve(folder: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// `outboxd COMMAND --option` in a document's code is a command and an option that the program has.
#[must_use]
pub fn mentioned_commands_exist(tree: &Tree) -> Vec<Finding> {
    let mut defined = Definitions::default();
    for (path, text) in tree.ending(".rs").filter(|(path, _)| path.starts_with(COMMANDS_FOLDER)) {
        match syn::parse_file(text) {
            Ok(file) => defined.visit_file(&file),
            Err(error) => return vec![Finding::at(path, error.span().start().line, error.to_string())],
        }
    }
    if defined.commands.is_empty() {
        return vec![Finding::whole(COMMANDS_FOLDER, "defines no enum that derives Subcommand")];
    }
    let mut findings = Vec::new();
    for (path, text) in documents(tree) {
        for piece in markdown::code(text) {
            for fault in faults_of(&piece.text, &defined, tree) {
                findings.push(Finding::at(path, piece.line, fault));
            }
        }
    }
    findings
}

/// What is wrong with one line of code.
fn faults_of(line: &str, defined: &Definitions, tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    // A pipe, a semicolon or a comment ends a command.
    for command in line.split(['|', ';', '#', '&']) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let program = words.iter().position(|word| *word == "outboxd" || word.ends_with("/outboxd"));
        let script = words.iter().position(|word| word.trim_start_matches("./").starts_with("scripts/"));
        if let Some(at) = program.filter(|at| *at == 0 || !words[*at - 1].starts_with('/') && words[0] != "install") {
            let rest = &words[at + 1..];
            let name = rest.first().filter(|word| is_command_word(word));
            if let Some(name) = name.filter(|name| !defined.commands.contains(**name)) {
                faults.push(format!("outboxd has no command {name}"));
            }
            let unknown = options_of(rest).filter(|option| !defined.options.contains(*option));
            faults.extend(unknown.map(|option| format!("outboxd has no option --{option}")));
        } else if let Some(at) = script {
            let text = tree.text(words[at].trim_start_matches("./")).unwrap_or_default();
            let unknown = options_of(&words[at + 1..]).filter(|option| !text.contains(&format!("--{option}")));
            faults.extend(unknown.map(|option| format!("{} has no option --{option}", words[at])));
        }
    }
    faults
}

fn is_command_word(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-')
}

fn options_of<'a>(words: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    let options = words.iter().filter_map(|word| word.trim_start_matches('[').strip_prefix("--"));
    let names = options.map(|option| option.split(['=', ']']).next().unwrap_or_default());
    names.filter(|name| !name.is_empty() && !GIVEN_OPTIONS.contains(name))
}

/// Names from the derived command line: variants of `Subcommand` enums, fields that are long options.
#[derive(Debug, Default)]
struct Definitions {
    commands: BTreeSet<String>,
    options: BTreeSet<String>,
}

impl<'ast> Visit<'ast> for Definitions {
    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        if derives(&item.attrs, "Subcommand") {
            for variant in &item.variants {
                let named = value_in_attributes(&variant.attrs, "command", "name");
                self.commands.insert(named.unwrap_or_else(|| kebab_case(&variant.ident.to_string())));
            }
        }
        syn::visit::visit_item_enum(self, item);
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        let name = field.ident.as_ref().map(|ident| ident.to_string().replace('_', "-"));
        if let (Some(name), true) = (name, has_word(&field.attrs, "arg", "long")) {
            self.options.insert(value_in_attributes(&field.attrs, "arg", "long").unwrap_or(name));
        }
        syn::visit::visit_field(self, field);
    }
}

fn derives(attributes: &[syn::Attribute], name: &str) -> bool {
    has_word(attributes, "derive", name)
}

/// The words of an attribute's list, literals as they are written.
fn words_in(attribute: &syn::Attribute) -> Vec<String> {
    let tokens = attribute.meta.require_list().map(|list| list.tokens.clone());
    tokens.into_iter().flatten().map(|token| token.to_string()).collect()
}

fn has_word(attributes: &[syn::Attribute], attribute: &str, word: &str) -> bool {
    attributes.iter().filter(|a| a.path().is_ident(attribute)).any(|a| words_in(a).iter().any(|found| found == word))
}

/// The literal in `#[attribute(key = "literal")]`.
fn value_in_attributes(attributes: &[syn::Attribute], attribute: &str, key: &str) -> Option<String> {
    attributes.iter().filter(|a| a.path().is_ident(attribute)).find_map(|a| {
        let words = words_in(a);
        let at = words.iter().position(|word| word == key)?;
        let literal = words.get(at + 2).filter(|_| words[at + 1] == "=")?;
        Some(literal.trim_matches('"').to_owned())
    })
}

fn kebab_case(name: &str) -> String {
    let mut kebab = String::new();
    for (index, character) in name.chars().enumerate() {
        if character.is_uppercase() && index > 0 {
            kebab.push('-');
        }
        kebab.extend(character.to_lowercase());
    }
    kebab
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLI: &str = "#[derive(Debug, Subcommand)] enum Command { Run(Run), CheckConfig, #[command(name = \"see\")] Look }\n\
                       #[derive(Args)] struct Run { #[arg(long)] dry_run: bool, #[arg(long = \"only\", short)] x: u8, y: u8 }\n";

    fn command_faults(document: &str) -> Vec<String> {
        let script = "case $1 in --fast) ;; esac";
        let tree = Tree::of(&[("crates/outboxd/src/cli.rs", CLI), ("README.md", document), ("scripts/a.sh", script)]);
        mentioned_commands_exist(&tree).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn unknown_commands_and_options_are_found() {
        let good = "`outboxd run --dry-run --only=3 | tee --bad`, `outboxd check-config`, `outboxd see`, outboxd is here\n\
                    ```\nsudo /usr/bin/outboxd run --help # --no\nscripts/a.sh [--fast]\ninstall -m 755 a /usr/bin/outboxd\n```\n";
        assert_eq!(command_faults(good), Vec::<String>::new());
        assert_eq!(command_faults("`outboxd go`"), ["outboxd has no command go"]);
        assert_eq!(command_faults("`outboxd run --y`"), ["outboxd has no option --y"]);
        assert_eq!(command_faults("```\nscripts/a.sh --slow\n```"), ["scripts/a.sh has no option --slow"]);
        assert_eq!(mentioned_commands_exist(&Tree::default()).len(), 1);
    }

    #[test]
    fn dead_paths_and_links_are_found() {
        let text = "See `scripts/test.sh`, migrations/functions/<name>.sql, docs/decisions/YYYY-MM-DD-slug.md.\n\
                    Not scripts/gone.sh: nor [x](gone.md), but [y](A.md#z), [w](../README.md), [v](https://a.b/c).\n";
        let tree = Tree::of(&[
            ("docs/A.md", text),
            ("README.md", ""),
            ("scripts/test.sh", ""),
            ("migrations/functions/f.sql", ""),
            ("docs/decisions/2026-01-01-a.md", ""),
        ]);
        let found: Vec<_> = mentioned_paths_exist(&tree).into_iter().map(|finding| finding.what).collect();
        assert_eq!(found, ["scripts/gone.sh does not exist", "the link to gone.md leads nowhere"]);
    }
}
