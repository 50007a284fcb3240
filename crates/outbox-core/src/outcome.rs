//! What a rail's answer says about one question: could the payment have been executed? Reading the
//! answer off the wire is the rail's part, deciding what follows is `decide`'s.

use crate::closed_list;
use crate::codes::{CodeTable, Meaning, default_of_inquiry, default_of_submit};
use crate::state::AttemptKind;
use crate::time::Millis;

/// What is known after an attempt to submit, or to inquire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The rail took the payment, and said under which reference.
    Accepted,
    /// The rail refused the payment for good.
    Refused,
    /// No byte of the request left.
    NotSent,
    /// The rail says that it did not execute the payment.
    NotExecuted,
    /// The rail did not execute the payment because it gets too many requests (429).
    Throttled,
    /// The rail did not look at the payment because our credentials are wrong (401, 403).
    RailRefusedUs,
    /// The rail has the payment and does not say yet what becomes of it (202, or 409: the same key
    /// is in flight).
    Interim,
    /// It may or may not have been executed.
    Unknown,
    /// The rail knows our key with other bytes: something ran under it.
    KeyReused,
    /// The rail was asked and knows no payment under our key. Of inquiries only.
    NotFound,
    /// The rail was asked and answered, and the answer does not say what became of the payment. Of inquiries only.
    Inconclusive,
}

impl Outcome {
    closed_list! {
        /// Every outcome.
        pub const ALL = [
            Accepted,
            Refused,
            NotSent,
            NotExecuted,
            Throttled,
            RailRefusedUs,
            Interim,
            Unknown,
            KeyReused,
            NotFound,
            Inconclusive,
        ]
    }

    /// The name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "ACCEPTED",
            Self::Refused => "REFUSED",
            Self::NotSent => "NOT_SENT",
            Self::NotExecuted => "NOT_EXECUTED",
            Self::Throttled => "THROTTLED",
            Self::RailRefusedUs => "RAIL_REFUSED_US",
            Self::Interim => "INTERIM",
            Self::Unknown => "UNKNOWN",
            Self::KeyReused => "KEY_REUSED",
            Self::NotFound => "NOT_FOUND",
            Self::Inconclusive => "INCONCLUSIVE",
        }
    }

    /// Whether an attempt of `kind` can end so.
    #[must_use]
    pub const fn is_of(self, kind: AttemptKind) -> bool {
        match self {
            Self::Accepted
            | Self::Refused
            | Self::NotSent
            | Self::Throttled
            | Self::RailRefusedUs
            | Self::Interim
            | Self::Unknown => true,
            Self::NotExecuted | Self::KeyReused => matches!(kind, AttemptKind::Submit),
            Self::NotFound | Self::Inconclusive => matches!(kind, AttemptKind::Inquire),
        }
    }
}

/// What the wire showed of one submit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The exchange ended before a byte of the request could leave: name resolution, connect, TLS
    /// handshake, or a refusal of our own.
    NotSent,
    /// The exchange broke off after a byte may have left: timeout, reset, GOAWAY.
    Interrupted,
    /// A status line and headers came back.
    Answered {
        /// The HTTP status.
        status: u16,
        /// The rail's own code, where the answer carries one.
        code: Option<&'a str>,
        /// What came of the body.
        body: Body,
    },
}

/// Whether an earlier attempt of the payment was not certainly unsent. It may be in doubt then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// Nothing was sent before.
    First,
    /// It was sent before, or may have been.
    Again,
}

/// What came of an answer's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// It came whole and carries a reference of the rail.
    WithReference,
    /// It came whole, without a reference in it or in the headers, and shows that the rail wrote it.
    WithoutReference,
    /// It came whole, without a reference, and anybody on the way may have written it: a gateway, a proxy.
    Unmarked,
    /// It was larger than the cap, could not be parsed, or does not show where it ends.
    Unreadable,
    /// It broke off.
    CutOff,
}

impl Body {
    closed_list! {
        /// Everything that can come of it.
        pub const ALL = [WithReference, WithoutReference, Unmarked, Unreadable, CutOff]
    }

    const fn is_whole(self) -> bool {
        match self {
            Self::WithReference | Self::WithoutReference | Self::Unmarked => true,
            Self::Unreadable | Self::CutOff => false,
        }
    }

    /// Whether it came whole, and from the rail itself.
    const fn is_of_the_rail(self) -> bool {
        match self {
            Self::WithReference | Self::WithoutReference => true,
            Self::Unmarked | Self::Unreadable | Self::CutOff => false,
        }
    }
}

/// What is known of the payment after `reply` to a submit. A success counts only with a readable body
/// and a reference of the rail: a truncated answer proves nothing. Nor does an unreadable one whose
/// meaning hangs on a code that is lost with it: `422` may be a plain refusal, or a payment that ran
/// under our key.
///
/// A payment that was sent before may have been executed then. A refusal of its resend counts only if the rail itself said it: a
/// gateway that does not find its rail says 404 as well, and knows nothing of the payment.
#[must_use]
pub fn classify(reply: Reply<'_>, codes: &CodeTable, sending: Sending) -> Outcome {
    match meaning(reply, codes, default_of_submit) {
        Err(outcome) => outcome,
        Ok(Meaning::Accepted) => Outcome::Accepted,
        Ok(Meaning::Refused) if sending == Sending::Again && !is_refused_by_the_rail(reply, codes) => Outcome::Unknown,
        Ok(Meaning::Refused) => Outcome::Refused,
        Ok(Meaning::NotExecuted) => Outcome::NotExecuted,
        Ok(Meaning::Throttled) => Outcome::Throttled,
        Ok(Meaning::RailRefusedUs) => Outcome::RailRefusedUs,
        Ok(Meaning::Interim) => Outcome::Interim,
        Ok(Meaning::KeyReused) => Outcome::KeyReused,
        // No answer to a submit means it: the configuration refuses the line.
        Ok(Meaning::NotFound | Meaning::Unknown) => Outcome::Unknown,
    }
}

/// Whether the rail itself said a refusal: its table of codes names it, or the answer shows who wrote it.
fn is_refused_by_the_rail(reply: Reply<'_>, codes: &CodeTable) -> bool {
    match reply {
        Reply::NotSent | Reply::Interrupted => false,
        Reply::Answered { status, code, body } => codes.names_refusal(status, code) || body.is_of_the_rail(),
    }
}

/// What is known of the payment after `reply` to an inquiry. [`Outcome::Inconclusive`] means that the rail answered
/// and that nothing was learned, [`Outcome::Unknown`] that it did not. A refusal and a "not found" count only with a whole answer: they let a payment end, or
/// be sent again.
#[must_use]
pub fn classify_inquiry(reply: Reply<'_>, codes: &CodeTable) -> Outcome {
    let is_whole = matches!(reply, Reply::Answered { body, .. } if body.is_whole());
    match meaning(reply, codes, default_of_inquiry) {
        Err(Outcome::Unknown) => unlearned(reply),
        Err(outcome) => outcome,
        Ok(Meaning::Accepted) => Outcome::Accepted,
        Ok(Meaning::Refused) if is_whole => Outcome::Refused,
        Ok(Meaning::NotFound) if is_whole => Outcome::NotFound,
        Ok(Meaning::Throttled) => Outcome::Throttled,
        Ok(Meaning::RailRefusedUs) => Outcome::RailRefusedUs,
        Ok(Meaning::Interim) => Outcome::Interim,
        Ok(Meaning::Refused | Meaning::NotFound | Meaning::NotExecuted | Meaning::KeyReused | Meaning::Unknown) => {
            unlearned(reply)
        }
    }
}

/// What an inquiry that taught nothing came to. A rail that asks again later (408, 429), that cannot (5xx) or that breaks
/// off has not answered; any other answer would be the same the next time.
const fn unlearned(reply: Reply<'_>) -> Outcome {
    match reply {
        Reply::NotSent | Reply::Interrupted | Reply::Answered { body: Body::CutOff, .. } => Outcome::Unknown,
        Reply::Answered { status: 408 | 429 | 500.., .. } => Outcome::Unknown,
        Reply::Answered { .. } => Outcome::Inconclusive,
    }
}

/// What the rail means by `reply`, or the outcome where it means nothing.
fn meaning(reply: Reply<'_>, codes: &CodeTable, default: fn(u16) -> Meaning) -> Result<Meaning, Outcome> {
    let (status, code, body) = match reply {
        Reply::NotSent => return Err(Outcome::NotSent),
        Reply::Interrupted => return Err(Outcome::Unknown),
        Reply::Answered { status, code, body } => (status, code, body),
    };
    if !body.is_whole() && code.is_none() && codes.depends_on_code(status) {
        return Err(Outcome::Unknown);
    }
    // Where the table tells a status by its code, a code that it does not name, or that cannot be read, is no success.
    let named = codes.named(status, code);
    let is_unnamed = named.is_none() && codes.depends_on_code(status);
    match named.unwrap_or_else(|| default(status)) {
        Meaning::Accepted if body != Body::WithReference || is_unnamed => Err(Outcome::Unknown),
        meaning => Ok(meaning),
    }
}

/// The wait a rail asked for, where it may be asked again at all.
#[must_use]
pub const fn honoured_retry_after(outcome: Outcome, retry_after: Option<Millis>) -> Option<Millis> {
    match outcome {
        Outcome::Accepted | Outcome::Refused | Outcome::NotSent | Outcome::KeyReused => None,
        Outcome::NotExecuted
        | Outcome::Throttled
        | Outcome::RailRefusedUs
        | Outcome::Interim
        | Outcome::Unknown
        | Outcome::NotFound
        | Outcome::Inconclusive => retry_after,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::CodeRule;

    fn check(status: u16, code: Option<&str>, body: Body, codes: &CodeTable, expected: Outcome) {
        let got = classify(Reply::Answered { status, code, body }, codes, Sending::First);
        assert_eq!(got, expected, "{status} {code:?} {body:?}");
    }

    #[test]
    fn without_a_table_the_status_decides() {
        use Body::{Unreadable, WithReference, WithoutReference};
        let none = CodeTable::default();
        for (status, body, expected) in [
            (200, WithReference, Outcome::Accepted),
            (201, WithReference, Outcome::Accepted),
            (200, WithoutReference, Outcome::Unknown),
            (200, Unreadable, Outcome::Unknown),
            (202, WithReference, Outcome::Interim),
            (204, WithReference, Outcome::Unknown),
            (301, WithReference, Outcome::Unknown),
            (400, WithReference, Outcome::Refused),
            (401, WithReference, Outcome::RailRefusedUs),
            (403, WithReference, Outcome::RailRefusedUs),
            (408, WithReference, Outcome::Unknown),
            (409, WithReference, Outcome::Interim),
            (422, WithReference, Outcome::Refused),
            (429, Unreadable, Outcome::Throttled),
            (500, WithReference, Outcome::Unknown),
            (503, WithReference, Outcome::Unknown),
        ] {
            check(status, None, body, &none, expected);
        }
        assert_eq!(classify(Reply::NotSent, &none, Sending::First), Outcome::NotSent);
        assert_eq!(classify(Reply::Interrupted, &none, Sending::First), Outcome::Unknown);
    }

    #[test]
    fn the_table_of_codes_goes_before_the_status_and_a_code_before_none() {
        let rule = |status, code: Option<&str>, means| CodeRule { status, code: code.map(str::to_owned), means };
        let table = CodeTable::new(vec![
            rule(503, None, Meaning::NotExecuted),
            rule(422, Some("KEY_REUSED"), Meaning::KeyReused),
            rule(503, Some("LOST"), Meaning::Unknown),
            rule(200, Some("PENDING"), Meaning::Interim),
        ]);
        let body = Body::WithReference;
        check(503, None, body, &table, Outcome::NotExecuted);
        check(503, Some("OTHER"), body, &table, Outcome::NotExecuted);
        check(503, Some("LOST"), body, &table, Outcome::Unknown);
        check(422, Some("KEY_REUSED"), body, &table, Outcome::KeyReused);
        check(422, None, body, &table, Outcome::Refused);
        check(200, Some("PENDING"), body, &table, Outcome::Interim);
        // A success that is told by its code is named, or there is none: the code may be one that nobody thought of.
        check(200, None, body, &table, Outcome::Unknown);
        check(200, Some("OTHER"), body, &table, Outcome::Unknown);
        let with_plain =
            CodeTable::new(vec![rule(200, Some("PENDING"), Meaning::Interim), rule(200, None, Meaning::Accepted)]);
        for (code, expected) in
            [(None, Outcome::Accepted), (Some("OTHER"), Outcome::Accepted), (Some("PENDING"), Outcome::Interim)]
        {
            check(200, code, body, &with_plain, expected);
        }
    }

    #[test]
    fn an_answer_whose_code_is_lost_proves_nothing_where_the_code_decides() {
        let rule = CodeRule { status: 422, code: Some("KEY_REUSED".to_owned()), means: Meaning::KeyReused };
        let table = CodeTable::new(vec![rule]);
        check(422, None, Body::Unreadable, &table, Outcome::Unknown);
        check(422, Some("KEY_REUSED"), Body::Unreadable, &table, Outcome::KeyReused);
        check(422, None, Body::WithoutReference, &table, Outcome::Refused);
        check(400, None, Body::Unreadable, &table, Outcome::Refused);
    }

    #[test]
    fn no_success_without_a_readable_body_and_a_reference() {
        let table = CodeTable::new(vec![CodeRule { status: 204, code: None, means: Meaning::Accepted }]);
        for status in 100..600 {
            for body in [Body::WithoutReference, Body::Unmarked, Body::Unreadable, Body::CutOff] {
                let outcome = classify(Reply::Answered { status, code: None, body }, &table, Sending::First);
                assert_ne!(outcome, Outcome::Accepted, "{status} {body:?}");
            }
        }
    }

    #[test]
    fn a_success_status_over_an_iso_20022_code_means_what_the_code_says() {
        let none = CodeTable::default();
        for (code, expected) in [
            ("ACTC", Outcome::Interim),
            ("ACCP", Outcome::Interim),
            ("ACSP", Outcome::Interim),
            ("PDNG", Outcome::Interim),
            ("ACSC", Outcome::Accepted),
            ("ACCC", Outcome::Accepted),
            ("RJCT", Outcome::Refused),
            ("rjct", Outcome::Refused),
            ("ACWP", Outcome::Interim),
            ("PRES", Outcome::Interim),
            ("PART", Outcome::Interim),
            ("CANC", Outcome::Unknown),
            ("BLCK", Outcome::Unknown),
            ("OTHER", Outcome::Accepted),
        ] {
            check(200, Some(code), Body::WithReference, &none, expected);
        }
        check(500, Some("RJCT"), Body::WithReference, &none, Outcome::Unknown);
        let table = CodeTable::new(vec![CodeRule { status: 200, code: Some("ACSP".into()), means: Meaning::Accepted }]);
        check(200, Some("ACSP"), Body::WithReference, &table, Outcome::Accepted);
    }

    #[test]
    fn a_line_of_the_table_for_any_code_accepts_no_interim_or_refused_iso_20022_status() {
        let table = CodeTable::new(vec![CodeRule { status: 200, code: None, means: Meaning::Accepted }]);
        for (code, expected) in [
            (Some("ACSP"), Outcome::Interim),
            (Some("RJCT"), Outcome::Refused),
            (Some("ACSC"), Outcome::Accepted),
            (Some("OTHER"), Outcome::Accepted),
            (None, Outcome::Accepted),
        ] {
            check(200, code, Body::WithReference, &table, expected);
            check_inquiry(200, code, Body::WithReference, &table, expected);
        }
    }

    fn check_inquiry(status: u16, code: Option<&str>, body: Body, codes: &CodeTable, expected: Outcome) {
        let got = classify_inquiry(Reply::Answered { status, code, body }, codes);
        assert_eq!(got, expected, "{status} {code:?} {body:?}");
    }

    #[test]
    fn an_answer_to_an_inquiry_says_only_what_the_table_or_a_standard_says() {
        use Body::{CutOff, Unmarked, Unreadable, WithReference, WithoutReference};
        let none = CodeTable::default();
        for (status, code, body, expected) in [
            (200, None, WithReference, Outcome::Inconclusive),
            (200, None, CutOff, Outcome::Unknown),
            (201, None, WithReference, Outcome::Inconclusive),
            (302, None, WithoutReference, Outcome::Inconclusive),
            (200, Some("ACSC"), WithReference, Outcome::Accepted),
            (200, Some("ACSC"), WithoutReference, Outcome::Inconclusive),
            (200, Some("ACSP"), WithReference, Outcome::Interim),
            (200, Some("RJCT"), WithReference, Outcome::Refused),
            (200, Some("RJCT"), Unreadable, Outcome::Inconclusive),
            (200, Some("RJCT"), CutOff, Outcome::Unknown),
            (202, None, WithoutReference, Outcome::Interim),
            (400, None, WithReference, Outcome::Inconclusive),
            (401, None, WithReference, Outcome::RailRefusedUs),
            (404, None, WithoutReference, Outcome::NotFound),
            (404, None, Unmarked, Outcome::NotFound),
            (404, None, Unreadable, Outcome::Inconclusive),
            (404, None, CutOff, Outcome::Unknown),
            (408, None, WithReference, Outcome::Unknown),
            (409, None, WithReference, Outcome::Inconclusive),
            (429, None, Unreadable, Outcome::Throttled),
            (503, None, WithReference, Outcome::Unknown),
        ] {
            check_inquiry(status, code, body, &none, expected);
        }
        assert_eq!(classify_inquiry(Reply::NotSent, &none), Outcome::NotSent);
        assert_eq!(classify_inquiry(Reply::Interrupted, &none), Outcome::Unknown);
        let rule = |status, code: &str, means| CodeRule { status, code: Some(code.to_owned()), means };
        let table = CodeTable::new(vec![
            rule(200, "SETTLED", Meaning::Accepted),
            rule(200, "REJECTED", Meaning::Refused),
            rule(404, "UNKNOWN_KEY", Meaning::NotFound),
            CodeRule { status: 404, code: None, means: Meaning::Unknown },
            CodeRule { status: 429, code: None, means: Meaning::Unknown },
            rule(200, "NEVER_RAN", Meaning::NotExecuted),
        ]);
        check_inquiry(200, Some("SETTLED"), WithReference, &table, Outcome::Accepted);
        check_inquiry(200, Some("REJECTED"), WithReference, &table, Outcome::Refused);
        check_inquiry(404, Some("UNKNOWN_KEY"), WithoutReference, &table, Outcome::NotFound);
        check_inquiry(404, None, WithoutReference, &table, Outcome::Inconclusive);
        check_inquiry(429, None, WithoutReference, &table, Outcome::Unknown);
        check_inquiry(200, Some("NEVER_RAN"), WithReference, &table, Outcome::Inconclusive);
    }

    #[test]
    fn a_wait_that_the_rail_asked_for_counts_where_it_may_be_asked_again_and_nowhere_else() {
        let asked = Some(Millis(5_000));
        let honoured: Vec<Outcome> =
            Outcome::ALL.into_iter().filter(|outcome| honoured_retry_after(*outcome, asked) == asked).collect();
        use Outcome::{Inconclusive, Interim, NotExecuted, NotFound, RailRefusedUs, Throttled, Unknown};
        assert_eq!(honoured, [NotExecuted, Throttled, RailRefusedUs, Interim, Unknown, NotFound, Inconclusive]);
        assert!(Outcome::ALL.into_iter().all(|outcome| honoured_retry_after(outcome, None).is_none()));
    }

    #[test]
    fn an_attempt_ends_only_in_an_outcome_of_its_kind() {
        for status in 100..600 {
            for body in Body::ALL {
                for means in Meaning::ALL {
                    let table = CodeTable::new(vec![CodeRule { status, code: None, means }]);
                    let reply = Reply::Answered { status, code: None, body };
                    for sending in [Sending::First, Sending::Again] {
                        assert!(classify(reply, &table, sending).is_of(AttemptKind::Submit), "{status} {means:?}");
                    }
                    assert!(classify_inquiry(reply, &table).is_of(AttemptKind::Inquire), "{status} {means:?}");
                }
            }
        }
    }
}
