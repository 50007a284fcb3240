//! What a payment goes through, in a few lines of Rust: the oracle of the random lives. It knows the core's
//! truth table and the rules for counts, doubts and fences; it knows no SQL.

use std::collections::{BTreeMap, BTreeSet};

use outbox_core::decide::{attempt_state, counts_as_inquiry, counts_as_send};
use outbox_core::{
    AttemptKind, AttemptState, Decision, HoldReason, Millis, OnUnknown, OutboxId, Outcome, RailContract, Situation,
    after_attempt,
};
use outbox_store::HeldLease;

/// How an attempt ends, as a worker tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Known(Outcome),
    Released,
}

impl End {
    fn name(self) -> &'static str {
        match self {
            Self::Known(outcome) => outcome.name(),
            Self::Released => "RELEASED",
        }
    }
}

/// A lease as the model has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Granted {
    lease: HeldLease,
    kind: AttemptKind,
    worker: usize,
    live: bool,
}

/// What a worker is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Applied(AttemptState, Option<HoldReason>),
    AlreadyApplied,
    Fenced,
}

/// One payment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Life {
    granted: Option<Granted>,
    held: Option<HoldReason>,
    ended: bool,
    attempts: Vec<(HeldLease, AttemptState, Option<End>)>,
    attempt_count: usize,
    send_count: u32,
    crash_count: u32,
    inquiry_count: u32,
    first_sent: Option<usize>,
    in_doubt: bool,
    quarantined: bool,
    /// A final "not found" came too early: it is asked again when the quarantine is over.
    waits: bool,
    asked_next: bool,
    late_success: bool,
    hold_requested: bool,
}

impl Life {
    /// The payment as one line, in the same form as the query of the test.
    pub(crate) fn line(&self) -> String {
        let place = if self.ended {
            "ENDED".to_owned()
        } else {
            let disposition = match (self.held, self.asked_next) {
                (Some(_), _) => "HELD",
                (None, true) => "IN_DOUBT",
                (None, false) => "READY",
            };
            format!(
                "{disposition} {} attempts={} sends={} crashes={} inquiries={} sent={} doubt={} late={} requested={} lease={}",
                self.held.map_or("-", HoldReason::name),
                self.attempt_count,
                self.send_count,
                self.crash_count,
                self.inquiry_count,
                self.first_sent.is_some(),
                self.in_doubt,
                self.late_success,
                self.hold_requested,
                self.granted.map_or_else(|| "-".to_owned(), |granted| granted.lease.lease_token.0.to_string()),
            )
        };
        let ledger: Vec<String> = self
            .attempts
            .iter()
            .map(|(lease, state, end)| format!("{} {} {}", lease.attempt_no, state.name(), end.map_or("-", End::name)))
            .collect();
        format!("{place} | {}", ledger.join(", "))
    }

    /// Asks for a hold, as a person does.
    pub(crate) fn request_hold(&mut self) -> bool {
        let possible = !self.ended && self.held.is_none();
        self.hold_requested |= possible;
        possible
    }

    /// Lets the lease run out.
    pub(crate) fn lose_lease(&mut self) -> bool {
        if let Some(granted) = &mut self.granted {
            granted.live = false;
        }
        self.granted.is_some()
    }

    /// Lets the time pass in which an earlier send may still be on its way.
    pub(crate) fn end_quarantine(&mut self) {
        self.quarantined = false;
        self.waits = false;
    }

    fn hold(&mut self, reason: HoldReason) {
        self.held = Some(reason);
        self.asked_next = false;
        self.hold_requested = false;
    }

    fn settle_lost_lease(&mut self, contract: &RailContract) {
        let Some(granted) = self.granted.take() else { return };
        self.attempts.push((granted.lease, AttemptState::LeaseExpired, None));
        self.crash_count += 1;
        self.in_doubt = true;
        self.quarantined |= granted.kind == AttemptKind::Submit;
        self.asked_next = contract.on_unknown == OnUnknown::Inquire;
        if self.late_success && contract.on_unknown != OnUnknown::Inquire {
            self.hold(HoldReason::LateSuccess);
        } else if self.hold_requested {
            self.hold(HoldReason::Requested);
        } else if contract.on_unknown == OnUnknown::Hold {
            self.hold(HoldReason::Unknown);
        } else if self.crash_count >= contract.max_crashes {
            self.hold(HoldReason::Exhausted);
        }
    }

    fn reason_at_claim(&self, contract: &RailContract) -> Option<HoldReason> {
        if self.late_success && contract.on_unknown != OnUnknown::Inquire {
            Some(HoldReason::LateSuccess)
        } else if self.hold_requested {
            Some(HoldReason::Requested)
        } else if self.crash_count >= contract.max_crashes {
            Some(HoldReason::Exhausted)
        } else if self.next_kind(contract) == AttemptKind::Inquire {
            (self.inquiry_count >= contract.max_inquiries).then_some(HoldReason::Exhausted)
        } else if self.send_count >= contract.max_sends {
            Some(HoldReason::Exhausted)
        } else if self.in_doubt && contract.on_unknown == OnUnknown::Hold {
            Some(HoldReason::Unknown)
        } else {
            None
        }
    }

    fn next_kind(&self, contract: &RailContract) -> AttemptKind {
        let asks = contract.on_unknown == OnUnknown::Inquire && (self.in_doubt || self.late_success);
        if asks { AttemptKind::Inquire } else { AttemptKind::Submit }
    }

    /// A claim granted `lease` of `kind` to `worker`.
    pub(crate) fn grant(&mut self, contract: &RailContract, lease: HeldLease, kind: AttemptKind, worker: usize) {
        assert_eq!(kind, self.next_kind(contract));
        self.asked_next = kind == AttemptKind::Inquire;
        self.attempt_count += 1;
        assert_eq!(usize::try_from(lease.attempt_no.0), Ok(self.attempt_count), "attempt numbers have a gap");
        self.first_sent = self.first_sent.or(Some(self.attempt_count));
        self.granted = Some(Granted { lease, kind, worker, live: true });
    }

    pub(crate) fn renews(&self, lease: HeldLease, worker: usize) -> bool {
        self.granted.is_some_and(|granted| granted == Granted { lease, worker, live: true, ..granted })
    }

    /// A worker says how the attempt under `lease` ended.
    pub(crate) fn complete(&mut self, contract: &RailContract, lease: HeldLease, end: End) -> Answer {
        if !self.granted.is_some_and(|granted| granted.lease == lease && granted.live) {
            if self.attempts.iter().any(|(known, _, how)| *known == lease && *how == Some(end)) {
                return Answer::AlreadyApplied;
            }
            if !self.ended {
                self.learn_late(contract, end);
            }
            return Answer::Fenced;
        }
        let kind = self.granted.map_or(AttemptKind::Submit, |granted| granted.kind);
        let (state, held) = self.decide(contract, kind, end);
        let unsent = kind == AttemptKind::Submit && matches!(end, End::Released | End::Known(Outcome::NotSent));
        if unsent && self.first_sent == Some(self.attempt_count) {
            self.first_sent = None;
        }
        self.granted = None;
        self.attempts.push((lease, state, Some(end)));
        self.quarantined |= kind == AttemptKind::Submit && state == AttemptState::InDoubt;
        self.in_doubt |= kind == AttemptKind::Inquire || state == AttemptState::InDoubt;
        if end == End::Known(Outcome::NotFound) && state == AttemptState::Retryable {
            (self.in_doubt, self.inquiry_count) = (false, 0);
        }
        let too_early = kind == AttemptKind::Inquire && end == End::Known(Outcome::NotFound) && self.quarantined;
        self.waits = too_early && contract.not_found_is_final;
        self.asked_next = self.next_kind(contract) == AttemptKind::Inquire;
        self.ended = state.is_terminal();
        if let Some(reason) = held {
            self.hold(reason);
        }
        Answer::Applied(state, held)
    }

    /// What may have been executed leaves a doubt, whoever says so and however late.
    fn learn_late(&mut self, contract: &RailContract, end: End) {
        use Outcome::{Accepted, Inconclusive, Interim, KeyReused, Unknown};
        self.late_success |= end == End::Known(Accepted);
        if matches!(end, End::Known(Accepted | Interim | Unknown | KeyReused | Inconclusive)) {
            self.in_doubt = true;
            self.quarantined = true;
            // By no attempt that a later NOT_SENT could take back.
            self.first_sent = self.first_sent.or(Some(0));
            if end == End::Known(Accepted) && self.held.is_some_and(|reason| reason != HoldReason::Contradiction) {
                self.held = Some(HoldReason::LateSuccess);
            }
            if self.granted.is_none() && self.held.is_none() {
                self.asked_next = contract.on_unknown == OnUnknown::Inquire;
            }
        }
    }

    fn decide(&mut self, contract: &RailContract, kind: AttemptKind, end: End) -> (AttemptState, Option<HoldReason>) {
        // Given back: as if nothing had been sent, except that no limit is looked at.
        let outcome = match end {
            End::Released => Outcome::NotSent,
            End::Known(outcome) if outcome.is_of(kind) => outcome,
            End::Known(_) => Outcome::Unknown,
        };
        let Self { send_count, inquiry_count, in_doubt, late_success, hold_requested, .. } = *self;
        let quarantine_over = !self.quarantined;
        // No life is as long as the key window of its rail.
        let in_key_window = true;
        let situation = Situation {
            kind,
            send_count,
            inquiry_count,
            in_doubt,
            quarantine_over,
            in_key_window,
            late_success,
            hold_requested,
        };
        let held = match after_attempt(contract, &situation, outcome, Millis::ZERO) {
            Decision::Hold(HoldReason::Exhausted) if end == End::Released && kind == AttemptKind::Submit => None,
            Decision::Hold(reason) => Some(reason),
            Decision::Settle | Decision::Refuse | Decision::SendAfter(_) | Decision::InquireAfter(_) => None,
        };
        self.send_count += u32::from(counts_as_send(kind, outcome));
        self.inquiry_count += u32::from(counts_as_inquiry(contract, kind, outcome));
        let state = attempt_state(contract, &situation, outcome);
        (if end == End::Released { AttemptState::Released } else { state }, held)
    }
}

/// What a claim over all payments must come to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ClaimExpectation {
    pub(crate) held: BTreeMap<OutboxId, HoldReason>,
    pub(crate) expired: u32,
    pub(crate) suspects: u32,
    /// Those that may be leased; only one of them if `alone`.
    pub(crate) eligible: BTreeSet<OutboxId>,
    pub(crate) alone: bool,
}

/// Claims everything that can be claimed, except for the grants themselves.
pub(crate) fn claim(lives: &mut BTreeMap<OutboxId, Life>, contract: &RailContract, in_flight: u32) -> ClaimExpectation {
    let mut held = BTreeMap::new();
    let (mut expired, mut suspects, mut others) = (0, BTreeSet::new(), BTreeSet::new());
    for (id, life) in lives.iter_mut().filter(|(_, life)| !life.ended && life.held.is_none() && !life.waits) {
        match life.granted {
            Some(granted) if granted.live => continue,
            Some(_) => {
                life.settle_lost_lease(contract);
                expired += 1;
            }
            None => match life.reason_at_claim(contract) {
                Some(reason) => life.hold(reason),
                None if life.crash_count >= 2 => drop(suspects.insert(*id)),
                None => drop(others.insert(*id)),
            },
        }
        if let Some(reason) = life.held {
            held.insert(*id, reason);
        }
    }
    let alone = in_flight == 0 && !suspects.is_empty();
    let count = u32::try_from(suspects.len()).unwrap();
    ClaimExpectation { held, expired, suspects: count, eligible: if alone { suspects } else { others }, alone }
}
