//! At most one lease at a time, by the database's clock, and none that counts after it was lost.
//!
//! A claim reads the clock before it waits for its rows, a completion after. So a payment whose due time does not move
//! (a lease given back, a lost one that was settled) can be leased again with a time from before that; it is the lease that
//! is shorter then, and for those states a wait of [`CLAIM_WAITS_US`] passes. Where the server's clock was turned back a
//! time comes twice, and what seems to overlap by no more than that passes too. A clock that is put forward ends
//! leases early for everybody alike: it needs no excuse.

use super::{Case, Check, Flaw};
use crate::faults::Faults;
use crate::payment::{Attempt, Lease};
use crate::words::State;

/// How long a claim may wait, behind a migration for instance, between its clock and its rows.
pub const CLAIM_WAITS_US: i64 = 10_000_000;
/// How long a renewal may take from its clock to its commit.
pub const RENEWAL_COMMITS_US: i64 = 5_000_000;
/// By how much the clocks of a dispatcher and of the database may differ while nobody moves them.
pub const CLOCKS_DIFFER_US: i64 = 1_000_000;

/// Judges the leases of one payment by its attempts.
#[must_use]
pub fn leases_are_disjoint(case: &Case<'_>) -> Vec<Flaw> {
    let payment = case.payment;
    let mut flaws = Vec::new();
    let open = payment.pending.as_ref().and_then(|row| row.lease.as_ref()).map(|lease| lease.claimed_us);
    let next = payment.attempts.iter().skip(1).map(|attempt| attempt.claimed_us).chain(open);
    for (attempt, next_us) in payment.attempts.iter().zip(next) {
        let overlap_us = attempt.completed_us - next_us;
        if overlap_us <= 0 {
            continue;
        }
        let waits_us = match attempt.state {
            State::Released | State::LeaseExpired => CLAIM_WAITS_US,
            _ => 0,
        };
        if overlap_us > waits_us + case.faults.turned_back_us(next_us, attempt.completed_us) {
            let detail = format!("the lease after attempt {} began {overlap_us} us before its end", attempt.no);
            flaws.push(Flaw::new(Check::LeasesOverlap, detail));
        }
    }
    for attempt in payment.attempts.iter().filter(|attempt| attempt.state == State::LeaseExpired) {
        let length_us = attempt.completed_us - attempt.claimed_us;
        if length_us < case.terms.lease_ms * 1000 {
            let detail = format!("attempt {} was settled as lost after {length_us} us", attempt.no);
            flaws.push(Flaw::new(Check::LeaseSettledEarly, detail));
        }
    }
    flaws
}

/// Judges whether what counts was sent under the lease that it counts under: its first byte cannot have left before that was granted.
#[must_use]
pub fn sent_within_the_lease(case: &Case<'_>) -> Vec<Flaw> {
    let sent = case.payment.attempts.iter().filter(|attempt| attempt.first_byte_us != 0);
    let flaws = sent.filter_map(|attempt| {
        let early_us = case.faults.earliest_host_us(attempt.claimed_us) - attempt.first_byte_us;
        (early_us > CLOCKS_DIFFER_US).then(|| {
            let detail =
                format!("the first byte of attempt {} left {early_us} us before its lease was granted", attempt.no);
            Flaw::new(Check::SentOutsideLease, detail)
        })
    });
    flaws.collect()
}

/// Judges how a lease that was seen open came to its end in `attempt`.
#[must_use]
pub fn lease_ended_rightly(lease: &Lease, attempt: &Attempt, worker: &str, faults: &Faults) -> Option<Flaw> {
    if lease.token != attempt.token {
        return None;
    }
    if attempt.state == State::LeaseExpired {
        let early_us = lease.expires_us - attempt.completed_us;
        return (early_us > 0).then(|| {
            let detail =
                format!("attempt {} was settled as lost {early_us} us before its renewed lease ended", attempt.no);
            Flaw::new(Check::LeaseSettledEarly, detail)
        });
    }
    if attempt.completed_us <= lease.expires_us {
        return None;
    }
    let was_seen_lost = lease.seen_us >= lease.expires_us + RENEWAL_COMMITS_US;
    // Who was stopped over the end of its lease, and after the lease was looked at, renewed nothing.
    let (seen_us, expires_us) = (faults.host_us(lease.seen_us), faults.host_us(lease.expires_us));
    let was_stopped = faults.windows.iter().any(|window| {
        !window.target.is_empty()
            && worker.starts_with(&window.target)
            && window.from_us + RENEWAL_COMMITS_US <= seen_us
            && expires_us + 1_000_000 <= window.until_us
    });
    (was_seen_lost || was_stopped).then(|| {
        let late_us = attempt.completed_us - lease.expires_us;
        Flaw::new(
            Check::LostLeaseCompleted,
            format!("attempt {} counts, {late_us} us after its lease was lost", attempt.no),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::forged::{Forged, START_US};
    use crate::words::{Contract, Outcome};

    fn found(forged: &Forged) -> Vec<Check> {
        leases_are_disjoint(&forged.case()).into_iter().map(|flaw| flaw.check).collect()
    }

    #[test]
    fn a_lease_that_begins_before_the_one_before_has_ended_is_found() {
        let mut forged = Forged::due(Contract::Resend);
        forged.attempt(State::InDoubt, Some(Outcome::Unknown));
        forged.attempt(State::InDoubt, Some(Outcome::Unknown));
        assert_eq!(found(&forged), []);
        forged.payment.attempts[1].claimed_us = forged.payment.attempts[0].completed_us - 1;
        assert_eq!(found(&forged), [Check::LeasesOverlap]);
        forged.payment.attempts[0].state = State::Released;
        assert_eq!(found(&forged), []);
        forged.payment.attempts[0].completed_us += CLAIM_WAITS_US;
        assert_eq!(found(&forged), [Check::LeasesOverlap]);
    }

    #[test]
    fn a_clock_that_was_turned_back_excuses_as_much_as_it_was_turned() {
        let mut forged = Forged::due(Contract::Resend);
        forged.attempt(State::InDoubt, Some(Outcome::Unknown));
        forged.attempt(State::InDoubt, Some(Outcome::Unknown));
        let end_us = forged.payment.attempts[0].completed_us;
        forged.payment.attempts[1].claimed_us = end_us - 30_000_000;
        assert_eq!(found(&forged), [Check::LeasesOverlap]);
        let step = |offset_us| crate::faults::ClockStep { at_us: end_us + 1_000_000, offset_us };
        forged.faults.clocks.push(step(-40_000_000));
        assert_eq!(found(&forged), []);
        forged.faults.clocks[0] = step(-20_000_000);
        assert_eq!(found(&forged), [Check::LeasesOverlap]);
    }

    #[test]
    fn what_was_sent_before_its_lease_was_granted_is_found() {
        let mut forged = Forged::due(Contract::Resend);
        let attempt = forged.attempt(State::InDoubt, Some(Outcome::Unknown));
        attempt.first_byte_us = attempt.claimed_us - CLOCKS_DIFFER_US;
        assert_eq!(sent_within_the_lease(&forged.case()), []);
        forged.payment.attempts[0].first_byte_us -= 1;
        let found: Vec<Check> = sent_within_the_lease(&forged.case()).into_iter().map(|flaw| flaw.check).collect();
        assert_eq!(found, [Check::SentOutsideLease]);
        // Granted while the database's clock was ahead.
        let claimed_us = forged.payment.attempts[0].claimed_us;
        let step = |at_us, offset_us| crate::faults::ClockStep { at_us, offset_us };
        forged.faults.clocks.extend([step(claimed_us - 9_000_000, 5_000_000), step(claimed_us - 2_000_000, 0)]);
        assert_eq!(sent_within_the_lease(&forged.case()), []);
        // Never sent, or in a history from before that was written down.
        forged.faults.clocks.clear();
        forged.payment.attempts[0].first_byte_us = 0;
        assert_eq!(sent_within_the_lease(&forged.case()), []);
    }

    #[test]
    fn a_lease_that_is_settled_before_its_end_is_found() {
        let mut forged = Forged::due(Contract::Resend);
        forged.attempt(State::LeaseExpired, None);
        assert_eq!(found(&forged), []);
        forged.payment.attempts[0].completed_us = forged.payment.attempts[0].claimed_us + 9_999_999;
        assert_eq!(found(&forged), [Check::LeaseSettledEarly]);
    }

    #[test]
    fn a_renewed_lease_ends_when_it_says() {
        let mut forged = Forged::due(Contract::Resend);
        let attempt = forged.attempt(State::LeaseExpired, None).clone();
        let mut lease = Lease {
            worker: 0,
            token: attempt.token,
            claimed_us: attempt.claimed_us,
            expires_us: attempt.completed_us,
            seen_us: START_US,
        };
        let judge = |lease: &Lease, attempt: &Attempt| {
            lease_ended_rightly(lease, attempt, "d1/x", &Faults::default()).map(|flaw| flaw.check)
        };
        assert_eq!(judge(&lease, &attempt), None);
        lease.expires_us += 1;
        assert_eq!(judge(&lease, &attempt), Some(Check::LeaseSettledEarly));
    }

    #[test]
    fn a_result_that_counts_under_a_lost_lease_is_found() {
        let mut forged = Forged::dispatched(Contract::Resend);
        forged.payment.attempts[0].completed_us += 30_000_000;
        let attempt = forged.payment.attempts[0].clone();
        let expires_us = attempt.claimed_us + 10_000_000;
        let mut lease =
            Lease { worker: 0, token: attempt.token, claimed_us: attempt.claimed_us, expires_us, seen_us: expires_us };
        let mut faults = Faults::default();
        let judge = |lease: &Lease, faults: &Faults| {
            lease_ended_rightly(lease, &attempt, "d1/x", faults).map(|flaw| flaw.check)
        };
        assert_eq!(judge(&lease, &faults), None, "it may have been renewed");
        lease.seen_us = expires_us + RENEWAL_COMMITS_US;
        assert_eq!(judge(&lease, &faults), Some(Check::LostLeaseCompleted));
        lease.seen_us = expires_us - 1_000_000;
        let window =
            |until_us| crate::faults::Window { target: "d1".to_owned(), from_us: attempt.claimed_us, until_us };
        faults.windows.push(window(expires_us + 20_000_000));
        assert_eq!(judge(&lease, &faults), Some(Check::LostLeaseCompleted));
        faults.windows[0] = window(expires_us);
        assert_eq!(judge(&lease, &faults), None);
    }
}
