//! The policy, as a file and as the document on record: what is read is written as one document, which is read as the same
//! policy. Where two readers may read two policies, it is refused.

use std::path::Path;

use outboxd::config::policy::{Policy, checksum, parse, parse_document};

use crate::configuration::{FILE, refused};
use crate::json;

/// Panics unless it holds of `data`.
pub(crate) fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match parse(Path::new(FILE), text) {
        Ok(policy) => {
            unambiguous(text);
            accepted(&policy);
        }
        Err(faults) => refused(&faults, text),
    }
    if let Ok(policy) = parse_document(text) {
        let json = json::read(text.as_bytes()).expect("a document that is no JSON was taken");
        assert!(!json.has_two_readings(), "a document with a name twice was taken");
        assert_eq!(parse(Path::new(FILE), text).ok(), Some(policy.clone()), "as a file it is another policy");
        accepted(&policy);
    }
}

fn accepted(policy: &Policy) {
    let document = policy.document();
    let again = parse_document(&document).expect("the document of a policy");
    assert_eq!(&again, policy, "written out and read again it is another policy");
    assert_eq!(again.document(), document);
    assert_eq!(checksum(&again.document()), checksum(&document));
    assert!(!policy.rails.is_empty());
    for (name, rail) in &policy.rails {
        assert!(!rail.endpoints.is_empty(), "{name}");
        assert!(rail.contract.lease_duration_ms > rail.contract.rail_timeout_ms, "{name}");
        assert!(rail.reference.json_pointer.is_some() || rail.reference.header.is_some(), "{name}");
        assert!(rail.possible_duplicate.as_ref().is_none_or(|(_, value)| value.to_str().is_ok()), "{name}");
    }
}

/// No value that is neither text, whole number, truth, list nor table, and no name twice.
fn unambiguous(text: &str) {
    if text.trim_start().starts_with('{') {
        let json = json::read(text.as_bytes()).expect("taken, and is no JSON");
        assert!(!json.has_two_readings(), "a name is there twice");
    } else {
        let table = toml::from_str::<toml::Table>(text).expect("taken, and is no TOML");
        assert!(table.values().all(is_exact), "a value that no key takes was passed over");
    }
}

/// Whether nothing of it would be lost in JSON.
pub(crate) fn is_exact(value: &toml::Value) -> bool {
    match value {
        toml::Value::String(_) | toml::Value::Integer(_) | toml::Value::Boolean(_) => true,
        toml::Value::Float(_) | toml::Value::Datetime(_) => false,
        toml::Value::Array(items) => items.iter().all(is_exact),
        toml::Value::Table(table) => table.values().all(is_exact),
    }
}
