//! What is held has the reason that it names: what the ledger, late outcomes and people's actions show must lead there.
//! This finds a dispatcher that holds everything. Whether an unknown outcome was one is `doubt`'s question; that a lease
//! was lost is taken as it is.

use super::{Case, Check, Flaw};
use crate::payment::Pending;
use crate::words::{ActionKind, HoldReason, Kind, Outcome, State};

/// Judges why one payment is held.
#[must_use]
pub fn holds_have_a_cause(case: &Case<'_>) -> Option<Flaw> {
    let row = case.payment.pending.as_deref()?;
    let reason = row.hold_reason?;
    let is_explained = match reason {
        HoldReason::Unknown => may_have_been_executed(case),
        HoldReason::Exhausted => is_exhausted(case, row),
        HoldReason::KeyWindow => case.terms.window_ms.is_some() && may_have_been_executed(case),
        HoldReason::MissedWindow => row.not_after_us.is_some_and(|until_us| until_us < case.now_us),
        // Which other generation of its instruction was accepted is not looked up.
        HoldReason::LateSuccess => succeeded_late(case) || row.is_redrive,
        HoldReason::Contradiction => {
            succeeded_late(case)
                || case.payment.attempts.iter().any(|attempt| attempt.outcome == Some(Outcome::KeyReused))
        }
        HoldReason::Requested => {
            is_applied(case, &[ActionKind::Hold, ActionKind::Failover])
                || case.faults.held_by_hand.contains(&case.payment.id)
                || case.may_miss_attempts()
        }
    };
    (!is_explained).then(|| {
        let attempts = case.payment.attempts.len();
        Flaw::new(
            Check::HeldWithoutCause,
            format!("held {} after {attempts} attempts that do not lead there", reason.word()),
        )
    })
}

fn is_applied(case: &Case<'_>, kinds: &[ActionKind]) -> bool {
    case.applied.iter().any(|applied| kinds.contains(&applied.kind))
}

fn succeeded_late(case: &Case<'_>) -> bool {
    case.lates.iter().any(|late| late.outcome == Outcome::Accepted)
}

fn may_have_been_executed(case: &Case<'_>) -> bool {
    case.payment.is_unknown()
        || !case.lates.is_empty()
        || is_applied(case, &[ActionKind::Failover])
        || case.may_miss_attempts()
}

fn is_exhausted(case: &Case<'_>, row: &Pending) -> bool {
    let of = |is_it: &dyn Fn(&crate::payment::Attempt) -> bool| {
        i32::try_from(case.payment.attempts.iter().filter(|attempt| is_it(attempt)).count()).unwrap_or(i32::MAX)
    };
    let reached = |count: i32, max: i32, seen: i32| count >= max && (seen >= count || case.may_miss_attempts());
    let sends = of(&|a| {
        a.kind == Kind::Submit
            && matches!(
                a.outcome,
                Some(
                    Outcome::NotExecuted
                        | Outcome::Interim
                        | Outcome::Unknown
                        | Outcome::NotFound
                        | Outcome::Inconclusive
                )
            )
    });
    reached(row.send_count, case.terms.max_sends, sends)
        || reached(row.crash_count, case.terms.max_crashes, of(&|a| a.state == State::LeaseExpired))
        || reached(row.inquiry_count, case.terms.max_inquiries, of(&|a| a.kind == Kind::Inquire))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::forged::{Forged, pending};
    use crate::payment::{Applied, Late};
    use crate::words::{Contract, Disposition};

    fn held(reason: HoldReason) -> Forged {
        let mut forged = Forged::due(Contract::Resend);
        let mut row = pending(Disposition::Held);
        row.hold_reason = Some(reason);
        forged.payment.pending = Some(Box::new(row));
        forged
    }

    fn is_found(forged: &Forged) -> bool {
        holds_have_a_cause(&forged.case()).is_some()
    }

    #[test]
    fn a_hold_without_its_reason_is_found_whatever_the_reason() {
        for reason in [
            HoldReason::Unknown,
            HoldReason::Exhausted,
            HoldReason::KeyWindow,
            HoldReason::MissedWindow,
            HoldReason::LateSuccess,
            HoldReason::Contradiction,
            HoldReason::Requested,
        ] {
            let mut forged = held(reason);
            assert!(is_found(&forged), "{reason:?}");
            forged.attempt(State::Retryable, Some(Outcome::Throttled));
            assert!(is_found(&forged), "{reason:?} after what the rail suffered");
        }
    }

    #[test]
    fn unknown_and_the_key_window_take_a_doubt() {
        for reason in [HoldReason::Unknown, HoldReason::KeyWindow] {
            let mut forged = held(reason);
            forged.terms.window_ms = Some(1);
            forged.attempt(State::LeaseExpired, None);
            assert!(!is_found(&forged), "{reason:?}");
        }
    }

    #[test]
    fn a_limit_takes_as_many_attempts_as_it_allows() {
        let mut forged = held(HoldReason::Exhausted);
        for _ in 0..3 {
            assert!(is_found(&forged));
            forged.attempt(State::LeaseExpired, None);
        }
        assert!(is_found(&forged), "the row does not count them");
        forged.payment.pending.as_mut().unwrap().crash_count = 3;
        assert!(!is_found(&forged));
        forged.payment.attempts.pop();
        assert!(is_found(&forged), "the row counts what is not there");
    }

    #[test]
    fn the_other_reasons_take_what_they_name() {
        let mut forged = held(HoldReason::MissedWindow);
        forged.payment.pending.as_mut().unwrap().not_after_us = Some(1);
        assert!(!is_found(&forged));
        for reason in [HoldReason::LateSuccess, HoldReason::Contradiction] {
            let mut forged = held(reason);
            forged.lates.push(Late { attempt_no: 1, outcome: Outcome::Unknown, reference: 0, recorded_us: 1 });
            assert!(is_found(&forged), "{reason:?}");
            forged.lates[0].outcome = Outcome::Accepted;
            assert!(!is_found(&forged), "{reason:?}");
        }
        let mut forged = held(HoldReason::Requested);
        forged.applied.push(Applied { kind: ActionKind::RetryNow, token: 1 });
        assert!(is_found(&forged));
        forged.applied.push(Applied { kind: ActionKind::Hold, token: 1 });
        assert!(!is_found(&forged));
    }
}
