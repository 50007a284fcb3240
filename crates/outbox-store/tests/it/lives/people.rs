//! What people do, in the model: proposals, the second person's word, and what each action comes to.

use std::collections::BTreeMap;

use outbox_core::{AttemptKind, AttemptState, HoldReason, OnUnknown, Outcome};

use super::model::{Action, Attempt, DOUBT, Instant, Life, Place, State, Word};
use super::transition::{Decided, End, Kind, Pay, Window};

const OK: &str = "done";

fn refused(code: &str) -> Vec<String> {
    vec![code.to_owned()]
}

/// What a late report of leaves a doubt with a redrive.
fn may_be_executed(end: End) -> bool {
    use Outcome::{NotExecuted, NotSent, RailRefusedUs, Refused, Throttled};
    end == End::Released || !matches!(end.outcome(), Refused | NotSent | NotExecuted | Throttled | RailRefusedUs)
}

impl Life {
    fn is_accepted_late(&self) -> bool {
        self.late.iter().any(|late| late.end.outcome() == Outcome::Accepted)
    }

    fn is_dispatched(&self) -> bool {
        self.ended == Some(AttemptState::Dispatched)
    }
}

impl State {
    /// What an action on one payment alone would do now, with evidence.
    pub(super) fn apt(&self) -> Vec<(Kind, Pay)> {
        let now = Instant { at: self.at, nth: u32::MAX };
        let is_apt = |kind: Kind, pay: Pay| {
            let life = &self.lives[&pay];
            let members = BTreeMap::from([(pay, life.attempt_count)]);
            let window = Window::Keep;
            let action =
                Action { kind, members, evidence: true, window, proposed: now, word: None, results: BTreeMap::new() };
            match kind {
                Kind::Redrive => self.fault_of_redrive(&action, pay, now).is_none(),
                _ => life.ended.is_none() && self.fault(&action, pay, now).is_none(),
            }
        };
        let all = self.lives.keys().flat_map(|pay| Kind::ALL.map(|kind| (kind, *pay)));
        all.filter(|(kind, pay)| is_apt(*kind, *pay)).collect()
    }

    pub(super) fn propose(
        &mut self,
        name: u8,
        kind: Kind,
        members: &[Pay],
        evidence: bool,
        window: Window,
    ) -> Vec<String> {
        let now = self.now();
        let is_known_parameter = window == Window::Keep || kind != Kind::ResolveDispatched;
        if (kind.needs_evidence() && !evidence) || !is_known_parameter {
            return refused("OB003");
        }
        let ended_attempts = |pay: &Pay| {
            let life = &self.lives[pay];
            let is_under_way = life.lease.is_some_and(|lease| lease.expires > now);
            (*pay, life.attempt_count - u32::from(life.ended.is_none() && is_under_way))
        };
        let members: BTreeMap<Pay, u32> = members.iter().map(ended_attempts).collect();
        let told = format!("{} {}", members.len(), kind.needs_approval());
        let action = Action { kind, members, evidence, window, proposed: now, word: None, results: BTreeMap::new() };
        self.actions.insert(name, action);
        vec![told]
    }

    pub(super) fn decide(&mut self, name: u8, decided: Decided) -> Vec<String> {
        let action = &self.actions[&name];
        let word = match decided {
            Decided::ByMaker => return refused("OB012"),
            Decided::Withdrawn => Word::Withdrawn,
            _ if !action.kind.needs_approval() => return refused("OB003"),
            Decided::OfAnother => return refused("OB003"),
            Decided::Approved => Word::Approved,
            Decided::Rejected => Word::Rejected,
        };
        if action.word.is_some() {
            return refused("OB013");
        }
        self.own.decided = Some(name);
        self.actions.get_mut(&name).unwrap().word = Some(word);
        vec![OK.to_owned()]
    }

    pub(super) fn apply_action(&mut self, name: u8, limit: usize, by: &'static str) -> Vec<String> {
        self.own.action = Some(name);
        let action = self.actions[&name].clone();
        if action.word != Some(Word::Approved) && (action.kind.needs_approval() || action.word.is_some()) {
            return refused("OB014");
        }
        let mut told = Vec::new();
        let mut left: Vec<(u32, Pay)> = action.members.keys().map(|pay| (self.lives[pay].born, *pay)).collect();
        left.sort_unstable();
        left.retain(|(_, pay)| !action.results.contains_key(pay));
        left.truncate(limit);
        for (_, pay) in left {
            if let Some(result) = self.apply_to(name, &action, pay, by) {
                told.push(format!("{pay} {result}"));
                self.actions.get_mut(&name).unwrap().results.insert(pay, result);
            }
        }
        told.push(format!("remaining {}", action.members.len() - self.actions[&name].results.len()));
        told
    }

    /// What becomes of one payment; none, if somebody has it.
    fn apply_to(&mut self, name: u8, action: &Action, pay: Pay, by: &'static str) -> Option<String> {
        let now = self.now();
        if action.kind == Kind::Redrive {
            return self.redrive(action, pay, now);
        }
        if self.lives[&pay].ended.is_some() {
            return Some("SKIPPED it has ended".to_owned());
        }
        if self.foreign.rows.contains(&pay) {
            return None;
        }
        self.own.rows.insert(pay);
        if self.lives[&pay].lease.is_some_and(|lease| lease.expires <= now) {
            self.settle_lost_lease(pay, now);
        }
        if let Some(fault) = self.fault(action, pay, now) {
            return Some(format!("SKIPPED {fault}"));
        }
        let asked = self.contract.on_unknown == OnUnknown::Inquire;
        let life = self.lives.get_mut(&pay).unwrap();
        match action.kind {
            Kind::Hold if life.lease.is_some() => {
                life.hold_requested = true;
                return Some("APPLIED held when its attempt under way has ended".to_owned());
            }
            Kind::Hold => life.place = Place::Held(HoldReason::Requested),
            Kind::RetryNow => life.due = now,
            Kind::Release if life.in_doubt.is_some() => {
                assert!(asked, "a doubt is released to be asked after only where it can be");
                life.place = Place::InDoubt;
                (life.hold_requested, life.crash_count, life.inquiry_count) = (false, 0, 0);
                life.due = life.due.max(now);
            }
            Kind::Release | Kind::ReleaseAsResend => self.send_again((name, by), action, pay, now),
            Kind::Cancel => self.end((name, by), action, pay, AttemptState::Cancelled, now),
            Kind::ResolveFailed => self.end((name, by), action, pay, AttemptState::Failed, now),
            Kind::ResolveDispatched => self.end((name, by), action, pay, AttemptState::Dispatched, now),
            Kind::Redrive => {}
        }
        Some("APPLIED".to_owned())
    }

    fn record(&mut self, (name, by): (u8, &str), action: &Action, pay: Pay, state: AttemptState, now: Instant) {
        let life = self.lives.get_mut(&pay).unwrap();
        life.attempts.push(Attempt {
            kind: None,
            state,
            end: None,
            by: by.to_owned(),
            token: format!("a{name}"),
            reference: (state == AttemptState::Dispatched).then(|| "B-7".to_owned()),
            claimed: now,
            completed: now,
            endpoint: None,
            class: Some(action.kind.name().to_lowercase()),
        });
    }

    fn send_again(&mut self, name: (u8, &str), action: &Action, pay: Pay, now: Instant) {
        let is_resend = action.kind == Kind::ReleaseAsResend;
        if is_resend {
            self.record(name, action, pay, AttemptState::Retryable, now);
        }
        let life = self.lives.get_mut(&pay).unwrap();
        life.place = Place::Ready;
        (life.hold_requested, life.send_count, life.crash_count, life.inquiry_count) = (false, 0, 0, 0);
        (life.in_doubt, life.first_sent, life.quarantine) = (None, None, None);
        life.due = life.due.max(now);
        life.attempt_count += u32::from(is_resend);
        life.possible_duplicate |= is_resend;
        if action.window == Window::Drop {
            life.not_after = None;
        }
    }

    fn end(&mut self, name: (u8, &str), action: &Action, pay: Pay, state: AttemptState, now: Instant) {
        self.record(name, action, pay, state, now);
        let life = self.lives.get_mut(&pay).unwrap();
        life.ended = Some(state);
        life.attempt_count += 1;
        if life.ordered {
            self.unpark_successors();
        }
    }

    /// Why an action cannot be applied to a payment as it stands.
    fn fault(&self, action: &Action, pay: Pay, now: Instant) -> Option<String> {
        let life = &self.lives[&pay];
        let (kind, place) = (action.kind, life.place);
        let is_held = matches!(place, Place::Held(_));
        let was_tried = life.attempt_count != action.members[&pay];
        let fault = match (kind, place) {
            (Kind::Hold, Place::Held(reason)) => return Some(format!("it is held already: {}", reason.name())),
            (Kind::Hold, _) => None,
            _ if life.lease.is_some() => Some("an attempt is under way: hold it first"),
            (Kind::Cancel, _) => {
                let may_be_sent = life.first_sent.is_some()
                    || life.in_doubt.is_some()
                    || life.late_success
                    || life.possible_duplicate;
                may_be_sent.then_some("it may have been sent")
            }
            (Kind::RetryNow, Place::Held(_)) => Some("it is held"),
            (Kind::RetryNow, Place::Parked) => Some("it is parked"),
            (Kind::RetryNow, _) if life.due <= now => Some("it is due already"),
            (Kind::RetryNow, _) => life.not_before.filter(|at| *at > now).map(|_| "its not_before is not reached"),
            _ if was_tried => Some("it was tried since this was proposed: look at it, and propose it again"),
            (Kind::ResolveDispatched | Kind::ResolveFailed, _) if !is_held && place != Place::InDoubt => {
                Some("it is neither held nor in doubt")
            }
            (Kind::ResolveDispatched, _) => {
                (life.attempt_count == 0 && life.in_doubt.is_none()).then_some("it was never sent")
            }
            (Kind::ResolveFailed, _) => return self.fault_of_denial(action, pay, now),
            _ if !is_held => Some("it is not held"),
            _ => return self.fault_of_denial(action, pay, now),
        };
        fault.map(str::to_owned)
    }

    /// The same where the action says that the payment was not executed.
    fn fault_of_denial(&self, action: &Action, pay: Pay, now: Instant) -> Option<String> {
        let life = &self.lives[&pay];
        let sends = action.kind != Kind::ResolveFailed;
        let until = if action.window == Window::Drop { None } else { life.not_after };
        let fault = if life.late_success {
            "the rail said to a worker that it had accepted it: resolve it as dispatched, or ask the rail"
        } else if life.is_redrive && sends && self.is_accepted_elsewhere(pay) {
            "the rail accepted another payment of its instruction: cancel it if it was never sent, or resolve it"
        } else if action.kind == Kind::Release
            && life.in_doubt.is_some()
            && self.contract.on_unknown == OnUnknown::Inquire
        {
            return None;
        } else if action.kind == Kind::Release && (life.first_sent.is_some() || life.in_doubt.is_some()) {
            "it was sent: that takes RELEASE_AS_RESEND, with evidence that it was not executed"
        } else if life.quarantine.is_some_and(|until| until > action.proposed) {
            "too early"
        } else if sends && until.is_some_and(|until| until < now) {
            "its not_after is past: give another"
        } else {
            return None;
        };
        Some(fault.to_owned())
    }

    fn generations(&self, pay: Pay) -> Vec<(Pay, &Life)> {
        self.lives.iter().filter(|(other, _)| other.slot == pay.slot).map(|(pay, life)| (*pay, life)).collect()
    }

    /// Whether the rail says of another generation that it executed it.
    pub(super) fn is_accepted_elsewhere(&self, pay: Pay) -> bool {
        let all = self.generations(pay);
        all.iter().enumerate().filter(|(_, (other, _))| *other != pay).any(|(place, (_, life))| {
            let next_made = all.get(place + 1).map(|(_, next)| next.created);
            let is_since = |at: Instant| next_made.is_some_and(|made| at > made);
            life.late.iter().any(|late| {
                late.end.outcome() == Outcome::Accepted && (is_since(late.recorded) || !life.is_dispatched())
            })
        })
    }

    fn fault_of_redrive(&self, action: &Action, pay: Pay, now: Instant) -> Option<&'static str> {
        let all = self.generations(pay);
        let life = &self.lives[&pay];
        let doubts = all.iter().flat_map(|(_, life)| {
            let sent = life.attempts.iter().filter(|attempt| {
                attempt.kind == Some(AttemptKind::Submit)
                    && matches!(attempt.state, AttemptState::InDoubt | AttemptState::LeaseExpired)
            });
            let late = life.late.iter().filter(|late| may_be_executed(late.end)).map(|late| late.recorded);
            sent.map(|attempt| attempt.completed).chain(late)
        });
        let doubt_until = doubts.max().map(|at| at.plus(DOUBT));
        let until = if action.window == Window::Drop { None } else { life.asked_not_after };
        if self.last_of(pay.slot) != Some(pay) {
            Some("it was redriven already")
        } else if !matches!(life.ended, Some(AttemptState::Dispatched | AttemptState::Failed)) {
            Some("it has not ended as dispatched or failed")
        } else if life.attempts.len() != usize::try_from(action.members[&pay]).unwrap() {
            Some("it had not ended when this was proposed: look at it, and propose it again")
        } else if life.ended == Some(AttemptState::Failed) && life.is_accepted_late() {
            Some("the rail said later that it had accepted it")
        } else if self.is_accepted_elsewhere(pay) {
            Some("the rail accepted another payment of its instruction")
        } else if doubt_until.is_some_and(|until| until > action.proposed) {
            Some("too early")
        } else if doubt_until.is_some() && !action.evidence {
            Some("an attempt of it may have been executed: that takes evidence that it was not")
        } else if !action.evidence && all.iter().any(|(_, life)| life.is_dispatched()) {
            Some(
                "it was dispatched, or an earlier one of its instruction was: that takes evidence that the rail never got it",
            )
        } else if until.is_some_and(|until| until < now) {
            Some("its not_after is past: give another")
        } else {
            None
        }
    }

    /// Pays an ended payment again, as the next generation.
    fn redrive(&mut self, action: &Action, pay: Pay, now: Instant) -> Option<String> {
        if self.foreign.instructions.contains(&pay) {
            return None;
        }
        self.own.instructions.insert(pay);
        if let Some(fault) = self.fault_of_redrive(action, pay, now) {
            return Some(format!("SKIPPED {fault}"));
        }
        let next = Pay { generation: pay.generation + 1, ..pay };
        let old = &self.lives[&pay];
        let until = if action.window == Window::Drop { None } else { old.asked_not_after };
        let (participant, ordered, not_before) = (old.participant, old.ordered, old.not_before);
        let life = self.new_life(now, (participant, ordered), not_before, until);
        self.lives.insert(next, Life { is_redrive: true, ..life });
        self.own.ordering |= ordered;
        self.put_in_order(&[next]);
        Some(format!("APPLIED {next}"))
    }
}
