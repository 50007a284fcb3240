//! With all protections no order of steps breaks a promise; without one, an order that does is found.

use outbox_core::OnUnknown;
use outbox_model::{Rules, Scenario};
use stateright::{Checker, Expectation, Model};

/// One payment and everything that can go wrong with it.
const DEEP: Scenario = Scenario {
    on_unknown: OnUnknown::Hold,
    workers: 2,
    payments: 1,
    attempts_max: 3,
    crashes: Some(1),
    troubles: None,
    failovers: 1,
    commits_lost_max: 2,
    rules: Rules::ALL,
};

const MONEY: &str = "money leaves at most once";
const ONE_END: &str = "a payment ends at most once";
const NOT_FAILED: &str = "what has failed was never executed";
const ON_RECORD: &str = "a success that was told is on record";

/// Explores all of it; returns how many different worlds there are.
fn holds(scenario: Scenario) -> usize {
    let checker = scenario.checker().threads(2).spawn_bfs().join();
    for property in scenario.properties() {
        if property.expectation != Expectation::Sometimes {
            checker.assert_no_discovery(property.name);
        }
    }
    checker.unique_state_count()
}

/// Explores `scenario` under each contract.
fn holds_for_each(scenario: Scenario) -> usize {
    OnUnknown::ALL.into_iter().map(|on_unknown| holds(Scenario { on_unknown, ..scenario })).sum()
}

#[test]
fn no_order_of_steps_breaks_a_promise_of_one_payment_through_crash_and_failover() {
    // What is explored goes somewhere.
    let reached = DEEP.checker().spawn_bfs().join();
    reached.assert_any_discovery("a payment is dispatched");
    reached.assert_any_discovery("a payment is held");
    let worlds = holds_for_each(DEEP);
    assert!(worlds > 1_000_000, "{worlds} worlds");
}

#[test]
fn no_order_of_steps_breaks_a_promise_of_two_payments_that_share_workers_and_a_failover() {
    let shared = Scenario { payments: 2, attempts_max: 1, crashes: Some(0), commits_lost_max: 1, ..DEEP };
    // Of `resend` there are too many for a test; that rail executes a key once whatever else happens.
    let worlds: usize = [OnUnknown::Hold, OnUnknown::Inquire]
        .into_iter()
        .map(|on_unknown| holds(Scenario { on_unknown, ..shared }))
        .sum();
    assert!(worlds > 1_000_000, "{worlds} worlds");
    holds_for_each(Scenario { payments: 2, attempts_max: 1, failovers: 0, ..DEEP });
}

#[test]
fn no_order_of_steps_of_three_workers_breaks_a_promise() {
    let worlds = holds_for_each(Scenario { workers: 3, attempts_max: 2, crashes: Some(0), ..DEEP });
    assert!(worlds > 1_000_000, "{worlds} worlds");
}

/// Finds the shortest order of steps that breaks `promise`, and shows it to who looks (`--nocapture`), once `take_out` has taken a protection out.
#[expect(clippy::print_stderr, reason = "the order of steps is for people")]
fn broken(promise: &'static str, scenario: Scenario, take_out: fn(&mut Rules)) {
    let mut rules = Rules::ALL;
    take_out(&mut rules);
    for depth in 1..70 {
        let checker = Scenario { rules, ..scenario }.checker().target_max_depth(depth).spawn_bfs().join();
        if let Some(path) = checker.discovery(promise) {
            eprintln!("{promise}: {:?}", path.into_actions());
            return;
        }
    }
    panic!("nothing breaks \"{promise}\"");
}

/// One payment, two workers, nothing that is not needed to break the promise.
const SHORT: Scenario = Scenario { attempts_max: 2, crashes: Some(0), failovers: 0, ..DEEP };

#[test]
fn without_the_fence_a_result_counts_under_a_lease_that_was_lost() {
    for on_unknown in [OnUnknown::Inquire, OnUnknown::Resend] {
        broken(ONE_END, Scenario { on_unknown, attempts_max: 3, ..SHORT }, |rules| rules.fence = false);
    }
}

#[test]
fn without_late_evidence_a_success_is_forgotten() {
    for on_unknown in OnUnknown::ALL {
        broken(ON_RECORD, Scenario { on_unknown, ..SHORT }, |rules| rules.late_evidence = false);
    }
}

#[test]
fn without_the_quarantine_not_found_is_believed_too_early() {
    broken(MONEY, Scenario { on_unknown: OnUnknown::Inquire, attempts_max: 3, ..SHORT }, |rules| {
        rules.quarantine = false
    });
}

#[test]
fn without_the_epoch_a_promoted_standby_pays_again() {
    for on_unknown in [OnUnknown::Hold, OnUnknown::Inquire] {
        broken(MONEY, Scenario { on_unknown, failovers: 1, ..SHORT }, |rules| rules.epoch = false);
    }
}

#[test]
fn without_the_contract_an_unknown_outcome_is_sent_again() {
    for on_unknown in [OnUnknown::Hold, OnUnknown::Inquire] {
        broken(MONEY, Scenario { on_unknown, ..SHORT }, |rules| rules.contract = false);
        broken(NOT_FAILED, Scenario { on_unknown, ..SHORT }, |rules| rules.contract = false);
    }
}

#[test]
fn without_the_gate_a_worker_that_was_stopped_sends_after_its_lease() {
    broken(MONEY, Scenario { on_unknown: OnUnknown::Inquire, attempts_max: 3, ..SHORT }, |rules| rules.gate = false);
}

/// One payment, and only so much that goes wrong.
const ENDING: Scenario = Scenario { attempts_max: 15, troubles: Some(3), ..DEEP };

const OVER: &str = "every payment is over or held";

#[test]
fn once_troubles_are_over_every_payment_ends_or_is_held() {
    holds_for_each(Scenario { failovers: 0, ..ENDING });
    holds_for_each(Scenario { troubles: Some(1), ..ENDING });
    holds_for_each(Scenario { payments: 2, troubles: Some(1), failovers: 0, ..ENDING });
    holds_for_each(POISON);
}

/// A payment that kills whoever takes it.
const POISON: Scenario = Scenario { attempts_max: 5, crashes: None, troubles: Some(0), failovers: 0, ..ENDING };

#[test]
fn without_takeover_a_payment_whose_worker_is_gone_never_ends() {
    for on_unknown in OnUnknown::ALL {
        broken(OVER, Scenario { on_unknown, troubles: Some(0), failovers: 0, ..ENDING }, |rules| {
            rules.takeover = false
        });
    }
}

#[test]
fn without_a_limit_of_crashes_a_payment_that_kills_workers_is_taken_for_ever() {
    for on_unknown in [OnUnknown::Inquire, OnUnknown::Resend] {
        broken(OVER, Scenario { on_unknown, ..POISON }, |rules| rules.crash_limit = false);
    }
}
