//! What follows an attempt: the truth table that `complete_outbox_batch` applies in SQL. What each cell has to be stands in
//! the test `decision_table`; a test of the store compares SQL with this on every combination.

use crate::contract::{OnUnknown, RailContract};
use crate::outcome::Outcome;
use crate::state::{AttemptKind, AttemptState, HoldReason};
use crate::time::Millis;

/// What is known of a payment when its attempt ends, apart from the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, read by name")]
pub struct Situation {
    /// What the attempt was for.
    pub kind: AttemptKind,
    /// Sends counted against the payment before this attempt.
    pub send_count: u32,
    /// Answered inquiries that left it in doubt, before this attempt.
    pub inquiry_count: u32,
    /// Whether an earlier attempt may have executed it.
    pub in_doubt: bool,
    /// Whether nothing sent earlier could still be on its way when this attempt was claimed.
    pub quarantine_over: bool,
    /// Whether the rail still knew the key when this attempt was claimed; true without a key window.
    pub in_key_window: bool,
    /// Whether a worker that had lost its lease reported a success.
    pub late_success: bool,
    /// Whether a person asked for a hold while the payment was leased.
    pub hold_requested: bool,
}

/// What becomes of the payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is dispatched.
    Settle,
    /// It has failed.
    Refuse,
    /// It is sent (again), after this long, under the same key.
    SendAfter(Millis),
    /// The rail is asked what became of it, after this long.
    InquireAfter(Millis),
    /// It waits for a person.
    Hold(HoldReason),
}

/// Whether an answer "not found" proves that the payment was never executed. A rail that may have forgotten
/// the key may have forgotten what it executed under it as well.
const fn not_found_counts(contract: &RailContract, situation: &Situation) -> bool {
    contract.not_found_is_final && situation.quarantine_over && situation.in_key_window
}

/// Whether an answer "not found" would have counted inside the key window, and will not by asking again.
const fn not_found_is_too_late(contract: &RailContract, situation: &Situation) -> bool {
    contract.not_found_is_final && situation.quarantine_over && !situation.in_key_window
}

/// Whether a refusal is the end of the payment. The answer to an inquiry is about the payment. The answer to a send is about
/// that send; it is about an earlier one in doubt as well only where the contract says that a key is executed once and
/// answered with its first result.
const fn refusal_counts(contract: &RailContract, situation: &Situation) -> bool {
    let is_about_the_payment = match (situation.kind, contract.on_unknown) {
        (AttemptKind::Inquire, _) | (AttemptKind::Submit, OnUnknown::Resend) => true,
        (AttemptKind::Submit, OnUnknown::Inquire | OnUnknown::Hold) => !situation.in_doubt,
    };
    is_about_the_payment && !situation.late_success
}

/// What `outcome` of an attempt of `kind` proves: nothing, if such an attempt cannot end in it.
const fn proven(kind: AttemptKind, outcome: Outcome) -> Outcome {
    if outcome.is_of(kind) { outcome } else { Outcome::Unknown }
}

/// The state that the attempt itself is recorded in.
#[must_use]
pub const fn attempt_state(contract: &RailContract, situation: &Situation, outcome: Outcome) -> AttemptState {
    match proven(situation.kind, outcome) {
        Outcome::Accepted => AttemptState::Dispatched,
        Outcome::Refused if refusal_counts(contract, situation) => AttemptState::Failed,
        // It does not end the payment, so it is no terminal attempt.
        Outcome::Refused => AttemptState::InDoubt,
        Outcome::NotFound if not_found_counts(contract, situation) && !situation.late_success => {
            AttemptState::Retryable
        }
        Outcome::NotSent | Outcome::NotExecuted | Outcome::Throttled | Outcome::RailRefusedUs => {
            AttemptState::Retryable
        }
        Outcome::Interim | Outcome::Unknown | Outcome::KeyReused | Outcome::NotFound | Outcome::Inconclusive => {
            AttemptState::InDoubt
        }
    }
}

/// Whether the attempt counts towards `max_sends`: what the rail suffers does not.
#[must_use]
pub const fn counts_as_send(kind: AttemptKind, outcome: Outcome) -> bool {
    let may_have_been_taken = match proven(kind, outcome) {
        Outcome::NotExecuted | Outcome::Interim | Outcome::Unknown => true,
        Outcome::Accepted
        | Outcome::Refused
        | Outcome::NotSent
        | Outcome::Throttled
        | Outcome::RailRefusedUs
        | Outcome::KeyReused
        | Outcome::NotFound
        | Outcome::Inconclusive => false,
    };
    matches!(kind, AttemptKind::Submit) && may_have_been_taken
}

/// Whether the attempt counts towards `max_inquiries`: it was answered, and the answer will not change
/// by waiting for the quarantine.
#[must_use]
pub const fn counts_as_inquiry(contract: &RailContract, kind: AttemptKind, outcome: Outcome) -> bool {
    let answered = match proven(kind, outcome) {
        Outcome::Interim | Outcome::Inconclusive => true,
        Outcome::NotFound => !contract.not_found_is_final,
        Outcome::Accepted
        | Outcome::Refused
        | Outcome::NotSent
        | Outcome::NotExecuted
        | Outcome::Throttled
        | Outcome::RailRefusedUs
        | Outcome::Unknown
        | Outcome::KeyReused => false,
    };
    matches!(kind, AttemptKind::Inquire) && answered
}

/// Whether the payment may have been executed, this attempt included. `outcome` is a proven one.
const fn is_in_doubt(contract: &RailContract, situation: &Situation, outcome: Outcome) -> bool {
    let was_in_doubt = match situation.kind {
        AttemptKind::Submit => situation.in_doubt,
        AttemptKind::Inquire => true,
    };
    match outcome {
        Outcome::Interim | Outcome::Unknown | Outcome::KeyReused | Outcome::Inconclusive => true,
        Outcome::NotFound => !not_found_counts(contract, situation),
        Outcome::Accepted
        | Outcome::Refused
        | Outcome::NotSent
        | Outcome::NotExecuted
        | Outcome::Throttled
        | Outcome::RailRefusedUs => was_in_doubt,
    }
}

/// What follows an attempt that ended in `outcome`, if there is a next one after `delay`.
#[must_use]
pub fn after_attempt(contract: &RailContract, situation: &Situation, outcome: Outcome, delay: Millis) -> Decision {
    let outcome = proven(situation.kind, outcome);
    match outcome {
        Outcome::Accepted => return Decision::Settle,
        Outcome::KeyReused => return Decision::Hold(HoldReason::Contradiction),
        Outcome::Refused | Outcome::NotFound if situation.late_success => {
            return Decision::Hold(HoldReason::Contradiction);
        }
        Outcome::Refused if refusal_counts(contract, situation) => return Decision::Refuse,
        Outcome::NotSent | Outcome::NotExecuted | Outcome::Throttled | Outcome::RailRefusedUs => {}
        Outcome::Refused | Outcome::Interim | Outcome::Unknown | Outcome::NotFound | Outcome::Inconclusive => {}
    }
    let in_doubt = is_in_doubt(contract, situation, outcome);
    let send_count = situation.send_count + u32::from(counts_as_send(situation.kind, outcome));
    let inquiry_count = situation.inquiry_count + u32::from(counts_as_inquiry(contract, situation.kind, outcome));
    if situation.late_success && contract.on_unknown != OnUnknown::Inquire {
        Decision::Hold(HoldReason::LateSuccess)
    } else if situation.hold_requested {
        Decision::Hold(HoldReason::Requested)
    } else if in_doubt && contract.on_unknown == OnUnknown::Hold {
        Decision::Hold(HoldReason::Unknown)
    } else if outcome == Outcome::NotFound && not_found_is_too_late(contract, situation) {
        Decision::Hold(HoldReason::KeyWindow)
    } else if (in_doubt || situation.late_success) && contract.on_unknown == OnUnknown::Inquire {
        let exhausted = inquiry_count >= contract.max_inquiries;
        if exhausted { Decision::Hold(HoldReason::Exhausted) } else { Decision::InquireAfter(delay) }
    } else if send_count >= contract.max_sends {
        Decision::Hold(HoldReason::Exhausted)
    } else {
        Decision::SendAfter(delay)
    }
}
