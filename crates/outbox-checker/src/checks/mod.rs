//! The checks: each a pure function over what is known of one payment. Together they say what may not be; each file
//! says what its checks cannot see. Reading, and what is done with a finding, is elsewhere.

pub mod conservation;
pub mod doubt;
pub mod effects;
pub mod ends;
pub mod held;
pub mod late;
pub mod leases;
pub mod numbers;
pub mod recovery;
pub mod retries;

use crate::{
    faults::{Faults, GRACE_US},
    payment::{Applied, Late, Payment},
    rail_files::RailSpec,
};

/// Makes the list of checks with the name of each.
macro_rules! checks {
    ($($check:ident = $name:literal),+ $(,)?) => {
        /// What was checked.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Check {
            $(#[doc = concat!("`", $name, "`")] $check,)+
        }

        impl Check {
            /// Every check.
            pub const ALL: &[Self] = &[$(Self::$check),+];

            /// Its name in findings and in the report.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$check => $name,)+
                }
            }
        }
    };
}

checks! {
    LostPayment = "lost_payment",
    LostEnqueue = "lost_enqueue",
    PendingAndTerminal = "pending_and_terminal",
    TerminalTwice = "terminal_twice",
    IdentityMissing = "identity_missing",
    InstructionMissing = "instruction_missing",
    ExecutedTwice = "executed_twice",
    EffectUnknown = "effect_unknown",
    EffectOnOtherRail = "effect_on_other_rail",
    EffectOfEnded = "effect_of_ended",
    EffectNotDoubted = "effect_not_doubted",
    ReferenceDiffers = "reference_differs",
    BytesDiffer = "bytes_differ",
    DispatchedWithoutEffect = "dispatched_without_effect",
    FailedWithoutRefusal = "failed_without_refusal",
    CancelledWasSent = "cancelled_was_sent",
    EndedByNobody = "ended_by_nobody",
    AttemptsNotContiguous = "attempts_not_contiguous",
    AttemptCountDiffers = "attempt_count_differs",
    TerminalNotLast = "terminal_not_last",
    LeasesOverlap = "leases_overlap",
    LeaseTokenReused = "lease_token_reused",
    LeaseSettledEarly = "lease_settled_early",
    LostLeaseCompleted = "lost_lease_completed",
    SentOutsideLease = "sent_outside_lease",
    HistoryChanged = "history_changed",
    HistoryShrank = "history_shrank",
    RailFilesChanged = "rail_files_changed",
    HeldWithoutCause = "held_without_cause",
    DoubtWithoutCause = "doubt_without_cause",
    LateEvidenceForgotten = "late_evidence_forgotten",
    SentMoreThanClaimed = "sent_more_than_claimed",
    ResentAfterDoubt = "resent_after_doubt",
    RecoveryTooSlow = "recovery_too_slow",
}

/// What is wrong with one payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Which check says so.
    pub check: Check,
    /// What it saw.
    pub detail: String,
}

impl Flaw {
    /// A flaw.
    #[must_use]
    pub fn new(check: Check, detail: impl Into<String>) -> Self {
        Self { check, detail: detail.into() }
    }
}

/// The contract of a rail as the database has it. Lengths in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The shortest lease that was in force while the checker looked.
    pub lease_ms: i64,
    /// Sends before a hold.
    pub max_sends: i32,
    /// Lost leases before a hold.
    pub max_crashes: i32,
    /// Inquiries before a hold.
    pub max_inquiries: i32,
    /// How long the rail knows a key.
    pub window_ms: Option<i64>,
}

impl Default for Terms {
    fn default() -> Self {
        Self { lease_ms: 0, max_sends: i32::MAX, max_crashes: i32::MAX, max_inquiries: i32::MAX, window_ms: None }
    }
}

/// The workers by their number in an attempt.
#[derive(Clone, Debug, Default)]
pub struct Workers {
    /// Their ids.
    pub names: Vec<String>,
    /// When each last wrote something that a living worker writes, by the database's clock.
    pub last_us: Vec<i64>,
}

impl Workers {
    /// A worker's id; empty for a number that is nobody's.
    #[must_use]
    pub fn name(&self, worker: u16) -> &str {
        self.names.get(usize::from(worker)).map_or("", String::as_str)
    }

    /// When it last wrote something.
    #[must_use]
    pub fn last_us(&self, worker: u16) -> i64 {
        self.last_us.get(usize::from(worker)).copied().unwrap_or(0)
    }
}

/// One payment with all that is needed to judge it.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The payment.
    pub payment: &'a Payment,
    /// What was reported of it late.
    pub lates: &'a [Late],
    /// What people did to it.
    pub applied: &'a [Applied],
    /// Its rail, if it is one of those that are judged.
    pub rail: Option<&'a RailSpec>,
    /// Its rail's contract.
    pub terms: Terms,
    /// What the harness did.
    pub faults: &'a Faults,
    /// Who the workers are.
    pub workers: &'a Workers,
    /// Whether its month was detached by receipt.
    pub is_detached: bool,
    /// The furthest that the database's clock was seen.
    pub now_us: i64,
    /// Whether everybody has stopped, so that what is still on its way will not arrive.
    pub is_final: bool,
}

impl Case<'_> {
    /// The name of its rail.
    #[must_use]
    pub fn rail_name(&self) -> &str {
        self.rail.map_or("?", |rail| &rail.name)
    }

    /// Whether a failover may have taken away attempts of it: it was there before, and had not ended when commits
    /// began to be lost.
    #[must_use]
    pub fn may_miss_attempts(&self) -> bool {
        let faults = self.faults;
        // A time of the database that came twice is taken for the one at which it may have been so.
        let created_us = faults.earliest_host_us(self.payment.recorded_us());
        let end_us = self.payment.terminal().map_or(i64::MAX, |end| faults.host_us(end.completed_us));
        faults.failovers.iter().any(|failover| {
            let lost_from_us = faults.earliest_host_us(failover.lost_from_us);
            created_us <= failover.at_us + GRACE_US && end_us >= lost_from_us - GRACE_US
        })
    }
}

/// What the snapshot shows to be wrong, the rails' files having been read before it: everything of which the
/// database must know before the rail does.
#[must_use]
pub fn judge_against_earlier_files(case: &Case<'_>) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    flaws.extend(conservation::conserved(case));
    flaws.extend(effects::effects_are_known(case));
    flaws.extend(effects::bytes_are_ours(case));
    flaws.extend(numbers::attempts_are_contiguous(case));
    flaws.extend(leases::leases_are_disjoint(case));
    flaws.extend(leases::sent_within_the_lease(case));
    flaws.extend(retries::requests_have_attempts(case));
    flaws.extend(retries::nothing_is_sent_again_blindly(case));
    flaws
}

/// What the rails' files, read after the snapshot, show to be wrong with it: everything of which the rail must know
/// before the database does.
#[must_use]
pub fn judge_against_later_files(case: &Case<'_>) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    flaws.extend(ends::ends_have_a_cause(case));
    flaws
}

/// What can be said only of a payment that was left alone for a while.
#[must_use]
pub fn judge_what_has_settled(case: &Case<'_>) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    flaws.extend(doubt::doubts_have_a_cause(case));
    flaws.extend(held::holds_have_a_cause(case));
    flaws.extend(late::late_evidence_is_kept(case));
    flaws
}

#[cfg(test)]
pub(crate) mod forged;
