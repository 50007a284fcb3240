//! Everything that is known of all payments, and what became different between two readings. It is filled from the
//! rows of the database and the lines of the rails; it does not judge.

use std::collections::{HashMap, HashSet};

use crate::{
    checks::{Check, Flaw, Workers},
    payment::{Applied, Attempt, Late, Lease, Payment, Pending, RailNo},
    words::State,
};

/// A row of history that is not what it was.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    pub(crate) place: u32,
    pub(crate) flaw: Flaw,
    /// When the row was written, by the database's clock.
    pub(crate) written_us: i64,
}

/// A lease that was lost and settled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settled {
    pub(crate) worker: u16,
    pub(crate) claimed_us: i64,
    pub(crate) settled_us: i64,
}

#[derive(Debug, Default)]
pub(crate) struct World {
    places: HashMap<u128, u32>,
    payments: Vec<Payment>,
    pub(crate) workers: Workers,
    worker_numbers: HashMap<String, u16>,
    tokens: HashSet<u64>,
    pub(crate) lates: HashMap<u32, Vec<Late>>,
    pub(crate) applied: HashMap<u32, Vec<Applied>>,
    /// Payments that have not ended.
    pub(crate) open: HashSet<u32>,
    /// Leases that were seen open, until their attempt is seen.
    observed: HashMap<u32, Lease>,
    /// Keys that a rail knows and the database does not, with the reading of the rails' files that showed them first.
    pub(crate) strangers: HashMap<u32, u32>,
    /// What changed since it was last taken.
    pub(crate) touched: HashSet<u32>,
    pub(crate) differences: Vec<Difference>,
    /// Attempts that came to light, with the lease that was seen open before.
    pub(crate) ended_leases: Vec<(u32, Lease, Attempt)>,
    pub(crate) reused_tokens: Vec<(u32, i32)>,
    pub(crate) settled: Vec<Settled>,
    /// The number of the reading of the database; what is seen is stamped with it.
    pub(crate) reading: u32,
}

impl World {
    /// The place of a payment, made if there is none.
    pub(crate) fn place(&mut self, id: u128) -> u32 {
        let payments = &mut self.payments;
        *self.places.entry(id).or_insert_with(|| {
            payments.push(Payment::new(id));
            u32::try_from(payments.len() - 1).expect("fewer than four thousand million payments fit into memory")
        })
    }

    pub(crate) fn find(&self, id: u128) -> Option<u32> {
        self.places.get(&id).copied()
    }

    pub(crate) fn at(&self, place: u32) -> &Payment {
        &self.payments[place as usize]
    }

    fn at_mut(&mut self, place: u32) -> &mut Payment {
        &mut self.payments[place as usize]
    }

    pub(crate) fn payments(&self) -> &[Payment] {
        &self.payments
    }

    pub(crate) fn places(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.payments.len()).unwrap_or(u32::MAX)
    }

    /// The number of a worker, made if it has none.
    pub(crate) fn worker(&mut self, name: &str) -> u16 {
        if let Some(number) = self.worker_numbers.get(name) {
            return *number;
        }
        // Beyond it all share one number, whose name is the last one's.
        let number = u16::try_from(self.workers.names.len()).unwrap_or(u16::MAX);
        self.workers.names.push(name.to_owned());
        self.workers.last_us.push(0);
        self.worker_numbers.insert(name.to_owned(), number);
        number
    }

    pub(crate) fn worker_was_alive(&mut self, worker: u16, at_us: i64) {
        if let Some(last_us) = self.workers.last_us.get_mut(usize::from(worker)) {
            *last_us = (*last_us).max(at_us);
        }
    }

    /// What a rail wrote under a key, in reading `files_reading` of its files.
    pub(crate) fn written_by_rail(&mut self, id: u128, files_reading: u32, change: &mut dyn FnMut(&mut Payment)) {
        let place = self.place(id);
        change(self.at_mut(place));
        if !self.at(place).is_recorded() {
            self.strangers.entry(place).or_insert(files_reading);
        }
        self.touched.insert(place);
    }

    /// Forgets what the rails wrote, to read it anew.
    pub(crate) fn forget_wires(&mut self) {
        for payment in &mut self.payments {
            payment.wire = crate::payment::Wire::default();
        }
    }

    fn differs(&mut self, place: u32, check: Check, what: String, written_us: i64) {
        self.differences.push(Difference { place, flaw: Flaw::new(check, what), written_us });
    }

    pub(crate) fn identity(&mut self, id: u128, digest: u64) {
        let (place, reading) = (self.place(id), self.reading);
        let payment = self.at_mut(place);
        let (before, written_us) = (payment.identity, payment.recorded_us());
        (payment.identity, payment.identity_seen) = (digest.max(1), reading);
        if before == 0 {
            self.appeared(place);
        } else if before != digest.max(1) {
            self.differs(place, Check::HistoryChanged, "its identity".to_owned(), written_us);
        }
    }

    pub(crate) fn instruction(&mut self, id: u128, rail: RailNo, payload: u64, created_us: i64, digest: u64) {
        let (place, reading) = (self.place(id), self.reading);
        let payment = self.at_mut(place);
        let before = payment.instruction;
        (payment.rail, payment.payload, payment.created_us) = (rail, payload, created_us);
        (payment.instruction, payment.instruction_seen) = (digest.max(1), reading);
        if before == 0 {
            self.appeared(place);
        } else if before != digest.max(1) {
            self.differs(place, Check::HistoryChanged, "its instruction".to_owned(), created_us);
        }
    }

    fn appeared(&mut self, place: u32) {
        self.strangers.remove(&place);
        self.touched.insert(place);
        if self.at(place).terminals() == 0 {
            self.open.insert(place);
        }
    }

    pub(crate) fn attempt(&mut self, id: u128, attempt: Attempt) {
        let place = self.place(id);
        let payment = self.at_mut(place);
        if let Some(known) = payment.attempts.iter_mut().find(|known| known.no == attempt.no) {
            let (is_same, written_us) = (known.digest == attempt.digest, known.completed_us);
            *known = attempt;
            if !is_same {
                let no = known.no;
                self.touched.insert(place);
                self.differs(place, Check::HistoryChanged, format!("its attempt {no}"), written_us);
            }
            return;
        }
        let at = payment.attempts.partition_point(|known| known.no < attempt.no);
        // Most payments have one attempt: no room for more.
        payment.attempts.reserve_exact(1);
        payment.attempts.insert(at, attempt.clone());
        if attempt.state.is_terminal() {
            self.open.remove(&place);
        }
        self.appeared_attempt(place, attempt);
    }

    fn appeared_attempt(&mut self, place: u32, attempt: Attempt) {
        self.strangers.remove(&place);
        self.touched.insert(place);
        if attempt.kind != crate::words::Kind::Operator && !self.tokens.insert(attempt.token) {
            self.reused_tokens.push((place, attempt.no));
        }
        if attempt.state == State::LeaseExpired {
            let (worker, claimed_us, settled_us) = (attempt.worker, attempt.claimed_us, attempt.completed_us);
            self.settled.push(Settled { worker, claimed_us, settled_us });
        } else {
            self.worker_was_alive(attempt.worker, attempt.completed_us);
        }
        if self.observed.get(&place).is_some_and(|lease| lease.token == attempt.token) {
            let lease = self.observed.remove(&place).expect("it was just looked at");
            self.ended_leases.push((place, lease, attempt));
        }
    }

    pub(crate) fn late(&mut self, id: u128, late: Late, worker: &str) {
        let place = self.place(id);
        let worker = self.worker(worker);
        self.worker_was_alive(worker, late.recorded_us);
        let lates = self.lates.entry(place).or_default();
        if !lates.contains(&late) {
            lates.push(late);
            self.touched.insert(place);
        }
    }

    pub(crate) fn applied(&mut self, id: u128, applied: Applied) {
        let place = self.place(id);
        let known = self.applied.entry(place).or_default();
        if !known.contains(&applied) {
            known.push(applied);
            self.touched.insert(place);
        }
    }

    /// The pending row as it is now.
    pub(crate) fn pending(&mut self, id: u128, rail: RailNo, row: Pending) {
        let place = self.place(id);
        if let Some(lease) = row.lease {
            self.observed.insert(place, lease);
        }
        let payment = self.at_mut(place);
        if payment.instruction == 0 {
            payment.rail = rail;
        }
        payment.pending = Some(Box::new(row));
        self.strangers.remove(&place);
        self.touched.insert(place);
    }

    /// That a payment is pending. `false`: it was not known to be.
    pub(crate) fn is_pending(&mut self, id: u128) -> bool {
        let (place, reading) = (self.place(id), self.reading);
        let payment = self.at_mut(place);
        payment.pending_seen = reading;
        payment.pending.is_some()
    }

    /// Takes away pending rows that were not seen in this reading, and gives what has not ended and is not pending.
    pub(crate) fn sweep_pending(&mut self) -> Vec<u32> {
        let reading = self.reading;
        let gone: Vec<u32> =
            self.open.iter().copied().filter(|place| self.at(*place).pending_seen != reading).collect();
        for place in &gone {
            if self.at_mut(*place).pending.take().is_some() {
                self.touched.insert(*place);
            }
        }
        gone
    }

    /// Notes when leases that still stand were seen.
    pub(crate) fn leases_seen(&mut self, clock_us: i64) {
        let Self { observed, payments, .. } = self;
        for (place, lease) in observed.iter_mut() {
            let row = payments[*place as usize].pending.as_ref();
            if let Some(standing) = row.and_then(|row| row.lease).filter(|standing| standing.token == lease.token) {
                (lease.expires_us, lease.seen_us) = (standing.expires_us, clock_us);
            }
        }
    }

    /// Takes away what this reading, in which everything of that payment was looked for, did not show.
    pub(crate) fn forget_unseen(&mut self, place: u32, is_detached: bool) {
        let reading = self.reading;
        let payment = self.at_mut(place);
        let created_us = payment.created_us;
        let mut gone = Vec::new();
        if payment.instruction != 0 && payment.instruction_seen != reading {
            payment.instruction = 0;
            gone.push(("its instruction".to_owned(), created_us));
        } else if payment.instruction != 0 && payment.identity != 0 && payment.identity_seen != reading {
            // It is found by its instruction only.
            payment.identity = 0;
            gone.push(("its identity".to_owned(), created_us));
        }
        for attempt in payment.attempts.iter().filter(|attempt| attempt.seen != reading) {
            gone.push((format!("its attempt {}", attempt.no), attempt.completed_us));
        }
        if gone.is_empty() {
            if is_detached {
                self.open.remove(&place);
            }
            return;
        }
        payment.attempts.retain(|attempt| attempt.seen == reading);
        if payment.is_recorded() && payment.terminals() == 0 {
            self.open.insert(place);
        } else {
            self.open.remove(&place);
        }
        self.touched.insert(place);
        if !is_detached {
            for (what, written_us) in gone {
                self.differs(place, Check::HistoryShrank, format!("{what} is gone"), written_us);
            }
        }
    }

    /// Before everything is read: nothing of what is not history is trusted.
    pub(crate) fn begin_complete_reading(&mut self) {
        self.lates.clear();
        self.applied.clear();
    }

    /// After everything was read.
    pub(crate) fn end_complete_reading(&mut self, is_detached: impl Fn(u128) -> bool) {
        let reading = self.reading;
        self.tokens.clear();
        self.settled.clear();
        for place in self.places() {
            if self.at(place).pending_seen != reading {
                self.at_mut(place).pending = None;
            }
            self.forget_unseen(place, is_detached(self.at(place).id));
            let payment = self.at(place);
            // Of an identity without an instruction nothing but the reading itself tells whether it is still there.
            if payment.identity != 0 && payment.identity_seen != reading {
                let written_us = payment.recorded_us();
                self.at_mut(place).identity = 0;
                self.differs(place, Check::HistoryShrank, "its identity is gone".to_owned(), written_us);
            }
            self.count_again(place);
        }
    }

    fn count_again(&mut self, place: u32) {
        let payment = &self.payments[place as usize];
        let is_open = payment.instruction != 0 && payment.terminals() == 0;
        let is_stranger = !payment.is_recorded() && payment.wire.rail_plus_one != 0;
        for attempt in &payment.attempts {
            if attempt.kind != crate::words::Kind::Operator && !self.tokens.insert(attempt.token) {
                self.reused_tokens.push((place, attempt.no));
            }
            if attempt.state == State::LeaseExpired {
                let (worker, claimed_us, settled_us) = (attempt.worker, attempt.claimed_us, attempt.completed_us);
                self.settled.push(Settled { worker, claimed_us, settled_us });
            }
        }
        if is_open {
            self.open.insert(place);
        } else {
            self.open.remove(&place);
        }
        if is_stranger {
            self.strangers.entry(place).or_insert(0);
        } else {
            self.strangers.remove(&place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_whose_instruction_was_never_seen_was_recorded_when_its_id_says() {
        let id = 0x01a2_2e2e_29e4_751a_a426_bd8f_a053_c2c2;
        let mut world = World { reading: 1, ..World::default() };
        world.identity(id, 5);
        world.reading = 2;
        world.end_complete_reading(|_| false);
        let gone: Vec<i64> = world.differences.iter().map(|difference| difference.written_us).collect();
        assert_eq!(gone, [1_796_071_107_044_000]);
    }
}
