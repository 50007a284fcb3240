//! The states of an attempt and the reasons of a hold, by the names the database gives them.

use crate::closed_list;

/// What a lease is for. In the database it follows from the payment's disposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttemptKind {
    /// To send the payment.
    Submit,
    /// To ask what became of it.
    Inquire,
}

impl AttemptKind {
    closed_list! {
        /// Every kind that a worker is given.
        pub const ALL = [Submit, Inquire]
    }

    /// The name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Submit => "SUBMIT",
            Self::Inquire => "INQUIRE",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What one attempt came to. Each granted lease ends in exactly one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttemptState {
    /// The rail accepted the payment. Terminal.
    Dispatched,
    /// The rail refused the payment for good. Terminal.
    Failed,
    /// A person cancelled a payment that was certainly never sent. Terminal.
    Cancelled,
    /// Certainly not executed.
    Retryable,
    /// It may have been executed.
    InDoubt,
    /// The worker vanished; it may have been executed.
    LeaseExpired,
    /// The lease was given back, certainly unsent.
    Released,
}

impl AttemptState {
    closed_list! {
        /// Every state.
        pub const ALL = [Dispatched, Failed, Cancelled, Retryable, InDoubt, LeaseExpired, Released]
    }

    /// The name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dispatched => "DISPATCHED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
            Self::Retryable => "RETRYABLE",
            Self::InDoubt => "IN_DOUBT",
            Self::LeaseExpired => "LEASE_EXPIRED",
            Self::Released => "RELEASED",
        }
    }

    /// Whether a payment has at most one attempt in this state, its last.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Dispatched | Self::Failed | Self::Cancelled => true,
            Self::Retryable | Self::InDoubt | Self::LeaseExpired | Self::Released => false,
        }
    }
}

/// Why a payment waits for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HoldReason {
    /// It may have been executed, and its rail's contract allows no blind resend.
    Unknown,
    /// A limit of the contract is reached; never a reason to call it failed.
    Exhausted,
    /// The rail no longer remembers the key, so a resend could pay twice.
    KeyWindow,
    /// `not_after` passed before it could be sent.
    MissedWindow,
    /// A worker that had lost its lease reported a success.
    LateSuccess,
    /// Two answers of the rail exclude one another.
    Contradiction,
    /// A person asked for the hold.
    Requested,
}

impl HoldReason {
    closed_list! {
        /// Every reason.
        pub const ALL = [Unknown, Exhausted, KeyWindow, MissedWindow, LateSuccess, Contradiction, Requested]
    }

    /// The name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Exhausted => "EXHAUSTED",
            Self::KeyWindow => "KEY_WINDOW",
            Self::MissedWindow => "MISSED_WINDOW",
            Self::LateSuccess => "LATE_SUCCESS",
            Self::Contradiction => "CONTRADICTION",
            Self::Requested => "REQUESTED",
        }
    }

    /// The reason of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.name() == name)
    }
}
