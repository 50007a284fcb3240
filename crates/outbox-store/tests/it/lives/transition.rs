//! What can happen to a few payments of one rail, in names that outlive the deletion of other steps: a payment is a slot and a
//! generation, a lease a payment and an attempt number, an action a letter. No id, no token and no time of a database is here.

use std::fmt;

use outbox_core::{OnUnknown, Outcome};

/// A payment: which instruction, and the how manieth payment of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pay {
    pub(super) slot: u8,
    pub(super) generation: u8,
}

impl fmt::Display for Pay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}.{}", self.slot, self.generation)
    }
}

impl fmt::Debug for Pay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A lease that was granted: the payment and the number of the attempt.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LeaseName {
    pub(super) pay: Pay,
    pub(super) attempt_no: u32,
}

impl fmt::Display for LeaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.pay, self.attempt_no)
    }
}

impl fmt::Debug for LeaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is asked to be paid, where it is asked for the first time. Times are spans from now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) participant: u8,
    pub(super) ordered: bool,
    pub(super) not_before: Option<i64>,
    pub(super) not_after: Option<i64>,
}

/// How an enqueue of a known instruction differs from the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Likeness {
    Same,
    OtherBytes,
    OtherKey,
    /// Without an amount, which the contract requires, known or not.
    Bad,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) slot: u8,
    pub(super) likeness: Likeness,
    pub(super) request: Request,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Single,
    Text,
    Batch,
}

/// How an attempt ends, as a worker tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Known(Outcome),
    /// A success under another reference than `Known(Accepted)` has.
    AcceptedElse,
    /// A success without a reference, which counts for nothing.
    AcceptedBare,
    Released,
}

impl End {
    /// What is recorded as the outcome.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Known(outcome) => outcome.name(),
            Self::AcceptedElse => "ACCEPTED",
            Self::AcceptedBare => "UNKNOWN",
            Self::Released => "RELEASED",
        }
    }

    pub(super) fn outcome(self) -> Outcome {
        match self {
            Self::Known(outcome) => outcome,
            Self::AcceptedElse => Outcome::Accepted,
            Self::AcceptedBare => Outcome::Unknown,
            // Given back: as if nothing had been sent, except that no limit is looked at.
            Self::Released => Outcome::NotSent,
        }
    }

    pub(super) fn reference(self) -> Option<&'static str> {
        match self {
            Self::Known(Outcome::Accepted) => Some("R-1"),
            Self::AcceptedElse => Some("R-2"),
            Self::AcceptedBare => Some(""),
            Self::Known(_) | Self::Released => None,
        }
    }
}

/// What a worker says of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) lease: LeaseName,
    /// Under a token that nobody was granted.
    pub(super) forged: bool,
    pub(super) end: End,
    /// Spans before another send.
    pub(super) delay: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Hold,
    Cancel,
    RetryNow,
    Release,
    ReleaseAsResend,
    ResolveDispatched,
    ResolveFailed,
    Redrive,
}

impl Kind {
    pub(super) const ALL: [Self; 8] = [
        Self::Hold,
        Self::Cancel,
        Self::RetryNow,
        Self::Release,
        Self::ReleaseAsResend,
        Self::ResolveDispatched,
        Self::ResolveFailed,
        Self::Redrive,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Hold => "HOLD",
            Self::Cancel => "CANCEL",
            Self::RetryNow => "RETRY_NOW",
            Self::Release => "RELEASE",
            Self::ReleaseAsResend => "RELEASE_AS_RESEND",
            Self::ResolveDispatched => "RESOLVE_DISPATCHED",
            Self::ResolveFailed => "RESOLVE_FAILED",
            Self::Redrive => "REDRIVE",
        }
    }

    pub(super) const fn needs_approval(self) -> bool {
        !matches!(self, Self::Hold | Self::Cancel | Self::RetryNow)
    }

    pub(super) const fn needs_evidence(self) -> bool {
        matches!(self, Self::ReleaseAsResend | Self::ResolveDispatched | Self::ResolveFailed)
    }
}

/// What a proposal does to `not_after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Window {
    Keep,
    Drop,
}

/// What a pause is of: the rail or everything, a participant or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Scope {
    pub(super) of_rail: bool,
    pub(super) participant: Option<u8>,
}

/// One change of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    OnUnknown(OnUnknown),
    NotFoundIsFinal(bool),
    MaxSends(u32),
    MaxCrashes(u32),
    MaxInquiries(u32),
    Paused(bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decided {
    /// By the checker.
    Approved,
    Rejected,
    /// By the maker, who may not.
    ByMaker,
    /// By the checker, of another list.
    OfAnother,
    /// Taken back by the maker.
    Withdrawn,
}

/// One call of one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Enqueue { form: Form, items: Vec<Item> },
    Claim { worker: u8, limit: u8, in_flight: u8, from_cursor: bool, endpoint: u8, short: bool },
    Renew { worker: u8, leases: Vec<(LeaseName, bool)> },
    Complete { worker: u8, reports: Vec<Report> },
    Release { worker: u8, leases: Vec<(LeaseName, bool)> },
    Expire { limit: u8, cursor_of: Option<u8> },
    Unpark { limit: u8 },
    Heartbeat { worker: u8, stopped: bool },
    Pause { scope: Scope, paused: bool },
    SetRail(Change),
    Propose { action: u8, kind: Kind, members: Vec<Pay>, evidence: bool, window: Window },
    Decide { action: u8, decided: Decided },
    Apply { action: u8, limit: u8, by_checker: bool },
}

/// One step of a sequence.
#[derive(Clone, Debug)]
pub(super) enum Transition {
    Call(Op),
    /// So many spans go by.
    Pass(i64),
    /// `first` is called in a transaction that stays open while another session makes its calls, and then ends.
    Overlap {
        first: Op,
        second: Vec<Op>,
        commits: bool,
    },
}
