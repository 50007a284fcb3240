//! Who may refuse a payment that was sent before: the rail, and nobody on the way to it.

use outbox_core::outcome::Body;
use outbox_core::{CodeRule, CodeTable, Meaning, Outcome, Reply, Sending, classify};

#[test]
fn a_resend_is_refused_only_by_the_rail_itself() {
    use Body::{CutOff, Unmarked, Unreadable, WithReference, WithoutReference};
    use Outcome::{Refused, Unknown};
    let rule = |status, code: Option<&str>, means| CodeRule { status, code: code.map(str::to_owned), means };
    let table = CodeTable::new(vec![
        rule(404, Some("NO_ACCOUNT"), Meaning::Refused),
        rule(413, None, Meaning::Refused),
        rule(421, None, Meaning::NotExecuted),
        rule(200, None, Meaning::Accepted),
    ]);
    for (status, code, body, again) in [
        // The answer shows who wrote it.
        (404, None, WithReference, Refused),
        (404, None, WithoutReference, Refused),
        (422, Some("AC04"), WithoutReference, Refused),
        (200, Some("RJCT"), WithoutReference, Refused),
        // Anybody on the way may have written it.
        (400, None, Unmarked, Unknown),
        (404, None, Unmarked, Unknown),
        (404, None, CutOff, Unknown),
        (422, Some("AC04"), CutOff, Unknown),
        (422, None, Unreadable, Unknown),
        (431, None, Unreadable, Unknown),
        // What the table says of a success makes no refusal.
        (200, Some("RJCT"), CutOff, Unknown),
        // The table names the code, or the status.
        (404, Some("NO_ACCOUNT"), CutOff, Refused),
        (413, None, Unmarked, Refused),
        (413, None, Unreadable, Refused),
        // What is no refusal means what it means on the first send, and ends no doubt.
        (421, None, Unreadable, Outcome::NotExecuted),
        (429, None, Unmarked, Outcome::Throttled),
        (403, None, Unmarked, Outcome::RailRefusedUs),
        (409, None, Unmarked, Outcome::Interim),
        (200, Some("ACSC"), WithReference, Outcome::Accepted),
    ] {
        let reply = Reply::Answered { status, code, body };
        assert_eq!(classify(reply, &table, Sending::Again), again, "{status} {code:?} {body:?}");
        // A code in the table makes the status hang on it, whoever sends.
        let first = match (again, status, code) {
            (Unknown, 404, None) if body == CutOff => Unknown,
            (Unknown, ..) => Refused,
            _ => again,
        };
        assert_eq!(classify(reply, &table, Sending::First), first, "{status} {code:?} {body:?}");
    }
}

#[test]
fn only_a_refusal_means_something_else_on_a_resend() {
    let codes: Vec<CodeTable> = std::iter::once(CodeTable::default())
        .chain(Meaning::ALL.map(|means| CodeTable::new(vec![CodeRule { status: 422, code: None, means }])))
        .collect();
    for (status, body) in (100..600).flat_map(|status| Body::ALL.map(|body| (status, body))) {
        for (code, table) in
            [None, Some("RJCT"), Some("OTHER")].into_iter().flat_map(|c| codes.iter().map(move |t| (c, t)))
        {
            let reply = Reply::Answered { status, code, body };
            let (first, again) = (classify(reply, table, Sending::First), classify(reply, table, Sending::Again));
            let is_doubted = first == Outcome::Refused && again == Outcome::Unknown;
            assert!(first == again || is_doubted, "{status} {code:?} {body:?} {table:?}: {first:?} {again:?}");
        }
    }
}
