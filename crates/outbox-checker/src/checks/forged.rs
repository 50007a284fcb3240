//! Histories for the checks' tests: a payment in order, to be spoiled in one place.

use std::path::PathBuf;

use super::{Case, Terms, Workers};
use crate::{
    faults::Faults,
    payment::{Applied, Attempt, Late, Payment, Pending},
    rail_files::RailSpec,
    words::{Contract, Disposition, Kind, Outcome, State},
};

/// Where the forged histories begin.
pub(crate) const START_US: i64 = 1_000_000_000_000;
const SECOND_US: i64 = 1_000_000;

pub(crate) struct Forged {
    pub(crate) payment: Payment,
    pub(crate) lates: Vec<Late>,
    pub(crate) applied: Vec<Applied>,
    pub(crate) rail: RailSpec,
    pub(crate) terms: Terms,
    pub(crate) faults: Faults,
    pub(crate) workers: Workers,
    pub(crate) is_detached: bool,
    pub(crate) is_final: bool,
}

impl Forged {
    /// Recorded and due.
    pub(crate) fn due(contract: Contract) -> Self {
        let mut payment = Payment::new(7);
        (payment.rail, payment.identity, payment.instruction, payment.payload) = (0, 1, 2, 0xab);
        payment.created_us = START_US;
        payment.pending = Some(Box::new(pending(Disposition::Ready)));
        Self {
            payment,
            lates: Vec::new(),
            applied: Vec::new(),
            rail: RailSpec {
                name: "sepa".to_owned(),
                contract,
                is_idempotent: contract == Contract::Resend,
                ledger: PathBuf::new(),
                answers: PathBuf::new(),
            },
            terms: Terms { lease_ms: 10_000, max_sends: 3, max_crashes: 3, max_inquiries: 9, window_ms: None },
            faults: Faults::default(),
            workers: Workers { names: vec!["d1/x".to_owned(), "d2/y".to_owned()], last_us: vec![0, 0] },
            is_detached: false,
            is_final: false,
        }
    }

    /// Sent once, executed, dispatched.
    pub(crate) fn dispatched(contract: Contract) -> Self {
        let mut forged = Self::due(contract);
        forged.payment.pending = None;
        forged.attempt(State::Dispatched, Some(Outcome::Accepted));
        forged.executed(START_US + 100);
        forged.payment.attempts[0].reference = 5;
        forged
    }

    /// Sent once, and waiting for a person.
    pub(crate) fn held(contract: Contract, reason: crate::words::HoldReason) -> Self {
        let mut forged = Self::due(contract);
        forged.attempt(State::InDoubt, Some(Outcome::Unknown));
        let row = forged.payment.pending.as_mut().unwrap();
        (row.disposition, row.hold_reason) = (Disposition::Held, Some(reason));
        (row.was_sent, row.is_in_doubt) = (true, true);
        forged
    }

    /// One more attempt of a second, two seconds after the one before.
    pub(crate) fn attempt(&mut self, state: State, outcome: Option<Outcome>) -> &mut Attempt {
        let no = i32::try_from(self.payment.attempts.len()).unwrap() + 1;
        let claimed_us = START_US + i64::from(no) * 20 * SECOND_US;
        let length_us = if state == State::LeaseExpired { 11 * SECOND_US } else { SECOND_US };
        self.payment.attempts.push(Attempt {
            no,
            kind: Kind::Submit,
            state,
            outcome,
            is_timeout: false,
            worker: 0,
            token: 100 + u64::from(no.unsigned_abs()),
            claimed_us,
            first_byte_us: claimed_us + 1000,
            completed_us: claimed_us + length_us,
            reference: 0,
            digest: 9,
            seen: 0,
        });
        if let Some(row) = &mut self.payment.pending {
            row.attempt_count = no;
        }
        self.payment.attempts.last_mut().unwrap()
    }

    /// The rail executes it, and says so.
    pub(crate) fn executed(&mut self, at_us: i64) {
        let wire = &mut self.payment.wire;
        (wire.effects, wire.rail_plus_one, wire.reference, wire.body) = (1, 1, 5, 0xab);
        (wire.effect_us, wire.effect_request, wire.answered_request) = (at_us, 3, 3);
        (wire.requests, wire.acceptances, wire.accepted_us, wire.answer_us) = (1, 1, at_us, at_us);
    }

    pub(crate) fn case(&self) -> Case<'_> {
        Case {
            payment: &self.payment,
            lates: &self.lates,
            applied: &self.applied,
            rail: Some(&self.rail),
            terms: self.terms,
            faults: &self.faults,
            workers: &self.workers,
            is_detached: self.is_detached,
            now_us: START_US + 1000 * SECOND_US,
            is_final: self.is_final,
        }
    }
}

pub(crate) fn pending(disposition: Disposition) -> Pending {
    Pending {
        disposition,
        hold_reason: None,
        attempt_count: 0,
        send_count: 0,
        crash_count: 0,
        inquiry_count: 0,
        was_sent: false,
        is_in_doubt: false,
        late_success: false,
        is_redrive: false,
        not_after_us: None,
        lease: None,
    }
}
