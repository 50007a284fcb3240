//! What claim, settling, renewing, parking and bringing back come to in the model.

use outbox_core::{AttemptKind, AttemptState, HoldReason, OnUnknown};

use super::model::{Attempt, DOUBT, Instant, KEY_WINDOW, LEASE, Lease, Life, Owed, Place, State};
use super::transition::{LeaseName, Pay};

/// A claim, as asked for.
#[derive(Clone, Copy)]
pub(super) struct Claim {
    pub(super) worker: u8,
    pub(super) limit: usize,
    pub(super) in_flight: u8,
    pub(super) after: Option<(Instant, Pay)>,
    pub(super) endpoint: u8,
}

impl State {
    /// A row's place in the due index.
    fn index(&self, pay: Pay) -> (Instant, u32) {
        (self.lives[&pay].due, self.lives[&pay].born)
    }

    /// The cursor of a worker's last claim.
    pub(super) fn cursor(&self, worker: u8) -> Option<(Instant, Pay)> {
        self.cursors.get(&worker).map(|(cursor, _)| *cursor)
    }

    fn after(&self, cursor: Option<(Instant, Pay)>) -> Option<(Instant, u32)> {
        cursor.map(|(due, pay)| (due, self.lives[&pay].born))
    }

    fn claimable(&self, after: Option<(Instant, Pay)>) -> Vec<Pay> {
        let after = self.after(after);
        let is_behind_cursor = |pay: &Pay| after.is_none_or(|after| self.index(*pay) > after);
        let mut pays: Vec<Pay> = self
            .lives
            .iter()
            .filter(|(_, life)| life.is_claimable())
            .map(|(pay, _)| *pay)
            .filter(is_behind_cursor)
            .collect();
        pays.sort_by_key(|pay| self.index(*pay));
        pays
    }

    /// Why a payment that is due is held instead of leased.
    fn reason_before(&self, pay: Pay, now: Instant) -> Option<HoldReason> {
        let (life, contract) = (&self.lives[&pay], &self.contract);
        let asks = contract.on_unknown == OnUnknown::Inquire;
        let was_in_doubt = life.in_doubt.is_some() || life.quarantine.is_some();
        let key_until = life.first_sent.map(|first| first.plus(KEY_WINDOW - LEASE));
        if life.late_success && !asks {
            Some(HoldReason::LateSuccess)
        } else if life.hold_requested {
            Some(HoldReason::Requested)
        } else if life.crash_count >= contract.max_crashes {
            Some(HoldReason::Exhausted)
        } else if asks && (life.in_doubt.is_some() || life.late_success) {
            (life.inquiry_count >= contract.max_inquiries).then_some(HoldReason::Exhausted)
        } else if life.is_redrive && self.is_accepted_elsewhere(pay) {
            Some(HoldReason::LateSuccess)
        } else if life.not_after.is_some_and(|until| until < now) {
            Some(HoldReason::MissedWindow)
        } else if life.send_count >= contract.max_sends {
            Some(HoldReason::Exhausted)
        } else if life.in_doubt.is_some() && contract.on_unknown != OnUnknown::Resend {
            Some(HoldReason::Unknown)
        } else if was_in_doubt && key_until.is_some_and(|until| until < now) {
            Some(HoldReason::KeyWindow)
        } else {
            None
        }
    }

    /// Leases what is due, and tells the worker.
    pub(super) fn claim(&mut self, claim: Claim) -> Vec<String> {
        let now = self.now();
        let mut found = Vec::new();
        if !self.is_paused() {
            found = self.claimable(claim.after);
            found.retain(|pay| {
                let life = &self.lives[pay];
                life.due <= now
                    && life.lease.is_none_or(|lease| lease.expires <= now)
                    && !self.foreign.rows.contains(pay)
            });
            found.truncate(claim.limit);
        }
        self.own.rows.extend(found.iter().copied());
        let last = found.last().map(|pay| (self.lives[pay].due, *pay));
        let (lost, mut free): (Vec<Pay>, Vec<Pay>) = found.iter().partition(|pay| self.lives[pay].lease.is_some());
        let mut told = Vec::new();
        for pay in &lost {
            self.settle_lost_lease(*pay, now);
        }
        free.retain(|pay| match self.reason_before(*pay, now) {
            Some(reason) => {
                self.lives.get_mut(pay).unwrap().hold(reason);
                false
            }
            None => true,
        });
        for pay in &found {
            if let Place::Held(reason) = self.lives[pay].place {
                told.push(format!("HELD {pay}#{} {}", self.lives[pay].attempt_count, reason.name()));
            }
        }
        let held = told.len();
        let behind = self.park(&free, now);
        free.retain(|pay| !behind.contains(pay));
        let suspects = free.iter().filter(|pay| self.lives[pay].crash_count >= 2).count();
        let alone = claim.in_flight == 0 && suspects > 0;
        free.retain(|pay| (self.lives[pay].crash_count >= 2) == alone);
        if alone {
            free.truncate(1);
        }
        for pay in &free {
            told.push(self.lease(*pay, claim, now));
        }
        let next = if !self.is_paused() && found.len() < claim.limit { self.next_due(now) } else { None };
        let next = next.map_or_else(|| "-".to_owned(), |due| self.relative(due));
        let at = last.map_or_else(|| "-".to_owned(), |(due, pay)| format!("{} {pay}", self.relative(due)));
        told.push(format!(
            "SUMMARY at {at} next {next} held {held} expired {} suspects {suspects} parked {} paused {}",
            lost.len(),
            behind.len(),
            self.is_paused()
        ));
        if let Some(last) = last {
            let noted = self.cursors.get(&claim.worker).map_or(0, |(_, noted)| *noted);
            self.cursors.insert(claim.worker, (last, noted + 1));
        }
        told
    }

    fn next_due(&self, now: Instant) -> Option<Instant> {
        self.lives.values().filter(|life| life.is_claimable() && life.due > now).map(|life| life.due).min()
    }

    fn lease(&mut self, pay: Pay, claim: Claim, now: Instant) -> String {
        let in_doubt = self.lives[&pay].in_doubt.is_some() || self.lives[&pay].late_success;
        let place = self.place_of(in_doubt);
        let life = self.lives.get_mut(&pay).unwrap();
        if life.quarantine.is_none() && !in_doubt {
            life.endpoint = Some(claim.endpoint);
        }
        life.place = place;
        life.attempt_count += 1;
        life.first_sent = life.first_sent.or(Some(now));
        life.lease = Some(Lease { worker: claim.worker, claimed: now, expires: now.plus(LEASE) });
        let is_resend = life.first_sent < Some(now) || life.possible_duplicate;
        let (kind, endpoint, crashes) = (life.kind(), shown(life.endpoint), life.crash_count);
        let name = LeaseName { pay, attempt_no: life.attempt_count };
        let (due, window) = (life.due, life.not_after);
        self.granted.insert(name, claim.worker);
        let bytes = if kind == AttemptKind::Submit { "bytes" } else { "-" };
        format!(
            "{} {name} t:{name} due {} window {} at {endpoint} crashes {crashes} resend {is_resend} {bytes}",
            kind.name(),
            self.relative(due),
            window.map_or_else(|| "-".to_owned(), |until| self.relative(until)),
        )
    }

    /// Ends a lost lease and applies the contract.
    pub(super) fn settle_lost_lease(&mut self, pay: Pay, now: Instant) {
        let asked = self.place_of(true);
        let on_unknown = self.contract.on_unknown;
        let max_crashes = self.contract.max_crashes;
        let life = self.lives.get_mut(&pay).unwrap();
        let Some(lease) = life.lease.take() else { return };
        life.attempts.push(Attempt {
            kind: Some(life.kind()),
            state: AttemptState::LeaseExpired,
            end: None,
            by: format!("w{}", lease.worker),
            token: format!("t:{pay}#{}", life.attempt_count),
            reference: None,
            claimed: lease.claimed,
            completed: now,
            endpoint: life.endpoint.map(|_| shown(life.endpoint)),
            class: Some("lease_lost".to_owned()),
        });
        if life.place == Place::Ready {
            life.lengthen_quarantine(lease.expires.plus(DOUBT));
        }
        life.in_doubt = life.in_doubt.or(Some(lease.expires));
        life.crash_count += 1;
        life.place = asked;
        if life.late_success && on_unknown != OnUnknown::Inquire {
            life.hold(HoldReason::LateSuccess);
        } else if life.hold_requested {
            life.hold(HoldReason::Requested);
        } else if on_unknown == OnUnknown::Hold {
            life.hold(HoldReason::Unknown);
        } else if life.crash_count >= max_crashes {
            life.hold(HoldReason::Exhausted);
        }
    }

    /// Takes out of a claim what is not the first of its ordering key, or whose participant is paused.
    fn park(&mut self, found: &[Pay], now: Instant) -> Vec<Pay> {
        let apart =
            |pay: &&Pay| self.lives[*pay].place == Place::Ready && (self.lives[*pay].ordered || self.is_stopped(**pay));
        let apart: Vec<Pay> = found.iter().filter(apart).copied().collect();
        let stopped: Vec<Pay> = apart.iter().copied().filter(|pay| self.is_stopped(*pay)).collect();
        let behind: Vec<Pay> = apart.iter().copied().filter(|pay| self.is_behind(*pay)).collect();
        let may_stop = !stopped.is_empty() && !self.foreign.pauses;
        let may_order = !behind.is_empty() && !self.foreign.ordering;
        self.own.pauses_shared |= may_stop;
        self.own.ordering |= may_order;
        let mut all = stopped.clone();
        all.extend(&behind);
        // Put off for a moment, which the test takes back.
        let later = Instant { nth: self.number(), ..now };
        for pay in &all {
            let is_locked = (may_stop && stopped.contains(pay)) || (may_order && behind.contains(pay));
            let life = self.lives.get_mut(pay).unwrap();
            if is_locked {
                life.place = Place::Parked;
            } else {
                life.due = later;
                self.put_off.insert(*pay);
            }
        }
        all
    }

    /// Settles the lost leases among `limit` rows of the due index.
    pub(super) fn expire(&mut self, limit: usize, after: Option<(Instant, Pay)>) -> Vec<String> {
        let now = self.now();
        let mut found = self.claimable(after);
        found.truncate(limit);
        let at =
            found.last().map_or_else(|| "-".to_owned(), |pay| format!("{} {pay}", self.relative(self.lives[pay].due)));
        let mut told = Vec::new();
        for pay in &found {
            let is_lost = self.lives[pay].lease.is_some_and(|lease| lease.expires <= now);
            if is_lost && !self.foreign.rows.contains(pay) {
                self.own.rows.insert(*pay);
                self.settle_lost_lease(*pay, now);
                let life = &self.lives[pay];
                let reason = if let Place::Held(reason) = life.place { reason.name() } else { "-" };
                told.push(format!("{pay}#{} {reason}", life.attempt_count));
            }
        }
        told.push(format!("looked at {} to {at}", found.len()));
        told
    }

    pub(super) fn renew(&mut self, worker: u8, leases: &[(LeaseName, bool)]) -> Vec<String> {
        let now = self.now();
        let mut told = Vec::new();
        for (name, forged) in leases {
            let is_there = self.lives[&name.pay].ended.is_none();
            let is_busy = is_there && self.foreign.rows.contains(&name.pay);
            if is_there && !is_busy {
                self.own.rows.insert(name.pay);
            }
            let life = self.lives.get_mut(&name.pay).unwrap();
            let is_current = life.attempt_count == name.attempt_no && !forged;
            let holds = life.lease.is_some_and(|lease| lease.worker == worker && lease.expires > now) && is_current;
            told.push(match (is_busy, &mut life.lease) {
                (true, _) => "busy".to_owned(),
                (false, Some(lease)) if holds => {
                    lease.expires = now.plus(LEASE);
                    "renewed".to_owned()
                }
                _ => "fenced".to_owned(),
            });
        }
        told
    }

    /// Takes ended payments out of the order and brings back who follows.
    pub(super) fn unpark_successors(&mut self) {
        let lives = &self.lives;
        let before = self.order.len();
        self.order.retain(|_, pay| lives[pay].ended.is_none());
        for _ in self.order.len()..before {
            if !self.unpark_first() {
                let number = self.number();
                self.owed.insert(number, Owed::Key);
            }
        }
    }

    fn unpark_first(&mut self) -> bool {
        if self.foreign.ordering {
            return false;
        }
        self.own.ordering = true;
        let Some(first) = self.order.values().next().copied() else { return true };
        if self.foreign.rows.contains(&first) {
            return false;
        }
        self.own.rows.insert(first);
        if self.lives[&first].place == Place::Parked {
            let now = self.now();
            self.bring_back(first, now);
        }
        true
    }

    fn bring_back(&mut self, pay: Pay, now: Instant) {
        let in_doubt = self.lives[&pay].in_doubt.is_some() || self.lives[&pay].late_success;
        let place = self.place_of(in_doubt);
        let life = self.lives.get_mut(&pay).unwrap();
        life.place = place;
        life.due = life.due.max(now);
    }

    /// The maintenance of parked payments.
    pub(super) fn unpark(&mut self, limit: usize) -> Vec<String> {
        let notes: Vec<(u32, Owed)> = self.owed.iter().take(limit).map(|(no, owed)| (*no, owed.clone())).collect();
        let sharers = notes.iter().filter(|(_, owed)| matches!(owed, Owed::Participant { .. })).count();
        let share = limit.div_ceil(sharers.max(1));
        let (mut unparked, mut is_full) = (0, false);
        let free: Vec<_> = self
            .owed
            .iter()
            .filter(|(no, _)| !self.foreign.owed.contains(no))
            .map(|(no, owed)| (*no, owed.clone()))
            .collect();
        for (number, owed) in free.into_iter().take(limit) {
            self.own.owed.insert(number);
            match owed {
                Owed::Key => {
                    if self.unpark_first() {
                        self.owed.remove(&number);
                        unparked += 1;
                    }
                }
                Owed::Participant { participant, behind, has_skipped } => {
                    let (looked_at, ended) = self.unpark_share(number, share, (participant, behind, has_skipped));
                    unparked += looked_at;
                    is_full |= !ended;
                }
            }
        }
        let last = self.together.iter().map(|pay| self.lives[pay].due).max();
        for (pay, due) in self.together.iter().zip(std::iter::repeat(last)) {
            if let (Some(life), Some(due)) = (self.lives.get_mut(pay), due) {
                life.due = due;
            }
        }
        let mut told = self.hold_missed(limit);
        is_full |= unparked >= limit || told.len() == limit;
        told.push(format!("unparked {unparked} full {is_full}"));
        told
    }

    /// A participant's share: how many were looked at, and whether the end was reached.
    fn unpark_share(&mut self, number: u32, share: usize, note: (u8, Option<u32>, bool)) -> (usize, bool) {
        let (participant, behind, has_skipped) = note;
        let is_seen = |life: &Life| {
            life.ended.is_none()
                && life.place == Place::Parked
                && life.participant == participant
                && Some(life.born) > behind
        };
        let mut seen: Vec<(u32, Pay)> =
            self.lives.iter().filter(|(_, life)| is_seen(life)).map(|(pay, life)| (life.born, *pay)).collect();
        seen.sort_unstable();
        seen.truncate(share);
        let mine: Vec<Pay> = seen.iter().map(|(_, pay)| *pay).filter(|pay| !self.foreign.rows.contains(pay)).collect();
        self.own.rows.extend(mine.iter().copied());
        let now = self.now();
        let ready: Vec<Pay> =
            mine.iter().copied().filter(|pay| !self.is_behind(*pay) && !self.is_stopped(*pay)).collect();
        for pay in &ready {
            let life = self.lives.get_mut(pay).unwrap();
            life.place = Place::Ready;
            if life.due < now {
                life.due = now;
                self.together.insert(*pay);
            }
        }
        let has_skipped = has_skipped || mine.len() < seen.len();
        let is_over = seen.len() < share;
        if !is_over {
            let behind = seen.last().map(|(born, _)| *born);
            self.owed.insert(number, Owed::Participant { participant, behind, has_skipped });
        } else if has_skipped {
            self.owed.insert(number, Owed::Participant { participant, behind: None, has_skipped: false });
        } else {
            self.owed.remove(&number);
        }
        (mine.len(), is_over)
    }

    fn hold_missed(&mut self, limit: usize) -> Vec<String> {
        let now = self.now();
        let is_missed = |life: &Life| {
            life.ended.is_none() && life.place == Place::Parked && life.not_after.is_some_and(|until| until < now)
        };
        let mut missed: Vec<(Option<Instant>, u32, Pay)> = self
            .lives
            .iter()
            .filter(|(_, life)| is_missed(life))
            .map(|(pay, life)| (life.not_after, life.born, *pay))
            .collect();
        missed.sort_unstable();
        missed.retain(|(_, _, pay)| !self.foreign.rows.contains(pay));
        missed.truncate(limit);
        let mut told = Vec::new();
        for (_, _, pay) in missed {
            self.own.rows.insert(pay);
            self.lives.get_mut(&pay).unwrap().hold(HoldReason::MissedWindow);
            told.push(format!("HELD {pay}"));
        }
        told
    }

    /// A time as so many spans from now, as the database's is shown.
    pub(super) fn relative(&self, then: Instant) -> String {
        (then.at - self.at).to_string()
    }
}

pub(super) fn shown(endpoint: Option<u8>) -> String {
    endpoint.map_or_else(|| "-".to_owned(), |n| format!("e{n}"))
}
