//! No request without an attempt, and no second send where the contract does not allow one. Requests are counted by
//! the rail: one that it never wrote down is not seen here, nor is one of an attempt that a failover lost.

use super::{Case, Check, Flaw};
use crate::payment::Attempt;
use crate::words::{ActionKind, Contract, Kind, Outcome, State};

/// How far the clocks of a claim and of a completion beside it may be apart.
const BESIDE_US: i64 = 5_000_000;

/// Judges how often the rail was asked to pay.
#[must_use]
pub fn requests_have_attempts(case: &Case<'_>) -> Option<Flaw> {
    let (payment, wire) = (case.payment, &case.payment.wire);
    if !payment.is_recorded() || case.is_detached || case.may_miss_attempts() {
        return None;
    }
    let requests = usize::from(wire.requests) + usize::from(wire.is_silent());
    let sent =
        payment.submits().filter(|attempt| may_have_sent(attempt)).count() + usize::from(payment.is_being_sent());
    (requests > sent)
        .then(|| Flaw::new(Check::SentMoreThanClaimed, format!("{requests} requests for {sent} attempts that sent")))
}

/// Whether bytes may have left.
#[must_use]
pub fn may_have_sent(attempt: &Attempt) -> bool {
    attempt.kind == Kind::Submit && !matches!(attempt.outcome, Some(Outcome::NotSent | Outcome::Released))
}

/// Judges what was sent after an attempt that left open what the rail did, or after a success that came late.
#[must_use]
pub fn nothing_is_sent_again_blindly(case: &Case<'_>) -> Option<Flaw> {
    let payment = case.payment;
    let contract = case.rail?.contract;
    let mut doubt = None;
    let mut first_us = None;
    for attempt in &payment.attempts {
        match attempt.kind {
            Kind::Submit => {
                let flaw = judge_send(case, contract, attempt.no, attempt.claimed_us, doubt, first_us);
                if flaw.is_some() {
                    return flaw;
                }
                if attempt.state.is_unknown() {
                    doubt = Some(attempt.no);
                }
                if may_have_sent(attempt) {
                    first_us = first_us.or(Some(attempt.claimed_us));
                }
            }
            Kind::Inquire if attempt.state == State::Retryable && attempt.outcome == Some(Outcome::NotFound) => {
                doubt = None
            }
            Kind::Operator if is_release(case, attempt) => (doubt, first_us) = (None, None),
            Kind::Inquire | Kind::Operator => {}
        }
    }
    let lease = payment.pending.as_ref().and_then(|row| row.lease).filter(|_| payment.is_being_sent())?;
    let no = payment.pending.as_ref().map_or(0, |row| row.attempt_count);
    judge_send(case, contract, no, lease.claimed_us, doubt, first_us)
}

fn is_release(case: &Case<'_>, attempt: &Attempt) -> bool {
    let is_it = |kind, token| kind == ActionKind::ReleaseAsResend && token == attempt.token;
    attempt.state == State::Retryable && case.applied.iter().any(|applied| is_it(applied.kind, applied.token))
}

fn judge_send(
    case: &Case<'_>,
    contract: Contract,
    no: i32,
    claimed_us: i64,
    doubt: Option<i32>,
    first_us: Option<i64>,
) -> Option<Flaw> {
    let again = |why: String| Some(Flaw::new(Check::ResentAfterDoubt, format!("attempt {no} sends {why}")));
    let is_success = |late: &&crate::payment::Late| {
        late.outcome == Outcome::Accepted
            && late.recorded_us + BESIDE_US < claimed_us
            // Recorded after the claim, when the clock had been turned back.
            && case.faults.turned_back_us(late.recorded_us, claimed_us) == 0
    };
    if let Some(late) = case.lates.iter().find(is_success) {
        return again(format!("after attempt {} succeeded late", late.attempt_no));
    }
    let doubt = doubt?;
    match contract {
        Contract::Hold | Contract::Inquire => again(format!("after attempt {doubt} left a doubt")),
        Contract::Resend => {
            let window_us = case.terms.window_ms? * 1000;
            let age_us = claimed_us - first_us?;
            (age_us > window_us).then(|| again(format!("after the key window, {age_us} us after the first"))).flatten()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::forged::Forged;
    use crate::faults::{ClockStep, Failover};
    use crate::payment::{Applied, Late};

    #[test]
    fn a_request_without_an_attempt_is_found_even_where_the_rail_knows_the_key() {
        let found = |forged: &Forged| requests_have_attempts(&forged.case()).map(|flaw| flaw.check);
        let mut forged = Forged::dispatched(Contract::Resend);
        assert_eq!(found(&forged), None);
        forged.payment.wire.requests = 2;
        assert_eq!(found(&forged), Some(Check::SentMoreThanClaimed));
        let at_us = forged.payment.created_us + 50_000_000;
        forged.faults.failovers.push(Failover { at_us, lost_from_us: forged.payment.created_us });
        assert_eq!(found(&forged), None);
        // Turned back later, the clock shows the time of the enqueue once more: that is not when it was.
        let turned_at_us = at_us + 20_000_000;
        forged
            .faults
            .clocks
            .push(ClockStep { at_us: turned_at_us, offset_us: forged.payment.created_us - turned_at_us });
        assert_eq!(found(&forged), None);
        let mut forged = Forged::dispatched(Contract::Resend);
        forged.attempt(State::Released, Some(Outcome::Released));
        forged.payment.wire.requests = 2;
        assert_eq!(found(&forged), Some(Check::SentMoreThanClaimed), "what was given back was not sent");
        let mut forged = Forged::dispatched(Contract::Resend);
        forged.payment.wire.answered_request = 0;
        assert_eq!(found(&forged), Some(Check::SentMoreThanClaimed), "a silent effect is a request");
    }

    #[test]
    fn a_second_send_after_a_doubt_is_found_where_the_contract_forbids_it() {
        let found = |forged: &Forged| nothing_is_sent_again_blindly(&forged.case()).map(|flaw| flaw.check);
        for state in [State::InDoubt, State::LeaseExpired] {
            for contract in [Contract::Hold, Contract::Inquire] {
                let mut forged = Forged::due(contract);
                forged.attempt(state, Some(Outcome::Unknown));
                assert_eq!(found(&forged), None);
                forged.attempt(State::Retryable, Some(Outcome::Throttled));
                assert_eq!(found(&forged), Some(Check::ResentAfterDoubt));
            }
            let mut forged = Forged::due(Contract::Resend);
            forged.attempt(state, Some(Outcome::Unknown));
            forged.attempt(State::Retryable, Some(Outcome::Throttled));
            assert_eq!(found(&forged), None);
            forged.terms.window_ms = Some(19_000);
            assert_eq!(found(&forged), Some(Check::ResentAfterDoubt), "the window is over");
        }
    }

    #[test]
    fn a_lease_after_a_doubt_is_found_before_it_ends() {
        let mut forged = Forged::due(Contract::Hold);
        forged.attempt(State::InDoubt, Some(Outcome::Unknown));
        let lease = crate::payment::Lease { worker: 0, token: 1, claimed_us: 1, expires_us: 2, seen_us: 0 };
        forged.payment.pending.as_mut().unwrap().lease = Some(lease);
        assert!(nothing_is_sent_again_blindly(&forged.case()).is_some());
        forged.payment.pending.as_mut().unwrap().disposition = crate::words::Disposition::InDoubt;
        assert!(nothing_is_sent_again_blindly(&forged.case()).is_none(), "it is asked after");
    }

    #[test]
    fn not_found_and_an_approved_release_end_a_doubt() {
        let found = |forged: &Forged| nothing_is_sent_again_blindly(&forged.case()).map(|flaw| flaw.check);
        let mut forged = Forged::due(Contract::Inquire);
        forged.attempt(State::InDoubt, Some(Outcome::Unknown));
        forged.attempt(State::Retryable, Some(Outcome::NotFound)).kind = Kind::Inquire;
        forged.attempt(State::Retryable, Some(Outcome::Throttled));
        assert_eq!(found(&forged), None);
        let mut forged = Forged::due(Contract::Hold);
        forged.attempt(State::InDoubt, Some(Outcome::Unknown));
        forged.attempt(State::Retryable, None).kind = Kind::Operator;
        forged.attempt(State::Retryable, Some(Outcome::Throttled));
        assert_eq!(found(&forged), Some(Check::ResentAfterDoubt), "nobody approved it");
        forged.applied.push(Applied { kind: ActionKind::ReleaseAsResend, token: 102 });
        assert_eq!(found(&forged), None);
    }

    #[test]
    fn nothing_is_sent_after_a_late_success() {
        let mut forged = Forged::due(Contract::Resend);
        forged.attempt(State::LeaseExpired, None);
        forged.attempt(State::Retryable, Some(Outcome::Throttled));
        let recorded_us = forged.payment.attempts[1].claimed_us - 6_000_000;
        forged.lates.push(Late { attempt_no: 1, outcome: Outcome::Accepted, reference: 5, recorded_us });
        assert!(nothing_is_sent_again_blindly(&forged.case()).is_some());
        forged.lates[0].recorded_us += 10_000_000;
        assert!(nothing_is_sent_again_blindly(&forged.case()).is_none());
        forged.lates[0].recorded_us -= 10_000_000;
        let at_us = forged.payment.attempts[1].claimed_us + 1_000_000;
        forged.faults.clocks.push(crate::faults::ClockStep { at_us, offset_us: -30_000_000 });
        assert!(nothing_is_sent_again_blindly(&forged.case()).is_none(), "the clock was turned back in between");
    }
}
