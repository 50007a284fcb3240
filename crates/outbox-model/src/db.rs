//! What the database keeps of payments, and what claim and complete do to it.

use outbox_core::decide::{attempt_state, counts_as_inquiry, counts_as_send};
use outbox_core::{
    AttemptKind, AttemptState, Decision, HoldReason, Millis, OnUnknown, Outcome, RailContract, RailName, Situation,
    after_attempt,
};

/// The name of one lease. No two leases have the same, whatever is lost and granted anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u8);

/// A payment's lease, as the database has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// Which one.
    pub token: Token,
    /// What for.
    pub kind: AttemptKind,
    /// Whether its time has not run out.
    pub is_live: bool,
    /// Whether nothing sent earlier could still be on its way when it was granted.
    pub quarantine_over: bool,
}

/// Where a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Its next lease sends it.
    Ready,
    /// Its next lease asks after it.
    Asked,
    /// It waits for a person.
    Held(HoldReason),
    /// It is over.
    Ended(AttemptState),
}

/// A payment's row, and what of the ledger the properties ask for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, read by name")]
pub struct Row {
    /// Where it stands.
    pub place: Place,
    /// Its lease.
    pub lease: Option<Lease>,
    /// Leases granted.
    pub attempts: u8,
    /// Sends that count.
    pub sends: u8,
    /// Leases lost.
    pub crashes: u8,
    /// Inquiries that count.
    pub inquiries: u8,
    /// It may have been executed.
    pub in_doubt: bool,
    /// Something that was sent may still be on its way.
    pub quarantined: bool,
    /// A worker that had lost its lease reported a success.
    pub late_success: bool,
    /// Terminal attempts in the ledger.
    pub ends: u8,
    /// The ledger, or the late outcomes, have a success.
    pub has_success: bool,
    /// A worker said so. Not in the database: what the properties compare it with.
    pub was_told_success: bool,
}

impl Row {
    const fn new() -> Self {
        Self {
            place: Place::Ready,
            lease: None,
            attempts: 0,
            sends: 0,
            crashes: 0,
            inquiries: 0,
            in_doubt: false,
            quarantined: false,
            late_success: false,
            ends: 0,
            has_success: false,
            was_told_success: false,
        }
    }

    /// Whether nothing more happens to it by itself.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        matches!(self.place, Place::Held(_) | Place::Ended(_))
    }
}

/// After so many lost workers a payment is held.
pub(crate) const MAX_CRASHES: u32 = 3;

/// The contract of the rail, by what may follow an unknown outcome.
pub(crate) fn contract(on_unknown: OnUnknown, max_crashes: u32) -> RailContract {
    RailContract {
        rail: RailName::new("rail").unwrap_or_else(|_| unreachable!("the name is a name")),
        on_unknown,
        idempotency_window: Some(Millis(1)),
        not_found_is_final: true,
        rail_timeout: Millis(1),
        processing_bound: Millis(1),
        max_sends: 3,
        max_inquiries: 3,
        max_sends_per_s: None,
        max_crashes,
        backoff_base: Millis(1),
        backoff_cap: Millis(1),
        lease_duration: Millis(1),
        fallback: false,
        paused: false,
    }
}

/// All payments.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Db {
    /// By number.
    pub rows: Vec<Row>,
}

impl Db {
    pub(crate) fn new(payments: usize) -> Self {
        Self { rows: vec![Row::new(); payments] }
    }

    /// Whether a claim would do something with the payment.
    #[must_use]
    pub fn is_claimable(&self, payment: usize) -> bool {
        let row = &self.rows[payment];
        !row.is_settled() && row.lease.is_none_or(|lease| !lease.is_live)
    }

    /// Ends a lost lease, or holds, or grants a lease under `token`, as one claim does. Returns what was granted.
    pub(crate) fn claim(&mut self, payment: usize, contract: &RailContract, token: Token) -> Option<Lease> {
        let row = &mut self.rows[payment];
        if row.lease.is_some() {
            row.lose_lease(contract);
            return None;
        }
        if let Some(reason) = row.reason_to_hold(contract) {
            row.place = Place::Held(reason);
            return None;
        }
        let kind = if row.place == Place::Asked { AttemptKind::Inquire } else { AttemptKind::Submit };
        row.attempts += 1;
        let lease = Lease { token, kind, is_live: true, quarantine_over: !row.quarantined };
        row.lease = Some(lease);
        Some(lease)
    }

    /// Records what an attempt came to, if its lease still holds; otherwise keeps what was learned.
    pub(crate) fn complete(
        &mut self,
        payment: usize,
        contract: &RailContract,
        token: Token,
        outcome: Outcome,
        (fenced, keeps_late): (bool, bool),
    ) {
        let row = &mut self.rows[payment];
        row.was_told_success |= outcome == Outcome::Accepted;
        let holds = row.lease.is_some_and(|lease| lease.token == token && lease.is_live);
        match row.lease {
            Some(lease) if holds => row.apply(contract, lease, outcome),
            // Without a fence whoever comes is believed.
            _ if !fenced => {
                let lease =
                    Lease { token, kind: AttemptKind::Submit, is_live: true, quarantine_over: !row.quarantined };
                row.apply(contract, row.lease.unwrap_or(lease), outcome);
            }
            _ if keeps_late => row.learn_late(contract, outcome),
            _ => {}
        }
    }

    /// What two people's acknowledgement does to payments that may have been sent by what was lost.
    pub(crate) fn acknowledge(&mut self, contract: &RailContract) {
        for row in self.rows.iter_mut().filter(|row| !matches!(row.place, Place::Ended(_))) {
            if row.lease.is_some() {
                row.lose_lease(contract);
            }
            (row.in_doubt, row.quarantined) = (true, true);
            if !row.is_settled() {
                row.place = match contract.on_unknown {
                    OnUnknown::Hold => Place::Held(HoldReason::Unknown),
                    OnUnknown::Inquire => Place::Asked,
                    OnUnknown::Resend => Place::Ready,
                };
            }
        }
    }
}

impl Row {
    fn lose_lease(&mut self, contract: &RailContract) {
        let Some(lease) = self.lease.take() else { return };
        self.crashes += 1;
        self.in_doubt = true;
        self.quarantined |= lease.kind == AttemptKind::Submit;
        self.place = if self.late_success && contract.on_unknown != OnUnknown::Inquire {
            Place::Held(HoldReason::LateSuccess)
        } else if contract.on_unknown == OnUnknown::Hold {
            Place::Held(HoldReason::Unknown)
        } else if u32::from(self.crashes) >= contract.max_crashes {
            Place::Held(HoldReason::Exhausted)
        } else if contract.on_unknown == OnUnknown::Inquire {
            Place::Asked
        } else {
            Place::Ready
        };
    }

    fn reason_to_hold(&self, contract: &RailContract) -> Option<HoldReason> {
        if self.late_success && contract.on_unknown != OnUnknown::Inquire {
            return Some(HoldReason::LateSuccess);
        }
        let limit = match self.place {
            Place::Asked => u32::from(self.inquiries) >= contract.max_inquiries,
            _ => u32::from(self.sends) >= contract.max_sends,
        };
        let is_blind = self.place == Place::Ready && self.in_doubt && contract.on_unknown == OnUnknown::Hold;
        (limit || u32::from(self.crashes) >= contract.max_crashes)
            .then_some(HoldReason::Exhausted)
            .or(is_blind.then_some(HoldReason::Unknown))
    }

    fn apply(&mut self, contract: &RailContract, lease: Lease, outcome: Outcome) {
        let situation = Situation {
            kind: lease.kind,
            send_count: u32::from(self.sends),
            inquiry_count: u32::from(self.inquiries),
            in_doubt: self.in_doubt,
            quarantine_over: lease.quarantine_over,
            in_key_window: true,
            late_success: self.late_success,
            hold_requested: false,
        };
        let state = attempt_state(contract, &situation, outcome);
        let decision = after_attempt(contract, &situation, outcome, Millis::ZERO);
        self.lease = None;
        self.sends += u8::from(counts_as_send(lease.kind, outcome));
        self.inquiries += u8::from(counts_as_inquiry(contract, lease.kind, outcome));
        self.has_success |= outcome == Outcome::Accepted;
        self.quarantined |= lease.kind == AttemptKind::Submit && state == AttemptState::InDoubt;
        self.in_doubt |= lease.kind == AttemptKind::Inquire || state == AttemptState::InDoubt;
        self.in_doubt &= !(outcome == Outcome::NotFound && state == AttemptState::Retryable);
        self.ends += u8::from(state.is_terminal());
        self.place = match decision {
            Decision::Settle | Decision::Refuse => Place::Ended(state),
            Decision::SendAfter(_) => Place::Ready,
            Decision::InquireAfter(_) => Place::Asked,
            Decision::Hold(reason) => Place::Held(reason),
        };
    }

    /// What may have been executed leaves a doubt, whoever says so and however late.
    fn learn_late(&mut self, contract: &RailContract, outcome: Outcome) {
        self.has_success |= outcome == Outcome::Accepted;
        let leaves_doubt = matches!(outcome, Outcome::Accepted | Outcome::Interim | Outcome::Unknown);
        if !leaves_doubt || matches!(self.place, Place::Ended(_)) {
            return;
        }
        self.late_success |= outcome == Outcome::Accepted;
        (self.in_doubt, self.quarantined) = (true, true);
        if let Place::Held(reason) = self.place {
            if outcome == Outcome::Accepted && reason != HoldReason::Contradiction {
                self.place = Place::Held(HoldReason::LateSuccess);
            }
        } else if self.lease.is_none() && contract.on_unknown == OnUnknown::Inquire {
            self.place = Place::Asked;
        }
    }
}
