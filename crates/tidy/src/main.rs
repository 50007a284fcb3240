//! The rules that scripts ask for by themselves, beside the tests that run all of them:
//!
//!     tidy boundary         nothing gets into the crates that touch money but what is listed
//!     tidy write-invariants writes docs/INVARIANTS.md from docs/invariants.toml
//!     tidy verified JUNIT   what is called implemented was verified by the tests of that report
//!
//! It looks at the repository that it was built from, prints each breach with its path and line, and ends with 1 if there is one.
#![allow(clippy::print_stdout, reason = "what it says is for a person or a log")]

use std::path::Path;
use std::process::ExitCode;

use tidy::{Finding, Tree, boundary, dependencies, junit, register};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("."));
    let tree = match Tree::read(root) {
        Ok(tree) => tree,
        Err(error) => return ended(&format!("{}: {error}", root.display())),
    };
    match words.as_slice() {
        ["boundary"] => report(
            &[boundary::core_boundary_is_kept(&tree), dependencies::crates_keep_their_places(&tree)].concat(),
            "the boundary of the crates that touch money is kept",
        ),
        ["write-invariants"] => match std::fs::write(root.join(register::PAGE), register::page(&tree)) {
            Ok(()) => report(&[], register::PAGE),
            Err(error) => ended(&format!("{}: {error}", register::PAGE)),
        },
        ["verified", path] => verified(&tree, path),
        _ => ended("usage: tidy boundary | write-invariants | verified JUNIT"),
    }
}

fn verified(tree: &Tree, path: &str) -> ExitCode {
    let read = std::fs::read_to_string(path).map_err(|error| error.to_string());
    match read.and_then(|text| junit::outcomes(&text)) {
        Ok(outcomes) => {
            let sound = format!("each implemented invariant was verified; {} tests in {path}", outcomes.len());
            report(&register::unverified(tree, &outcomes), &sound)
        }
        Err(error) => ended(&format!("{path}: {error}")),
    }
}

fn ended(message: &str) -> ExitCode {
    println!("{message}");
    ExitCode::from(2)
}

fn report(findings: &[Finding], sound: &str) -> ExitCode {
    for finding in findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("{sound}");
        ExitCode::SUCCESS
    } else {
        println!("{} breaches", findings.len());
        ExitCode::FAILURE
    }
}
