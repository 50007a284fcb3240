//! The fence: who no longer holds its lease changes nothing, and what it learned is kept.

use outbox_core::{AttemptNo, AttemptState, HoldReason, LeaseToken, OutboxId, Outcome};
use outbox_store::{ActionKind, Completion, CompletionVerdict, HeldLease};
use sqlx::Row as _;
use uuid::Uuid;

use crate::conservation::assert_conserved;
use crate::control::Desk;
use crate::interleavings::complete_sql;
use crate::sql::{column, fetch, refused, run, scalar};
use crate::world::{Worker, World, completion, forged_lease, lease};

async fn late_outcomes(world: &mut World) -> Vec<String> {
    let text = "select concat_ws(' ', attempt_no, outcome, rail_reference) from outbox.payment_outbox_late_outcomes \
                order by attempt_no, outcome, rail_reference";
    column(&mut world.dba, text).await
}

/// A leased payment: its first lease is lost and settled, the second is held.
async fn reclaimed(world: &mut World, worker: &mut Worker) -> (OutboxId, HeldLease, HeldLease) {
    let id = world.enqueue("a", 1).await[0];
    let stale = lease(&worker.claim_one().await);
    world.lose_lease(id).await;
    worker.claim(10).await;
    (id, stale, lease(&worker.claim_one().await))
}

fn held_as(verdict: CompletionVerdict) -> Option<HoldReason> {
    let CompletionVerdict::Applied { held, .. } = verdict else { panic!("{verdict:?}") };
    held
}

#[tokio::test]
async fn stale_lease_cannot_complete_after_reclaim() {
    let mut world = World::new().await;
    let mut worker = world.worker("w");
    let (id, stale, current) = reclaimed(&mut world, &mut worker).await;
    for outcome in [Outcome::Refused, Outcome::NotExecuted, Outcome::Unknown, Outcome::NotSent] {
        assert_eq!(worker.complete_one(stale, outcome).await, CompletionVerdict::Fenced);
    }
    assert_eq!(world.attempts(id).await, ["1 LEASE_EXPIRED"]);
    assert_eq!(late_outcomes(&mut world).await, ["1 NOT_EXECUTED", "1 NOT_SENT", "1 REFUSED", "1 UNKNOWN"]);
    let row = world.pending(id).await.unwrap();
    assert!(!row.get::<bool, _>("late_success"));
    assert_eq!(row.get::<Uuid, _>("lease_token"), current.lease_token.0);
    assert!(matches!(worker.complete_one(current, Outcome::Accepted).await, CompletionVerdict::Applied { .. }));
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn fence_needs_the_token_and_the_attempt_number_and_the_time() {
    // An acceptance is recorded by a step of its own, with the same fence.
    for outcome in [Outcome::Accepted, Outcome::Refused] {
        let mut world = World::new().await;
        let id = world.enqueue("a", 1).await[0];
        let mut worker = world.worker("w");
        let good = lease(&worker.claim_one().await);
        let other_token = HeldLease { lease_token: LeaseToken(Uuid::new_v4()), ..good };
        let other_number = HeldLease { attempt_no: AttemptNo(2), ..good };
        for bad in [other_token, other_number, forged_lease(id, 1), forged_lease(OutboxId(Uuid::now_v7()), 1)] {
            assert_eq!(worker.complete_one(bad, outcome).await, CompletionVerdict::Fenced);
        }
        world.lose_lease(id).await;
        assert_eq!(worker.complete_one(good, outcome).await, CompletionVerdict::Fenced);
        assert_eq!(world.attempts(id).await, Vec::<String>::new());
        world.tamper(id, "lease_expires_at = clock_timestamp() + interval '1 minute', late_success = false").await;
        assert!(matches!(worker.complete_one(good, outcome).await, CompletionVerdict::Applied { .. }), "{outcome:?}");
        assert_conserved(&mut world.dba).await;
    }
}

#[tokio::test]
async fn completion_inside_an_older_transaction_is_judged_by_the_clock_not_by_its_start() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let claimed = world.worker("w").claim_one().await;
    let mut connection = world.db.connect_as("t_dispatcher").await.unwrap();
    // The lease runs out after the transaction began.
    run(&mut connection, "begin").await;
    fetch(&mut connection, "select now()").await;
    world.lose_lease(id).await;
    let rows = fetch(&mut connection, &complete_sql(lease(&claimed), Outcome::Accepted, Some("R1"))).await;
    assert_eq!(rows[0].get::<String, _>("verdict"), "fenced");
    run(&mut connection, "commit").await;
    assert!(world.pending(id).await.unwrap().get::<bool, _>("late_success"));

    let renewed = world.enqueue("b", 1).await[0];
    let mut holder = world.worker("w");
    let claimed = holder.claim(10).await.leased.remove(0);
    run(&mut connection, "begin").await;
    let text = format!(
        "select * from outbox.renew_outbox_leases('{}', array['{renewed}'::uuid], array[1], array['{}'::uuid])",
        holder.id, claimed.lease_token.0
    );
    // The same call renews the lease as long as it holds.
    assert_eq!(fetch(&mut connection, &text).await[0].get::<String, _>("verdict"), "renewed");
    run(&mut connection, "commit; begin").await;
    fetch(&mut connection, "select now()").await;
    world.lose_lease(renewed).await;
    assert_eq!(fetch(&mut connection, &text).await[0].get::<String, _>("verdict"), "fenced");
    run(&mut connection, "commit").await;
}

#[tokio::test]
async fn late_success_is_kept_and_stops_the_resend() {
    let mut world = World::new().await;
    let mut worker = world.worker("w");
    let (id, stale, current) = reclaimed(&mut world, &mut worker).await;
    assert_eq!(worker.complete_one(stale, Outcome::Accepted).await, CompletionVerdict::Fenced);
    assert_eq!(late_outcomes(&mut world).await, [format!("1 ACCEPTED ref-{id}")]);
    assert_eq!(held_as(worker.complete_one(current, Outcome::NotSent).await), Some(HoldReason::LateSuccess));
    assert!(worker.claim(10).await.leased.is_empty());
}

#[tokio::test]
async fn success_of_the_current_attempt_still_settles_after_a_late_success() {
    let mut world = World::new().await;
    let mut worker = world.worker("w");
    let (id, stale, current) = reclaimed(&mut world, &mut worker).await;
    worker.complete_one(stale, Outcome::Accepted).await;
    assert!(matches!(worker.complete_one(current, Outcome::Accepted).await, CompletionVerdict::Applied { .. }));
    assert_eq!(world.attempts(id).await, ["1 LEASE_EXPIRED", "2 DISPATCHED ACCEPTED"]);
}

#[tokio::test]
async fn refusal_after_a_late_success_is_a_contradiction_not_a_failure() {
    let mut world = World::new().await;
    let mut worker = world.worker("w");
    let (id, stale, current) = reclaimed(&mut world, &mut worker).await;
    worker.complete_one(stale, Outcome::Accepted).await;
    assert_eq!(held_as(worker.complete_one(current, Outcome::Refused).await), Some(HoldReason::Contradiction));
    assert_eq!(world.attempts(id).await, ["1 LEASE_EXPIRED", "2 IN_DOUBT REFUSED"]);
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn refusal_of_a_send_ends_no_earlier_doubt_where_the_contract_promises_nothing_of_the_key() {
    for (on_unknown, held, disposition) in [("hold", Some(HoldReason::Unknown), "HELD"), ("inquire", None, "IN_DOUBT")]
    {
        let mut world = World::new().await;
        let mut worker = world.worker("w");
        let (id, _, current) = reclaimed(&mut world, &mut worker).await;
        world.contract(&format!("on_unknown = '{on_unknown}'")).await;
        assert_eq!(held_as(worker.complete_one(current, Outcome::Refused).await), held, "{on_unknown}");
        assert_eq!(world.attempts(id).await, ["1 LEASE_EXPIRED", "2 IN_DOUBT REFUSED"]);
        assert_eq!(world.pending(id).await.unwrap().get::<String, _>("disposition"), disposition);
        assert_conserved(&mut world.dba).await;
    }
}

#[tokio::test]
async fn refusal_ends_no_doubt_that_a_late_report_brought_back_meanwhile() {
    let mut world = World::new().await;
    let mut worker = world.worker("w");
    world.contract("on_unknown = 'hold'").await;
    let id = world.enqueue("a", 1).await[0];
    let stale = lease(&worker.claim_one().await);
    world.lose_lease(id).await;
    assert_eq!(worker.claim(10).await.held[0].reason, HoldReason::Unknown);
    world.tamper(id, "quarantine_until = now()").await;
    assert!(Desk::of(&world).does(ActionKind::ReleaseAsResend, &[id]).await[0].applied);
    let current = lease(&worker.claim_one().await);
    assert_eq!(worker.complete_one(stale, Outcome::Unknown).await, CompletionVerdict::Fenced);
    assert_eq!(held_as(worker.complete_one(current, Outcome::Refused).await), Some(HoldReason::Unknown));
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn late_success_is_why_a_held_payment_is_held_and_only_dispatched_ends_it() {
    let mut world = World::new().await;
    let mut worker = world.worker("w");
    world.contract("on_unknown = 'hold'").await;
    let id = world.enqueue("a", 1).await[0];
    let stale = lease(&worker.claim_one().await);
    world.lose_lease(id).await;
    assert_eq!(worker.claim(10).await.held[0].reason, HoldReason::Unknown);
    for (outcome, reason) in [(Outcome::Unknown, "UNKNOWN"), (Outcome::Accepted, "LATE_SUCCESS")] {
        assert_eq!(worker.complete_one(stale, outcome).await, CompletionVerdict::Fenced);
        assert_eq!(world.pending(id).await.unwrap().get::<String, _>("hold_reason"), reason, "after {outcome:?}");
    }
    world.tamper(id, "quarantine_until = now()").await;
    let mut desk = Desk::of(&world);
    assert!(desk.refuses(ActionKind::Hold, id).await.contains("LATE_SUCCESS"));
    assert!(desk.refuses(ActionKind::Cancel, id).await.contains("may have been sent"));
    for kind in [ActionKind::Release, ActionKind::ReleaseAsResend, ActionKind::ResolveFailed] {
        assert!(desk.refuses(kind, id).await.contains("had accepted"), "{kind:?}");
    }
    assert!(desk.does(ActionKind::ResolveDispatched, &[id]).await[0].applied);
    assert_eq!(world.attempts(id).await, ["1 LEASE_EXPIRED", "2 DISPATCHED"]);
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn contradiction_stays_the_reason_when_a_late_success_comes() {
    let mut world = World::new().await;
    let mut worker = world.worker("w");
    let (id, stale, current) = reclaimed(&mut world, &mut worker).await;
    assert_eq!(held_as(worker.complete_one(current, Outcome::KeyReused).await), Some(HoldReason::Contradiction));
    worker.complete_one(stale, Outcome::Accepted).await;
    let row = world.pending(id).await.unwrap();
    assert!(row.get::<bool, _>("late_success") && row.get::<String, _>("hold_reason") == "CONTRADICTION");
}

#[tokio::test]
async fn key_that_was_used_with_other_bytes_is_a_contradiction() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let claimed = worker.claim_one().await;
    assert_eq!(
        held_as(worker.complete_one(lease(&claimed), Outcome::KeyReused).await),
        Some(HoldReason::Contradiction)
    );
    assert_eq!(world.attempts(id).await, ["1 IN_DOUBT KEY_REUSED"]);
}

#[tokio::test]
async fn repeated_completion_is_already_applied_and_another_result_is_fenced_and_kept() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let done = lease(&worker.claim_one().await);
    worker.complete_one(done, Outcome::Accepted).await;
    for _ in 0..2 {
        assert_eq!(worker.complete_one(done, Outcome::Accepted).await, CompletionVerdict::AlreadyApplied);
    }
    let other_reference = Completion { rail_reference: Some("R2".to_owned()), ..completion(done, Outcome::Accepted) };
    let other_bytes = Completion { response_sha256: Some([9; 32]), ..completion(done, Outcome::Accepted) };
    for other in [completion(done, Outcome::Refused), other_reference, other_bytes] {
        assert_eq!(worker.complete(&[other]).await, [CompletionVerdict::Fenced]);
    }
    let reference = format!("1 ACCEPTED ref-{id}");
    assert_eq!(late_outcomes(&mut world).await, ["1 ACCEPTED R2", reference.as_str(), "1 REFUSED"]);
    assert_eq!(world.attempts(id).await, ["1 DISPATCHED ACCEPTED"]);

    // Not terminal: the repetition of a retryable attempt must not touch the next lease.
    let id = world.enqueue("b", 1).await[0];
    let first = lease(&worker.claim_one().await);
    worker.complete_one(first, Outcome::NotExecuted).await;
    let second = lease(&worker.claim_one().await);
    assert_eq!(worker.complete_one(first, Outcome::NotExecuted).await, CompletionVerdict::AlreadyApplied);
    assert_eq!(world.pending(id).await.unwrap().get::<Uuid, _>("lease_token"), second.lease_token.0);
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn repeated_late_evidence_is_one_row_and_different_evidence_is_not() {
    let mut world = World::new().await;
    let mut worker = world.worker("w");
    let (_, stale, _) = reclaimed(&mut world, &mut worker).await;
    for _ in 0..3 {
        assert_eq!(worker.complete_one(stale, Outcome::Unknown).await, CompletionVerdict::Fenced);
    }
    assert_eq!(late_outcomes(&mut world).await, ["1 UNKNOWN"]);
    // A reference that looks like an answer's hash is not taken for that hash.
    let hash = Completion { response_sha256: Some([7; 32]), ..completion(stale, Outcome::Unknown) };
    let text = Completion { rail_reference: Some("07".repeat(32)), ..completion(stale, Outcome::Unknown) };
    let escaped =
        Completion { rail_reference: Some(format!("\\x{}", "07".repeat(32))), ..completion(stale, Outcome::Unknown) };
    worker.complete(&[hash]).await;
    worker.complete(&[text]).await;
    worker.complete(&[escaped]).await;
    assert_eq!(late_outcomes(&mut world).await.len(), 4);
}

#[tokio::test]
async fn success_without_a_reference_is_no_success() {
    let mut world = World::new().await;
    let mut worker = world.worker("w");
    for (n, reference) in [None, Some(String::new())].into_iter().enumerate() {
        let id = world.enqueue(&format!("a{n}"), 1).await[0];
        let claimed = worker.claim(10).await.leased.remove(0);
        assert_eq!(claimed.outbox_id, id);
        let bare = Completion { rail_reference: reference, ..completion(lease(&claimed), Outcome::Accepted) };
        let verdict = worker.complete(&[bare]).await.remove(0);
        assert!(matches!(verdict, CompletionVerdict::Applied { state: AttemptState::InDoubt, .. }), "{verdict:?}");
        world.tamper(id, "next_attempt_at = '2999-01-01'").await;
        assert_eq!(world.attempts(id).await, ["1 IN_DOUBT UNKNOWN"]);
    }
}

#[tokio::test]
async fn second_terminal_attempt_is_impossible_even_for_the_owner() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let done = lease(&worker.claim_one().await);
    worker.complete_one(done, Outcome::Accepted).await;
    let second = format!(
        "insert into outbox.payment_outbox_attempts select a.outbox_id, 2, a.rail, a.kind, 'FAILED', 'REFUSED', a.worker_id, \
         a.lease_token, a.claimed_at, null, null, a.completed_at from outbox.payment_outbox_attempts a where outbox_id = '{id}'"
    );
    assert_eq!(refused(&mut world.dba, &second).await.code, "23505");

    // Nor by a queue row that somebody put back: the completion fails as a whole.
    run(&mut world.dba, &format!(
        "insert into outbox.payment_outbox_pending (outbox_id, rail, participant_id, attempt_count, next_attempt_at, created_at) \
         values ('{id}', 'wire', 'acme', 1, now(), now())"
    )).await;
    let again = lease(&worker.claim_one().await);
    assert!(worker.try_complete(&[completion(again, Outcome::Accepted)]).await.is_err());
    let terminal: i64 = scalar(&mut world.dba, "select count(*) from outbox.payment_outbox_attempts").await;
    assert_eq!(terminal, 1);
}

#[tokio::test]
async fn unknown_result_that_comes_after_not_sent_of_the_same_attempt_leaves_a_doubt() {
    let mut world = World::new().await;
    world.contract("on_unknown = 'hold'").await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let claimed = lease(&worker.claim_one().await);
    worker.complete_one(claimed, Outcome::NotSent).await;
    assert_eq!(worker.complete_one(claimed, Outcome::Unknown).await, CompletionVerdict::Fenced);
    let row = world.pending(id).await.unwrap();
    assert!(
        !row.get::<bool, _>("late_success") && row.get::<Option<time::OffsetDateTime>, _>("in_doubt_since").is_some()
    );
    let batch = worker.claim(10).await;
    assert!(batch.leased.is_empty() && batch.held[0].reason == HoldReason::Unknown, "{batch:?}");
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn quarantine_never_ends_earlier_than_it_was_said_to() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    for outcome in [Some(Outcome::Unknown), None] {
        let claimed = lease(&worker.claim_one().await);
        world.tamper(id, "quarantine_until = '2999-01-01'").await;
        if let Some(outcome) = outcome {
            worker.complete_one(claimed, outcome).await;
        } else {
            world.lose_lease(id).await;
            worker.claim(1).await;
        }
        let until: bool = world.pending(id).await.unwrap().get::<time::OffsetDateTime, _>("quarantine_until")
            == time::macros::datetime!(2999-01-01 0:00 UTC);
        assert!(until, "after {outcome:?}");
    }
}
