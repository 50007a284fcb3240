//! What README shows is what works: its configuration passes `check-config`, its snippets are taken from
//! the examples that other tests run. What documents name is looked for by `crates/tidy`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
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
