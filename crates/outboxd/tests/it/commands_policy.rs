//! `policy propose`, `approve`, `reject`, `activate`, `show` and `diff`: what two people type and see, and what one may not do alone.

use serde_json::Value;

use crate::commands_binary::{Desk, Ended, text};

const EXAMPLE: &str = include_str!("../../packaging/policy.example.toml");

fn policy(desk: &Desk, login: &str, arguments: &[&str]) -> Ended {
    desk.run(login, &[&["policy"], arguments].concat())
}

fn proposed(desk: &Desk, text_of_file: &str) -> Value {
    let file = desk.file("policy.toml", text_of_file);
    let dry =
        policy(desk, "t_operator", &["propose", text(&file), "--reason", "r", "--dry-run", "--output", "json"]).json();
    let count = dry["differences"].as_array().unwrap().len().to_string();
    policy(desk, "t_operator", &["propose", text(&file), "--reason", "r", "--confirm", &count, "--output", "json"])
        .json()
}

fn put_in_force(desk: &Desk, text_of_file: &str) -> Value {
    let proposal = proposed(desk, text_of_file);
    let (version, count) = (proposal["version"].to_string(), proposal["differences"].to_string());
    for (login, verb) in [("t_approver", "approve"), ("t_operator", "activate")] {
        policy(desk, login, &[verb, &version, "--reason", "r", "--confirm", &count, "--output", "json"]).json();
    }
    proposal
}

#[tokio::test]
async fn policy_goes_from_a_file_to_what_is_in_force_by_two_logins() {
    let desk = Desk::with_rails().await;
    let file = desk.file("policy.toml", EXAMPLE);
    let propose = ["propose", text(&file), "--reason", "first policy"];
    let dry = policy(&desk, "t_operator", &[&propose[..], &["--dry-run"]].concat());
    assert!(dry.code == Some(0) && dry.out.ends_with("nothing was proposed\n"), "{dry:?}");
    assert!(dry.out.contains("rails.sepa.codes[503 NOT_EXECUTED].means: - -> \"not_executed\"\n"), "{dry:?}");
    let asks = policy(&desk, "t_operator", &propose);
    assert!(
        asks.code == Some(64) && asks.err.contains("differences from the active policy; to go on, say --confirm"),
        "{asks:?}"
    );
    assert_eq!(policy(&desk, "t_operator", &["show", "--output", "json"]).out, "");
    let proposal = proposed(&desk, EXAMPLE);
    let (version, count) = (proposal["version"].to_string(), proposal["differences"].to_string());
    let said = ["--reason", "looked at it", "--confirm", &count];
    // The maker's login does not even see the function, and nothing goes on without approval.
    let own = policy(&desk, "t_operator", &[&["approve", &version], &said[..]].concat());
    assert_eq!(own.code, Some(77), "{own:?}");
    let early = policy(&desk, "t_operator", &[&["activate", &version], &said[..]].concat());
    assert!(early.code == Some(65) && early.err.contains("not approved yet"), "{early:?}");
    let seen = policy(&desk, "t_approver", &["approve", &version, "--reason", "r", "--dry-run"]);
    for word in ["PROPOSED", "t_operator", "rails.sepa.contract.on_unknown: - -> \"resend\""] {
        assert!(seen.out.contains(word), "{word}: {seen:?}");
    }
    let other_count = policy(&desk, "t_approver", &["approve", &version, "--reason", "r", "--confirm", "1"]);
    assert!(other_count.code == Some(64) && other_count.err.contains("nothing was done"), "{other_count:?}");
    let approved = policy(&desk, "t_approver", &[&["approve", &version], &said[..]].concat());
    assert!(approved.code == Some(0) && approved.out.contains(&format!("policy activate {version}")), "{approved:?}");
    let again = policy(&desk, "t_approver", &[&["reject", &version], &said[..]].concat());
    assert!(again.code == Some(65) && again.err.contains("decided already"), "{again:?}");
    let active = policy(&desk, "t_operator", &[&["activate", &version], &said[..]].concat());
    assert_eq!(active.code, Some(0), "{active:?}");
    assert!(active.out.contains("rail telex is not in it: nothing is sent on it any more"), "{active:?}");
    let listed = policy(&desk, "t_auditor", &["show"]);
    for word in ["ACTIVE", "t_operator", "t_approver", proposal["checksum"].as_str().unwrap()] {
        assert!(listed.out.contains(word), "{word}: {listed:?}");
    }
    let set = desk.run("t_operator", &["rail", "set", "sepa", "--max-sends", "3"]);
    assert!(set.code == Some(65) && set.err.contains("use outboxd policy propose"), "{set:?}");
}

#[tokio::test]
async fn versions_and_files_are_compared_and_a_shown_document_can_be_proposed_again() {
    let desk = Desk::with_rails().await;
    put_in_force(&desk, EXAMPLE);
    let changed = EXAMPLE.replace("max_sends_per_s = 200", "max_sends_per_s = 50");
    let file = desk.file("changed.toml", &changed);
    let expected = "rails.sepa.contract.max_sends_per_s: 200 -> 50\n";
    assert_eq!(policy(&desk, "t_operator", &["diff", text(&file)]).out, expected);
    put_in_force(&desk, &changed);
    assert_eq!(policy(&desk, "t_approver", &["diff", "2", "1"]).out, expected);
    assert_eq!(policy(&desk, "t_approver", &["diff", "2"]).out, "no difference\n");
    let json = policy(&desk, "t_auditor", &["diff", "1", "--output", "json"]).json();
    assert_eq!((&json[0]["old"], &json[0]["new"]), (&Value::from(50), &Value::from(200)));
    // Going back is a proposal like any other.
    let shown = policy(&desk, "t_operator", &["show", "1", "--document"]);
    let back = put_in_force(&desk, &shown.out);
    assert_eq!((&back["version"], &back["differences"]), (&Value::from(3), &Value::from(1)));
    let versions = policy(&desk, "t_operator", &["show", "--output", "json"]);
    let statuses: Vec<Value> =
        versions.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["status"].clone()).collect();
    assert_eq!(statuses, ["ACTIVE", "RETIRED", "RETIRED"]);
    let one = policy(&desk, "t_operator", &["show", "3"]);
    assert!(
        one.out.contains("follows      2") && one.out.contains("\"reference_json_pointer\": \"/payment/id\""),
        "{one:?}"
    );
    for missing in [["show", "9"], ["diff", "9"]] {
        let ended = policy(&desk, "t_operator", &missing);
        assert!(ended.code == Some(66) && ended.err.contains("no policy version 9"), "{ended:?}");
    }
}

#[tokio::test]
async fn file_with_faults_is_refused_with_all_of_them_and_proposes_nothing() {
    let desk = Desk::with_rails().await;
    let bad = EXAMPLE
        .replace("on_unknown = \"resend\"", "on_unknown = \"retry\"")
        .replace("means = \"interim\"", "means = \"x\"");
    let file = desk.file("policy.toml", &bad);
    let ended = policy(&desk, "t_operator", &["propose", text(&file), "--reason", "r", "--confirm", "1"]);
    assert_eq!(ended.code, Some(65), "{ended:?}");
    for word in ["rails.sepa.contract.on_unknown", "rails.sepa.codes.0.means", "2 faults"] {
        assert!(ended.err.contains(word), "{word}: {ended:?}");
    }
    let gone = policy(&desk, "t_operator", &["propose", "/nowhere/policy.toml", "--reason", "r"]);
    assert_eq!(gone.code, Some(66), "{gone:?}");
    assert_eq!(policy(&desk, "t_operator", &["show", "--output", "json"]).out, "");
}
