//! Nothing is lost, and nothing is in two places: every identity is pending or has one end, or is in a month that
//! was detached by receipt.

use super::{Case, Check, Flaw};

/// Judges one payment in one snapshot.
#[must_use]
pub fn conserved(case: &Case<'_>) -> Option<Flaw> {
    let payment = case.payment;
    if !payment.is_recorded() {
        return None;
    }
    let (is_pending, ends) = (payment.pending.is_some(), payment.terminals());
    if payment.identity == 0 {
        return Some(Flaw::new(Check::IdentityMissing, "there is more of it, and no identity"));
    }
    if payment.instruction == 0 && !case.is_detached {
        return Some(Flaw::new(Check::InstructionMissing, "an identity without its instruction"));
    }
    match (is_pending, ends) {
        (true, 0) | (false, 1) => None,
        (false, 0) if case.is_detached => None,
        (false, 0) => Some(Flaw::new(
            Check::LostPayment,
            format!("neither pending nor ended, after {} attempts", payment.attempts.len()),
        )),
        (true, _) => Some(Flaw::new(Check::PendingAndTerminal, format!("pending, and ended {ends} times"))),
        (false, _) => Some(Flaw::new(Check::TerminalTwice, format!("ended {ends} times"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::forged::Forged;
    use crate::words::{Contract, Outcome, State};

    fn found(forged: &Forged) -> Option<Check> {
        conserved(&forged.case()).map(|flaw| flaw.check)
    }

    #[test]
    fn a_payment_is_pending_or_has_one_end() {
        let mut forged = Forged::due(Contract::Hold);
        assert_eq!(found(&forged), None);
        forged.payment.pending = None;
        assert_eq!(found(&forged), Some(Check::LostPayment));
        forged.is_detached = true;
        assert_eq!(found(&forged), None);
        let mut forged = Forged::dispatched(Contract::Hold);
        assert_eq!(found(&forged), None);
        forged.attempt(State::Failed, Some(Outcome::Refused));
        assert_eq!(found(&forged), Some(Check::TerminalTwice));
        let mut forged = Forged::due(Contract::Hold);
        forged.attempt(State::Dispatched, Some(Outcome::Accepted));
        assert_eq!(found(&forged), Some(Check::PendingAndTerminal));
    }

    #[test]
    fn identity_and_instruction_go_together() {
        let mut forged = Forged::due(Contract::Hold);
        forged.payment.identity = 0;
        assert_eq!(found(&forged), Some(Check::IdentityMissing));
        let mut forged = Forged::dispatched(Contract::Hold);
        forged.payment.instruction = 0;
        assert_eq!(found(&forged), Some(Check::InstructionMissing));
        forged.is_detached = true;
        assert_eq!(found(&forged), None);
    }
}
