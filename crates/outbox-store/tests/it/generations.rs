//! An instruction that is paid anew has several payments. What the rail says of one of them is known when another is
//! sent, paid anew or compared.

use outbox_core::{OutboxId, Outcome};
use outbox_store::{ActionKind, read_timelines};
use serde_json::Value;
use sqlx::Row as _;
use time::OffsetDateTime;

use crate::conservation::assert_conserved;
use crate::control::Desk;
use crate::reconcile::{Paper, open};
use crate::sql::run;
use crate::world::{World, lease};

impl World {
    /// A payment that a worker was sending when its lease was lost, and that was refused when it was sent again; with what the first worker holds.
    async fn refused_after_a_lost_lease(&mut self) -> (OutboxId, outbox_store::HeldLease) {
        self.contract("rail_timeout_ms = 1, processing_bound_ms = 0, lease_duration_ms = 60000").await;
        let id = self.enqueue("a", 1).await[0];
        let mut worker = self.worker("w");
        let stale = lease(&worker.claim_one().await);
        self.lose_lease(id).await;
        worker.claim(1).await;
        let current = lease(&worker.claim_one().await);
        worker.complete_one(current, Outcome::Refused).await;
        (id, stale)
    }

    async fn redriven(&self, id: OutboxId) -> OutboxId {
        Desk::of(self).does_by(ActionKind::Redrive, id, "BANK-7").await.new_outbox_id.unwrap()
    }
}

#[tokio::test]
async fn second_redrive_takes_evidence_if_any_generation_was_dispatched() {
    let mut world = World::new().await;
    let first = world.dispatched(1).await[0];
    let mut desk = Desk::of(&world);
    let second = world.redriven(first).await;
    // The rail knows the money already: it refuses the second as a duplicate of the first.
    let mut worker = world.worker("w");
    let its = lease(&worker.claim_one().await);
    worker.complete_one(its, Outcome::Refused).await;
    assert!(desk.refuses(ActionKind::Redrive, second).await.contains("takes evidence that the rail never got it"));
    // Nor is it known how one ended whose month was detached.
    let gone = ["payment_outbox_attempts", "payment_outbox_instructions"].map(|table| {
        format!(
            "alter table outbox.{table} disable trigger history_is_never_changed; delete from outbox.{table} where outbox_id = '{first}'; \
             alter table outbox.{table} enable always trigger history_is_never_changed;"
        )
    });
    let mut dba = world.db.connect_as("postgres").await.unwrap();
    run(&mut dba, &gone.concat()).await;
    assert!(desk.refuses(ActionKind::Redrive, second).await.contains("takes evidence that the rail never got it"));
    assert!(desk.does_by(ActionKind::Redrive, second, "BANK-8").await.applied);
}

#[tokio::test]
async fn late_success_of_one_generation_keeps_the_next_from_being_sent() {
    for contract in ["resend", "hold", "inquire"] {
        let mut world = World::new().await;
        world.contract(&format!("on_unknown = '{contract}', idempotency_window_ms = 3600000")).await;
        world.contract("rail_timeout_ms = 1, processing_bound_ms = 0").await;
        let first = world.enqueue("a", 1).await[0];
        let mut worker = world.worker("w");
        let stale = lease(&worker.claim_one().await);
        world.lose_lease(first).await;
        worker.claim(1).await;
        if contract == "resend" {
            let again = lease(&worker.claim_one().await);
            worker.complete_one(again, Outcome::Refused).await;
        } else {
            world.tamper(first, "quarantine_until = now() - interval '1 s'").await;
            let failed = Desk::of(&world).does_by(ActionKind::ResolveFailed, first, "BANK-6").await;
            assert!(failed.applied, "{contract}: {failed:?}");
        }
        let mut desk = Desk::of(&world);
        let next = world.redriven(first).await;
        // The worker that was stopped before it sent goes on.
        worker.complete_one(stale, Outcome::Accepted).await;
        assert!(worker.claim(5).await.leased.is_empty(), "{contract}: a second payment of the same instruction");
        let row = world.pending(next).await.unwrap();
        assert_eq!(row.get::<String, _>("hold_reason"), "LATE_SUCCESS", "{contract}");
        for kind in [ActionKind::Release, ActionKind::ReleaseAsResend] {
            let refused = desk.does_by(kind, next, "BANK-8").await;
            assert!(
                !refused.applied && refused.detail.unwrap().contains("accepted another payment"),
                "{contract} {kind:?}"
            );
        }
        assert!(desk.does(ActionKind::Cancel, &[next]).await[0].applied, "{contract}");
        assert_conserved(&mut world.dba).await;
    }
}

#[tokio::test]
async fn late_success_of_one_generation_keeps_a_later_one_from_being_made() {
    let mut world = World::new().await;
    let (first, stale) = world.refused_after_a_lost_lease().await;
    let second = world.redriven(first).await;
    let mut worker = world.worker("w");
    let its = lease(&worker.claim_one().await);
    worker.complete_one(its, Outcome::Refused).await;
    worker.complete_one(stale, Outcome::Accepted).await;
    let refused = Desk::of(&world).does_by(ActionKind::Redrive, second, "BANK-8").await;
    assert!(!refused.applied && refused.detail.unwrap().contains("accepted another payment of its instruction"));
}

#[tokio::test]
async fn what_a_statement_says_of_one_generation_keeps_the_next_from_being_sent() {
    let mut world = World::new().await;
    let first = world.dispatched(1).await[0];
    let next = world.redriven(first).await;
    let mut session = world.session("t_operator");
    Paper::new(1).line(Some(first), Some("R-1"), 1_250).compared(&mut session).await.unwrap();
    assert!(world.worker("w").claim(5).await.leased.is_empty());
    assert_eq!(world.pending(next).await.unwrap().get::<String, _>("hold_reason"), "LATE_SUCCESS");
}

#[tokio::test]
async fn instruction_that_the_rail_booked_under_two_generations_is_twice_at_the_rail() {
    for together in [true, false] {
        let mut world = World::new().await;
        let (first, other) = {
            let ids = world.dispatched(2).await;
            (ids[0], ids[1])
        };
        let second = world.redriven(first).await;
        let mut worker = world.worker("w");
        let its = lease(&worker.claim_one().await);
        worker.complete_one(its, Outcome::Accepted).await;
        let mut session = world.session("t_operator");
        let paper = Paper::new(1).line(Some(second), None, 1_250).line(Some(other), None, 1_250);
        if together {
            paper.line(Some(first), None, 1_250).compared(&mut session).await.unwrap();
        } else {
            paper.compared(&mut session).await.unwrap();
            assert_eq!(open(&mut session).await.0, [format!("MISSING_AT_RAIL {first} DISPATCHED")]);
            Paper::new(2).line(Some(first), None, 1_250).compared(&mut session).await.unwrap();
        }
        // The one that was booked later, or within one statement the later generation.
        let which = if together { second } else { first };
        assert_eq!(open(&mut session).await.0, [format!("TWICE_AT_RAIL {which} DISPATCHED")], "together: {together}");
    }
}

#[tokio::test]
async fn what_was_enqueued_before_a_failover_takes_evidence_in_every_generation() {
    let mut world = World::new().await;
    world
        .contract(
            "on_unknown = 'resend', idempotency_window_ms = 3600000, processing_bound_ms = 0, rail_timeout_ms = 1",
        )
        .await;
    world.beat(None).await;
    let first = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let its = lease(&worker.claim_one().await);
    worker.complete_one(its, Outcome::Refused).await;
    world.other_epoch("+ 1").await;
    world.acknowledge(OffsetDateTime::now_utc(), 10).await;
    world.leases_of_before_are_over().await;
    let second = world.redriven(first).await;
    world.contract("lease_duration_ms = 60000").await;
    let its = lease(&worker.claim_one().await);
    worker.complete_one(its, Outcome::Refused).await;
    world.contract("lease_duration_ms = 2").await;
    // Made after it, of what was enqueued before it.
    assert!(Desk::of(&world).refuses(ActionKind::Redrive, second).await.contains("takes evidence"));
}

#[tokio::test]
async fn timeline_of_a_generation_has_the_redrive_that_made_it_and_that_of_the_next() {
    let mut world = World::new().await;
    let first = world.dispatched(1).await[0];
    let second = world.redriven(first).await;
    let mut worker = world.worker("w");
    let its = lease(&worker.claim_one().await);
    worker.complete_one(its, Outcome::Refused).await;
    let third = world.redriven(second).await;
    let mut auditor = world.session("t_auditor");
    for (id, made) in [(first, vec![second]), (second, vec![second, third]), (third, vec![third])] {
        let found = read_timelines(&mut auditor, &id.to_string(), None).await.unwrap();
        let timeline: Value = serde_json::from_str(&found[0]).unwrap();
        assert_eq!(timeline["outbox_id"], id.to_string());
        let redrives: Vec<&str> =
            timeline["actions"].as_array().unwrap().iter().map(|one| one["new_outbox_id"].as_str().unwrap()).collect();
        assert_eq!(redrives, made.iter().map(OutboxId::to_string).collect::<Vec<_>>(), "{timeline}");
    }
}
