//! What enqueueing and pausing come to in the model.

use super::model::{Instant, Life, Owed, Place, State};
use super::transition::{Item, Likeness, Pay, Scope};

/// The first payment of a slot.
pub(super) fn first(slot: u8) -> Pay {
    Pay { slot, generation: 0 }
}

impl State {
    /// Records a batch, or refuses it whole.
    pub(super) fn enqueue(&mut self, items: &[Item]) -> Vec<String> {
        let now = self.now();
        if items.iter().any(|item| item.likeness == Likeness::Bad) {
            return vec!["OB003".to_owned()];
        }
        let is_known = |place: usize| {
            self.lives.contains_key(&first(items[place].slot))
                || items[..place].iter().any(|item| item.slot == items[place].slot)
        };
        let known: Vec<bool> = (0..items.len()).map(is_known).collect();
        for (item, _) in items.iter().zip(&known).filter(|(_, known)| **known) {
            match item.likeness {
                Likeness::OtherKey => return vec!["OB002".to_owned()],
                Likeness::OtherBytes => return vec!["OB001".to_owned()],
                Likeness::Same | Likeness::Bad => {}
            }
        }
        let is_over = |item: &Item| item.request.not_after.is_some_and(|spans| self.at_start(spans) <= now);
        if items.iter().zip(&known).any(|(item, known)| !known && is_over(item)) {
            return vec!["OB003".to_owned()];
        }
        let fresh = items.iter().zip(&known).filter(|(_, known)| !**known).map(|(item, _)| item);
        let mut recorded = Vec::new();
        for item in fresh {
            let life = self.life(item, now);
            self.lives.insert(first(item.slot), life);
            self.own.new_slots.insert(item.slot);
            recorded.push(first(item.slot));
        }
        self.own.ordering |= items.iter().any(|item| self.lives[&first(item.slot)].ordered);
        self.put_in_order(&recorded);
        items.iter().zip(&known).map(|(item, known)| format!("{} {}", first(item.slot), !known)).collect()
    }

    /// A moment that a caller names: it is before all that happens in its span.
    fn at_start(&self, spans: i64) -> Instant {
        Instant { at: self.at + spans, nth: 0 }
    }

    fn life(&mut self, item: &Item, now: Instant) -> Life {
        let request = item.request;
        let not_before = request.not_before.map(|spans| self.at_start(spans));
        let not_after = request.not_after.map(|spans| self.at_start(spans));
        self.new_life(now, (request.participant, request.ordered), not_before, not_after)
    }

    /// A payment that has just been recorded: whose it is, and whether it is under the ordering key.
    pub(super) fn new_life(
        &mut self,
        created: Instant,
        (participant, ordered): (u8, bool),
        not_before: Option<Instant>,
        not_after: Option<Instant>,
    ) -> Life {
        Life {
            born: self.number(),
            participant,
            ordered,
            created,
            not_before,
            asked_not_after: not_after,
            ended: None,
            place: Place::Ready,
            lease: None,
            attempt_count: 0,
            send_count: 0,
            crash_count: 0,
            inquiry_count: 0,
            first_sent: None,
            in_doubt: None,
            quarantine: None,
            late_success: false,
            hold_requested: false,
            possible_duplicate: false,
            is_redrive: false,
            due: not_before.map_or(created, |at| at.max(created)),
            not_after,
            endpoint: None,
            attempts: Vec::new(),
            late: Vec::new(),
        }
    }

    /// Gives new payments their places, and parks those that are not the first.
    pub(super) fn put_in_order(&mut self, recorded: &[Pay]) {
        for pay in recorded.iter().filter(|pay| self.lives[*pay].ordered).copied().collect::<Vec<_>>() {
            let place = self.number();
            self.order.insert(place, pay);
            if self.is_behind(pay) {
                self.lives.get_mut(&pay).unwrap().place = Place::Parked;
            }
        }
    }

    pub(super) fn pause(&mut self, scope: Scope, paused: bool) -> Vec<String> {
        if paused {
            self.pauses.insert(scope, ());
            return vec!["done".to_owned()];
        }
        self.own.pauses = true;
        if self.pauses.remove(&scope).is_none() {
            return vec!["OB003".to_owned()];
        }
        if let Some(participant) = scope.participant {
            let number = self.number();
            self.owed.insert(number, Owed::Participant { participant, behind: None, has_skipped: false });
        }
        vec!["done".to_owned()]
    }
}
