//! What the rails executed against what the database knows: one effect a key at most, each of a payment of that
//! rail, with its bytes, and not of one that ended otherwise.

use super::{Case, Check, Flaw};
use crate::words::{Disposition, Kind, State};

/// Judges the effects of one key.
#[must_use]
pub fn effects_are_known(case: &Case<'_>) -> Vec<Flaw> {
    let (payment, wire) = (case.payment, &case.payment.wire);
    let mut flaws = Vec::new();
    if wire.effects == 0 {
        return flaws;
    }
    if wire.effects > 1 {
        flaws.push(Flaw::new(Check::ExecutedTwice, format!("{} effects", wire.effects)));
    }
    if !payment.is_recorded() {
        // Enqueued, sent and lost with the old primary.
        if !case.faults.may_have_lost(wire.effect_us) {
            flaws.push(Flaw::new(Check::EffectUnknown, "executed, and in no table"));
        }
        return flaws;
    }
    match payment.terminal().map(|end| (end.state, end.kind, end.reference)) {
        Some((State::Failed | State::Cancelled, ..)) => {
            flaws.push(Flaw::new(Check::EffectOfEnded, "executed, and ended as if it were not"));
        }
        // A person gives evidence, in whose words is theirs to say.
        Some((State::Dispatched, Kind::Submit | Kind::Inquire, reference)) if reference != wire.reference => {
            flaws.push(Flaw::new(Check::ReferenceDiffers, "dispatched under another reference than the rail's"));
        }
        None if case.is_final => {
            let is_at_ease = payment.pending.as_ref().is_some_and(|row| {
                row.lease.is_none()
                    && !row.is_in_doubt
                    && matches!(row.disposition, Disposition::Ready | Disposition::Parked)
            });
            if is_at_ease {
                flaws.push(Flaw::new(Check::EffectNotDoubted, "executed, and due to be sent as if it were not"));
            }
        }
        _ => {}
    }
    flaws
}

/// Judges the bytes that the rails got under one key, and which rail got them.
#[must_use]
pub fn bytes_are_ours(case: &Case<'_>) -> Vec<Flaw> {
    let (payment, wire) = (case.payment, &case.payment.wire);
    let mut flaws = Vec::new();
    if payment.instruction == 0 || wire.rail_plus_one == 0 {
        return flaws;
    }
    if wire.is_on_two_rails || wire.rail() != payment.rail {
        flaws.push(Flaw::new(Check::EffectOnOtherRail, "its key is known to another rail"));
    }
    if wire.effects > 0 && (wire.bytes_vary || wire.body != payment.payload) {
        flaws.push(Flaw::new(Check::BytesDiffer, "executed with other bytes than those recorded"));
    }
    flaws
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::forged::{Forged, START_US};
    use crate::payment::Payment;
    use crate::words::{Contract, HoldReason, Outcome};

    fn found(forged: &Forged) -> Vec<Check> {
        let case = forged.case();
        effects_are_known(&case).into_iter().chain(bytes_are_ours(&case)).map(|flaw| flaw.check).collect()
    }

    #[test]
    fn a_second_effect_of_a_key_is_found_whatever_the_contract() {
        for contract in [Contract::Resend, Contract::Inquire, Contract::Hold] {
            let mut forged = Forged::dispatched(contract);
            assert_eq!(found(&forged), []);
            forged.payment.wire.effects = 2;
            assert_eq!(found(&forged), [Check::ExecutedTwice]);
        }
    }

    #[test]
    fn an_effect_without_a_payment_is_found_unless_a_failover_took_the_payment() {
        let mut forged = Forged::dispatched(Contract::Hold);
        let wire = forged.payment.wire;
        forged.payment = Payment { wire, ..Payment::new(7) };
        assert_eq!(found(&forged), [Check::EffectUnknown]);
        let at_us = START_US + 1_000_000;
        forged.faults.failovers.push(crate::faults::Failover { at_us, lost_from_us: START_US });
        assert_eq!(found(&forged), []);
    }

    #[test]
    fn an_effect_of_a_payment_that_ended_otherwise_is_found() {
        let mut forged = Forged::dispatched(Contract::Hold);
        forged.payment.attempts[0].state = State::Failed;
        assert_eq!(found(&forged), [Check::EffectOfEnded]);
        forged.payment.attempts[0].state = State::Cancelled;
        assert_eq!(found(&forged), [Check::EffectOfEnded]);
    }

    #[test]
    fn an_effect_that_nobody_doubts_is_found_at_the_end() {
        let mut forged = Forged::due(Contract::Hold);
        forged.attempt(State::Retryable, Some(Outcome::NotSent));
        forged.executed(START_US);
        assert_eq!(found(&forged), []);
        forged.is_final = true;
        assert_eq!(found(&forged), [Check::EffectNotDoubted]);
        let mut forged = Forged::held(Contract::Hold, HoldReason::Unknown);
        forged.executed(START_US);
        forged.is_final = true;
        assert_eq!(found(&forged), []);
    }

    #[test]
    fn another_reference_other_bytes_and_another_rail_are_found() {
        let mut forged = Forged::dispatched(Contract::Hold);
        forged.payment.attempts[0].reference = 6;
        assert_eq!(found(&forged), [Check::ReferenceDiffers]);
        let mut forged = Forged::dispatched(Contract::Hold);
        forged.payment.payload = 0xac;
        assert_eq!(found(&forged), [Check::BytesDiffer]);
        let mut forged = Forged::dispatched(Contract::Hold);
        forged.payment.wire.bytes_vary = true;
        assert_eq!(found(&forged), [Check::BytesDiffer]);
        let mut forged = Forged::dispatched(Contract::Hold);
        forged.payment.wire.rail_plus_one = 2;
        assert_eq!(found(&forged), [Check::EffectOnOtherRail]);
    }
}
