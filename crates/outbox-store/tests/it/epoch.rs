//! The epoch: a promoted standby, a restore or a clone may lack attempts that were made, and is not claimed from
//! before people have said what it lacks.

use outbox_core::{Millis, Outcome, WorkerId};
use outbox_store::{
    ActionKind, ClaimRequest, DispatcherState, EpochFault, Heartbeat, HeartbeatReply, LogMark, Memory, Proposal,
    StoreError, apply_action, apply_failover, check_epoch, claim, decide_action, dispatcher_heartbeat, propose_action,
    propose_failover, resolve_breaks,
};
use sqlx::Row as _;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::conservation::assert_conserved;
use crate::control::Desk;
use crate::reconcile::{Paper, open};
use crate::sql::{refused, run, scalar};
use crate::world::{World, lease, payment};

impl World {
    /// As if this were another cluster, or another timeline of it.
    pub(crate) async fn other_epoch(&mut self, change: &str) {
        let text = format!(
            "insert into outbox.outbox_cluster (system_identifier, timeline, environment, recorded_by, recorded_at) \
             select c.system_identifier {change}, c.timeline, c.environment, 'test', now() from outbox.outbox_cluster c order by epoch_no desc limit 1"
        );
        run(&mut self.dba, &text).await;
    }

    /// What the cluster before had leased until the last moment, for as short as can be, is over.
    pub(crate) async fn leases_of_before_are_over(&mut self) {
        self.contract("lease_duration_ms = 2").await;
        let over = "select clock_timestamp() > max(recorded_at) + interval '10 ms' from outbox.outbox_cluster";
        while !scalar::<bool>(&mut self.dba, over).await {}
    }

    /// The first heartbeat of a dispatcher.
    pub(crate) async fn beat(&self, environment: Option<&str>) {
        self.beat_with(environment, DispatcherState::Running, Memory::default()).await;
    }

    /// A heartbeat of a dispatcher that remembers what it has `seen`.
    async fn beat_with(&self, environment: Option<&str>, state: DispatcherState, seen: Memory) -> HeartbeatReply {
        let beat = Heartbeat {
            worker_id: WorkerId::new("d", Uuid::new_v4()).unwrap(),
            version: "0".to_owned(),
            state,
            lanes: Vec::new(),
            in_flight: 0,
            interval: Millis(1_000),
            environment: environment.map(str::to_owned),
            seen,
        };
        dispatcher_heartbeat(&mut self.session("t_dispatcher"), &beat).await.unwrap()
    }

    /// What a dispatcher remembers after `count` heartbeats, of which the last says that it stops.
    async fn remembers(&self, count: usize) -> Memory {
        let mut seen = Memory { id: Some(Uuid::new_v4()), mark: LogMark::default() };
        for nth in 1..=count {
            let state = if nth < count { DispatcherState::Running } else { DispatcherState::Stopped };
            let reply = self.beat_with(None, state, seen).await;
            assert_eq!((reply.fault, reply.mark.beat), (None, i64::try_from(nth).unwrap()));
            seen.mark = seen.mark.merge(reply.mark);
        }
        seen
    }

    /// As if the database were put back to where it had so many heartbeats of the memory; its log has grown since.
    async fn put_back(&mut self, seen: Memory, beat: i64) {
        let text = format!(
            "update outbox.outbox_dispatcher_memories set beat = {beat} where memory_id = '{0}' and {beat} > 0; \
             delete from outbox.outbox_dispatcher_memories where memory_id = '{0}' and {beat} = 0",
            seen.id.unwrap()
        );
        run(&mut self.dba, &text).await;
    }

    async fn claims_with(&mut self, seen: Memory) -> Result<usize, StoreError> {
        let mut worker = self.worker("w");
        let request = ClaimRequest { seen, ..worker.request(1) };
        claim(&mut worker.session, &request).await.map(|batch| batch.leased.len())
    }

    pub(crate) async fn try_claim(&mut self, environment: Option<&str>) -> Result<usize, StoreError> {
        let mut worker = self.worker("w");
        let request = ClaimRequest { environment: environment.map(str::to_owned), ..worker.request(10) };
        claim(&mut worker.session, &request).await.map(|batch| batch.leased.len())
    }

    /// Two people acknowledge that commits after `lost_from` may be missing.
    pub(crate) async fn acknowledge(&mut self, lost_from: OffsetDateTime, limit: u32) {
        let action_id = self.approved_failover(lost_from).await;
        let mut maker = self.session("t_operator");
        while !apply_failover(&mut maker, action_id, limit).await.unwrap().is_over {}
        assert_eq!(apply_failover(&mut maker, action_id, limit).await.unwrap_err().refusal(), Some("OB013"));
    }

    /// A failover that one proposed, and another approved.
    pub(crate) async fn approved_failover(&mut self, lost_from: OffsetDateTime) -> Uuid {
        let mut maker = self.session("t_operator");
        let action_id = propose_failover(&mut maker, lost_from, "", "the standby was promoted").await.unwrap();
        assert_eq!(apply_failover(&mut maker, action_id, 10).await.unwrap_err().refusal(), Some("OB014"));
        let hash: String = scalar(&mut self.dba, "select encode(sha256(''), 'hex')").await;
        let seen = Proposal {
            action_id,
            member_count: 0,
            members_sha256: hash,
            amounts: "{}".to_owned(),
            needs_approval: true,
        };
        assert_eq!(
            decide_action(&mut maker, &seen, true, "mine").await.unwrap_err().sqlstate().as_deref(),
            Some("42501")
        );
        decide_action(&mut self.session("t_approver"), &seen, true, "checked").await.unwrap();
        action_id
    }
}

fn refused_as_other_epoch(result: Result<usize, StoreError>) {
    assert_eq!(result.unwrap_err().refusal(), Some("OB011"));
}

#[tokio::test]
async fn first_heartbeat_records_where_it_runs_and_another_cluster_or_environment_is_refused() {
    let mut world = World::new().await;
    world.enqueue("a", 2).await;
    world.beat(Some("production")).await;
    world.beat(Some("staging")).await;
    assert_eq!(world.try_claim(Some("production")).await.unwrap(), 2);
    let known: bool = scalar(
        &mut world.dba,
        "select c.environment = 'production' and c.system_identifier = s.system_identifier and c.timeline = 1 \
         from outbox.outbox_cluster c, pg_control_system() s",
    )
    .await;
    assert!(known);
    for environment in [None, Some("staging"), Some("")] {
        refused_as_other_epoch(world.try_claim(environment).await);
    }
    for change in ["+ 1", "+ 1"] {
        world.other_epoch(change).await;
        refused_as_other_epoch(world.try_claim(Some("production")).await);
    }
}

#[tokio::test]
async fn first_epoch_that_nobody_acknowledged_clears_nothing_that_was_seen_before() {
    let mut world = World::new().await;
    world.enqueue("a", 1).await;
    let seen = world.remembers(2).await;
    // Put back to before its first epoch; then a dispatcher that has seen nothing records another.
    run(
        &mut world.dba,
        "alter table outbox.outbox_cluster disable trigger history_is_never_changed; delete from outbox.outbox_cluster; \
         delete from outbox.outbox_dispatcher_memories; alter table outbox.outbox_cluster enable always trigger history_is_never_changed",
    )
    .await;
    world.beat(None).await;
    let reply = world.beat_with(None, DispatcherState::Running, seen).await;
    assert_eq!(reply.fault, Some(EpochFault::Epoch));
    assert_eq!(world.claims_with(seen).await.unwrap_err().refusal(), Some("OB015"));
    world.acknowledge(OffsetDateTime::now_utc(), 10).await;
    assert_eq!(world.beat_with(None, DispatcherState::Running, seen).await.fault, None);
}

#[tokio::test]
async fn first_heartbeats_at_once_record_one_epoch() {
    let mut world = World::new().await;
    tokio::join!(
        world.beat(None),
        world.beat(None),
        world.beat(None),
        world.beat(None),
        world.beat(None),
        world.beat(None)
    );
    assert_eq!(scalar::<i64>(&mut world.dba, "select count(*) from outbox.outbox_cluster").await, 1);
}

#[tokio::test]
async fn after_a_failover_nothing_that_may_have_been_sent_is_sent_blindly() {
    for (on_unknown, disposition, leased) in [("hold", "HELD", 0), ("inquire", "IN_DOUBT", 5), ("resend", "READY", 5)] {
        let mut world = World::new().await;
        world.beat(None).await;
        world.contract(&format!("on_unknown = '{on_unknown}'")).await;
        let ids = world.enqueue("a", 5).await;
        let later = world.enqueue("later", 1).await[0];
        world.tamper(later, "next_attempt_at = now() + interval '1 day'").await;
        assert!(world.worker("w").claim_after(1, None).await.leased.len() == 1);
        run(&mut world.dba, "update outbox.payment_outbox_pending set claimed_by = null, claimed_at = null, lease_token = null, lease_expires_at = null, attempt_count = 0, first_sent_at = null").await;
        world.other_epoch("+ 1").await;
        let lost_from = OffsetDateTime::now_utc() - time::Duration::minutes(5);
        world.acknowledge(lost_from, 2).await;
        for id in &ids {
            let row = world.pending(*id).await.unwrap();
            assert_eq!(row.get::<String, _>("disposition"), disposition, "{on_unknown}");
            assert!(row.get::<Option<OffsetDateTime>, _>("in_doubt_since").is_some());
            assert!(row.get::<OffsetDateTime, _>("first_sent_at") <= lost_from);
        }
        let untouched = world.pending(later).await.unwrap();
        assert!(untouched.get::<Option<OffsetDateTime>, _>("in_doubt_since").is_none(), "{on_unknown}");
        assert_eq!(world.try_claim(None).await.unwrap(), leased, "{on_unknown}");
        assert_conserved(&mut world.dba).await;
    }
}

#[tokio::test]
async fn key_window_counts_from_the_moment_from_which_commits_may_be_missing() {
    let mut world = World::new().await;
    world.enqueue("a", 1).await;
    world.beat(None).await;
    world.try_claim(None).await.unwrap();
    run(&mut world.dba, "update outbox.payment_outbox_pending set claimed_by = null, claimed_at = null, lease_token = null, lease_expires_at = null, attempt_count = 0, first_sent_at = null").await;
    world.other_epoch("+ 1").await;
    world.acknowledge(OffsetDateTime::now_utc() - time::Duration::days(2), 100).await;
    let batch = world.worker("w").claim(10).await;
    assert!(batch.leased.is_empty() && batch.held[0].reason == outbox_core::HoldReason::KeyWindow, "{batch:?}");
}

#[tokio::test]
async fn what_was_held_or_parked_then_is_doubtful_too_and_is_not_released_as_never_sent() {
    let mut world = World::new().await;
    world.beat(None).await;
    let id = world.enqueue("a", 1).await[0];
    world.tamper(id, "disposition = 'HELD', hold_reason = 'REQUESTED'").await;
    let ordered: Vec<_> =
        ["b", "c"].map(|name| outbox_store::NewPayment { ordering_key: Some("k".to_owned()), ..payment(name) }).into();
    let parked = outbox_store::enqueue_batch(&mut world.session("t_ingest"), &ordered, outbox_store::Hint::Wake)
        .await
        .unwrap()[1]
        .outbox_id;
    let first = world.worker("w").claim_one().await;
    world.worker("w").complete_one(lease(&first), Outcome::NotSent).await;
    world.other_epoch("+ 1").await;
    world.acknowledge(OffsetDateTime::now_utc() - time::Duration::minutes(5), 100).await;
    for doubtful in [id, parked] {
        let row = world.pending(doubtful).await.unwrap();
        assert!(row.get::<Option<OffsetDateTime>, _>("in_doubt_since").is_some());
    }
    let mut maker = world.session("t_operator");
    let proposal = propose_action(&mut maker, ActionKind::Release, &[id], "go", None, "{}").await.unwrap();
    decide_action(&mut world.session("t_approver"), &proposal, true, "ok").await.unwrap();
    let report = outbox_store::apply_action(&mut maker, proposal.action_id, 10).await.unwrap();
    assert!(!report.results[0].applied, "{report:?}");
}

#[tokio::test]
async fn failover_of_another_timeline_than_was_approved_is_refused() {
    let mut world = World::new().await;
    world.beat(None).await;
    world.try_claim(None).await.unwrap();
    let mut maker = world.session("t_operator");
    let past = OffsetDateTime::now_utc() - time::Duration::minutes(5);
    for bad in [OffsetDateTime::now_utc() + time::Duration::hours(1)] {
        assert_eq!(propose_failover(&mut maker, bad, "", "r").await.unwrap_err().refusal(), Some("OB003"));
    }
    let action_id = propose_failover(&mut maker, past, "", "r").await.unwrap();
    // The actions are history: only a superuser without triggers makes this one another cluster's.
    run(&mut world.dba, &format!("alter table outbox.operator_actions disable trigger history_is_never_changed; \
         update outbox.operator_actions set parameters = parameters || '{{\"timeline\": 7}}' where action_id = '{action_id}'")).await;
    let hash: String = scalar(&mut world.dba, "select encode(sha256(''), 'hex')").await;
    let seen =
        Proposal { action_id, member_count: 0, members_sha256: hash, amounts: "{}".to_owned(), needs_approval: true };
    decide_action(&mut world.session("t_approver"), &seen, true, "ok").await.unwrap();
    assert_eq!(apply_failover(&mut maker, action_id, 10).await.unwrap_err().refusal(), Some("OB003"));
}

#[tokio::test]
async fn payment_that_was_tried_is_doubtful_after_a_failover_though_it_is_not_due() {
    for contract in ["hold", "resend"] {
        let mut world = World::new().await;
        world.contract(&format!("on_unknown = '{contract}'")).await;
        world.beat(None).await;
        let id = world.enqueue("a", 1).await[0];
        let first = lease(&world.worker("w").claim_one().await);
        world.worker("w").complete_one(first, Outcome::NotSent).await;
        // Somebody may have brought it forward, and that and what followed are lost.
        world.tamper(id, "next_attempt_at = now() + interval '10 min'").await;
        world.other_epoch("+ 1").await;
        world.acknowledge(OffsetDateTime::now_utc() - time::Duration::minutes(5), 100).await;
        let row = world.pending(id).await.unwrap();
        assert!(row.get::<Option<OffsetDateTime>, _>("in_doubt_since").is_some(), "{contract}");
        assert!(row.get::<Option<String>, _>("endpoint").is_none(), "{contract}");
    }
}

#[tokio::test]
async fn where_a_payment_may_have_gone_to_another_endpoint_it_is_held_after_a_failover_and_leased_ones_forget_theirs() {
    for contract in ["resend", "inquire"] {
        let mut world = World::new().await;
        world.contract(&format!("on_unknown = '{contract}', fallback = true")).await;
        world.beat(None).await;
        let ids = world.enqueue("a", 4).await;
        let mut worker = world.worker("w");
        let at_a = ClaimRequest { endpoint: Some("https://a".to_owned()), ..worker.request(10) };
        for claimed in claim(&mut worker.session, &at_a).await.unwrap().leased {
            let outcome = [None, Some(Outcome::NotSent), Some(Outcome::Unknown), None];
            let place = ids.iter().position(|id| *id == claimed.outbox_id).unwrap();
            if let Some(outcome) = outcome[place] {
                worker.complete_one(lease(&claimed), outcome).await;
            }
        }
        world.other_epoch("+ 1").await;
        world.acknowledge(OffsetDateTime::now_utc() - time::Duration::minutes(5), 100).await;
        for id in [ids[0], ids[3]] {
            world.lose_lease(id).await;
        }
        let never = world.enqueue("never", 1).await[0];
        let batch = world.worker("w").claim(10).await;
        assert_eq!(batch.held.len(), 2, "the two that were leased: {batch:?}");
        for (id, disposition) in [(ids[0], "HELD"), (ids[1], "HELD"), (ids[3], "HELD")] {
            let row = world.pending(id).await.unwrap();
            assert_eq!(row.get::<String, _>("disposition"), disposition, "{contract}");
            assert!(row.get::<Option<String>, _>("endpoint").is_none(), "{contract}");
        }
        // What was in doubt before has been nowhere else since.
        let known = world.pending(ids[2]).await.unwrap();
        assert_eq!(known.get::<Option<String>, _>("endpoint").as_deref(), Some("https://a"));
        assert!(world.pending(never).await.is_some());
        let refused = refused(&mut world.dba, "select outbox.set_payment_rail('wire', p_fallback => false)").await;
        assert!(refused.message.contains("nobody knows the endpoint"), "{refused:?}");
        assert_conserved(&mut world.dba).await;
    }
}

fn refused_as_older(result: Result<usize, StoreError>, words: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.refusal(), Some("OB015"), "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

const LACKS_HEARTBEATS: &str = "it has not the heartbeats that this dispatcher has seen";

#[tokio::test]
async fn a_database_that_lacks_a_heartbeat_that_was_seen_is_not_claimed_from_however_long_its_log_is() {
    let mut world = World::new().await;
    world.enqueue("a", 3).await;
    let seen = world.remembers(3).await;
    assert_eq!(world.claims_with(seen).await.unwrap(), 1);
    // The last heartbeat, with which it stopped, counts; a row that is missing is as one without heartbeats.
    for beat in [2, 0] {
        world.put_back(seen, beat).await;
        refused_as_older(world.claims_with(seen).await, LACKS_HEARTBEATS);
        let asked = check_epoch(&mut world.session("t_dispatcher"), None, seen).await;
        refused_as_older(asked.map(|()| 0), LACKS_HEARTBEATS);
        // Whoever else remembers less goes on.
        assert_eq!(world.claims_with(Memory::default()).await.unwrap(), 1);
    }
    let longer = LogMark { log_position: i64::MAX, ..seen.mark };
    refused_as_older(world.claims_with(Memory { mark: longer, ..seen }).await, "its log ends at");
}

#[tokio::test]
async fn heartbeats_give_an_older_database_nothing_back_that_it_lacks() {
    let mut world = World::new().await;
    world.enqueue("a", 1).await;
    let seen = world.remembers(3).await;
    world.put_back(seen, 2).await;
    for state in [DispatcherState::Running, DispatcherState::Draining, DispatcherState::Stopped] {
        let reply = world.beat_with(None, state, seen).await;
        assert_eq!((reply.fault, reply.mark.beat), (Some(EpochFault::Beats), 2));
        refused_as_older(world.claims_with(seen).await, LACKS_HEARTBEATS);
    }
    // Neither where the log alone tells, nor on another cluster, or for another environment.
    world.put_back(seen, 3).await;
    let longer = Memory { mark: LogMark { log_position: i64::MAX, ..seen.mark }, ..seen };
    assert_eq!(world.beat_with(None, DispatcherState::Running, longer).await.fault, Some(EpochFault::Log));
    let other = world.beat_with(Some("test"), DispatcherState::Running, seen).await;
    assert_eq!((other.fault, other.mark.beat), (Some(EpochFault::Environment), 3));
    world.other_epoch("+ 1").await;
    let other = world.beat_with(None, DispatcherState::Running, seen).await;
    assert_eq!((other.fault, other.mark.beat), (Some(EpochFault::Cluster), 3));
}

#[tokio::test]
async fn a_newer_epoch_clears_what_was_seen_before_and_heartbeats_count_anew() {
    let mut world = World::new().await;
    world.enqueue("a", 2).await;
    let mut seen = world.remembers(3).await;
    seen.mark = seen.mark.latched();
    refused_as_older(world.claims_with(seen).await, LACKS_HEARTBEATS);
    world.put_back(seen, 1).await;
    world.acknowledge(OffsetDateTime::now_utc() - time::Duration::minutes(5), 100).await;
    assert_eq!(world.claims_with(seen).await.unwrap(), 1);
    let reply = world.beat_with(None, DispatcherState::Running, seen).await;
    assert_eq!((reply.fault, reply.mark.beat), (None, 2));
    seen.mark = seen.mark.merge(reply.mark);
    assert_eq!(seen.mark, reply.mark);
    world.put_back(seen, 1).await;
    refused_as_older(world.claims_with(seen).await, LACKS_HEARTBEATS);
}

#[tokio::test]
async fn a_database_from_before_its_first_epoch_is_given_none_by_a_dispatcher_that_has_seen_one() {
    let mut world = World::new().await;
    world.enqueue("a", 1).await;
    let seen = Memory { id: Some(Uuid::new_v4()), mark: LogMark { epoch_us: 1, log_position: 0, beat: 0 } };
    let reply = world.beat_with(None, DispatcherState::Running, seen).await;
    assert_eq!((reply.fault, reply.mark.epoch_us), (Some(EpochFault::Epoch), 0));
    refused_as_older(world.claims_with(seen).await, "the database is older than it was");
}

#[tokio::test]
async fn claims_write_nothing_to_what_dispatchers_remember() {
    let mut world = World::new().await;
    world.enqueue("a", 3).await;
    let seen = world.remembers(2).await;
    let version = "select xmin::text from outbox.outbox_dispatcher_memories";
    let before: String = scalar(&mut world.dba, version).await;
    for _ in 0..3 {
        assert_eq!(world.claims_with(seen).await.unwrap(), 1);
    }
    assert_eq!(scalar::<String>(&mut world.dba, version).await, before);
}

#[tokio::test]
async fn on_a_cluster_that_nobody_acknowledged_payments_can_only_be_held() {
    let mut world = World::new().await;
    world.beat(None).await;
    let ids = world.enqueue("a", 2).await;
    let mut desk = Desk::of(&world);
    let early = desk.propose(ActionKind::Cancel, &ids[..1]).await;
    world.other_epoch("+ 1").await;
    // Here it looks as if it had never been sent; where the log went on it may have been.
    let cancel = desk.propose(ActionKind::Cancel, &ids[..1]).await;
    for action in [&early, &cancel] {
        let refused = apply_action(&mut desk.maker, action.action_id, 10).await.unwrap_err();
        assert!(refused.refusal() == Some("OB011") && refused.to_string().contains("may be missing here"), "{refused}");
    }
    assert!(desk.does(ActionKind::Hold, &ids[1..]).await[0].applied);
    world.acknowledge(OffsetDateTime::now_utc(), 10).await;
    for action in [&early, &cancel] {
        let refused = apply_action(&mut desk.maker, action.action_id, 10).await.unwrap_err();
        assert!(refused.to_string().contains("was proposed before the failover"), "{refused}");
    }
    assert_eq!(desk.refuses(ActionKind::Cancel, ids[0]).await, "it may have been sent");
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn what_was_enqueued_before_a_failover_is_paid_anew_only_by_evidence_of_after_it() {
    let mut world = World::new().await;
    world.contract("on_unknown = 'resend', idempotency_window_ms = 3600000, rail_timeout_ms = 1, processing_bound_ms = 3600000").await;
    world.beat(None).await;
    let (mut worker, mut desk) = (world.worker("w"), Desk::of(&world));
    // One ended before, and was redriven in what is lost; one is refused after it was sent again.
    let ids = world.enqueue("a", 2).await;
    let claimed = worker.claim(2).await.leased;
    let place = usize::from(claimed[0].outbox_id != ids[0]);
    worker.complete_one(lease(&claimed[place]), Outcome::Refused).await;
    worker.complete_one(lease(&claimed[1 - place]), Outcome::NotSent).await;
    let redrive = desk.propose(ActionKind::Redrive, &ids[..1]).await;
    decide_action(&mut desk.checker, &redrive, true, "ok").await.unwrap();
    world.other_epoch("+ 1").await;
    world.acknowledge(OffsetDateTime::now_utc(), 10).await;
    let refused = apply_action(&mut desk.maker, redrive.action_id, 10).await.unwrap_err();
    assert!(refused.to_string().contains("was proposed before the failover"), "{refused}");
    world.tamper(ids[1], "next_attempt_at = now()").await;
    let again = lease(&worker.claim_one().await);
    worker.complete_one(again, Outcome::Refused).await;
    for id in &ids {
        let early = desk.does_by(ActionKind::Redrive, *id, "BANK-7").await;
        assert!(!early.applied && early.detail.unwrap().contains("may still be under way until"));
    }
    world.contract("processing_bound_ms = 0").await;
    assert!(!desk.does_by(ActionKind::Redrive, ids[0], "BANK-7").await.applied, "a lease of before may be in force");
    world.leases_of_before_are_over().await;
    // The rail shows a booking of their money under a key that is known nowhere: the redrive that is lost may be it.
    Paper::new(1)
        .raw(Some("018f0000-0000-7000-8000-000000000001"), Some("R-1"), 1_250, "EUR")
        .compared(&mut desk.maker)
        .await
        .unwrap();
    let (_, breaks) = open(&mut desk.maker).await;
    assert_eq!(breaks.len(), 1);
    let held_up = desk.does_by(ActionKind::Redrive, ids[0], "BANK-7").await;
    assert!(!held_up.applied && held_up.detail.unwrap().contains(&breaks[0].to_string()));
    resolve_breaks(&mut desk.checker, &breaks, "another sender's", None).await.unwrap();
    for id in &ids {
        assert!(desk.refuses(ActionKind::Redrive, *id).await.contains("takes evidence"));
        assert!(desk.does_by(ActionKind::Redrive, *id, "BANK-7").await.applied);
    }
    // What was enqueued since is as ever.
    world.contract("lease_duration_ms = 60000").await;
    let other = world.enqueue("b", 1).await[0];
    let claimed = worker.claim(10).await.leased;
    let its = claimed.iter().find(|one| one.outbox_id == other).unwrap();
    worker.complete_one(lease(its), Outcome::Refused).await;
    assert!(desk.does(ActionKind::Redrive, &[other]).await[0].applied);
    assert_conserved(&mut world.dba).await;
}
