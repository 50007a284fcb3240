//! What acknowledging a failover marks, step by step, and what becomes of leases that were in force.

use outbox_core::Outcome;
use outbox_store::{ActionKind, CompletionVerdict, apply_failover};
use sqlx::Row as _;
use time::OffsetDateTime;

use crate::conservation::assert_conserved;
use crate::control::Desk;
use crate::sql::scalar;
use crate::world::{World, lease};

#[tokio::test]
async fn epoch_is_recorded_only_when_every_payment_was_looked_at_whoever_carries_it_out() {
    let mut world = World::new().await;
    world.contract("on_unknown = 'hold'").await;
    world.beat(None).await;
    let ids = world.enqueue("a", 5).await;
    world.tamper(ids[1], "next_attempt_at = now() + interval '1 hour'").await;
    world.other_epoch("+ 1").await;
    let action_id = world.approved_failover(OffsetDateTime::now_utc() - time::Duration::minutes(5)).await;
    let mut people = [world.session("t_operator"), world.session("t_approver")];
    assert_eq!(apply_failover(&mut people[0], action_id, 0).await.unwrap_err().refusal(), Some("OB003"));
    // Nobody says where it goes on: each step does, behind what is on record.
    for (step, doubtful) in [(0, 1), (1, 2), (2, 1)] {
        let done = apply_failover(&mut people[step % 2], action_id, 2).await.unwrap();
        assert_eq!((done.doubtful, done.is_over), (doubtful, step == 2), "step {step}");
        assert_eq!(world.try_claim(None).await.is_err(), step < 2, "step {step}");
    }
    let became = "select string_agg(r.result || ' ' || coalesce(p.hold_reason, '-'), ', ' order by r.outbox_id) \
                  from outbox.operator_action_results r join outbox.payment_outbox_pending p on p.outbox_id = r.outbox_id";
    let became: String = scalar(&mut world.dba, became).await;
    assert_eq!(became, "APPLIED UNKNOWN, SKIPPED -, APPLIED UNKNOWN, APPLIED UNKNOWN, APPLIED UNKNOWN");
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn lease_in_force_at_a_failover_ends_in_doubt_though_its_worker_sent_nothing() {
    for contract in ["hold", "resend", "inquire"] {
        let mut world = World::new().await;
        world.contract(&format!("on_unknown = '{contract}', idempotency_window_ms = 3600000")).await;
        world.contract("rail_timeout_ms = 1, processing_bound_ms = 0").await;
        world.beat(None).await;
        let id = world.enqueue("a", 1).await[0];
        let mut worker = world.worker("w");
        let its = lease(&worker.claim_one().await);
        world.other_epoch("+ 1").await;
        world.acknowledge(OffsetDateTime::now_utc() - time::Duration::minutes(5), 100).await;
        // Its result was on record before, another worker had sent it since, and both are lost. It is repeated.
        assert!(matches!(worker.complete_one(its, Outcome::NotSent).await, CompletionVerdict::Applied { .. }));
        let row = world.pending(id).await.unwrap();
        let stands = row.get::<String, _>("disposition");
        let expected = match contract {
            "hold" => "HELD",
            "resend" => "READY",
            _ => "IN_DOUBT",
        };
        assert_eq!(stands, expected, "{contract}");
        assert!(row.get::<Option<OffsetDateTime>, _>("in_doubt_since").is_some(), "{contract}");
        assert!(row.get::<Option<OffsetDateTime>, _>("first_sent_at").is_some(), "{contract}");
        let lease = "select quarantine_until - (select max(recorded_at) from outbox.outbox_cluster) > interval '50 s' from outbox.payment_outbox_pending";
        assert!(scalar::<bool>(&mut world.dba, lease).await, "{contract}: a lease that is lost to us may be in force");
        let cancelled = Desk::of(&world).does(ActionKind::Cancel, &[id]).await.remove(0);
        assert!(!cancelled.applied && cancelled.detail.unwrap().contains("it may have been sent"), "{contract}");
        assert_conserved(&mut world.dba).await;
    }
}
