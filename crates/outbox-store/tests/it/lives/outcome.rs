//! What completions and releases come to in the model: fence, table, late evidence.

use outbox_core::decide::{attempt_state, counts_as_inquiry, counts_as_send};
use outbox_core::{
    AttemptKind, AttemptState, Decision, HoldReason, Millis, Outcome, RailContract, Situation, after_attempt,
};

use super::model::{Attempt, DOUBT, Instant, KEY_WINDOW, Late, Lease, Life, Place, State};
use super::transition::{End, LeaseName, Pay, Report};

impl State {
    pub(super) fn release(&mut self, worker: u8, leases: &[(LeaseName, bool)]) -> Vec<String> {
        let report = |(lease, forged): &(LeaseName, bool)| Report {
            lease: *lease,
            forged: *forged,
            end: End::Released,
            delay: 0,
        };
        let reports: Vec<Report> = leases.iter().map(report).collect();
        let told = self.complete(worker, &reports);
        // A release names no state and no hold; the row, which is compared after each step, does.
        told.iter().map(|told| told.split(' ').next().unwrap_or_default().to_owned()).collect()
    }

    /// A batch of completions; a verdict for each.
    pub(super) fn complete(&mut self, worker: u8, reports: &[Report]) -> Vec<String> {
        let now = self.now();
        let mut told = Vec::new();
        let mut seen: Vec<Pay> = Vec::new();
        let is_mine = |state: &Self, pay: Pay| state.lives[&pay].ended.is_none() && !state.foreign.rows.contains(&pay);
        let locked: Vec<Pay> =
            reports.iter().map(|report| report.lease.pay).filter(|pay| is_mine(self, *pay)).collect();
        self.own.rows.extend(locked.iter().copied());
        let there: Vec<Pay> =
            reports.iter().map(|report| report.lease.pay).filter(|pay| self.lives[pay].ended.is_none()).collect();
        for report in reports {
            let pay = report.lease.pay;
            let is_again = seen.contains(&pay);
            seen.push(pay);
            let is_busy = is_again || (there.contains(&pay) && !locked.contains(&pay));
            told.push(if is_busy { "busy".to_owned() } else { self.judge(report, worker, now) });
        }
        if locked.iter().any(|pay| self.lives[pay].ordered) {
            self.unpark_successors();
        }
        told
    }

    fn judge(&mut self, report: &Report, worker: u8, now: Instant) -> String {
        let Report { lease: LeaseName { pay, attempt_no }, forged, end, .. } = *report;
        let life = &self.lives[&pay];
        let token = if forged { "t:forged".to_owned() } else { format!("t:{}", report.lease) };
        let current = life.lease.filter(|lease| life.attempt_count == attempt_no && !forged && lease.expires > now);
        if let Some(lease) = current {
            return self.apply_outcome(report, lease, now);
        }
        let is_known = |known: &&Attempt| {
            known.token == token
                && known.end.is_some_and(|was| was.name() == end.name() && was.reference() == end.reference())
        };
        if let Some(known) = life.attempts.iter().find(is_known) {
            return format!("already_applied {}", known.state.name());
        }
        self.learn_late(report, token, worker, now);
        "fenced".to_owned()
    }

    fn apply_outcome(&mut self, report: &Report, lease: Lease, now: Instant) -> String {
        let pay = report.lease.pay;
        let end = report.end;
        let verdict = verdict(&self.contract, &self.lives[&pay], end, lease);
        let asked = self.place_of(verdict.in_doubt || self.lives[&pay].late_success);
        let is_final = self.contract.not_found_is_final;
        let life = self.lives.get_mut(&pay).unwrap();
        let kind = life.kind();
        let is_unsent = kind == AttemptKind::Submit && matches!(end, End::Released | End::Known(Outcome::NotSent));
        life.lease = None;
        life.attempts.push(Attempt {
            kind: Some(kind),
            state: verdict.state,
            end: Some(end),
            by: format!("w{}", lease.worker),
            token: format!("t:{}", report.lease),
            reference: end.reference().map(str::to_owned),
            claimed: lease.claimed,
            completed: now,
            endpoint: (end != End::Released).then(|| "there".to_owned()),
            class: None,
        });
        if matches!(verdict.state, AttemptState::Dispatched | AttemptState::Failed) {
            life.ended = Some(verdict.state);
            return format!("applied {} -", verdict.state.name());
        }
        if is_unsent && life.first_sent == Some(lease.claimed) {
            life.first_sent = None;
        }
        // Before the quarantine is changed by this attempt: what may have been sent before it.
        let asked_at = if end == End::Released {
            life.due
        } else if end.outcome().is_of(kind) && end.outcome() == Outcome::NotFound && is_final && verdict.in_doubt {
            now.plus(report.delay).max(life.quarantine.unwrap_or(now))
        } else {
            now.plus(report.delay)
        };
        life.due = asked_at;
        if kind == AttemptKind::Submit && verdict.state == AttemptState::InDoubt {
            life.lengthen_quarantine(now.plus(DOUBT));
        }
        life.in_doubt = if verdict.in_doubt { life.in_doubt.or(Some(now)) } else { None };
        life.send_count = verdict.send_count;
        life.inquiry_count = verdict.inquiry_count;
        life.place = asked;
        if let Some(reason) = verdict.held {
            life.hold(reason);
        }
        let next = verdict.held.map_or_else(|| self.relative(asked_at), |reason| reason.name().to_owned());
        format!("applied {} {next}", verdict.state.name())
    }

    /// What may have been executed leaves a doubt, whoever says so and however late.
    fn learn_late(&mut self, report: &Report, token: String, worker: u8, now: Instant) {
        use Outcome::{Accepted, Inconclusive, Interim, KeyReused, Unknown};
        let (pay, end) = (report.lease.pay, report.end);
        let asked = self.place_of(true);
        let life = self.lives.get_mut(&pay).unwrap();
        let attempt_no = report.lease.attempt_no;
        let is_known = life.late.iter().any(|late| {
            late.attempt_no == attempt_no
                && late.token == token
                && late.end.name() == end.name()
                && late.end.reference() == end.reference()
        });
        if !is_known {
            life.late.push(Late { attempt_no, token, end, worker, recorded: now });
        }
        let may_be_executed = matches!(end.outcome(), Accepted | Interim | Unknown | KeyReused | Inconclusive);
        if life.ended.is_some() || end == End::Released || !may_be_executed {
            return;
        }
        life.late_success |= end.outcome() == Accepted;
        life.in_doubt = life.in_doubt.or(Some(now));
        life.first_sent = life.first_sent.or(Some(now));
        life.lengthen_quarantine(now.plus(DOUBT));
        if life.place == Place::Ready && life.lease.is_none() {
            life.place = asked;
        }
        if let Place::Held(reason) = life.place
            && end.outcome() == Accepted
            && reason != HoldReason::Contradiction
        {
            life.place = Place::Held(HoldReason::LateSuccess);
        }
    }
}

/// What an attempt comes to, by the core's table.
struct Verdict {
    state: AttemptState,
    held: Option<HoldReason>,
    in_doubt: bool,
    send_count: u32,
    inquiry_count: u32,
}

fn verdict(contract: &RailContract, life: &Life, end: End, lease: Lease) -> Verdict {
    let kind = life.kind();
    let outcome = if end.outcome().is_of(kind) { end.outcome() } else { Outcome::Unknown };
    let situation = Situation {
        kind,
        send_count: life.send_count,
        inquiry_count: life.inquiry_count,
        in_doubt: life.in_doubt.is_some(),
        quarantine_over: life.quarantine.is_none_or(|until| until <= lease.claimed),
        in_key_window: life.first_sent.is_none_or(|first| lease.claimed < first.plus(KEY_WINDOW)),
        late_success: life.late_success,
        hold_requested: life.hold_requested,
    };
    let held = match after_attempt(contract, &situation, outcome, Millis::ZERO) {
        Decision::Hold(HoldReason::Exhausted) if end == End::Released && kind == AttemptKind::Submit => None,
        Decision::Hold(reason) => Some(reason),
        Decision::Settle | Decision::Refuse | Decision::SendAfter(_) | Decision::InquireAfter(_) => None,
    };
    let decided = attempt_state(contract, &situation, outcome);
    let state = if end == End::Released { AttemptState::Released } else { decided };
    let was_in_doubt = life.in_doubt.is_some() || kind == AttemptKind::Inquire || state == AttemptState::InDoubt;
    let in_doubt = was_in_doubt && !(outcome == Outcome::NotFound && state == AttemptState::Retryable);
    let inquiry_count = life.inquiry_count + u32::from(counts_as_inquiry(contract, kind, outcome));
    Verdict {
        state,
        held,
        in_doubt,
        send_count: life.send_count + u32::from(counts_as_send(kind, outcome)),
        inquiry_count: if in_doubt { inquiry_count } else { 0 },
    }
}
