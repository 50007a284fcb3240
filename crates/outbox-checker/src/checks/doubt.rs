//! A doubt has a cause in what the rail did: an answer that tells nothing, silence, or a fault of rail or dispatcher at
//! that time. This finds a dispatcher that doubts what it was told. It compares numbers for each key: of two
//! doubts with one cause it says that one has none, not which.

use super::{Case, Check, Flaw, retries::may_have_sent};
use crate::payment::Attempt;
use crate::words::{Kind, Outcome, State};

/// Judges the doubts of one payment.
#[must_use]
pub fn doubts_have_a_cause(case: &Case<'_>) -> Option<Flaw> {
    let (payment, wire) = (case.payment, &case.payment.wire);
    let rail = case.rail?;
    if case.may_miss_attempts() {
        return None;
    }
    let mut had_doubt = false;
    let mut doubts = 0;
    for attempt in payment.attempts.iter().filter(|attempt| attempt.kind != Kind::Operator) {
        let is_excused = {
            let worker = case.workers.name(attempt.worker);
            // Where the clock had shown a time twice, either may be meant.
            let (from_us, until_us) =
                (case.faults.earliest_host_us(attempt.claimed_us), case.faults.host_us(attempt.completed_us));
            case.faults.was_hit(&rail.name, worker, from_us, until_us) || gave_up_before_the_answer(case, attempt)
        };
        if attempt.kind == Kind::Submit && attempt.state == State::InDoubt && !is_excused {
            // A refusal beside an earlier doubt says nothing of that one.
            doubts += usize::from(attempt.outcome != Some(Outcome::Refused) || !had_doubt);
        }
        had_doubt |= attempt.state.is_unknown();
    }
    let answered = usize::from(wire.requests) + usize::from(wire.is_silent());
    let sent = payment.submits().filter(|attempt| may_have_sent(attempt)).count();
    let silent = usize::from(wire.is_silent()) + sent.saturating_sub(answered);
    let causes = usize::from(wire.unknown_answers) + usize::from(wire.vague_answers) + silent;
    (doubts > causes).then(|| {
        Flaw::new(
            Check::DoubtWithoutCause,
            format!("{doubts} doubts, and {causes} answers that tell nothing or fail to come"),
        )
    })
}

/// Whether a worker that waited in vain did so for an answer that came in the second half of its wait, or later: on
/// a busy machine that may be too late for it.
fn gave_up_before_the_answer(case: &Case<'_>, attempt: &Attempt) -> bool {
    let until_us = case.faults.earliest_host_us(attempt.completed_us).max(attempt.first_byte_us);
    let half_us = attempt.first_byte_us + (until_us - attempt.first_byte_us) / 2;
    attempt.is_timeout && case.payment.wire.answer_us >= half_us
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::forged::Forged;
    use crate::faults::Window;
    use crate::words::{Contract, HoldReason};

    fn found(forged: &Forged) -> Option<Check> {
        doubts_have_a_cause(&forged.case()).map(|flaw| flaw.check)
    }

    /// Held in doubt although the rail said that it has executed it.
    fn doubted() -> Forged {
        let mut forged = Forged::held(Contract::Hold, HoldReason::Unknown);
        let at_us = forged.payment.attempts[0].first_byte_us + 10;
        forged.executed(at_us);
        forged
    }

    #[test]
    fn a_doubt_after_a_whole_and_telling_answer_is_found() {
        assert_eq!(found(&doubted()), Some(Check::DoubtWithoutCause));
        let mut forged = doubted();
        forged.attempt(State::InDoubt, Some(Outcome::Unknown));
        (forged.payment.wire.requests, forged.payment.wire.unknown_answers) = (2, 1);
        assert_eq!(found(&forged), Some(Check::DoubtWithoutCause), "one cause, two doubts");
    }

    #[test]
    fn an_unknown_answer_silence_and_a_fault_are_causes() {
        let mut forged = doubted();
        forged.payment.wire.unknown_answers = 1;
        assert_eq!(found(&forged), None);
        let mut forged = doubted();
        forged.payment.wire.answered_request = 0;
        assert_eq!(found(&forged), None);
        let mut forged = doubted();
        forged.payment.wire.requests = 0;
        assert_eq!(found(&forged), None);
        for (target, is_cause) in [("sepa", true), ("d1", true), ("d2", false), ("wire", false)] {
            let mut forged = doubted();
            let (from_us, until_us) = (forged.payment.attempts[0].claimed_us, forged.payment.attempts[0].completed_us);
            forged.faults.windows.push(Window { target: target.to_owned(), from_us, until_us });
            assert_eq!(found(&forged).is_none(), is_cause, "{target}");
        }
    }

    #[test]
    fn an_answer_late_in_the_wait_excuses_one_that_waited_and_nobody_else() {
        let mut forged = doubted();
        forged.payment.wire.answer_us = forged.payment.attempts[0].completed_us - 1000;
        assert_eq!(found(&forged), Some(Check::DoubtWithoutCause));
        forged.payment.attempts[0].is_timeout = true;
        assert_eq!(found(&forged), None);
        forged.payment.wire.answer_us = forged.payment.attempts[0].first_byte_us + 1000;
        assert_eq!(found(&forged), Some(Check::DoubtWithoutCause));
    }

    #[test]
    fn a_refusal_is_doubted_only_beside_an_earlier_doubt() {
        let mut forged = doubted();
        forged.payment.attempts[0].outcome = Some(Outcome::Refused);
        assert_eq!(found(&forged), Some(Check::DoubtWithoutCause));
        let mut forged = Forged::due(Contract::Hold);
        forged.attempt(State::LeaseExpired, None);
        forged.attempt(State::InDoubt, Some(Outcome::Refused));
        forged.payment.wire.requests = 2;
        assert_eq!(found(&forged), None);
    }
}
