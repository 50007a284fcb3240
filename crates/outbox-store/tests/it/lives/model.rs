//! The state of one rail as it has to be: payments, leases, ledger, order, pauses and actions, and what the last caller has to be told.
//! It rests on the core's truth table and knows no SQL. Time is counted in spans; within one, what happens is numbered.

use std::collections::{BTreeMap, BTreeSet};

use outbox_core::{AttemptKind, AttemptState, HoldReason, Millis, OnUnknown, RailContract, RailName};

use super::transition::{Change, End, Kind, LeaseName, Pay, Scope, Window};

/// A span: what a minute is to people. No sequence takes half of it, so that what happens between two steps changes nothing.
pub(super) const SPAN_MS: u64 = 300_000;
pub(super) const LEASE: i64 = 11;
pub(super) const RAIL_TIMEOUT: i64 = 6;
pub(super) const BOUND: i64 = 9;
/// How long a send may still be on its way.
pub(super) const DOUBT: i64 = RAIL_TIMEOUT + BOUND;
pub(super) const KEY_WINDOW: i64 = 81;
pub(super) const BEAT_INTERVAL: i64 = 2;
const DAY: i64 = 288;

/// A moment: the span, and which of the things that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Instant {
    pub(super) at: i64,
    pub(super) nth: u32,
}

impl Instant {
    pub(super) fn plus(self, spans: i64) -> Self {
        Self { at: self.at + spans, ..self }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Ready,
    InDoubt,
    Parked,
    Held(HoldReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) worker: u8,
    pub(super) claimed: Instant,
    pub(super) expires: Instant,
}

/// A row of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) kind: Option<AttemptKind>,
    pub(super) state: AttemptState,
    pub(super) end: Option<End>,
    /// Worker or person.
    pub(super) by: String,
    /// Lease or action.
    pub(super) token: String,
    pub(super) reference: Option<String>,
    pub(super) claimed: Instant,
    pub(super) completed: Instant,
    pub(super) endpoint: Option<String>,
    pub(super) class: Option<String>,
}

/// What was reported after a lease was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Late {
    pub(super) attempt_no: u32,
    pub(super) token: String,
    pub(super) end: End,
    pub(super) worker: u8,
    pub(super) recorded: Instant,
}

/// One payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) born: u32,
    pub(super) participant: u8,
    pub(super) ordered: bool,
    pub(super) created: Instant,
    pub(super) not_before: Option<Instant>,
    /// As the instruction has it; `not_after` is the queue's.
    pub(super) asked_not_after: Option<Instant>,
    pub(super) ended: Option<AttemptState>,
    pub(super) place: Place,
    pub(super) lease: Option<Lease>,
    pub(super) attempt_count: u32,
    pub(super) send_count: u32,
    pub(super) crash_count: u32,
    pub(super) inquiry_count: u32,
    pub(super) first_sent: Option<Instant>,
    pub(super) in_doubt: Option<Instant>,
    pub(super) quarantine: Option<Instant>,
    pub(super) late_success: bool,
    pub(super) hold_requested: bool,
    pub(super) possible_duplicate: bool,
    pub(super) is_redrive: bool,
    pub(super) due: Instant,
    pub(super) not_after: Option<Instant>,
    pub(super) endpoint: Option<u8>,
    pub(super) attempts: Vec<Attempt>,
    pub(super) late: Vec<Late>,
}

impl Life {
    pub(super) fn is_claimable(&self) -> bool {
        self.ended.is_none() && matches!(self.place, Place::Ready | Place::InDoubt)
    }

    pub(super) fn kind(&self) -> AttemptKind {
        if self.place == Place::InDoubt { AttemptKind::Inquire } else { AttemptKind::Submit }
    }

    pub(super) fn hold(&mut self, reason: HoldReason) {
        self.place = Place::Held(reason);
        self.hold_requested = false;
    }

    pub(super) fn lengthen_quarantine(&mut self, until: Instant) {
        self.quarantine = self.quarantine.max(Some(until));
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owed {
    /// The ordering key's first.
    Key,
    /// A participant's, behind this payment, with some left out before it.
    Participant { participant: u8, behind: Option<u32>, has_skipped: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Approved,
    Rejected,
    Withdrawn,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Action {
    pub(super) kind: Kind,
    /// Each with how many attempts had ended.
    pub(super) members: BTreeMap<Pay, u32>,
    pub(super) evidence: bool,
    pub(super) window: Window,
    pub(super) proposed: Instant,
    pub(super) word: Option<Word>,
    pub(super) results: BTreeMap<Pay, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Beat {
    pub(super) last: Instant,
    pub(super) count: u32,
    pub(super) stopped: bool,
}

/// What a transaction that has not ended keeps from others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Locks {
    pub(super) rows: BTreeSet<Pay>,
    pub(super) instructions: BTreeSet<Pay>,
    pub(super) owed: BTreeSet<u32>,
    pub(super) new_slots: BTreeSet<u8>,
    pub(super) ordering: bool,
    pub(super) pauses_shared: bool,
    pub(super) pauses: bool,
    pub(super) action: Option<u8>,
    pub(super) decided: Option<u8>,
}

/// Everything.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct State {
    pub(super) contract: RailContract,
    pub(super) at: i64,
    pub(super) nth: u32,
    pub(super) lives: BTreeMap<Pay, Life>,
    /// Places under the ordering key, of what has not ended.
    pub(super) order: BTreeMap<u32, Pay>,
    pub(super) owed: BTreeMap<u32, Owed>,
    pub(super) pauses: BTreeMap<Scope, ()>,
    pub(super) actions: BTreeMap<u8, Action>,
    pub(super) granted: BTreeMap<LeaseName, u8>,
    /// Each with how often it was noted: a claim that ends where the one before it ended notes it anew.
    pub(super) cursors: BTreeMap<u8, ((Instant, Pay), u32)>,
    pub(super) beats: BTreeMap<u8, Beat>,
    /// What an open transaction of another session keeps from this one, and what this one keeps.
    pub(super) foreign: Locks,
    pub(super) own: Locks,
    /// What the last step's callers have to be told.
    pub(super) told: Vec<String>,
    /// What others see while the first transaction of an overlap is open; none if its second call waits.
    pub(super) meanwhile: Option<Vec<String>>,
    /// Payments put off for a moment, which is over at once, and those brought back in one statement, in no order.
    pub(super) put_off: BTreeSet<Pay>,
    pub(super) together: BTreeSet<Pay>,
}

impl State {
    pub(super) fn new(on_unknown: OnUnknown) -> Self {
        let contract = RailContract {
            rail: RailName::new("rail").unwrap(),
            on_unknown,
            idempotency_window: Some(Millis(KEY_WINDOW.unsigned_abs() * SPAN_MS)),
            not_found_is_final: true,
            rail_timeout: Millis(RAIL_TIMEOUT.unsigned_abs() * SPAN_MS),
            processing_bound: Millis(BOUND.unsigned_abs() * SPAN_MS),
            max_sends: 3,
            max_inquiries: 2,
            max_sends_per_s: None,
            max_crashes: 3,
            backoff_base: Millis(500),
            backoff_cap: Millis(300_000),
            lease_duration: Millis(LEASE.unsigned_abs() * SPAN_MS),
            fallback: false,
            paused: false,
        };
        Self {
            contract,
            at: 0,
            nth: 0,
            lives: BTreeMap::new(),
            order: BTreeMap::new(),
            owed: BTreeMap::new(),
            pauses: BTreeMap::new(),
            actions: BTreeMap::new(),
            granted: BTreeMap::new(),
            cursors: BTreeMap::new(),
            beats: BTreeMap::new(),
            foreign: Locks::default(),
            own: Locks::default(),
            told: Vec::new(),
            meanwhile: None,
            put_off: BTreeSet::new(),
            together: BTreeSet::new(),
        }
    }

    /// A number that nothing had before.
    pub(super) fn number(&mut self) -> u32 {
        self.nth += 1;
        self.nth
    }

    /// This moment, later than all before.
    pub(super) fn now(&mut self) -> Instant {
        Instant { at: self.at, nth: self.number() }
    }

    /// Where a payment stands that is not held.
    pub(super) fn place_of(&self, in_doubt: bool) -> Place {
        if in_doubt && self.contract.on_unknown == OnUnknown::Inquire { Place::InDoubt } else { Place::Ready }
    }

    pub(super) fn is_behind(&self, pay: Pay) -> bool {
        self.order.values().any(|of| *of == pay) && self.order.values().next() != Some(&pay)
    }

    pub(super) fn is_stopped(&self, pay: Pay) -> bool {
        self.pauses.keys().any(|scope| scope.participant == Some(self.lives[&pay].participant))
    }

    pub(super) fn is_paused(&self) -> bool {
        self.contract.paused || self.pauses.keys().any(|scope| scope.participant.is_none())
    }

    /// The last payment of an instruction.
    pub(super) fn last_of(&self, slot: u8) -> Option<Pay> {
        self.lives.keys().copied().rfind(|pay| pay.slot == slot)
    }

    pub(super) fn set(&mut self, change: Change) {
        match change {
            Change::OnUnknown(on_unknown) => self.contract.on_unknown = on_unknown,
            Change::NotFoundIsFinal(is_final) => self.contract.not_found_is_final = is_final,
            Change::MaxSends(max) => self.contract.max_sends = max,
            Change::MaxCrashes(max) => self.contract.max_crashes = max,
            Change::MaxInquiries(max) => self.contract.max_inquiries = max,
            Change::Paused(paused) => self.contract.paused = paused,
        }
    }

    /// A heartbeat; the others that fell silent.
    pub(super) fn beat(&mut self, worker: u8, stopped: bool) -> Vec<String> {
        let now = self.now();
        let count = self.beats.get(&worker).map_or(0, |beat| beat.count) + 1;
        self.beats.insert(worker, Beat { last: now, count, stopped });
        let silent = self.beats.iter().filter(|(other, beat)| {
            **other != worker && !beat.stopped && beat.last.plus(3 * BEAT_INTERVAL) < now && beat.last.plus(DAY) > now
        });
        silent.map(|(other, _)| format!("silent w{other}")).chain([format!("beat {count}")]).collect()
    }
}
