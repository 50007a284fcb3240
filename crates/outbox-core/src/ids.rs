//! A type for every id, so that no two ids of one type stand side by side. Making new ids is not
//! done here: the database makes them.

use std::fmt;

use uuid::Uuid;

/// One payment in the outbox (a UUIDv7), and the idempotency key its rail sees on every attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutboxId(pub Uuid);

impl fmt::Display for OutboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The proof that a worker holds a lease. Half of the fence; the other half is [`AttemptNo`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseToken(pub Uuid);

/// The number of one use of a lease, from 1, without gaps for each payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptNo(pub i32);

impl fmt::Display for AttemptNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A version of the policy: the decisions about money that two people made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyVersion(pub i32);

impl fmt::Display for PolicyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A name that breaks the rule of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadName {
    /// What was given.
    pub given: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a valid name: {}", self.given.escape_debug(), self.rule)
    }
}

impl std::error::Error for BadName {}

/// The name of a rail: `^[a-z0-9_]{1,40}$`. It is part of a notification channel's name, and
/// configuration from the environment is lower-cased.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RailName(String);

impl RailName {
    /// Checks `name`.
    ///
    /// # Errors
    /// [`BadName`] unless the name has 1 to 40 characters of `a-z`, `0-9` and `_`.
    pub fn new(name: impl Into<String>) -> Result<Self, BadName> {
        let name = name.into();
        let valid =
            (1..=40).contains(&name.len()) && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        if valid {
            Ok(Self(name))
        } else {
            Err(BadName { given: name, rule: "a rail's name has 1 to 40 characters of a-z, 0-9 and _" })
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RailName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One life of one dispatcher: its configured name and the UUID of this start, so that two
/// dispatchers configured alike are still told apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(String);

impl WorkerId {
    /// The id of the start `boot` of the dispatcher `name`.
    ///
    /// # Errors
    /// [`BadName`] unless the name has 1 to 60 characters of `A-Z`, `a-z`, `0-9`, `.`, `_` and `-`.
    pub fn new(name: &str, boot: Uuid) -> Result<Self, BadName> {
        let valid = (1..=60).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if valid {
            Ok(Self(format!("{name}/{boot}")))
        } else {
            Err(BadName {
                given: name.to_owned(),
                rule: "a dispatcher's name has 1 to 60 characters of A-Z, a-z, 0-9, '.', '_' and '-'",
            })
        }
    }

    /// The id as the database holds it: `name/boot`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rail_name_is_a_safe_channel_name() {
        for good in ["a", "sepa_instant", "r2", &"x".repeat(40)] {
            assert_eq!(RailName::new(good).map(|n| n.as_str().to_owned()), Ok(good.to_owned()));
        }
        for bad in ["", "Sepa", "sepa-instant", "a b", "\u{e9}", "a\"; drop", &"x".repeat(41)] {
            assert!(RailName::new(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_worker_id_holds_name_and_boot() {
        let id = WorkerId::new("pay-1.example", Uuid::nil());
        assert_eq!(id.map(|i| i.to_string()), Ok("pay-1.example/00000000-0000-0000-0000-000000000000".to_owned()));
        assert!(WorkerId::new("", Uuid::nil()).is_err());
        assert!(WorkerId::new("a/b", Uuid::nil()).is_err());
    }
}
