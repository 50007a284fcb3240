//! The configuration of an inquiry and of the possible-duplicate header: what is refused, where, and what it means.

use outbox_core::{Meaning, RailName};
use outboxd::config::model::Rail;

use crate::config::{Case, GOOD, case, with};

/// `GOOD` with an inquiry of these lines; the first is line 14.
fn asked(lines: &str) -> Case {
    case(&format!("{GOOD}[rails.sepa.inquiry]\n{lines}\n"))
}

const PATH: &str = "path = \"/payments/{key}\"\n";
const SETTLED: &str = "status = 200\ncode = \"SETTLED\"\nmeans = \"accepted\"\n";

fn with_rule(rule: &str) -> Case {
    asked(&format!("{PATH}code_json_pointer = \"/status\"\n[[rails.sepa.inquiry.codes]]\n{rule}"))
}

fn rail(case: &Case) -> Rail {
    case.config().rails.remove(&RailName::new("sepa").unwrap()).unwrap()
}

#[test]
fn path_of_an_inquiry_is_required_and_holds_the_key_once_on_the_rails_host() {
    let code = "code_json_pointer = \"/status\"";
    asked(code).one_fault(&["outboxd.toml:13", "rails.sepa.inquiry.path", "is missing"]);
    for (path, why) in [
        ("", "is empty"),
        ("/payments", "has no `{key}`"),
        ("/{key}/{key}", "`{key}` twice"),
        ("https://other.example/{key}", "no path and query"),
        ("http://10.0.0.1/{key}", "no path and query"),
        ("/a b/{key}", "no path and query"),
    ] {
        asked(&format!("path = \"{path}\"\n{code}")).one_fault(&["outboxd.toml:14", "rails.sepa.inquiry.path", why]);
    }
    for path in ["/payments/{key}", "/status?key={key}&full=1"] {
        let inquiry = rail(&asked(&format!("path = \"{path}\"\n{code}"))).inquiry.unwrap();
        assert_eq!(inquiry.path, path);
    }
}

#[test]
fn inquiry_no_answer_to_which_could_mean_accepted_is_refused() {
    let silent = "[[rails.sepa.inquiry.codes]]\nstatus = 404\nmeans = \"not_found\"";
    for lines in [PATH.to_owned(), format!("{PATH}{silent}")] {
        asked(&lines).one_fault(&["outboxd.toml:13", "rails.sepa.inquiry", "says of no answer that it means accepted"]);
    }
    // A code field carries the statuses of ISO 20022, which need no line; and a line needs no code field.
    asked(&format!("{PATH}code_header = \"X-Status\"")).config();
    asked(&format!("{PATH}[[rails.sepa.inquiry.codes]]\nstatus = 200\nmeans = \"accepted\"")).config();
}

#[test]
fn table_of_inquiries_has_meanings_of_its_own() {
    for name in ["accepted", "refused", "interim", "not_found", "unknown", "throttled", "rail_refused_us"] {
        let inquiry = rail(&with_rule(&format!("status = 200\nmeans = \"{name}\""))).inquiry.unwrap();
        assert_eq!(inquiry.codes[0].means, Meaning::from_name(name).unwrap());
    }
    for name in ["not_executed", "key_reused"] {
        let case = with_rule(&format!("status = 200\nmeans = \"{name}\""));
        case.one_fault(&["outboxd.toml:18", "rails.sepa.inquiry.codes.0.means", name, "is said of a send"]);
    }
    let of_a_send = format!("{GOOD}[[rails.sepa.codes]]\nstatus = 404\nmeans = \"not_found\"\n");
    case(&of_a_send).one_fault(&["outboxd.toml:15", "rails.sepa.codes.0.means", "is an answer to an inquiry"]);
    with_rule("status = 404\nmeans = \"accepted\"").one_fault(&["outboxd.toml:18", "cannot mean accepted"]);
    with_rule(&format!("{SETTLED}[[rails.sepa.inquiry.codes]]\n{SETTLED}"))
        .one_fault(&["rails.sepa.inquiry.codes.1", "entry before"]);
    let nowhere = format!("{PATH}[[rails.sepa.inquiry.codes]]\n{SETTLED}");
    asked(&nowhere).one_fault(&["rails.sepa.inquiry.code_json_pointer", "where an answer carries it"]);
}

#[test]
fn answers_to_an_inquiry_are_read_like_those_to_a_send_unless_said_otherwise() {
    let text = |own: &str| {
        let sends = with("rails.sepa", "code_json_pointer = \"/error/code\"");
        case(&format!("{sends}[rails.sepa.inquiry]\n{PATH}{own}"))
    };
    let inherited = rail(&text("")).inquiry.unwrap();
    assert_eq!(inherited.reference.json_pointer.as_deref(), Some("/id"));
    assert_eq!(inherited.code.json_pointer.as_deref(), Some("/error/code"));
    let own = rail(&text("reference_header = \"X-Ref\"\ncode_json_pointer = \"/status\"")).inquiry.unwrap();
    assert_eq!((own.reference.json_pointer, own.reference.header.unwrap().as_str()), (None, "x-ref"));
    assert_eq!(own.code.json_pointer.as_deref(), Some("/status"));
    // A fault of what is inherited is told where it stands, and once.
    let bad = with("rails.sepa", "code_json_pointer = \"error\"");
    let inherits = case(&format!("{bad}[rails.sepa.inquiry]\n{PATH}"));
    inherits.one_fault(&["rails.sepa.code_json_pointer", "no JSON pointer"]);
    text("code_json_pointer = \"status\"").one_fault(&["outboxd.toml:16", "rails.sepa.inquiry.code_json_pointer"]);
}

#[test]
fn all_faults_of_an_inquiry_are_told_at_once() {
    let lines = "path = \"/payments\"\ncode_header = \"a b\"\ncodes = [{ status = 99, means = \"accepted\" }, \
                 { status = 200, means = \"key_reused\" }]\nurl = \"https://rail.example/{key}\"";
    let faults = asked(lines).faults();
    for part in ["inquiry.path", "inquiry.code_header", "codes.0.status", "codes.1.means", "unknown field `url`"] {
        assert_eq!(faults.iter().filter(|fault| fault.contains(part)).count(), 1, "{part}: {faults:#?}");
    }
    assert!(faults.iter().all(|fault| fault.starts_with("outboxd.toml:1")), "{faults:#?}");
}

#[test]
fn header_of_a_possible_duplicate_is_one_that_no_other_setting_uses() {
    let marked = |lines: &str| case(&format!("{GOOD}[rails.sepa.possible_duplicate]\n{lines}\n"));
    let (name, value) = rail(&marked("header = \"X-Possible-Duplicate\"")).possible_duplicate.unwrap();
    assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-possible-duplicate", "true"));
    let (_, value) = rail(&marked("header = \"X-Dup\"\nvalue = \"PDE\"")).possible_duplicate.unwrap();
    assert_eq!(value, "PDE");
    marked("value = \"PDE\"").one_fault(&["outboxd.toml:13", "rails.sepa.possible_duplicate.header", "is missing"]);
    marked("header = \"Idempotency-Key\"").one_fault(&["outboxd.toml:14", "given twice"]);
    marked("header = \"Content-Length\"").one_fault(&["outboxd.toml:14", "set by the dispatcher itself"]);
    marked("header = \"a b\"").one_fault(&["outboxd.toml:14", "no header name"]);
    marked("header = \"X-Dup\"\nvalue = \"a\\nb\"").one_fault(&["outboxd.toml:15", "visible ASCII"]);
}

#[test]
fn fingerprint_knows_every_value_of_an_inquiry() {
    let base =
        format!("{GOOD}[rails.sepa.inquiry]\n{PATH}code_json_pointer = \"/status\"\nreference_header = \"X-R\"\n");
    let rule = |rule: &str| format!("{base}[[rails.sepa.inquiry.codes]]\n{rule}\n");
    let texts = [
        GOOD.to_owned(),
        base.clone(),
        base.replace("/payments/{key}", "/v2/{key}"),
        base.replace("\"/status\"", "\"/state\""),
        base.replace("X-R", "X-S"),
        rule("status = 404\nmeans = \"not_found\""),
        rule("status = 404\nmeans = \"unknown\""),
        rule("status = 404\ncode = \"A\"\nmeans = \"unknown\""),
        format!("{base}[rails.sepa.possible_duplicate]\nheader = \"X-D\"\n"),
        format!("{base}[rails.sepa.possible_duplicate]\nheader = \"X-D\"\nvalue = \"1\"\n"),
    ];
    let case = case("");
    let mut seen = std::collections::BTreeSet::new();
    for text in texts {
        case.write(&text);
        assert!(seen.insert(case.fingerprint()), "{text}");
    }
}
