//! The closed lists of the outbox's tables, as the checker reads them. A word that is not on its list stops the
//! checker: it does not judge what it does not understand.

use crate::error::CheckError;

/// Makes a closed list with the word of each of its values.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($value:ident = $word:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $(#[doc = concat!("`", $word, "`")] $value,)+
        }

        impl $name {
            /// The value of a word.
            ///
            /// # Errors
            /// If the list does not have it.
            pub fn of(word: &str) -> Result<Self, CheckError> {
                match word {
                    $($word => Ok(Self::$value),)+
                    _ => Err(CheckError::Unreadable(format!("{} is no {}", word, stringify!($name)))),
                }
            }

            /// Its word.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$value => $word,)+
                }
            }
        }
    };
}

words! {
    /// Of what kind an attempt is.
    Kind { Submit = "SUBMIT", Inquire = "INQUIRE", Operator = "OPERATOR" }
}
words! {
    /// What an attempt came to.
    State {
        Dispatched = "DISPATCHED", Failed = "FAILED", Cancelled = "CANCELLED", Retryable = "RETRYABLE",
        InDoubt = "IN_DOUBT", LeaseExpired = "LEASE_EXPIRED", Released = "RELEASED",
    }
}
words! {
    /// What a worker reported.
    Outcome {
        Accepted = "ACCEPTED", Refused = "REFUSED", NotSent = "NOT_SENT", NotExecuted = "NOT_EXECUTED",
        Throttled = "THROTTLED", RailRefusedUs = "RAIL_REFUSED_US", Interim = "INTERIM", Unknown = "UNKNOWN",
        KeyReused = "KEY_REUSED", Released = "RELEASED", NotFound = "NOT_FOUND", Inconclusive = "INCONCLUSIVE",
    }
}
words! {
    /// Where a pending payment stands.
    Disposition { Ready = "READY", InDoubt = "IN_DOUBT", Held = "HELD", Parked = "PARKED" }
}
words! {
    /// Why a payment is held.
    HoldReason {
        Unknown = "UNKNOWN", Exhausted = "EXHAUSTED", KeyWindow = "KEY_WINDOW", MissedWindow = "MISSED_WINDOW",
        LateSuccess = "LATE_SUCCESS", Contradiction = "CONTRADICTION", Requested = "REQUESTED",
    }
}
words! {
    /// What a person does.
    ActionKind {
        Pause = "PAUSE", Resume = "RESUME", Hold = "HOLD", Cancel = "CANCEL", RetryNow = "RETRY_NOW",
        Release = "RELEASE", ReleaseAsResend = "RELEASE_AS_RESEND", ResolveDispatched = "RESOLVE_DISPATCHED",
        ResolveFailed = "RESOLVE_FAILED", Redrive = "REDRIVE", Failover = "FAILOVER",
    }
}
words! {
    /// What may follow an unknown outcome.
    Contract { Resend = "resend", Inquire = "inquire", Hold = "hold" }
}

impl State {
    /// Whether the payment ends with it.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Dispatched | Self::Failed | Self::Cancelled)
    }

    /// Whether it leaves open what the rail did.
    #[must_use]
    pub const fn is_unknown(self) -> bool {
        matches!(self, Self::InDoubt | Self::LeaseExpired)
    }
}
