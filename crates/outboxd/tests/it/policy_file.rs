//! A policy's file: what is refused, by what name, and what becomes of it on record. What a daemon does with it is in `policy`.

use std::path::Path;

use outbox_core::{Meaning, Millis, RailName};
use outboxd::config::describe;
use outboxd::config::policy::{Policy, checksum, parse, parse_document};
use serde_json::Value;

use crate::config::{GOOD, case};

const EXAMPLE: &str = include_str!("../../packaging/policy.example.toml");

fn example() -> Policy {
    parse(Path::new("policy.toml"), EXAMPLE).unwrap_or_else(|faults| panic!("{faults}"))
}

fn faults(text: &str) -> Vec<String> {
    match parse(Path::new("policy.toml"), text) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(|fault| fault.to_string().replace("policy.toml: ", "")).collect(),
    }
}

/// The example with its lines changed.
fn with(pairs: &[(&str, &str)]) -> String {
    pairs.iter().fold(EXAMPLE.to_owned(), |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text.replace(from, to)
    })
}

#[test]
fn example_is_a_policy_and_shows_the_defaults_of_the_code() {
    let rail = &example().rails[&RailName::new("sepa").unwrap()];
    assert_eq!(rail.timeout(), Millis(30_000));
    assert_eq!(rail.endpoint("https://instant.bank.example").unwrap().san.as_deref(), Some("payments.bank.example"));
    assert_eq!(rail.endpoint("https://other.example"), None);
    assert_eq!((rail.codes.len(), rail.codes[1].means), (2, Meaning::NotExecuted));
    // What is commented out and is no alternative (a header beside a pointer) is what holds without it.
    let shown: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.contains(" = ") && !rest.starts_with(' ') && !rest.contains("_header = \"x-") => rest,
            _ => line,
        })
        .fold(String::new(), |text, line| text + line + "\n");
    assert_eq!(shown.lines().count(), EXAMPLE.lines().count());
    assert_ne!(shown, EXAMPLE);
    let with_defaults = parse(Path::new("policy.toml"), &shown).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(with_defaults.document(), example().document());
    let document: Value = serde_json::from_str(&example().document()).unwrap();
    for key in document["rails"]["sepa"]["contract"].as_object().unwrap().keys() {
        assert!(EXAMPLE.contains(&format!("{key} = ")), "{key} is left out");
    }
}

#[test]
fn document_is_the_same_from_toml_from_json_and_from_itself() {
    let document = example().document();
    assert!(document.starts_with("{\"format\":1,\"rails\":{\"sepa\":{\"code_header\":null,"), "{document}");
    let table: toml::Table = toml::from_str(EXAMPLE).unwrap();
    let json = serde_json::to_string_pretty(&table).unwrap();
    assert_eq!(parse(Path::new("policy.json"), &json).unwrap().document(), document);
    let again = parse_document(&document).unwrap();
    assert_eq!((again.document(), &again), (document.clone(), &example()));
    assert_eq!(checksum(&document), checksum(&again.document()));
    // A blank or another order is another document, and not one of ours.
    let reordered = document.replacen("\"format\":1,", "", 1);
    let reordered = format!("{},\"format\":1}}", reordered.strip_suffix('}').unwrap());
    for other in [document.replacen(':', ": ", 1), reordered] {
        assert!(parse_document(&other).is_err(), "{other}");
    }
}

#[test]
fn every_fault_of_a_policy_is_named_at_once() {
    let text = with(&[
        ("format = 1", "format = 2"),
        (
            "on_unknown = \"resend\"",
            "on_unknown = \"retry\"\nmax_sends = 1.5\nmax_sneds = 3\nlease_duration_ms = 30000\nfallback = \"no\"",
        ),
        ("origin = \"https://instant.bank.example\"", "origin = \"https://instant.bank.example/pay\""),
        ("san = \"payments.bank.example\"", "san = \"not a name\""),
        ("means = \"interim\"", "means = \"maybe\""),
        ("status = 503", "status = 99"),
        ("path = \"/payments?key={key}\"", "path = \"/payments\""),
        ("header = \"x-possible-duplicate\"", "header = \"idempotency-key\""),
    ]);
    let found = faults(&text);
    let expected = [
        "format: must be 1",
        "rails.sepa.codes.0.means: is no meaning",
        "rails.sepa.codes.1.status: is 99",
        "rails.sepa.contract.fallback: must be true or false",
        "rails.sepa.contract.lease_duration_ms: must be longer than rail_timeout_ms",
        "rails.sepa.contract.max_sends: must be a whole number",
        "rails.sepa.contract.max_sneds: is not a key of a policy",
        "rails.sepa.contract.on_unknown: must be",
        "rails.sepa.endpoints.0.origin: is no origin; write it \"https://instant.bank.example\"",
        "rails.sepa.endpoints.0.san: is neither a name",
        "rails.sepa.inquiry.path: `inquiry.path` has no `{key}`",
        "rails.sepa.possible_duplicate.header: is given twice",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for words in expected {
        assert!(found.iter().any(|fault| fault.starts_with(words)), "{words}: {found:#?}");
    }
}

#[test]
fn policy_that_leaves_a_decision_open_is_refused() {
    for (pairs, words) in [
        (vec![("idempotency_window_ms = 86400000", "")], "rails.sepa.contract.idempotency_window_ms: is missing"),
        (vec![("on_unknown = \"resend\"", "")], "rails.sepa.contract.on_unknown: must be"),
        (vec![("[rails.sepa]\n", "[rails.sepa]\nsurprise = 1\n")], "rails.sepa.surprise: is not a key"),
        (
            vec![("reference_json_pointer = \"/payment/id\"\n#reference_header", "#reference_header")],
            "rails.sepa.reference_json_pointer: is missing",
        ),
        (vec![("origin = \"https://instant.bank.example\"", "")], "rails.sepa.endpoints.0.origin: is missing"),
        (
            vec![("origin = \"https://instant.bank.example\"", "origin = \"http://127.0.0.1:80\"")],
            "rails.sepa.endpoints.0.origin: is no origin; write it \"http://127.0.0.1\"",
        ),
        (
            vec![("origin = \"https://instant.bank.example\"", "origin = \"http://127.0.0.1\"")],
            "rails.sepa.endpoints.0.san: has no effect with plain http",
        ),
        (
            vec![("key_header = \"idempotency-key\"", "\nkey_header = \"host\"")],
            "rails.sepa.key_header: is set by the dispatcher",
        ),
    ] {
        let found = faults(&with(&pairs));
        assert!(found.len() == 1 && found[0].starts_with(words), "{words}: {found:#?}");
    }
    assert_eq!(faults("format = 1\n").len(), 1);
    assert_eq!(faults("format = 1\n[rails.sepa]\n").len(), 3, "{:?}", faults("format = 1\n[rails.sepa]\n"));
    assert_eq!(faults("{\"format\": 1, \"rails\": 5}").len(), 1);
    assert_eq!(faults("format = ").len(), 1);
    let asked = "format = 1\n[rails.a]\nreference_json_pointer = \"/id\"\nendpoints = [{ origin = \"https://a\" }, { origin = \"https://a\" }]\n\
                 contract = { on_unknown = \"inquire\" }\n";
    let found = faults(asked);
    assert!(found.iter().any(|fault| fault.starts_with("rails.a.inquiry: is missing")), "{found:?}");
    assert!(found.iter().any(|fault| fault.starts_with("rails.a.endpoints.1.origin: is given twice")), "{found:?}");
}

#[test]
fn value_that_would_be_passed_over_or_read_in_two_ways_is_refused() {
    for lost in ["nan", "-inf"] {
        let found = faults(&with(&[("max_sends_per_s = 200", &format!("max_sends_per_s = {lost}"))]));
        assert!(found.len() == 1 && found[0].starts_with("holds nan or inf"), "{lost}: {found:?}");
    }
    let json = example().document().replace("\"max_sends\":10", "\"max_sends\":10,\"max_sends\":99");
    assert_eq!(faults(&json), ["a table has a key twice"]);
    let beyond_ascii = [("header = \"x-possible-duplicate\"", "header = \"x-possible-duplicate\"\nvalue = \"é\"")];
    let found = faults(&with(&beyond_ascii));
    assert!(found.iter().any(|fault| fault.contains("possible_duplicate.value: must be visible")), "{found:?}");
}

#[test]
fn configuration_that_leaves_decisions_to_the_policy_may_have_none_of_them() {
    let governed = GOOD.replace("reference_json_pointer = \"/id\"", "decisions = \"policy\"");
    let lines = describe(&case(&governed).config());
    assert_eq!(lines.get("rails.sepa.decisions").map(String::as_str), Some("policy"));
    assert!(
        ["timeout", "key_header", "reference_json_pointer"]
            .iter()
            .all(|key| !lines.contains_key(&format!("rails.sepa.{key}")))
    );
    for (line, key) in [
        ("timeout = \"5s\"", "timeout"),
        ("key_header = \"x-key\"", "key_header"),
        ("key_format = \"bare\"", "key_format"),
        ("server_name = \"rail.example\"", "server_name"),
        ("reference_json_pointer = \"/id\"", "reference_json_pointer"),
        ("reference_header = \"x-id\"", "reference_header"),
        ("code_json_pointer = \"/code\"", "code_json_pointer"),
        ("code_header = \"x-code\"", "code_header"),
        ("codes = [{status = 409, means = \"interim\"}]", "codes"),
        ("possible_duplicate = {header = \"x-pd\"}", "possible_duplicate"),
        ("inquiry = {path = \"/{key}\", code_header = \"x-code\"}", "inquiry"),
    ] {
        let key = format!("rails.sepa.{key}");
        case(&format!("{governed}{line}\n")).one_fault(&["outboxd.toml:13", &key, "is decided by the policy"]);
    }
    // What is no decision stays.
    case(&format!("{governed}concurrency = 5\nconnect_timeout = \"30s\"\nheaders = {{x-a = \"b\"}}\n")).config();
    case(&GOOD.replace("reference_json", "decisions = \"both\"\nreference_json"))
        .one_fault(&["rails.sepa.decisions", "must be"]);
    // In the file, they are still demanded.
    case(&GOOD.replace("reference_json_pointer = \"/id\"", "decisions = \"file\""))
        .one_fault(&["reference_json_pointer", "is missing"]);
}
