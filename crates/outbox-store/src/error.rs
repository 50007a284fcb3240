//! Operating errors of the store, and where SQLSTATEs are told apart. Outcomes (fenced, busy, held)
//! are values, not errors.

use std::error::Error as _;

use outbox_core::Millis;
use sqlx::postgres::PgDatabaseError;

/// What the caller does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It passes, or a person mends the database: wait and try again.
    Transient,
    /// The configuration, the schema or the login is wrong: a person must act.
    Misconfigured,
    /// An invariant of the money path is broken: stop, and keep the evidence.
    Corrupt,
}

/// Why a call of the database did not return a result.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The server could not be reached, or went away.
    #[error("{call}: the connection to the database failed")]
    Connection {
        /// The call.
        call: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// No answer in time; whether the call had an effect is unknown. The connection is dropped.
    #[error("{call}: no answer from the database within {after}")]
    TimedOut {
        /// The call.
        call: &'static str,
        /// The limit.
        after: Millis,
    },
    /// The listener's connection ended.
    #[error("listen: the connection to the database ended")]
    ConnectionLost,
    /// The server did not take the login.
    #[error("the database refused the login")]
    LoginRefused {
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The login may not execute the function, or the function is not there.
    #[error("{call}: the login may not execute it, or it does not exist")]
    NotPermitted {
        /// The call.
        call: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The functions refused the call for a reason of their own (SQLSTATE class `OB`).
    #[error("{call}: {message}")]
    Refused {
        /// The call.
        call: &'static str,
        /// `OB` and three digits.
        code: String,
        /// What is wrong.
        message: String,
        /// What to do, where the function says.
        hint: Option<String>,
    },
    /// A value that the database does not take (SQLSTATE class 22 or 23).
    #[error("{call}: the database does not take a value")]
    BadValue {
        /// The call.
        call: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// Any other error of the server.
    #[error("{call}: the database failed")]
    Server {
        /// The call.
        call: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// A credential for the database cannot be used.
    #[error("a credential for the database cannot be used")]
    Credential(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The address of the database cannot be used.
    #[error("the database URL cannot be used")]
    Url(#[source] sqlx::Error),
    /// A reply breaks an invariant.
    #[error("{call}: {what}")]
    Invariant {
        /// The call.
        call: &'static str,
        /// What is broken.
        what: String,
    },
    /// The migrations could not be applied.
    #[error("migration: {0}")]
    Migration(String),
}

impl StoreError {
    /// Sorts an error of sqlx by what it says about the connection and by its SQLSTATE.
    pub(crate) fn of(call: &'static str, source: sqlx::Error) -> Self {
        let sqlx::Error::Database(database) = &source else {
            return Self::Connection { call, source };
        };
        let code = database.code().unwrap_or_default().into_owned();
        match code.as_str() {
            // The invariant itself, raised by the functions.
            "OB008" => Self::Invariant { call, what: database.message().to_owned() },
            c if c.starts_with("OB") => Self::Refused {
                call,
                message: database.message().to_owned(),
                hint: database.try_downcast_ref::<PgDatabaseError>().and_then(|e| e.hint()).map(str::to_owned),
                code,
            },
            "28000" | "28P01" | "3D000" => Self::LoginRefused { source },
            "42501" | "42883" | "3F000" => Self::NotPermitted { call, source },
            c if c.starts_with("22") || c.starts_with("23") => Self::BadValue { call, source },
            _ => Self::Server { call, source },
        }
    }

    /// What the caller does about it.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Self::Connection { .. }
            | Self::ConnectionLost
            | Self::TimedOut { .. }
            | Self::Server { .. }
            | Self::BadValue { .. } => Class::Transient,
            Self::LoginRefused { .. }
            | Self::NotPermitted { .. }
            | Self::Refused { .. }
            | Self::Credential(_)
            | Self::Url(_)
            | Self::Migration(_) => Class::Misconfigured,
            Self::Invariant { .. } => Class::Corrupt,
        }
    }

    /// The functions' own SQLSTATE, where they refused the call.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Whether a lock was not to be had in time, because a transaction of others holds it: the same call can be made again.
    #[must_use]
    pub fn is_lock_timeout(&self) -> bool {
        self.sqlstate().is_some_and(|code| code == "55P03")
    }

    /// Whether the server has no connection to spare.
    #[must_use]
    pub fn is_out_of_connections(&self) -> bool {
        self.sqlstate().is_some_and(|code| code.starts_with("53300"))
    }

    /// Whether the call was too much for its time limit, the server's (57014) or our own.
    #[must_use]
    pub fn is_too_slow(&self) -> bool {
        matches!(self, Self::TimedOut { .. }) || self.sqlstate().is_some_and(|code| code == "57014")
    }

    /// Whether the server cannot be written to now: it starts, stops, recovers, is read-only or full.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        let state = self.sqlstate();
        matches!(self, Self::Connection { .. } | Self::ConnectionLost | Self::TimedOut { .. })
            || state.is_some_and(|code| {
                code.starts_with("57") || code.starts_with("53") || code.starts_with("08") || code == "25006"
            })
    }

    /// Whether a pooler is between us and the server: it refused our startup parameters, or our session
    /// has prepared statements of others, or no longer its own (42P05, 26000).
    #[must_use]
    pub fn is_of_a_pooler(&self) -> bool {
        let swapped = self.sqlstate().is_some_and(|code| code == "42P05" || code == "26000");
        swapped || self.server_message().is_some_and(|message| message.contains("unsupported startup parameter"))
    }

    fn server_message(&self) -> Option<String> {
        let source = self.source()?.downcast_ref::<sqlx::Error>()?;
        source.as_database_error().map(|database| database.message().to_owned())
    }

    /// The SQLSTATE of the server's error, where there is one.
    #[must_use]
    pub fn sqlstate(&self) -> Option<String> {
        if let Self::Refused { code, .. } = self {
            return Some(code.clone());
        }
        let source = self.source()?.downcast_ref::<sqlx::Error>()?;
        source.as_database_error().and_then(|database| database.code()).map(std::borrow::Cow::into_owned)
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::error::Error;
    use std::fmt;

    use sqlx::error::{DatabaseError, ErrorKind};

    use super::*;

    /// An error of a server, by its SQLSTATE.
    #[derive(Debug)]
    struct Said(&'static str, &'static str);

    impl fmt::Display for Said {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.1)
        }
    }

    impl Error for Said {}

    impl DatabaseError for Said {
        fn message(&self) -> &str {
            self.1
        }

        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }

        fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    fn said(code: &'static str) -> StoreError {
        StoreError::of("call", sqlx::Error::Database(Box::new(Said(code, "what the server said"))))
    }

    /// What a caller asks of an error: lock timeout, out of connections, too slow, unavailable, of a pooler.
    fn facts(error: &StoreError) -> [bool; 5] {
        [
            error.is_lock_timeout(),
            error.is_out_of_connections(),
            error.is_too_slow(),
            error.is_unavailable(),
            error.is_of_a_pooler(),
        ]
    }

    #[test]
    fn a_broken_invariant_is_corrupt_and_a_refusal_of_the_functions_is_told_by_its_code() {
        let broken = said("OB008");
        assert!(matches!(&broken, StoreError::Invariant { call: "call", what } if what == "what the server said"));
        assert_eq!((broken.class(), broken.refusal(), broken.sqlstate()), (Class::Corrupt, None, None));
        let refused = said("OB011");
        assert_eq!(refused.refusal(), Some("OB011"));
        assert_eq!((refused.class(), refused.sqlstate().as_deref()), (Class::Misconfigured, Some("OB011")));
        assert_eq!(refused.to_string(), "call: what the server said");
    }

    #[test]
    fn what_a_person_must_mend_is_told_from_what_passes_and_from_a_value_that_is_not_taken() {
        for code in ["28000", "28P01", "3D000"] {
            assert!(matches!(said(code), StoreError::LoginRefused { .. }), "{code}");
            assert_eq!(said(code).class(), Class::Misconfigured, "{code}");
        }
        for code in ["42501", "42883", "3F000"] {
            assert!(matches!(said(code), StoreError::NotPermitted { .. }), "{code}");
            assert_eq!(said(code).class(), Class::Misconfigured, "{code}");
        }
        for code in ["22021", "23505"] {
            assert!(matches!(said(code), StoreError::BadValue { .. }), "{code}");
        }
        for code in ["40001", "53100", "XX000", "42P01", "28P02"] {
            assert!(matches!(said(code), StoreError::Server { .. }), "{code}");
        }
        for code in ["22021", "23505", "40001", "57P01"] {
            assert_eq!((said(code).class(), said(code).refusal()), (Class::Transient, None), "{code}");
        }
        let lost = StoreError::of("call", sqlx::Error::PoolClosed);
        assert!(matches!(lost, StoreError::Connection { .. }));
        assert_eq!((lost.class(), lost.sqlstate()), (Class::Transient, None));
    }

    #[test]
    fn each_fact_about_an_error_follows_from_its_sqlstate_alone() {
        const NONE: [bool; 5] = [false; 5];
        for (code, expected) in [
            ("55P03", [true, false, false, false, false]),
            ("53300", [false, true, false, true, false]),
            ("53100", [false, false, false, true, false]),
            ("57014", [false, false, true, true, false]),
            ("57P01", [false, false, false, true, false]),
            ("08006", [false, false, false, true, false]),
            ("25006", [false, false, false, true, false]),
            ("42P05", [false, false, false, false, true]),
            ("26000", [false, false, false, false, true]),
            ("25001", NONE),
            ("40001", NONE),
            ("OB011", NONE),
        ] {
            assert_eq!((facts(&said(code)), said(code).sqlstate().as_deref()), (expected, Some(code)), "{code}");
        }
        let timed_out = StoreError::TimedOut { call: "call", after: Millis(5) };
        assert_eq!(facts(&timed_out), [false, false, true, true, false]);
        for away in [StoreError::ConnectionLost, StoreError::of("call", sqlx::Error::PoolClosed)] {
            assert_eq!(facts(&away), [false, false, false, true, false], "{away}");
        }
        let refused = Said("08P01", "FATAL: unsupported startup parameter: lock_timeout");
        assert!(StoreError::of("call", sqlx::Error::Database(Box::new(refused))).is_of_a_pooler());
    }
}
