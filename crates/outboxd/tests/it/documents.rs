//! What README shows is what works: its configuration passes `check-config`, its snippets are taken from
//! the examples that other tests run, and the tests that decision records cite exist.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use outbox_testkit::workspace_root;

fn document(path: &str) -> String {
    fs::read_to_string(workspace_root().join(path)).unwrap()
}

/// The fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// The lines without their indentation, which differs between a document and a program.
fn unindented(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_configuration_of_the_readme_passes_check_config() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["database-password", "rail-token"] {
        let path = dir.path().join(name);
        fs::write(&path, "not-a-secret\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let [minimal] = &blocks(&document("README.md"), "toml")[..] else { panic!("README has one configuration") };
    let file = dir.path().join("outboxd.toml");
    fs::write(&file, minimal.replace("/etc/outboxd", &dir.path().display().to_string())).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_outboxd"));
    let output = command
        .args(["check-config", "--config"])
        .arg(&file)
        .env_clear()
        .env("STATE_DIRECTORY", dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(!shown.contains("warning:"), "{shown}");
}

#[test]
fn the_snippets_of_the_readme_are_taken_from_the_examples_that_tests_run() {
    let readme = document("README.md");
    for (language, example) in
        [("sql", "docs/examples/enqueue.sql"), ("rust", "crates/outbox-store/examples/enqueue_in_transaction.rs")]
    {
        let shown = blocks(&readme, language);
        assert!(!shown.is_empty(), "README shows no {language}");
        for block in shown {
            let (block, whole) = (unindented(&block), unindented(&document(example)));
            assert!(whole.contains(block.trim()), "{example} has no such lines:\n{block}");
        }
    }
}

/// Every function that stands after `#[test]` or `#[tokio::test]`, by name; attributes in between are passed over.
fn test_functions(text: &str) -> Vec<String> {
    let marked = text.split("test]\n").skip(1).chain(text.split("test(").skip(1));
    let name = |rest: &str| Some(rest.split_once("fn ")?.1.split('(').next()?.trim().to_owned());
    marked.filter_map(name).collect()
}

fn rust_files(folder: PathBuf, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            rust_files(entry.path(), files);
        } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
            files.push(entry.path());
        }
    }
}

#[test]
fn the_tests_that_decision_records_cite_exist() {
    let mut files = Vec::new();
    rust_files(workspace_root().join("crates"), &mut files);
    let mut known = Vec::new();
    for file in &files {
        let module = file.file_stem().unwrap().to_string_lossy().into_owned();
        let names = test_functions(&fs::read_to_string(file).unwrap());
        known.extend(names.into_iter().map(|name| format!("{module}::{name}")));
    }
    let mut cited = 0;
    for record in fs::read_dir(workspace_root().join("docs/decisions")).unwrap() {
        let path = record.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let (_, evidence) = text.split_once("## Evidence").unwrap_or_else(|| panic!("{} has none", path.display()));
        for name in evidence.split('`').skip(1).step_by(2).filter(|name| name.contains("::") && *name != "gate::tests")
        {
            assert!(known.iter().any(|test| test == name), "{} cites {name}, which does not exist", path.display());
            cited += 1;
        }
    }
    assert!(cited > 20, "only {cited} tests are cited");
}
