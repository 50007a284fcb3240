//! What a worker learned after its lease was lost is kept.
//!
//! From outside a forgetful dispatcher looks like this: a lease was lost, the rail gave a whole acceptance to the only
//! request there was, the worker of that lease lived on unhindered and recorded other results long after, and there is no
//! late outcome of that attempt. Only this is judged, for it has no other explanation. Not seen: what a worker forgot that was
//! killed or did nothing afterwards; answers to one of several requests of a key; answers that were no acceptance; what
//! a failover took away.

use super::{Case, Check, Flaw};
use crate::payment::Attempt;
use crate::words::State;

/// How long a living worker has to report, while it reports other results: in which it neither stands still nor lacks a database.
pub const REPORTS_WITHIN_US: i64 = 15_000_000;

/// Judges what became of an acceptance that came under a lost lease.
#[must_use]
pub fn late_evidence_is_kept(case: &Case<'_>) -> Option<Flaw> {
    let (payment, wire) = (case.payment, &case.payment.wire);
    let is_plain = wire.acceptances == 1 && wire.requests == 1 && !wire.is_silent() && wire.unknown_answers == 0;
    if !is_plain || case.faults.failed_over_after(wire.accepted_us) {
        return None;
    }
    // Whatever may have been claimed by then may have had the acceptance.
    let claimed_us = |attempt: &Attempt| case.faults.earliest_host_us(attempt.claimed_us);
    let mut before = payment.submits().filter(|attempt| claimed_us(attempt) <= wire.accepted_us);
    let attempt = before.next()?;
    if before.next().is_some() || attempt.state != State::LeaseExpired {
        return None;
    }
    let last_us = case.faults.earliest_host_us(case.workers.last_us(attempt.worker));
    let lived_us = last_us - wire.accepted_us;
    if lived_us < REPORTS_WITHIN_US || case.lates.iter().any(|late| late.attempt_no == attempt.no) {
        return None;
    }
    let worker = case.workers.name(attempt.worker);
    let hindered_us = case.faults.hindered_us(worker, wire.accepted_us, last_us);
    (lived_us - hindered_us >= REPORTS_WITHIN_US).then(|| {
        let detail =
            format!("attempt {} was accepted under a lost lease, {worker} lived on, and told nobody", attempt.no);
        Flaw::new(Check::LateEvidenceForgotten, detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::forged::Forged;
    use crate::payment::Late;
    use crate::words::{Contract, HoldReason, Outcome};

    /// Held after a lost lease under which the rail accepted it, by a worker that went on.
    fn forgotten() -> Forged {
        let mut forged = Forged::held(Contract::Hold, HoldReason::Unknown);
        let attempt = &mut forged.payment.attempts[0];
        (attempt.state, attempt.outcome) = (State::LeaseExpired, None);
        let at_us = attempt.claimed_us + 5_000_000;
        forged.executed(at_us);
        forged.workers.last_us[0] = at_us + REPORTS_WITHIN_US;
        forged
    }

    fn found(forged: &Forged) -> Option<Check> {
        late_evidence_is_kept(&forged.case()).map(|flaw| flaw.check)
    }

    #[test]
    fn an_acceptance_that_a_living_worker_kept_to_itself_is_found() {
        assert_eq!(found(&forgotten()), Some(Check::LateEvidenceForgotten));
    }

    #[test]
    fn told_late_killed_and_lost_with_the_primary_are_no_findings() {
        let mut forged = forgotten();
        forged.lates.push(Late { attempt_no: 1, outcome: Outcome::Accepted, reference: 5, recorded_us: 1 });
        assert_eq!(found(&forged), None);
        let mut forged = forgotten();
        forged.workers.last_us[0] -= 1;
        assert_eq!(found(&forged), None);
        let mut forged = forgotten();
        let (from_us, worker) = (forged.payment.wire.accepted_us + 1_000_000, forged.case().workers.name(0).to_owned());
        forged.faults.windows.push(crate::faults::Window { target: worker, from_us, until_us: from_us + 1 });
        assert_eq!(found(&forged), None, "stood still meanwhile");
        let mut forged = forgotten();
        let at_us = forged.payment.wire.accepted_us;
        forged.faults.failovers.push(crate::faults::Failover { at_us, lost_from_us: at_us });
        assert_eq!(found(&forged), None);
    }

    #[test]
    fn a_time_that_the_clock_showed_twice_is_no_proof_of_a_longer_life() {
        let mut forged = forgotten();
        let at_us = forged.payment.wire.accepted_us;
        // Twenty seconds ahead for a moment, when the acceptance came: what was recorded then looks as if it came much later.
        let step = |at_us, offset_us| crate::faults::ClockStep { at_us, offset_us };
        forged.faults.clocks = vec![step(at_us - 1_000_000, 20_000_000), step(at_us + 1_000_000, 0)];
        forged.workers.last_us[0] = at_us + 20_000_000;
        assert_eq!(found(&forged), None);
        forged.workers.last_us[0] += 3_000_000;
        assert_eq!(found(&forged), Some(Check::LateEvidenceForgotten));
    }

    #[test]
    fn an_attempt_whose_time_came_twice_may_have_had_the_acceptance() {
        let mut forged = forgotten();
        forged.attempt(State::Dispatched, Some(Outcome::Accepted));
        let claimed_us = forged.payment.attempts[1].claimed_us;
        forged.payment.wire.accepted_us = claimed_us + 1_000;
        forged.workers.last_us[0] = claimed_us + 60_000_000;
        // Six seconds back three seconds later: the time of the claim comes again.
        let step = |at_us, offset_us| crate::faults::ClockStep { at_us, offset_us };
        forged.faults.clocks = vec![step(claimed_us + 3_000_000, -6_000_000), step(claimed_us + 9_000_000, 0)];
        assert_eq!(found(&forged), None);
    }

    #[test]
    fn an_answer_that_may_belong_to_another_attempt_is_no_finding() {
        let mut forged = forgotten();
        forged.payment.wire.requests = 2;
        assert_eq!(found(&forged), None);
        let mut forged = forgotten();
        forged.attempt(State::Dispatched, Some(Outcome::Accepted));
        forged.payment.wire.accepted_us += 60_000_000;
        forged.workers.last_us[0] += 60_000_000;
        assert_eq!(found(&forged), None);
    }
}
