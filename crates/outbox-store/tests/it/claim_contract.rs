//! The contract at the claim: what is held instead of sent, and who may crash whom.

use outbox_core::{HoldReason, OutboxId, Outcome};
use outbox_store::{ClaimRequest, CompletionVerdict, claim};
use sqlx::Row as _;

use crate::conservation::assert_conserved;
use crate::sql::{refused, run, scalar};
use crate::world::{Worker, World, lease};

/// Claims, expecting the payment to be held with `reason` and nothing to be sent.
async fn holds(worker: &mut Worker, id: OutboxId, reason: HoldReason) {
    let batch = worker.claim(10).await;
    assert!(batch.leased.is_empty(), "sent: {batch:?}");
    assert_eq!(batch.held.iter().map(|held| (held.outbox_id, held.reason)).collect::<Vec<_>>(), [(id, reason)]);
}

#[tokio::test]
async fn lost_lease_on_a_resend_rail_is_recorded_and_sent_again_with_the_next_number() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    worker.claim_one().await;
    world.lose_lease(id).await;
    let takeover = worker.claim(10).await;
    assert!(takeover.leased.is_empty() && takeover.held.is_empty());
    assert_eq!((takeover.summary.expired, takeover.summary.cursor.map(|c| c.outbox_id)), (1, Some(id)));
    assert_eq!(world.attempts(id).await, ["1 LEASE_EXPIRED"]);
    let row = world.pending(id).await.unwrap();
    assert!(row.get::<Option<time::OffsetDateTime>, _>("in_doubt_since").is_some());
    assert!(row.get::<Option<time::OffsetDateTime>, _>("first_sent_at").is_some(), "a lost lease may have been a send");
    assert_eq!((row.get::<i32, _>("crash_count"), row.get::<i32, _>("send_count")), (1, 0));
    let quarantined: bool = scalar(
        &mut world.dba,
        "select quarantine_until = in_doubt_since + interval '90 s' from outbox.payment_outbox_pending",
    )
    .await;
    assert!(quarantined, "lease expiry + rail timeout (30 s) + processing bound (60 s)");
    assert_eq!(worker.claim_one().await.attempt_no.0, 2);
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn lost_leases_on_a_hold_rail_are_reported_held_not_as_an_empty_queue() {
    let mut world = World::new().await;
    world.contract("on_unknown = 'hold'").await;
    world.enqueue("a", 5).await;
    let mut worker = world.worker("w");
    assert_eq!(worker.claim(10).await.leased.len(), 5);
    run(&mut world.dba, "update outbox.payment_outbox_pending set lease_expires_at = clock_timestamp()").await;
    let takeover = worker.claim(10).await;
    assert!(takeover.leased.is_empty());
    assert_eq!((takeover.held.len(), takeover.summary.expired), (5, 5));
    assert!(takeover.held.iter().all(|held| held.reason == HoldReason::Unknown && held.attempt_no.0 == 1));
    assert!(takeover.summary.cursor.is_some(), "the lane would take it for an empty queue");
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn contract_that_changed_to_hold_keeps_a_payment_in_doubt_from_being_sent_again() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let claimed = worker.claim_one().await;
    let verdict = worker.complete_one(lease(&claimed), Outcome::Unknown).await;
    assert!(matches!(verdict, CompletionVerdict::Applied { held: None, .. }));
    world.contract("on_unknown = 'hold'").await;
    holds(&mut worker, id, HoldReason::Unknown).await;
}

#[tokio::test]
async fn payment_in_doubt_is_held_once_the_key_window_is_past_and_others_are_not() {
    let mut world = World::new().await;
    let all = world.enqueue("a", 2).await;
    let mut worker = world.worker("w");
    for claimed in worker.claim(2).await.leased {
        let outcome = if claimed.outbox_id == all[0] { Outcome::Unknown } else { Outcome::NotExecuted };
        worker.complete_one(lease(&claimed), outcome).await;
    }
    run(&mut world.dba, "update outbox.payment_outbox_pending set first_sent_at = first_sent_at - interval '2 days'")
        .await;
    let batch = worker.claim(10).await;
    assert_eq!(
        batch.held.iter().map(|h| (h.outbox_id, h.reason)).collect::<Vec<_>>(),
        [(all[0], HoldReason::KeyWindow)]
    );
    assert_eq!(batch.leased.iter().map(|c| c.outbox_id).collect::<Vec<_>>(), [all[1]]);
}

#[tokio::test]
async fn send_that_could_outlast_the_key_window_does_not_begin() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let claimed = worker.claim_one().await;
    worker.complete_one(lease(&claimed), Outcome::Unknown).await;
    // 50 s of the window are left: enough for an exchange of 30 s, and not if it begins late in a lease of 60 s.
    world.tamper(id, "first_sent_at = clock_timestamp() - interval '1 day' + interval '50 s'").await;
    holds(&mut worker, id, HoldReason::KeyWindow).await;
}

#[tokio::test]
async fn payment_that_missed_its_window_is_held() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    world.tamper(id, "not_after = clock_timestamp() - interval '1 microsecond'").await;
    let mut worker = world.worker("w");
    holds(&mut worker, id, HoldReason::MissedWindow).await;
    assert_eq!(world.attempts(id).await, Vec::<String>::new());
    assert!(worker.claim(10).await.held.is_empty(), "held twice");
}

#[tokio::test]
async fn payment_with_a_late_success_is_never_claimed_for_sending() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let lost = lease(&worker.claim_one().await);
    world.lose_lease(id).await;
    worker.claim(10).await;
    assert_eq!(worker.complete_one(lost, Outcome::Accepted).await, CompletionVerdict::Fenced);
    holds(&mut worker, id, HoldReason::LateSuccess).await;
}

#[tokio::test]
async fn lost_lease_with_a_late_success_is_held_at_the_takeover() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let lost = lease(&worker.claim_one().await);
    world.lose_lease(id).await;
    // It comes back before anybody has taken the lease over.
    assert_eq!(worker.complete_one(lost, Outcome::Accepted).await, CompletionVerdict::Fenced);
    holds(&mut worker, id, HoldReason::LateSuccess).await;
    assert_eq!(world.attempts(id).await, ["1 LEASE_EXPIRED"]);
}

#[tokio::test]
async fn requested_hold_applies_at_the_next_claim() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    world.tamper(id, "hold_requested = true").await;
    holds(&mut world.worker("w"), id, HoldReason::Requested).await;
    assert!(!world.pending(id).await.unwrap().get::<bool, _>("hold_requested"));
}

#[tokio::test]
async fn sends_beyond_the_contract_are_held_never_failed() {
    let mut world = World::new().await;
    world.contract("max_sends = 3").await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    for attempt_no in 1..=3 {
        let claimed = worker.claim_one().await;
        let verdict = worker.complete_one(lease(&claimed), Outcome::Unknown).await;
        let CompletionVerdict::Applied { held, .. } = verdict else { panic!("{verdict:?}") };
        assert_eq!(held, (attempt_no == 3).then_some(HoldReason::Exhausted));
    }
    assert!(worker.claim(10).await.leased.is_empty());
    // A ceiling that is lowered later holds at the claim.
    let other = world.enqueue("b", 1).await[0];
    let claimed = worker.claim_one().await;
    worker.complete_one(lease(&claimed), Outcome::NotExecuted).await;
    world.contract("max_sends = 1").await;
    holds(&mut worker, other, HoldReason::Exhausted).await;
    assert_eq!(world.attempts(id).await.len(), 3);
    let crashed = world.enqueue("c", 1).await[0];
    world.tamper(crashed, "crash_count = 1").await;
    world.contract("max_crashes = 1").await;
    holds(&mut worker, crashed, HoldReason::Exhausted).await;
}

#[tokio::test]
async fn what_the_rail_suffers_never_uses_up_a_payment() {
    let mut world = World::new().await;
    world.contract("max_sends = 1").await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    for outcome in [Outcome::NotSent, Outcome::Throttled, Outcome::RailRefusedUs].into_iter().cycle().take(30) {
        let claimed = worker.claim_one().await;
        let verdict = worker.complete_one(lease(&claimed), outcome).await;
        assert!(matches!(verdict, CompletionVerdict::Applied { held: None, .. }), "{verdict:?}");
    }
    assert_eq!(world.pending(id).await.unwrap().get::<i32, _>("send_count"), 0);
    assert_eq!(world.attempts(id).await.len(), 30);
}

#[tokio::test]
async fn payment_that_crashed_two_workers_goes_alone_into_an_empty_lane() {
    let mut world = World::new().await;
    world.contract("max_crashes = 5").await;
    let all = world.enqueue("a", 4).await;
    for suspect in &all[1..3] {
        world.tamper(*suspect, "crash_count = 2").await;
    }
    let mut worker = world.worker("w");
    let busy = ClaimRequest { in_flight: 1, ..worker.request(10) };
    let batch = claim(&mut worker.session, &busy).await.unwrap();
    assert_eq!(batch.leased.len(), 2, "the others are not held up");
    assert!(batch.leased.iter().all(|claimed| claimed.crash_count == 0));
    assert_eq!(batch.summary.suspects, 2);
    for suspect in &all[1..3] {
        let claimed = worker.claim_one().await;
        assert_eq!((claimed.outbox_id, claimed.crash_count), (*suspect, 2));
    }
}

#[tokio::test]
async fn suspect_is_claimed_alone_even_if_others_are_due_before_it() {
    let mut world = World::new().await;
    world.contract("max_crashes = 5").await;
    let all = world.enqueue("a", 4).await;
    world.tamper(all[3], "crash_count = 2, next_attempt_at = clock_timestamp()").await;
    let mut worker = world.worker("w");
    assert_eq!(worker.claim_one().await.outbox_id, all[3]);
    assert_eq!(worker.claim(10).await.leased.len(), 3);
}

#[tokio::test]
async fn poison_payment_ends_held_and_its_neighbours_are_paid() {
    let mut world = World::new().await;
    let all = world.enqueue("a", 4).await;
    let poison = all[1];
    for life in 1.. {
        assert!(life < 20, "the poison payment is claimed for ever");
        let mut worker = world.worker("w");
        let batch = worker.claim(10).await;
        if batch.leased.iter().any(|claimed| claimed.outbox_id == poison) {
            // The process dies, and all its leases run out.
            run(&mut world.dba, "update outbox.payment_outbox_pending set lease_expires_at = clock_timestamp() where lease_token is not null").await;
            continue;
        }
        for claimed in &batch.leased {
            worker.complete_one(lease(claimed), Outcome::Accepted).await;
        }
        if batch.leased.is_empty() && batch.summary.expired == 0 && batch.held.is_empty() {
            break;
        }
    }
    let held: Vec<String> =
        crate::sql::column(&mut world.dba, "select outbox_id || ' ' || hold_reason from outbox.payment_outbox_pending")
            .await;
    assert_eq!(held, [format!("{poison} EXHAUSTED")]);
    assert_eq!(
        scalar::<i64>(&mut world.dba, "select count(*) from outbox.payment_outbox_attempts where state = 'DISPATCHED'")
            .await,
        3
    );
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn last_crash_that_the_contract_allows_is_held_at_the_takeover() {
    let mut world = World::new().await;
    world.contract("max_crashes = 2").await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    worker.claim_one().await;
    world.lose_lease(id).await;
    assert!(worker.claim(10).await.held.is_empty());
    worker.claim_one().await;
    world.lose_lease(id).await;
    holds(&mut worker, id, HoldReason::Exhausted).await;
    assert_eq!(world.attempts(id).await, ["1 LEASE_EXPIRED", "2 LEASE_EXPIRED"]);
}

#[tokio::test]
async fn contract_may_change_to_resend_without_repeating_the_window_that_it_has() {
    let mut world = World::new().await;
    let set = "select outbox.set_payment_rail('wire', ";
    for (change, new) in [("'hold')", false), ("'resend')", false), ("'resend', p_paused => true)", false)] {
        assert_eq!(scalar::<bool>(&mut world.dba, &format!("{set}{change}")).await, new, "{change}");
    }
    let contract: String = scalar(
        &mut world.dba,
        "select concat_ws(' ', on_unknown, idempotency_window_ms, paused) from outbox.payment_rails",
    )
    .await;
    assert_eq!(contract, "resend 86400000 t");
    // A rail without a window gets none by itself.
    assert_eq!(refused(&mut world.dba, "select outbox.set_payment_rail('new', 'resend')").await.code, "23514");
}

#[tokio::test]
async fn claim_refuses_to_be_called_without_its_guards() {
    let mut world = World::new().await;
    for arguments in ["null, 1, 0", "0, 1, 0", "10001, 1, 0", "1, null, 0", "1, -1, 0", "1, 1, null", "1, 1, -1"] {
        let refusal =
            refused(&mut world.dba, &format!("select * from outbox.claim_outbox_batch('wire', 'w', {arguments})"))
                .await;
        assert_eq!(refusal.code, "OB003", "{arguments}: {refusal:?}");
    }
}
