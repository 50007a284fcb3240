//! Each end has its cause: dispatched, an effect; failed, a refusal or a person; cancelled, a person, and no request
//! ever. A dispatcher that reports a refusal which the rail gave to another request of the same key is not told apart.

use super::{Case, Check, Flaw};
use crate::payment::Attempt;
use crate::words::{ActionKind, Kind, Outcome, State};

/// Judges the end of one payment, the rails' files having been read after it.
#[must_use]
pub fn ends_have_a_cause(case: &Case<'_>) -> Option<Flaw> {
    let payment = case.payment;
    // Of a rail that is not judged nothing is known.
    case.rail?;
    let end = payment.terminal()?;
    if end.kind == Kind::Operator && !is_a_persons(case, end) {
        return Some(Flaw::new(
            Check::EndedByNobody,
            format!("{} by an action that was not applied", end.state.word()),
        ));
    }
    match end.state {
        State::Dispatched if payment.wire.effects == 0 => {
            Some(Flaw::new(Check::DispatchedWithoutEffect, "dispatched, and not in the rail's ledger"))
        }
        State::Failed if end.kind != Kind::Operator && !is_refused(case, end) => {
            Some(Flaw::new(Check::FailedWithoutRefusal, "failed, and the rail did not refuse it"))
        }
        State::Cancelled if payment.wire.requests > 0 || payment.attempts.iter().any(was_sent) => {
            Some(Flaw::new(Check::CancelledWasSent, format!("cancelled after {} requests", payment.wire.requests)))
        }
        State::Cancelled if end.kind != Kind::Operator => {
            Some(Flaw::new(Check::EndedByNobody, "cancelled by a worker"))
        }
        _ => None,
    }
}

fn is_refused(case: &Case<'_>, end: &Attempt) -> bool {
    case.payment.wire.refusals > 0 && end.outcome == Some(Outcome::Refused)
}

fn is_a_persons(case: &Case<'_>, end: &Attempt) -> bool {
    let kind = match end.state {
        State::Dispatched => ActionKind::ResolveDispatched,
        State::Failed => ActionKind::ResolveFailed,
        _ => ActionKind::Cancel,
    };
    case.applied.iter().any(|applied| applied.kind == kind && applied.token == end.token)
}

fn was_sent(attempt: &Attempt) -> bool {
    attempt.kind == Kind::Submit && !matches!(attempt.outcome, Some(Outcome::NotSent | Outcome::Released))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::forged::Forged;
    use crate::payment::Applied;
    use crate::words::Contract;

    fn found(forged: &Forged) -> Option<Check> {
        ends_have_a_cause(&forged.case()).map(|flaw| flaw.check)
    }

    #[test]
    fn dispatched_takes_an_effect() {
        let mut forged = Forged::dispatched(Contract::Resend);
        assert_eq!(found(&forged), None);
        forged.payment.wire.effects = 0;
        assert_eq!(found(&forged), Some(Check::DispatchedWithoutEffect));
    }

    #[test]
    fn failed_takes_a_refusal_or_a_person() {
        let mut forged = Forged::due(Contract::Resend);
        forged.payment.pending = None;
        forged.attempt(State::Failed, Some(Outcome::Refused));
        forged.payment.wire.requests = 1;
        assert_eq!(found(&forged), Some(Check::FailedWithoutRefusal));
        forged.payment.wire.refusals = 1;
        assert_eq!(found(&forged), None);
        forged.payment.attempts[0].outcome = Some(Outcome::Unknown);
        assert_eq!(found(&forged), Some(Check::FailedWithoutRefusal));
        forged.payment.attempts[0].kind = Kind::Operator;
        assert_eq!(found(&forged), Some(Check::EndedByNobody));
        let token = forged.payment.attempts[0].token;
        forged.applied.push(Applied { kind: ActionKind::ResolveFailed, token });
        assert_eq!(found(&forged), None);
    }

    #[test]
    fn cancelled_was_never_sent() {
        let mut forged = Forged::due(Contract::Resend);
        forged.payment.pending = None;
        forged.attempt(State::Released, Some(Outcome::Released));
        forged.attempt(State::Cancelled, None).kind = Kind::Operator;
        forged.applied.push(Applied { kind: ActionKind::Cancel, token: 102 });
        assert_eq!(found(&forged), None);
        forged.payment.wire.requests = 1;
        assert_eq!(found(&forged), Some(Check::CancelledWasSent));
        forged.payment.wire.requests = 0;
        forged.payment.attempts[0].outcome = Some(Outcome::Throttled);
        assert_eq!(found(&forged), Some(Check::CancelledWasSent));
        forged.payment.attempts.truncate(1);
        (forged.payment.attempts[0].state, forged.payment.attempts[0].outcome) =
            (State::Cancelled, Some(Outcome::NotSent));
        assert_eq!(found(&forged), Some(Check::EndedByNobody));
    }
}
