//! The truth table of an attempt's end, in SQL and in the core, on every combination: through the pure
//! functions, and through real claims and completions with the queue row looked at afterwards.

use std::collections::BTreeMap;

use outbox_core::after_attempt;
use outbox_core::decide::{attempt_state, counts_as_send};
use outbox_core::{Decision, HoldReason, Millis, OnUnknown, OutboxId, Outcome, RailContract, RailName, Situation};
use outbox_store::{ClaimRequest, Completion, CompletionVerdict, HeldLease, Hint, NewPayment, claim, enqueue_batch};
use sqlx::Row as _;
use time::OffsetDateTime;

use crate::conservation::assert_conserved;
use crate::sql::{run, scalar};
use crate::world::{World, completion, lease, payment};

const MAX_SENDS: u32 = 3;
const DELAY: Millis = Millis(90_000);

fn contract(on_unknown: OnUnknown) -> RailContract {
    RailContract {
        rail: RailName::new("wire").unwrap(),
        on_unknown,
        idempotency_window: Some(Millis(86_400_000)),
        rail_timeout: Millis(30_000),
        processing_bound: Millis(60_000),
        max_sends: MAX_SENDS,
        max_crashes: 3,
        backoff_base: Millis(1),
        backoff_cap: Millis(1),
        lease_duration: Millis(60_000),
        paused: false,
    }
}

/// Every combination that the decision depends on.
fn combinations() -> Vec<(OnUnknown, Outcome, Situation)> {
    let mut all = Vec::new();
    for on_unknown in [OnUnknown::Resend, OnUnknown::Hold] {
        for outcome in Outcome::ALL {
            for send_count in 0..=MAX_SENDS + 1 {
                for late_success in [false, true] {
                    for hold_requested in [false, true] {
                        all.push((on_unknown, outcome, Situation { send_count, late_success, hold_requested }));
                    }
                }
            }
        }
    }
    all
}

fn held(decision: Decision) -> Option<HoldReason> {
    match decision {
        Decision::Hold(reason) => Some(reason),
        Decision::Settle | Decision::Refuse | Decision::RetryAfter(_) => None,
    }
}

#[tokio::test]
async fn sql_and_core_decide_alike_on_every_combination() {
    let mut world = World::new().await;
    for (on_unknown, outcome, situation) in combinations() {
        let decision = after_attempt(&contract(on_unknown), &situation, outcome, DELAY);
        let state = attempt_state(outcome, situation.late_success);
        let counted = situation.send_count + u32::from(counts_as_send(outcome));
        let text = format!(
            "select coalesce(outbox.attempt_state_after('{0}', {1}), '') || ' ' || \
             coalesce(outbox.hold_reason_after('{0}', '{2}', {3}, {MAX_SENDS}, {1}, {4}), '')",
            outcome.name(),
            situation.late_success,
            on_unknown.name(),
            counted,
            situation.hold_requested
        );
        let said: String = scalar(&mut world.dba, &text).await;
        let (said_state, said_hold) = said.split_once(' ').unwrap();
        assert_eq!(said_state, state.name(), "{outcome:?} {situation:?}");
        // A payment that leaves the queue is not held, whatever the second function says of it.
        if !state.is_terminal() {
            let expected = held(decision).map_or("", HoldReason::name);
            assert_eq!(said_hold, expected, "{on_unknown:?} {outcome:?} {situation:?}");
        }
        assert_eq!(state.is_terminal(), matches!(decision, Decision::Settle | Decision::Refuse));
    }
}

/// A payment for each combination, leased, on a rail with that contract, in that situation.
async fn leased(world: &mut World, on_unknown: OnUnknown) -> Vec<(HeldLease, Outcome, Situation)> {
    let rail = RailName::new(on_unknown.name()).unwrap();
    let set = format!(
        "select outbox.set_payment_rail('{0}', '{0}', p_idempotency_window_ms => 86400000, p_max_sends => {MAX_SENDS})",
        on_unknown.name()
    );
    run(&mut world.dba, &set).await;
    let cases: Vec<_> = combinations().into_iter().filter(|(contract, ..)| *contract == on_unknown).collect();
    let payments: Vec<NewPayment> = (0..cases.len())
        .map(|n| NewPayment { rail: rail.clone(), ..payment(&format!("{on_unknown:?}-{n}")) })
        .collect();
    let ids = enqueue_batch(&mut world.session("t_ingest"), &payments, Hint::Wake).await.unwrap();
    let mut worker = world.worker("w");
    let request = ClaimRequest { rail, ..worker.request(1_000) };
    let claimed = claim(&mut worker.session, &request).await.unwrap().submits;
    let leases: BTreeMap<OutboxId, HeldLease> = claimed.iter().map(|one| (one.outbox_id, lease(one))).collect();
    let mut all = Vec::new();
    for ((_, outcome, situation), enqueued) in cases.into_iter().zip(ids) {
        let Situation { send_count, late_success, hold_requested } = situation;
        let assignments =
            format!("send_count = {send_count}, late_success = {late_success}, hold_requested = {hold_requested}");
        world.tamper(enqueued.outbox_id, &assignments).await;
        all.push((leases[&enqueued.outbox_id], outcome, situation));
    }
    all
}

/// Compares the queue row after a completion that did not end the payment with what the core decided.
async fn check_row(world: &mut World, id: OutboxId, outcome: Outcome, before: Situation, decision: Decision) {
    let case = format!("{outcome:?} {before:?}");
    let row = world.pending(id).await.unwrap_or_else(|| panic!("{case}: the payment left the queue"));
    let time = |name: &str| row.get::<Option<OffsetDateTime>, _>(name);
    let expected = held(decision);
    assert_eq!(row.get::<Option<String>, _>("hold_reason").as_deref(), expected.map(HoldReason::name), "{case}");
    assert_eq!(row.get::<String, _>("disposition") == "HELD", expected.is_some(), "{case}");
    assert_eq!(row.get::<bool, _>("late_success"), before.late_success, "{case}");
    assert_eq!(row.get::<bool, _>("hold_requested"), before.hold_requested && expected.is_none(), "{case}");
    let counted = i32::try_from(before.send_count).unwrap() + i32::from(counts_as_send(outcome));
    assert_eq!(row.get::<i32, _>("send_count"), counted, "{case}");
    assert_eq!((row.get::<i32, _>("attempt_count"), row.get::<i32, _>("crash_count")), (1, 0), "{case}");
    assert_eq!(time("first_sent_at").is_none(), outcome == Outcome::NotSent, "{case}");
    let in_doubt = attempt_state(outcome, before.late_success) == outbox_core::AttemptState::InDoubt;
    assert_eq!(time("in_doubt_since").is_some(), in_doubt, "{case}");
    let quarantine = time("quarantine_until").zip(time("in_doubt_since")).map(|(until, since)| until - since);
    assert_eq!(quarantine, in_doubt.then_some(time::Duration::seconds(90)), "{case}");
    for name in ["claimed_by", "lease_token", "lease_expires_at"] {
        assert!(sqlx::ValueRef::is_null(&row.try_get_raw(name).unwrap()), "{case}: {name} is left");
    }
}

#[tokio::test]
async fn completions_leave_the_queue_row_as_the_core_decides() {
    let mut world = World::new().await;
    for on_unknown in [OnUnknown::Resend, OnUnknown::Hold] {
        let cases = leased(&mut world, on_unknown).await;
        let completions: Vec<Completion> = cases
            .iter()
            .map(|(lease, outcome, _)| Completion { delay: DELAY, ..completion(*lease, *outcome) })
            .collect();
        let verdicts = world.worker("w").complete(&completions).await;
        for ((lease, outcome, situation), verdict) in cases.into_iter().zip(verdicts) {
            let decision = after_attempt(&contract(on_unknown), &situation, outcome, DELAY);
            let CompletionVerdict::Applied { state, held: why, next_attempt_at } = verdict else {
                panic!("{outcome:?} {situation:?}: {verdict:?}")
            };
            assert_eq!(state, attempt_state(outcome, situation.late_success));
            assert_eq!(why, held(decision), "{outcome:?} {situation:?}");
            assert_eq!(next_attempt_at.is_some(), matches!(decision, Decision::RetryAfter(_)));
            assert_eq!(world.attempts(lease.outbox_id).await, [format!("1 {} {}", state.name(), outcome.name())]);
            if state.is_terminal() {
                assert!(world.pending(lease.outbox_id).await.is_none());
            } else {
                check_row(&mut world, lease.outbox_id, outcome, situation, decision).await;
            }
        }
    }
    let delayed: bool = scalar(
        &mut world.dba,
        "select bool_and(p.next_attempt_at = a.completed_at + interval '90 s') from outbox.payment_outbox_pending p \
         join outbox.payment_outbox_attempts a using (outbox_id) where p.disposition = 'READY'",
    )
    .await;
    assert!(delayed, "the wait counts from the completion's clock");
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn delay_is_clamped_to_a_day_and_never_negative() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let claimed = worker.claim_one().await;
    let forever = Completion { delay: Millis(u64::MAX), ..completion(lease(&claimed), Outcome::NotExecuted) };
    worker.complete(&[forever]).await;
    let wait = "select p.next_attempt_at - a.completed_at = interval '{}' from outbox.payment_outbox_pending p \
                join outbox.payment_outbox_attempts a on a.outbox_id = p.outbox_id and a.attempt_no = p.attempt_count";
    assert!(scalar::<bool>(&mut world.dba, &wait.replace("{}", "86400 s")).await);
    world.tamper(id, "next_attempt_at = clock_timestamp()").await;
    let claimed = worker.claim_one().await;
    let text = crate::interleavings::complete_sql(lease(&claimed), Outcome::NotExecuted, None);
    let negative = text.replace("array[0::bigint]", "array[-5000::bigint]");
    run(&mut world.db.connect_as("t_dispatcher").await.unwrap(), &negative).await;
    assert!(scalar::<bool>(&mut world.dba, &wait.replace("{}", "0 s")).await);
}
