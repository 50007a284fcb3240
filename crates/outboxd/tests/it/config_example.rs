//! The commented example file: it is valid, shows the defaults of the code, and leaves out no key.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use outboxd::config::{Host, Sources, describe, load};
use tempfile::TempDir;

const EXAMPLE: &str = include_str!("../../packaging/outboxd.example.toml");

fn sources(dir: &TempDir, text: &str) -> Sources {
    let file = dir.path().join("outboxd.toml");
    fs::write(&file, text).unwrap();
    let host =
        Host { name: "host-1".to_owned(), credentials_directory: Some(dir.path().to_owned()), state_directory: None };
    Sources { file, environment: Vec::new(), assignments: Vec::new(), host }
}

/// The values in force with `text`, whose credentials are made for the occasion.
fn values(text: &str) -> BTreeMap<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let text = text.replace("/etc/outboxd", &dir.path().display().to_string());
    for name in ["database-password", "rail-token"] {
        let path = dir.path().join(name);
        fs::write(&path, "secret").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let loaded = load(&sources(&dir, &text)).unwrap_or_else(|faults| panic!("{faults}"));
    let directory = dir.path().display().to_string();
    describe(&loaded.config).into_iter().map(|(key, value)| (key, value.replace(&directory, "/etc/outboxd"))).collect()
}

/// Whether `line` is a key that is commented out.
fn commented(line: &str) -> Option<&str> {
    let rest = line.strip_prefix('#')?;
    let key = rest.split(" = ").next()?;
    let is_key = rest.contains(" = ") && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    is_key.then_some(rest)
}

/// The example with the defaults that it shows in force.
fn with_defaults() -> (String, usize) {
    let (mut text, mut count, mut example) = (String::new(), 0, false);
    for line in EXAMPLE.lines() {
        if line.starts_with("# ") {
            example |= line.contains("No default");
        } else if let Some(key) = commented(line).filter(|_| !example) {
            count += 1;
            text.push_str(key);
            text.push('\n');
            continue;
        } else {
            example = false;
        }
        text.push_str(line);
        text.push('\n');
    }
    (text, count)
}

#[test]
fn the_example_shows_the_defaults_of_the_code() {
    let (text, count) = with_defaults();
    assert!(count > 30, "only {count} defaults were found in the example");
    assert_eq!(values(EXAMPLE), values(&text));
}

#[test]
fn the_example_shows_every_key() {
    let dir = tempfile::tempdir().unwrap();
    let rail = "rails.sepa_instant";
    let tables = [
        ("dispatcher", "[dispatcher]".to_owned()),
        ("database", "[database]".to_owned()),
        ("health", "[health]".to_owned()),
        ("log", "[log]".to_owned()),
        ("credentials", "[credentials]".to_owned()),
        (rail, format!("[{rail}]")),
        ("rails.sepa_instant.secret_headers.Authorization", format!("[{rail}.secret_headers.Authorization]")),
        ("rails.sepa_instant.breaker", format!("[{rail}.breaker]")),
        ("rails.sepa_instant.codes", format!("[[{rail}.codes]]")),
        ("rails.sepa_instant.possible_duplicate", format!("[{rail}.possible_duplicate]")),
        ("rails.sepa_instant.inquiry", format!("[{rail}.inquiry]")),
        ("rails.sepa_instant.inquiry.codes", format!("[[{rail}.inquiry.codes]]")),
    ];
    for (table, header) in tables {
        let (_, section) = EXAMPLE.split_once(&header).unwrap_or_else(|| panic!("{header} is not in the example"));
        let section = section.split("\n[").next().unwrap_or_default();
        let faults = load(&sources(&dir, &format!("{header}\nno_such_key = 1\n"))).unwrap_err();
        let unknown = faults.iter().find(|fault| fault.message.contains("unknown field `no_such_key`")).unwrap();
        // "unknown field `no_such_key`, expected one of `a`, `b`"
        let keys: Vec<&str> = unknown.message.split('`').skip(1).step_by(2).skip(1).collect();
        assert!(!keys.is_empty(), "{}", unknown.message);
        for key in keys {
            let shown = section.lines().any(|line| line.trim_start_matches('#').starts_with(&format!("{key} = ")));
            let table_of_its_own = EXAMPLE.contains(&format!("[{table}.{key}"));
            assert!(shown || table_of_its_own, "{table}.{key} is not in the example");
        }
    }
}

#[test]
fn the_example_is_where_the_packaging_says() {
    assert_eq!(PathBuf::from(outboxd::config::CONFIG_FILE), PathBuf::from("/etc/outboxd/outboxd.toml"));
    assert!(EXAMPLE.contains(outboxd::config::CONFIG_FILE));
}
