//! What a rail's answer says about one question: could the payment have been executed? Reading the
//! answer off the wire is the rail's part, deciding what follows is `decide`'s.

use crate::time::Millis;

/// What is known after an attempt to submit.
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
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 9] = [
        Self::Accepted,
        Self::Refused,
        Self::NotSent,
        Self::NotExecuted,
        Self::Throttled,
        Self::RailRefusedUs,
        Self::Interim,
        Self::Unknown,
        Self::KeyReused,
    ];

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

/// What came of an answer's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// It came whole and carries a reference of the rail.
    WithReference,
    /// It came whole, and no reference was found in it or in the headers.
    WithoutReference,
    /// It broke off, was larger than the cap, or could not be parsed.
    Unreadable,
}

/// What a rail means by a status and a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Meaning {
    /// The payment was taken. Only with a readable body and a reference; otherwise unknown.
    Accepted,
    /// The payment was refused for good.
    Refused,
    /// It was certainly not executed.
    NotExecuted,
    /// It was certainly not executed, because the rail gets too many requests.
    Throttled,
    /// It was certainly not executed, because our credentials are wrong.
    RailRefusedUs,
    /// It is being worked on.
    Interim,
    /// Something else ran under our key.
    KeyReused,
    /// It may or may not have been executed.
    Unknown,
}

impl Meaning {
    /// Every meaning.
    pub const ALL: [Self; 8] = [
        Self::Accepted,
        Self::Refused,
        Self::NotExecuted,
        Self::Throttled,
        Self::RailRefusedUs,
        Self::Interim,
        Self::KeyReused,
        Self::Unknown,
    ];

    /// The name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::NotExecuted => "not_executed",
            Self::Throttled => "throttled",
            Self::RailRefusedUs => "rail_refused_us",
            Self::Interim => "interim",
            Self::KeyReused => "key_reused",
            Self::Unknown => "unknown",
        }
    }

    /// The meaning of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.name() == name)
    }
}

/// One line of a rail's table of codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeRule {
    /// The HTTP status it is about.
    pub status: u16,
    /// The rail's own code it is about; `None` matches an answer with any code or none.
    pub code: Option<String>,
    /// What the rail means by it.
    pub means: Meaning,
}

/// A rail's table of codes; what it does not name has the default meaning of its status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodeTable {
    rules: Vec<CodeRule>,
}

impl CodeTable {
    /// A table of these rules. A rule with a code goes before one without.
    #[must_use]
    pub fn new(rules: Vec<CodeRule>) -> Self {
        Self { rules }
    }

    /// Whether what the rail means by `status` hangs on its code.
    fn depends_on_code(&self, status: u16) -> bool {
        self.rules.iter().any(|rule| rule.status == status && rule.code.is_some())
    }

    /// What the rail means by `status` with `code`.
    #[must_use]
    pub fn meaning(&self, status: u16, code: Option<&str>) -> Meaning {
        let named = |rule: &&CodeRule| rule.status == status && rule.code.is_some() && rule.code.as_deref() == code;
        let plain = |rule: &&CodeRule| rule.status == status && rule.code.is_none();
        let rule = self.rules.iter().find(named).or_else(|| self.rules.iter().find(plain));
        rule.map_or_else(|| default_meaning(status), |rule| rule.means)
    }
}

/// The meaning of a status that the table of codes does not name (RFC 9110 for the statuses; 200 and
/// 201 are the mapped successes).
fn default_meaning(status: u16) -> Meaning {
    match status {
        200 | 201 => Meaning::Accepted,
        202 | 409 => Meaning::Interim,
        401 | 403 => Meaning::RailRefusedUs,
        // A request the rail gave up waiting for may have reached it: 408 is a timeout, not a refusal.
        408 => Meaning::Unknown,
        429 => Meaning::Throttled,
        400..=499 => Meaning::Refused,
        _ => Meaning::Unknown,
    }
}

/// What is known of the payment after `reply`. A success counts only with a readable body and a
/// reference of the rail: a truncated answer proves nothing. Nor does an unreadable one whose meaning
/// hangs on a code that is lost with it: `422` may be a plain refusal, or a payment that ran under our key.
#[must_use]
pub fn classify(reply: Reply<'_>, codes: &CodeTable) -> Outcome {
    let (status, code, body) = match reply {
        Reply::NotSent => return Outcome::NotSent,
        Reply::Interrupted => return Outcome::Unknown,
        Reply::Answered { status, code, body } => (status, code, body),
    };
    if body == Body::Unreadable && code.is_none() && codes.depends_on_code(status) {
        return Outcome::Unknown;
    }
    match (codes.meaning(status, code), body) {
        (Meaning::Accepted, Body::WithReference) => Outcome::Accepted,
        (Meaning::Accepted, Body::WithoutReference | Body::Unreadable) => Outcome::Unknown,
        (Meaning::Refused, _) => Outcome::Refused,
        (Meaning::NotExecuted, _) => Outcome::NotExecuted,
        (Meaning::Throttled, _) => Outcome::Throttled,
        (Meaning::RailRefusedUs, _) => Outcome::RailRefusedUs,
        (Meaning::Interim, _) => Outcome::Interim,
        (Meaning::KeyReused, _) => Outcome::KeyReused,
        (Meaning::Unknown, _) => Outcome::Unknown,
    }
}

/// The wait a rail asked for, where it may be asked again at all.
#[must_use]
pub const fn honoured_retry_after(outcome: Outcome, retry_after: Option<Millis>) -> Option<Millis> {
    match outcome {
        Outcome::Accepted | Outcome::Refused | Outcome::NotSent | Outcome::KeyReused => None,
        Outcome::NotExecuted | Outcome::Throttled | Outcome::RailRefusedUs | Outcome::Interim | Outcome::Unknown => {
            retry_after
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, code: Option<&str>, body: Body, codes: &CodeTable, expected: Outcome) {
        let got = classify(Reply::Answered { status, code, body }, codes);
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
        assert_eq!(classify(Reply::NotSent, &none), Outcome::NotSent);
        assert_eq!(classify(Reply::Interrupted, &none), Outcome::Unknown);
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
        check(200, None, body, &table, Outcome::Accepted);
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
            for body in [Body::WithoutReference, Body::Unreadable] {
                let outcome = classify(Reply::Answered { status, code: None, body }, &table);
                assert_ne!(outcome, Outcome::Accepted, "{status} {body:?}");
            }
        }
    }
}
