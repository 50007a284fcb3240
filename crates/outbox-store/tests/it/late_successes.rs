//! What the rail said too late and against our books is counted and named, and is no broken promise of ours.

use std::collections::BTreeMap;

use outbox_core::{OutboxId, Outcome};
use outbox_store::{
    ActionKind, AuditScope, Completion, CompletionVerdict, HeldLease, audit, read_action_members, read_metrics,
    read_status,
};
use serde_json::Value;

use crate::conservation::assert_conserved;
use crate::control::Desk;
use crate::world::{Worker, World, completion, forged_lease, lease};

/// A payment whose first lease is lost and whose second is held.
async fn reclaimed(world: &mut World, worker: &mut Worker, name: &str) -> (OutboxId, HeldLease, HeldLease) {
    let id = world.enqueue(name, 1).await[0];
    let stale = lease(&worker.claim_one().await);
    world.lose_lease(id).await;
    worker.claim(10).await;
    (id, stale, lease(&worker.claim_one().await))
}

async fn accepted(worker: &mut Worker, held: HeldLease, reference: &str) -> CompletionVerdict {
    let done = Completion { rail_reference: Some(reference.to_owned()), ..completion(held, Outcome::Accepted) };
    worker.complete(&[done]).await.remove(0)
}

/// The payments by how the rail's answers came.
async fn answered(world: &mut World) -> BTreeMap<&'static str, OutboxId> {
    let mut worker = world.worker("w");
    let mut all = BTreeMap::new();
    let (id, stale, current) = reclaimed(world, &mut worker, "refused").await;
    worker.complete_one(current, Outcome::Refused).await;
    assert_eq!(accepted(&mut worker, stale, "REF-1").await, CompletionVerdict::Fenced);
    all.insert("refused, then accepted", id);
    for (name, late, later) in [("twice", "REF-2", "REF-1"), ("once", "REF-3", "REF-3")] {
        let (id, stale, current) = reclaimed(world, &mut worker, name).await;
        accepted(&mut worker, current, late).await;
        assert_eq!(accepted(&mut worker, stale, later).await, CompletionVerdict::Fenced);
        all.insert(name, id);
    }
    let (id, stale, current) = reclaimed(world, &mut worker, "early").await;
    assert_eq!(accepted(&mut worker, stale, "REF-5").await, CompletionVerdict::Fenced);
    accepted(&mut worker, current, "REF-6").await;
    all.insert("twice, the earlier first", id);
    // A person's evidence is no second reference.
    let (id, stale, current) = reclaimed(world, &mut worker, "resolved").await;
    accepted(&mut worker, stale, "REF-7").await;
    worker.complete_one(current, Outcome::NotSent).await;
    assert!(Desk::of(world).does(ActionKind::ResolveDispatched, &[id]).await[0].applied);
    all.insert("resolved by evidence", id);
    assert_conserved(&mut world.dba).await;
    all
}

#[tokio::test]
async fn every_audit_names_what_the_rail_accepted_twice_or_against_our_books_and_counts_no_breach() {
    let mut world = World::new().await;
    let all = answered(&mut world).await;
    let mut expected = vec![
        format!("ACCEPTED_TWICE {} the rail accepted it under REF-1 and REF-2", all["twice"]),
        format!("ACCEPTED_TWICE {} the rail accepted it under REF-5 and REF-6", all["twice, the earlier first"]),
        format!("FAILED_BUT_ACCEPTED {} the rail said later that it had accepted it", all["refused, then accepted"]),
    ];
    expected.sort();
    let mut session = world.session("t_auditor");
    for scope in [AuditScope::Full, AuditScope::Changed, AuditScope::Changed] {
        let report: Value = serde_json::from_str(&audit(&mut session, scope, 100).await.unwrap()).unwrap();
        let text = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
        let findings = report["findings"].as_array().unwrap();
        let found: Vec<String> = findings
            .iter()
            .map(|one| format!("{} {} {}", text(one, "kind"), text(one, "outbox_id"), text(one, "detail")))
            .collect();
        assert_eq!((found, &report["breaches"]), (expected.clone(), &0.into()), "{scope:?}");
        assert!(findings.iter().all(|one| one["is_breach"] == false), "{report}");
    }
}

#[tokio::test]
async fn status_and_figures_count_what_the_rail_accepted_twice_or_against_our_books() {
    let mut world = World::new().await;
    answered(&mut world).await;
    let mut monitor = world.session("t_monitor");
    let status = read_status(&mut monitor, None).await.unwrap().remove(0);
    assert_eq!((status.failed_but_accepted, status.accepted_twice, status.late_successes), (1, 2, 0));
    let figures = read_metrics(&mut monitor, &[]).await.unwrap();
    for (name, expected) in [("payments_failed_but_accepted", 1.0), ("payments_accepted_twice", 2.0)] {
        let found: Vec<f64> = figures.iter().filter(|one| one.name == name).map(|one| one.value).collect();
        assert_eq!(found, [expected], "{name}");
    }
}

#[tokio::test]
async fn acceptance_of_what_was_cancelled_as_never_sent_is_a_breach() {
    let world = World::new().await;
    let id = world.enqueue("c", 1).await[0];
    let mut worker = world.worker("w");
    let claimed = lease(&worker.claim_one().await);
    worker.complete_one(claimed, Outcome::NotSent).await;
    assert!(Desk::of(&world).does(ActionKind::Cancel, &[id]).await[0].applied);
    // A worker that said wrongly that it had not sent it.
    let lie = forged_lease(id, 1);
    worker.complete_one(lie, Outcome::Accepted).await;
    let report: Value =
        serde_json::from_str(&audit(&mut world.session("t_auditor"), AuditScope::Changed, 100).await.unwrap()).unwrap();
    assert_eq!(report["breaches"], 1, "{report}");
    assert_eq!(report["findings"][0]["kind"], "CANCELLED_BUT_ACCEPTED", "{report}");
}

#[tokio::test]
async fn payment_that_ended_without_success_and_was_accepted_late_is_among_those_to_recall() {
    let mut world = World::new().await;
    let mut worker = world.worker("w");
    let mut desk = Desk::of(&world);
    let (id, stale, current) = reclaimed(&mut world, &mut worker, "a").await;
    let action = desk.propose(ActionKind::Hold, &[id]).await.action_id;
    worker.complete_one(current, Outcome::Refused).await;
    let member = async |desk: &mut Desk| -> Value {
        serde_json::from_str(&read_action_members(&mut desk.maker, action, None, 10).await.unwrap()[0]).unwrap()
    };
    let before = member(&mut desk).await;
    assert_eq!((&before["ended_as"], &before["sent"]), (&"FAILED".into(), &false.into()), "{before}");
    assert_eq!(accepted(&mut worker, stale, "REF-1").await, CompletionVerdict::Fenced);
    let after = member(&mut desk).await;
    assert_eq!((&after["ended_as"], &after["sent"]), (&"FAILED".into(), &true.into()), "{after}");
    assert_eq!(after["rail_reference"], "REF-1");
}
