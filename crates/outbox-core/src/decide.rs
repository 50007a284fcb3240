//! What follows an attempt: the truth table that `complete_outbox_batch` applies in SQL. A test of
//! the store compares the two on every combination.

use crate::contract::{OnUnknown, RailContract};
use crate::outcome::Outcome;
use crate::state::{AttemptState, HoldReason};
use crate::time::Millis;

/// What is known of a payment when its attempt ends, apart from the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation {
    /// Sends counted against the payment before this attempt.
    pub send_count: u32,
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
    /// It is sent again, after this long, under the same key.
    RetryAfter(Millis),
    /// It waits for a person.
    Hold(HoldReason),
}

/// The state that the attempt itself is recorded in.
#[must_use]
pub const fn attempt_state(outcome: Outcome, late_success: bool) -> AttemptState {
    match outcome {
        Outcome::Accepted => AttemptState::Dispatched,
        // A refusal after a success was seen does not end the payment, so it is no terminal attempt.
        Outcome::Refused if late_success => AttemptState::InDoubt,
        Outcome::Refused => AttemptState::Failed,
        Outcome::NotSent | Outcome::NotExecuted | Outcome::Throttled | Outcome::RailRefusedUs => {
            AttemptState::Retryable
        }
        Outcome::Interim | Outcome::Unknown | Outcome::KeyReused => AttemptState::InDoubt,
    }
}

/// Whether the attempt counts towards `max_sends`: what the rail suffers does not.
#[must_use]
pub const fn counts_as_send(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::NotExecuted | Outcome::Interim | Outcome::Unknown)
}

/// What follows an attempt that ended in `outcome`, if it may be repeated after `delay`.
#[must_use]
pub fn after_attempt(contract: &RailContract, situation: &Situation, outcome: Outcome, delay: Millis) -> Decision {
    let unknown = match outcome {
        Outcome::Accepted => return Decision::Settle,
        Outcome::KeyReused => return Decision::Hold(HoldReason::Contradiction),
        Outcome::Refused if situation.late_success => return Decision::Hold(HoldReason::Contradiction),
        Outcome::Refused => return Decision::Refuse,
        Outcome::NotSent | Outcome::NotExecuted | Outcome::Throttled | Outcome::RailRefusedUs => false,
        Outcome::Interim | Outcome::Unknown => true,
    };
    let send_count = situation.send_count + u32::from(counts_as_send(outcome));
    if situation.late_success {
        Decision::Hold(HoldReason::LateSuccess)
    } else if situation.hold_requested {
        Decision::Hold(HoldReason::Requested)
    } else if unknown && contract.on_unknown == OnUnknown::Hold {
        Decision::Hold(HoldReason::Unknown)
    } else if send_count >= contract.max_sends {
        Decision::Hold(HoldReason::Exhausted)
    } else {
        Decision::RetryAfter(delay)
    }
}
