//! The binary's words: exit codes, where output goes, and that nothing secret is in it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use tempfile::TempDir;

fn outboxd(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outboxd"));
    command.args(arguments).env_clear().output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn configured(extra: &str) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("password");
    fs::write(&secret, "canary-5b1e\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let file = dir.path().join("outboxd.toml");
    let secret = secret.display();
    let toml = format!(
        "[dispatcher]\nname = \"pay-1\"\n[database]\nhost = \"/run/postgresql\"\nname = \"p\"\nuser = \"u\"\n\
         password_file = \"{secret}\"\n[rails.sepa]\nurl = \"https://rail.example/\"\n\
         reference_json_pointer = \"/id\"\nsecret_headers.Authorization.file = \"{secret}\"\n{extra}"
    );
    fs::write(&file, toml).unwrap();
    let file = file.display().to_string();
    (dir, file)
}

#[test]
fn a_good_configuration_is_shown_with_its_fingerprint_and_without_its_secrets() {
    let (_dir, file) = configured("");
    let table = outboxd(&["check-config", "--config", &file]);
    assert_eq!(table.status.code(), Some(0), "{}", text(&table.stderr));
    let json = outboxd(&["check-config", "--file", &file, "--output", "json", "--set", "dispatcher.poll_max=900ms"]);
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(value["values"]["dispatcher.poll_max"], "900ms");
    assert_eq!(value["values"]["rails.sepa.(lease at least)"], "27s");
    assert_eq!(value["config_sha256"].as_str().map(str::len), Some(64));
    assert!(text(&table.stdout).contains("dispatcher.poll_max"));
    for output in [table.stdout, table.stderr, json.stdout, json.stderr] {
        assert!(!text(&output).contains("canary"), "{}", text(&output));
    }
}

#[test]
fn a_faulty_configuration_ends_with_78_and_every_fault_on_standard_error() {
    let (_dir, file) = configured("retries = 3\ntimeout = 5\n");
    let output = outboxd(&["check-config", "--config", &file]);
    assert_eq!(output.status.code(), Some(78));
    let faults = text(&output.stderr);
    assert!(faults.contains("unknown field `retries`") && faults.contains("expected a duration"), "{faults}");
    assert!(faults.contains("2 faults") && output.stdout.is_empty(), "{faults}");
    assert!(!faults.contains("canary"), "{faults}");
}

#[test]
fn a_flag_allows_unsafe_durability_and_is_warned_of() {
    let (_dir, file) = configured("");
    let output = outboxd(&["check-config", "--config", &file, "--allow-unsafe-durability"]);
    assert!(text(&output.stdout).contains("warning: database.allow_unsafe_durability is on"));
}

#[test]
fn words_that_make_no_sense_end_with_64_and_help_with_0() {
    for (arguments, code) in [
        (&["--no-such-flag"][..], 64),
        (&["no-such-command"], 64),
        (&["completions", "no-such-shell"], 64),
        (&[], 64),
        (&["--help"], 0),
        (&["--version"], 0),
    ] {
        assert_eq!(outboxd(arguments).status.code(), Some(code), "{arguments:?}");
    }
}

#[test]
fn completions_and_manual_pages_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(text(&outboxd(&["completions", shell]).stdout).contains("check-config"), "{shell}");
    }
    assert!(text(&outboxd(&["man"]).stdout).contains("check\\-config"));
    let dir = tempfile::tempdir().unwrap();
    let output = outboxd(&["man", "--out", &dir.path().display().to_string()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let page = fs::read_to_string(dir.path().join("outboxd-check-config.1")).unwrap();
    assert!(page.contains("allow\\-unsafe\\-durability"));
}
