//! Attempts are numbered from 1 without a gap, the pending row counts as many, and nothing follows an end.

use super::{Case, Check, Flaw};

/// Judges the numbers of one payment's attempts.
#[must_use]
pub fn attempts_are_contiguous(case: &Case<'_>) -> Vec<Flaw> {
    let payment = case.payment;
    let mut flaws = Vec::new();
    if case.is_detached {
        return flaws;
    }
    let numbers: Vec<i32> = payment.attempts.iter().map(|attempt| attempt.no).collect();
    let count = i32::try_from(numbers.len()).unwrap_or(i32::MAX);
    if !numbers.iter().copied().eq(1..=count) {
        flaws.push(Flaw::new(Check::AttemptsNotContiguous, format!("attempts {numbers:?}")));
    }
    if let Some(row) = &payment.pending {
        let expected = count + i32::from(row.lease.is_some());
        if row.attempt_count != expected {
            let detail = format!("the queue counts {} attempts, the ledger has {count}", row.attempt_count);
            flaws.push(Flaw::new(Check::AttemptCountDiffers, detail));
        }
    }
    let has_more = payment.attempts.iter().rev().skip(1).any(|attempt| attempt.state.is_terminal());
    if has_more {
        flaws.push(Flaw::new(Check::TerminalNotLast, "an attempt follows its end"));
    }
    flaws
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::forged::Forged;
    use crate::payment::Lease;
    use crate::words::{Contract, Outcome, State};

    fn found(forged: &Forged) -> Vec<Check> {
        attempts_are_contiguous(&forged.case()).into_iter().map(|flaw| flaw.check).collect()
    }

    #[test]
    fn a_gap_a_missing_row_and_a_row_after_the_end_are_found() {
        let mut forged = Forged::due(Contract::Resend);
        forged.attempt(State::Retryable, Some(Outcome::Throttled));
        forged.attempt(State::Retryable, Some(Outcome::Throttled));
        assert_eq!(found(&forged), []);
        forged.payment.attempts[1].no = 3;
        assert_eq!(found(&forged), [Check::AttemptsNotContiguous]);
        forged.payment.attempts.pop();
        assert_eq!(found(&forged), [Check::AttemptCountDiffers]);
        let mut forged = Forged::dispatched(Contract::Resend);
        forged.attempt(State::Released, Some(Outcome::Released));
        assert_eq!(found(&forged), [Check::TerminalNotLast]);
    }

    #[test]
    fn an_open_lease_counts_as_an_attempt() {
        let mut forged = Forged::due(Contract::Resend);
        forged.attempt(State::Retryable, Some(Outcome::Throttled));
        let row = forged.payment.pending.as_mut().unwrap();
        row.lease = Some(Lease { worker: 0, token: 1, claimed_us: 1, expires_us: 2, seen_us: 0 });
        assert_eq!(found(&forged), [Check::AttemptCountDiffers]);
        forged.payment.pending.as_mut().unwrap().attempt_count = 2;
        assert_eq!(found(&forged), []);
    }
}
