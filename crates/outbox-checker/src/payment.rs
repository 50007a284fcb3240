//! What the checker keeps of one payment: what the database says of it, and what its rail wrote down under its
//! key. Texts are kept as fingerprints: a million payments have to fit into memory.

use std::hash::{DefaultHasher, Hasher as _};

use crate::words::{ActionKind, Disposition, HoldReason, Kind, Outcome, State};

/// A text or a row in eight bytes. The same for the same value as long as the process lives; 0 stands for nothing.
#[must_use]
pub fn fingerprint(value: impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish().max(1)
}

/// Which of the rails on the command line; [`NO_RAIL`] is none of them.
pub type RailNo = u8;

/// The rail of a payment that is on none of the rails that are judged, or not known yet.
pub const NO_RAIL: RailNo = RailNo::MAX;

/// One row of the ledger of attempts. Times are the database's, in microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its number.
    pub no: i32,
    /// Of what kind.
    pub kind: Kind,
    /// What it came to.
    pub state: State,
    /// What the worker reported.
    pub outcome: Option<Outcome>,
    /// Whether the worker gave up waiting.
    pub is_timeout: bool,
    /// Who, as a number of the world's workers.
    pub worker: u16,
    /// The lease token's fingerprint; the action's for an operator.
    pub token: u64,
    /// When the lease was granted.
    pub claimed_us: i64,
    /// When its first byte left, by the worker's clock; 0 if none did.
    pub first_byte_us: i64,
    /// When the row was written.
    pub completed_us: i64,
    /// The rail's reference's fingerprint, 0 without.
    pub reference: u64,
    /// The database's digest of the whole row.
    pub digest: u64,
    /// In which complete reading it was seen last.
    pub seen: u32,
}

/// The row of a payment that is not at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Where it stands.
    pub disposition: Disposition,
    /// Why it is held.
    pub hold_reason: Option<HoldReason>,
    /// The ledger's number of its last lease.
    pub attempt_count: i32,
    /// Counted sends.
    pub send_count: i32,
    /// Lost leases.
    pub crash_count: i32,
    /// Counted inquiries.
    pub inquiry_count: i32,
    /// Whether it was ever sent.
    pub was_sent: bool,
    /// Whether it may have been executed.
    pub is_in_doubt: bool,
    /// Whether a success came late.
    pub late_success: bool,
    /// Whether another generation of its instruction may be the reason for a hold.
    pub is_redrive: bool,
    /// When it may no longer be sent.
    pub not_after_us: Option<i64>,
    /// Its lease.
    pub lease: Option<Lease>,
}

/// A lease that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Whose, as a number of the world's workers.
    pub worker: u16,
    /// The token's fingerprint.
    pub token: u64,
    /// Since when.
    pub claimed_us: i64,
    /// Until when, as far as is known.
    pub expires_us: i64,
    /// By the database's clock, before which snapshot it was seen last.
    pub seen_us: i64,
}

/// What came of a payment after its lease was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late {
    /// Of which attempt.
    pub attempt_no: i32,
    /// What was reported.
    pub outcome: Outcome,
    /// The rail's reference's fingerprint, 0 without.
    pub reference: u64,
    /// When the row was written.
    pub recorded_us: i64,
}

/// What a person did to a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// What.
    pub kind: ActionKind,
    /// The action's fingerprint, which is the token of the attempt it made.
    pub token: u64,
}

/// What the rails wrote down under a key. Times are the machine's, in microseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    /// How often it was executed.
    pub effects: u16,
    /// On which rail (plus one, 0 is none) it was executed, or else asked for.
    pub rail_plus_one: u8,
    /// Whether another rail has written of the same key.
    pub is_on_two_rails: bool,
    /// Whether two requests under the key had different bytes.
    pub bytes_vary: bool,
    /// The first effect's reference.
    pub reference: u64,
    /// The first eight bytes of the hash of its body.
    pub body: u64,
    /// When it was first executed.
    pub effect_us: i64,
    /// The request that executed it last.
    pub effect_request: u64,
    /// The last request on record as having executed it.
    pub answered_request: u64,
    /// Requests that have a record of their answer.
    pub requests: u16,
    /// Those of whose answers nobody can tell what the rail did.
    pub unknown_answers: u16,
    /// Refusals of the payment.
    pub refusals: u16,
    /// Answers that a cautious dispatcher doubts although the rail thinks them clear: a status of 4xx without a code.
    pub vague_answers: u16,
    /// Whole answers that said: accepted, and gave a reference.
    pub acceptances: u16,
    /// When the first of those was given.
    pub accepted_us: i64,
    /// When the last answer was given or withheld.
    pub answer_us: i64,
}

impl Wire {
    /// Whether an effect has no record of an answer: the rail was killed, or could not write.
    #[must_use]
    pub const fn is_silent(&self) -> bool {
        self.effects > 0 && self.effect_request != self.answered_request
    }

    /// On which rail.
    #[must_use]
    pub const fn rail(&self) -> RailNo {
        match self.rail_plus_one {
            0 => NO_RAIL,
            number => number - 1,
        }
    }
}

/// Everything that is known under one key.
#[derive(Clone, Debug)]
pub struct Payment {
    /// The `outbox_id`.
    pub id: u128,
    /// On which rail it is to be paid.
    pub rail: RailNo,
    /// The digest of its identity, 0 without one.
    pub identity: u64,
    /// The digest of its instruction, 0 without one.
    pub instruction: u64,
    /// The first eight bytes of the hash of what is to be sent.
    pub payload: u64,
    /// When it was recorded, by the database's clock.
    pub created_us: i64,
    /// Its attempts, by number.
    pub attempts: Vec<Attempt>,
    /// Its pending row.
    pub pending: Option<Box<Pending>>,
    /// What the rails have.
    pub wire: Wire,
    /// In which complete reading its identity was seen last.
    pub identity_seen: u32,
    /// In which complete reading its instruction was seen last.
    pub instruction_seen: u32,
    /// In which pass its pending row was seen last.
    pub pending_seen: u32,
}

impl Payment {
    /// Nothing but a key.
    #[must_use]
    pub const fn new(id: u128) -> Self {
        Self {
            id,
            rail: NO_RAIL,
            identity: 0,
            instruction: 0,
            payload: 0,
            created_us: 0,
            attempts: Vec::new(),
            pending: None,
            wire: Wire {
                effects: 0,
                rail_plus_one: 0,
                is_on_two_rails: false,
                bytes_vary: false,
                reference: 0,
                body: 0,
                effect_us: 0,
                effect_request: 0,
                answered_request: 0,
                requests: 0,
                unknown_answers: 0,
                refusals: 0,
                vague_answers: 0,
                acceptances: 0,
                accepted_us: 0,
                answer_us: 0,
            },
            identity_seen: 0,
            instruction_seen: 0,
            pending_seen: 0,
        }
    }

    /// Whether the database has anything of it.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.identity != 0 || self.instruction != 0 || self.pending.is_some() || !self.attempts.is_empty()
    }

    /// When it was recorded, by the database's clock. Of an identity whose instruction was never seen, by its id: a UUID of version 7
    /// begins with the milliseconds since 1970 (RFC 9562, section 5.7).
    #[must_use]
    pub fn recorded_us(&self) -> i64 {
        let of_id_us = i64::try_from(self.id >> 80).map_or(0, |ms| ms * 1_000);
        if self.created_us == 0 { of_id_us } else { self.created_us }
    }

    /// Its first terminal attempt.
    #[must_use]
    pub fn terminal(&self) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| attempt.state.is_terminal())
    }

    /// How many terminal attempts it has.
    #[must_use]
    pub fn terminals(&self) -> usize {
        self.attempts.iter().filter(|attempt| attempt.state.is_terminal()).count()
    }

    /// Its attempts that sent.
    pub fn submits(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|attempt| attempt.kind == Kind::Submit)
    }

    /// Whether somebody may be sending it now: an open lease that is no inquiry.
    #[must_use]
    pub fn is_being_sent(&self) -> bool {
        self.pending.as_ref().is_some_and(|row| row.lease.is_some() && row.disposition != Disposition::InDoubt)
    }

    /// Whether some attempt left open what the rail did.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.state.is_unknown())
    }
}
