//! How a step changes the model: a call alone, time that passes, or calls of one session while a transaction of another is open.
//! Whoever reads meanwhile sees what was before; what the open transaction has locked is skipped, is busy, or is waited for.

use std::collections::BTreeMap;

use super::asking::Login;
use super::model::{Locks, State};
use super::queue::Claim;
use super::recording::first;
use super::transition::{Form, Item, Kind, LeaseName, Likeness, Op, Pay, Request, Transition};

/// What is one's own if it changed it, otherwise what the other made of it.
fn merged<K: Ord + Clone, V: Clone + PartialEq>(
    base: &BTreeMap<K, V>,
    mine: &BTreeMap<K, V>,
    other: &BTreeMap<K, V>,
) -> BTreeMap<K, V> {
    let keys = mine.keys().chain(other.keys());
    let of = |key: &K| if mine.get(key) == base.get(key) { other.get(key) } else { mine.get(key) };
    keys.filter_map(|key| of(key).map(|value| (key.clone(), value.clone()))).collect()
}

fn reported(op: &Op) -> impl Iterator<Item = Pay> {
    let pays: Vec<Pay> = match op {
        Op::Complete { reports, .. } => reports.iter().map(|report| report.lease.pay).collect(),
        Op::Release { leases, .. } => leases.iter().map(|(lease, _)| lease.pay).collect(),
        _ => Vec::new(),
    };
    pays.into_iter()
}

impl State {
    /// Makes one call; what its caller is told.
    pub(super) fn call(&mut self, op: &Op) -> String {
        self.own = Locks::default();
        let mut told = match op {
            Op::Enqueue { items, .. } => self.enqueue(items),
            Op::Claim { short: true, .. } => vec!["OB007".to_owned()],
            Op::Claim { worker, limit, in_flight, from_cursor, endpoint, .. } => {
                let after = self.cursor(*worker).filter(|_| *from_cursor);
                let limit = usize::from(*limit);
                self.claim(Claim { worker: *worker, limit, in_flight: *in_flight, after, endpoint: *endpoint })
            }
            Op::Renew { worker, leases } => return self.renew(*worker, leases).join("; "),
            Op::Complete { worker, reports } => return self.complete(*worker, reports).join("; "),
            Op::Release { worker, leases } => return self.release(*worker, leases).join("; "),
            Op::Expire { limit, cursor_of } => {
                let after = cursor_of.and_then(|worker| self.cursor(worker));
                self.expire(usize::from(*limit), after)
            }
            Op::Unpark { limit } => self.unpark(usize::from(*limit)),
            Op::Heartbeat { worker, stopped } => self.beat(*worker, *stopped),
            Op::Pause { scope, paused } => self.pause(*scope, *paused),
            Op::SetRail(change) => {
                self.set(*change);
                vec!["false".to_owned()]
            }
            Op::Propose { action, kind, members, evidence, window } => {
                self.propose(*action, *kind, members, *evidence, *window)
            }
            Op::Decide { action, decided } => self.decide(*action, *decided),
            Op::Apply { action, limit, .. } => self.apply_action(*action, usize::from(*limit), Login::of(op).name()),
        };
        told.sort();
        told.join("; ")
    }

    pub(super) fn step(mut self, transition: &Transition) -> Self {
        self.told.clear();
        self.meanwhile = None;
        self.put_off.clear();
        self.together.clear();
        match transition {
            Transition::Call(op) => {
                let told = self.call(op);
                self.told.push(told);
                self.own = Locks::default();
                self
            }
            Transition::Pass(spans) => {
                self.at += spans;
                self
            }
            Transition::Overlap { first, second, commits } => self.overlap(first, second, *commits),
        }
    }

    fn overlap(self, first: &Op, second: &[Op], commits: bool) -> Self {
        let base = self.clone();
        let mut open = self;
        let mut told = vec![open.call(first)];
        let locks = std::mem::take(&mut open.own);
        // Of two calls none waits, or the step is not allowed; what the second comes to depends on the first.
        let waits = matches!(second, [op] if base.waits(op, &locks));
        let mut other = if waits && commits { open.clone() } else { base.clone() };
        other.nth = open.nth;
        other.foreign = if waits { Locks::default() } else { locks };
        for op in second {
            told.push(other.call(op));
        }
        other.own = Locks::default();
        other.foreign = Locks::default();
        if !waits {
            other.meanwhile = Some(other.lines());
            if commits {
                other.merge(&base, &open);
            }
        }
        other.told = told;
        other
    }

    /// Takes in what the open transaction changed, now that it has committed.
    fn merge(&mut self, base: &Self, open: &Self) {
        self.lives = merged(&base.lives, &open.lives, &self.lives);
        self.order = merged(&base.order, &open.order, &self.order);
        self.owed = merged(&base.owed, &open.owed, &self.owed);
        self.pauses = merged(&base.pauses, &open.pauses, &self.pauses);
        let theirs = std::mem::take(&mut self.actions);
        self.actions = merged(&base.actions, &open.actions, &theirs);
        // An action may be carried out in one transaction and decided on in the other: both count.
        for (name, action) in &mut self.actions {
            let (Some(before), Some(other)) = (base.actions.get(name), theirs.get(name)) else { continue };
            if other.word != before.word {
                action.word = other.word;
            }
            action.results.extend(other.results.iter().map(|(pay, result)| (*pay, result.clone())));
        }
        self.granted = merged(&base.granted, &open.granted, &self.granted);
        // Of two claims of one worker the later one's cursor is remembered.
        self.cursors = merged(&base.cursors, &self.cursors, &open.cursors);
        self.beats = merged(&base.beats, &open.beats, &self.beats);
        if open.contract != base.contract {
            self.contract = open.contract.clone();
        }
        self.put_off.extend(&open.put_off);
        self.together.extend(&open.together);
    }

    /// Whether a call has to wait for a transaction that holds `locks`.
    fn waits(&self, op: &Op, locks: &Locks) -> bool {
        match op {
            Op::Enqueue { items, .. } => {
                let bad = items.iter().any(|item| item.likeness == Likeness::Bad);
                let is_ordered = items.iter().any(|item| self.request_of(item).ordered);
                !bad && (items.iter().any(|item| locks.new_slots.contains(&item.slot))
                    || (is_ordered && locks.ordering))
            }
            Op::Pause { paused: false, .. } => locks.pauses_shared || locks.pauses,
            Op::Apply { action, .. } => locks.action == Some(*action),
            Op::Decide { action, .. } => locks.decided == Some(*action) && self.is_decidable(op),
            _ => false,
        }
    }

    fn is_decidable(&self, op: &Op) -> bool {
        let mut tried = self.clone();
        tried.call(op) == "done"
    }

    pub(super) fn request_of(&self, item: &Item) -> Request {
        let known = self.lives.get(&first(item.slot));
        known.map_or(item.request, |life| Request {
            participant: life.participant,
            ordered: life.ordered,
            ..item.request
        })
    }

    fn has_lease(&self, name: LeaseName) -> bool {
        self.granted.contains_key(&name)
    }

    /// Whether every name in a call stands for something.
    pub(super) fn makes_sense(&self, op: &Op) -> bool {
        match op {
            Op::Enqueue { form, items } => {
                let is_one = *form == Form::Batch || items.len() == 1;
                let agrees = |(place, item): (usize, &Item)| {
                    items[..place].iter().all(|other| other.slot != item.slot || other.request == item.request)
                };
                is_one && !items.is_empty() && items.iter().enumerate().all(agrees)
            }
            Op::Renew { leases, .. } | Op::Release { leases, .. } => {
                !leases.is_empty() && leases.iter().all(|(name, _)| self.has_lease(*name))
            }
            Op::Complete { reports, .. } => {
                !reports.is_empty() && reports.iter().all(|report| self.has_lease(report.lease))
            }
            Op::Propose { action, members, .. } => {
                let is_known = members.iter().all(|pay| self.lives.contains_key(pay));
                !members.is_empty() && is_known && !self.actions.contains_key(action)
            }
            Op::Decide { action, .. } | Op::Apply { action, .. } => self.actions.contains_key(action),
            Op::Claim { .. }
            | Op::Expire { .. }
            | Op::Unpark { .. }
            | Op::Heartbeat { .. }
            | Op::Pause { .. }
            | Op::SetRail(_) => true,
        }
    }

    /// Whether a step can be taken here, and what it comes to is known.
    pub(super) fn allows(&self, transition: &Transition) -> bool {
        match transition {
            Transition::Call(op) => self.makes_sense(op),
            Transition::Pass(spans) => *spans > 0,
            Transition::Overlap { first, second, .. } => self.allows_overlap(first, second),
        }
    }

    fn allows_overlap(&self, first: &Op, second: &[Op]) -> bool {
        if second.is_empty() || !self.makes_sense(first) || second.iter().any(|op| matches!(op, Op::Heartbeat { .. })) {
            return false;
        }
        let mut open = self.clone();
        let refused = open.call(first).starts_with("OB");
        let locks = std::mem::take(&mut open.own);
        let mut other = self.clone();
        other.nth = open.nth;
        other.foreign = locks.clone();
        other.put_off.clear();
        other.together.clear();
        let mut waits = false;
        for op in second {
            // What was put off for a moment, or brought back in no order, has its time only after the step.
            let is_settled = other.put_off.is_empty() && other.together.is_empty();
            if !is_settled || !other.makes_sense(op) || self.collides(first, op, &locks) {
                return false;
            }
            waits |= other.waits(op, &locks);
            other.call(op);
        }
        !refused && (!waits || second.len() == 1)
    }

    /// Waits that are left to other tests: two changes of one contract or one pause, one name for two things, a redrive behind an
    /// ordering key.
    fn collides(&self, first: &Op, second: &Op, locks: &Locks) -> bool {
        match (first, second) {
            (Op::SetRail(_), Op::SetRail(_)) | (Op::Heartbeat { .. }, _) => true,
            (Op::Pause { paused: true, .. }, Op::Pause { .. }) | (Op::Pause { .. }, Op::Pause { paused: true, .. }) => {
                true
            }
            (Op::Propose { action, .. }, Op::Propose { action: other, .. }) => action == other,
            // What would be recorded is another request if the first is not: perhaps of another participant, which waits for nothing.
            (Op::Enqueue { items: known, .. }, Op::Enqueue { items, .. }) => items.iter().any(|item| {
                let first = known.iter().find(|first| first.slot == item.slot);
                locks.new_slots.contains(&item.slot) && first.is_some_and(|first| first.request != item.request)
            }),
            // Two reports of what has ended: no row is there to be locked.
            (Op::Complete { .. } | Op::Release { .. }, Op::Complete { .. } | Op::Release { .. }) => {
                let ended = |pay: &Pay| self.lives[pay].ended.is_some();
                reported(first).filter(ended).any(|pay| reported(second).any(|other| other == pay))
            }
            (_, Op::Apply { action, .. }) => {
                self.actions.get(action).is_none_or(|action| action.kind == Kind::Redrive) && locks.ordering
            }
            _ => false,
        }
    }
}
