//! What evidence can do: it speaks of what was sent before it was given, and never against what the rail said.

use std::collections::BTreeMap;

use outbox_core::{AttemptKind, OutboxId, Outcome};
use outbox_store::{
    ActionKind, ActionResult, Session, apply_action, decide_action, propose_action, read_action_members,
};
use serde_json::Value;
use sqlx::Row as _;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::conservation::assert_conserved;
use crate::control::Desk;
use crate::sql::run;
use crate::world::{Worker, World, lease};

impl World {
    /// The quarantine of the payment is over.
    async fn after_quarantine(&mut self, id: OutboxId) {
        self.tamper(id, "quarantine_until = now() - interval '1 s'").await;
    }

    /// A payment whose first send has an unknown outcome, and whose quarantine is over.
    async fn sent_into_doubt(&mut self, worker: &mut Worker, name: &str) -> OutboxId {
        let id = self.enqueue(name, 1).await[0];
        let first = lease(&worker.claim_one().await);
        worker.complete_one(first, Outcome::Unknown).await;
        self.after_quarantine(id).await;
        id
    }

    /// As long ago as the rail may still have been executing what was sent.
    pub(crate) async fn long_ago(&mut self, id: OutboxId) {
        self.completed(id, "completed_at - interval '1 hour'").await;
    }

    /// So long ago that the rail has just now certainly ended what was sent.
    async fn just_over(&mut self, id: OutboxId) {
        let doubt = "(select (r.rail_timeout_ms + r.processing_bound_ms) * interval '1 ms' from outbox.payment_rails r where r.rail = 'wire')";
        self.completed(id, &format!("clock_timestamp() - {doubt}")).await;
    }

    async fn completed(&mut self, id: OutboxId, at: &str) {
        let guard =
            |what: &str| format!("alter table outbox.payment_outbox_attempts {what} trigger history_is_never_changed");
        run(&mut self.dba, &guard("disable")).await;
        let text = format!("update outbox.payment_outbox_attempts set completed_at = {at} where outbox_id = '{id}'");
        run(&mut self.dba, &text).await;
        run(&mut self.dba, &guard("enable always")).await;
    }
}

#[tokio::test]
async fn evidence_says_nothing_of_what_was_sent_after_it_was_given() {
    let mut world = World::new().await;
    world.contract("on_unknown = 'hold'").await;
    let (mut worker, mut desk) = (world.worker("w"), Desk::of(&world));
    let id = world.sent_into_doubt(&mut worker, "a").await;
    let resends = [
        desk.propose(ActionKind::ReleaseAsResend, &[id]).await,
        desk.propose(ActionKind::ReleaseAsResend, &[id]).await,
    ];
    let ends = [
        desk.propose(ActionKind::ResolveFailed, &[id]).await,
        desk.propose(ActionKind::ResolveDispatched, &[id]).await,
    ];
    assert!(desk.carry_out(&resends[0]).await.applied);
    let second = lease(&worker.claim_one().await);
    worker.complete_one(second, Outcome::Unknown).await;
    world.after_quarantine(id).await;
    for stale in [&resends[1], &ends[0], &ends[1]] {
        let result = desk.carry_out(stale).await;
        assert!(!result.applied && result.detail.unwrap().contains("tried since this was proposed"));
    }
    assert_eq!(world.attempts(id).await, ["1 IN_DOUBT UNKNOWN", "2 RETRYABLE", "3 IN_DOUBT UNKNOWN"]);
    assert!(desk.does_by(ActionKind::ReleaseAsResend, id, "ANOTHER").await.applied);
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn evidence_of_before_or_during_a_send_decides_nothing_once_the_send_is_over() {
    let mut world = World::new().await;
    world.contract("on_unknown = 'hold'").await;
    let (mut worker, mut desk) = (world.worker("w"), Desk::of(&world));
    let id = world.enqueue("a", 1).await[0];
    let first = lease(&worker.claim_one().await);
    let kinds = [ActionKind::ReleaseAsResend, ActionKind::ResolveFailed];
    // While it is leased: its attempt has its number already.
    let mut leased = Vec::new();
    for kind in kinds {
        leased.push(desk.propose(kind, &[id]).await);
    }
    worker.complete_one(first, Outcome::Unknown).await;
    // While what was sent may still be executed.
    let mut quarantined = Vec::new();
    for kind in kinds {
        quarantined.push(desk.propose(kind, &[id]).await);
    }
    // The quarantine ends after those were proposed, and before they are applied.
    world.tamper(id, "quarantine_until = clock_timestamp()").await;
    for stale in &leased {
        let result = desk.carry_out(stale).await;
        assert!(!result.applied && result.detail.unwrap().contains("tried since this was proposed"));
    }
    for stale in &quarantined {
        let result = desk.carry_out(stale).await;
        assert!(!result.applied && result.detail.unwrap().contains("this was proposed before: look at it then"));
    }
    assert!(desk.does(ActionKind::ResolveFailed, &[id]).await[0].applied);
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn evidence_counts_no_more_when_a_worker_reports_later_that_it_was_sending() {
    let mut world = World::new().await;
    world.contract("on_unknown = 'hold'").await;
    let (mut worker, mut desk) = (world.worker("w"), Desk::of(&world));
    let id = world.enqueue("a", 1).await[0];
    let stopped = lease(&worker.claim_one().await);
    world.lose_lease(id).await;
    worker.claim(1).await;
    world.after_quarantine(id).await;
    let proposed = desk.propose(ActionKind::ResolveFailed, &[id]).await;
    worker.complete_one(stopped, Outcome::Unknown).await;
    world.tamper(id, "quarantine_until = clock_timestamp()").await;
    let result = desk.carry_out(&proposed).await;
    assert!(!result.applied && result.detail.unwrap().contains("this was proposed before: look at it then"));
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn what_was_sent_again_on_evidence_is_marked_and_is_never_cancelled() {
    for contract in ["hold", "resend", "inquire"] {
        let mut world = World::new().await;
        world.contract(&format!("on_unknown = '{contract}'")).await;
        let (mut worker, mut desk) = (world.worker("w"), Desk::of(&world));
        let id = world.sent_into_doubt(&mut worker, "a").await;
        world.tamper(id, "disposition = 'HELD', hold_reason = 'UNKNOWN'").await;
        assert!(desk.does(ActionKind::ReleaseAsResend, &[id]).await[0].applied);
        assert_eq!(desk.refuses(ActionKind::Cancel, id).await, "it may have been sent");
        assert!(worker.claim_one().await.is_resend, "{contract}");
    }
}

#[tokio::test]
async fn redrive_waits_for_what_may_still_be_under_way_and_takes_evidence_that_it_was_not_executed() {
    let mut world = World::new().await;
    let (mut worker, mut desk) = (world.worker("w"), Desk::of(&world));
    let id = world.enqueue("a", 1).await[0];
    let stale = lease(&worker.claim_one().await);
    world.lose_lease(id).await;
    worker.claim(1).await;
    let current = lease(&worker.claim_one().await);
    worker.complete_one(current, Outcome::Refused).await;
    assert!(desk.refuses(ActionKind::Redrive, id).await.contains("may still be under way until"));
    let early = desk.does_by(ActionKind::Redrive, id, "BANK-7").await;
    assert!(!early.applied && early.detail.unwrap().contains("may still be under way until"));
    world.long_ago(id).await;
    assert!(desk.refuses(ActionKind::Redrive, id).await.contains("takes evidence"));
    // Late, the rail says that it has it: that begins anew.
    worker.complete_one(stale, Outcome::Interim).await;
    let late = desk.does_by(ActionKind::Redrive, id, "BANK-7").await;
    assert!(!late.applied && late.detail.unwrap().contains("may still be under way until"));
    let other = world.enqueue("b", 1).await[0];
    let refused = lease(&worker.claim_one().await);
    worker.complete_one(refused, Outcome::Refused).await;
    assert!(desk.does(ActionKind::Redrive, &[other]).await[0].applied, "it was certainly not executed");
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn redrive_of_what_may_have_been_executed_is_done_by_evidence_once_its_time_is_over() {
    let mut world = World::new().await;
    let (mut worker, mut desk) = (world.worker("w"), Desk::of(&world));
    let id = world.sent_into_doubt(&mut worker, "a").await;
    let again = lease(&worker.claim_one().await);
    worker.complete_one(again, Outcome::Refused).await;
    let mut maker = world.session("t_operator");
    let early = propose_action(&mut maker, ActionKind::Redrive, &[id], "r", Some("BANK-6"), "{}").await.unwrap();
    world.just_over(id).await;
    let result = desk.carry_out(&early).await;
    assert!(!result.applied && result.detail.unwrap().contains("this was proposed before: look at it then"));
    assert!(desk.does_by(ActionKind::Redrive, id, "BANK-7").await.applied);
}

#[tokio::test]
async fn redrive_proposed_before_the_payment_ended_does_nothing() {
    let world = World::new().await;
    let (mut worker, mut desk) = (world.worker("w"), Desk::of(&world));
    let id = world.enqueue("a", 1).await[0];
    let early = propose_action(&mut world.session("t_operator"), ActionKind::Redrive, &[id], "r", Some("E"), "{}")
        .await
        .unwrap();
    let claimed = lease(&worker.claim_one().await);
    // The attempt under way has its number already, and is not the end that the evidence speaks of.
    let under_way = desk.propose(ActionKind::Redrive, &[id]).await;
    worker.complete_one(claimed, Outcome::Refused).await;
    for stale in [&early, &under_way] {
        let result = desk.carry_out(stale).await;
        assert!(!result.applied && result.detail.unwrap().contains("had not ended when this was proposed"));
    }
}

#[tokio::test]
async fn blank_is_no_evidence() {
    let world = World::new().await;
    let (mut worker, mut desk) = (world.worker("w"), Desk::of(&world));
    let id = world.enqueue("a", 1).await[0];
    let sent = lease(&worker.claim_one().await);
    worker.complete_one(sent, Outcome::Accepted).await;
    let result = desk.does_by(ActionKind::Redrive, id, " \u{20}").await;
    assert!(!result.applied && result.detail.unwrap().contains("takes evidence that the rail never got it"));
}

#[tokio::test]
async fn of_two_redrives_at_once_one_is_done_and_the_other_names_it() {
    let mut world = World::new().await;
    let mut worker = world.worker("w");
    let ids = world.enqueue("a", 20).await;
    for claimed in worker.claim(20).await.leased {
        worker.complete_one(lease(&claimed), Outcome::Refused).await;
    }
    let mut desk = Desk::of(&world);
    let mut proposals = Vec::new();
    for _ in 0..2 {
        let proposal = desk.propose(ActionKind::Redrive, &ids).await;
        decide_action(&mut world.session("t_approver"), &proposal, true, "ok").await.unwrap();
        proposals.push(proposal.action_id);
    }
    let (mut one, mut two) = (world.session("t_operator"), world.session("t_operator"));
    let (one, two) = tokio::join!(carried_out(&mut one, proposals[0]), carried_out(&mut two, proposals[1]));
    assert_eq!((one.len(), two.len()), (20, 20));
    for (id, one) in &one {
        let two = &two[id];
        assert!(one.applied != two.applied, "{one:?} {two:?}");
        let detail = if one.applied { &two.detail } else { &one.detail };
        assert!(detail.as_ref().unwrap().contains("redriven already, as"), "{detail:?}");
    }
    assert_conserved(&mut world.dba).await;
}

/// Carries an action out, again for what somebody else has locked: what became of each payment.
async fn carried_out(session: &mut Session, action_id: Uuid) -> BTreeMap<OutboxId, ActionResult> {
    let mut all = BTreeMap::new();
    loop {
        let step = apply_action(session, action_id, 7).await.unwrap();
        all.extend(step.results.into_iter().map(|result| (result.outbox_id, result)));
        if step.remaining == 0 {
            return all;
        }
    }
}

#[tokio::test]
async fn recall_of_a_redrive_follows_the_new_payments() {
    let world = World::new().await;
    let (mut worker, mut desk) = (world.worker("w"), Desk::of(&world));
    let id = world.enqueue("a", 1).await[0];
    let claimed = lease(&worker.claim_one().await);
    worker.complete_one(claimed, Outcome::Refused).await;
    let proposal = desk.propose(ActionKind::Redrive, &[id]).await;
    assert!(desk.carry_out(&proposal).await.applied);
    let mut auditor = world.session("t_auditor");
    let members = async |session: &mut Session| -> Value {
        serde_json::from_str(&read_action_members(session, proposal.action_id, None, 10).await.unwrap()[0]).unwrap()
    };
    let before = members(&mut auditor).await;
    assert_eq!(
        (before["disposition_now"].as_str(), before["sent"].as_bool()),
        (Some("READY"), Some(false)),
        "{before}"
    );
    assert_eq!(before["wire_key"], before["new_outbox_id"], "the key at the rail is the new one's");
    let again = worker.claim_one().await;
    worker.complete_one(lease(&again), Outcome::Accepted).await;
    let after = members(&mut auditor).await;
    assert_eq!((after["ended_as"].as_str(), after["sent"].as_bool()), (Some("DISPATCHED"), Some(true)), "{after}");
    assert_eq!(after["rail_reference"], format!("ref-{}", again.outbox_id));
    assert_eq!(after["new_outbox_id"], again.outbox_id.to_string());
}

#[tokio::test]
async fn doubt_that_was_held_on_an_inquire_rail_is_released_to_be_asked_after_again() {
    let mut world = World::new().await;
    world.contract("on_unknown = 'inquire', max_inquiries = 2").await;
    let (mut worker, mut desk) = (world.worker("w"), Desk::of(&world));
    let id = world.sent_into_doubt(&mut worker, "a").await;
    world.tamper(id, "inquiry_count = 2").await;
    assert!(desk.does(ActionKind::Hold, &[id]).await[0].applied);
    assert!(desk.does(ActionKind::Release, &[id]).await[0].applied);
    let row = world.pending(id).await.unwrap();
    assert_eq!((row.get::<String, _>("disposition").as_str(), row.get::<i32, _>("inquiry_count")), ("IN_DOUBT", 0));
    assert!(row.get::<Option<OffsetDateTime>, _>("first_sent_at").is_some(), "its key window goes on");
    let asked = worker.claim_one().await;
    assert_eq!(asked.kind, AttemptKind::Inquire);
    worker.complete_one(lease(&asked), Outcome::Accepted).await;
    // Where nobody knows whom to ask, nobody is asked.
    world.contract("fallback = true").await;
    let id = world.sent_into_doubt(&mut worker, "b").await;
    world.tamper(id, "endpoint = null, disposition = 'HELD', hold_reason = 'UNKNOWN'").await;
    assert!(desk.refuses(ActionKind::Release, id).await.contains("at which endpoint"));
    // Elsewhere what was sent takes evidence.
    world.contract("on_unknown = 'hold'").await;
    assert!(desk.refuses(ActionKind::Release, id).await.contains("RELEASE_AS_RESEND"));
}

#[tokio::test]
async fn lost_lease_does_not_keep_people_from_a_payment_where_nothing_is_claimed() {
    let mut world = World::new().await;
    world.contract("on_unknown = 'hold'").await;
    let (mut worker, mut desk) = (world.worker("w"), Desk::of(&world));
    let ids = world.enqueue("a", 2).await;
    assert_eq!(worker.claim(2).await.leased.len(), 2);
    assert!(desk.refuses(ActionKind::ResolveDispatched, ids[0]).await.contains("under way"));
    world.lose_lease(ids[0]).await;
    world.lose_lease(ids[1]).await;
    assert!(desk.does(ActionKind::ResolveDispatched, &[ids[0]]).await[0].applied);
    assert_eq!(world.attempts(ids[0]).await, ["1 LEASE_EXPIRED", "2 DISPATCHED"]);
    assert_eq!(desk.refuses(ActionKind::Hold, ids[1]).await, "it is held already: UNKNOWN");
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn what_was_never_sent_is_not_resolved_as_dispatched() {
    let world = World::new().await;
    let mut desk = Desk::of(&world);
    let id = world.enqueue("a", 1).await[0];
    assert!(desk.does(ActionKind::Hold, &[id]).await[0].applied);
    assert_eq!(desk.refuses(ActionKind::ResolveDispatched, id).await, "it was never sent");
}
