//! What a claim leases: never too much, never twice, in order, from the cursor on, and only as it may.

use std::collections::BTreeSet;

use outbox_core::{AttemptNo, Millis, OutboxId, RailName};
use outbox_store::{ClaimBatch, ClaimCursor, ClaimRequest, claim};
use sqlx::Row as _;

use crate::sql::{fetch, refused, run, scalar};
use crate::steps::Actor;
use crate::world::{Worker, World};

fn ids(batch: &ClaimBatch) -> Vec<OutboxId> {
    batch.leased.iter().map(|claimed| claimed.outbox_id).collect()
}

#[tokio::test]
async fn claim_grants_numbered_leases_for_the_time_of_the_contract() {
    let mut world = World::new().await;
    let id = world.enqueue("a", 1).await[0];
    let mut worker = world.worker("w");
    let batch = worker.claim(5).await;
    let claimed = &batch.leased[0];
    assert_eq!((claimed.outbox_id, claimed.attempt_no, claimed.lease_duration), (id, AttemptNo(1), Millis(60_000)));
    let held_for: bool = scalar(
        &mut world.dba,
        &format!(
            "select claimed_by = '{}' and lease_expires_at = claimed_at + interval '60 s' and first_sent_at = claimed_at \
             and attempt_count = 1 from outbox.payment_outbox_pending",
            worker.id
        ),
    )
    .await;
    assert!(held_for);
    let shown = format!("{claimed:?}");
    let bytes = claimed.payload.len();
    assert!(shown.contains(&id.to_string()) && shown.contains(&format!("payload_bytes: {bytes}")), "{shown}");
}

#[tokio::test]
async fn claim_above_read_committed_is_refused_by_name() {
    let mut world = World::new().await;
    world.enqueue("a", 1).await;
    let mut connection = world.db.connect_as("t_dispatcher").await.unwrap();
    for level in ["repeatable read", "serializable"] {
        run(&mut connection, &format!("begin isolation level {level}")).await;
        let claim = "select * from outbox.claim_outbox_batch('wire', 'w', 1, 1, 0)";
        assert_eq!(refused(&mut connection, claim).await.code, "OB006", "{level}");
        run(&mut connection, &format!("rollback; begin isolation level {level}")).await;
        let expire = "select * from outbox.expire_outbox_leases('wire', 10)";
        assert_eq!(refused(&mut connection, expire).await.code, "OB006", "{level}");
        run(&mut connection, "rollback").await;
    }
    assert_eq!(scalar::<i64>(&mut world.dba, "select count(lease_token) from outbox.payment_outbox_pending").await, 0);
}

#[tokio::test]
async fn rail_without_contract_short_lease_and_bad_limit_are_refused_by_name() {
    let world = World::new().await;
    let mut worker = world.worker("w");
    let good = worker.request(1);
    let unknown_rail = ClaimRequest { rail: RailName::new("fedwire").unwrap(), ..good.clone() };
    let long_send = ClaimRequest { min_lease: Millis(60_001), ..good.clone() };
    let no_limit = ClaimRequest { limit: 0, ..good.clone() };
    let huge_limit = ClaimRequest { limit: 10_001, ..good.clone() };
    for (code, request) in [("OB004", unknown_rail), ("OB007", long_send), ("OB003", no_limit), ("OB003", huge_limit)] {
        let error = claim(&mut worker.session, &request).await.unwrap_err();
        assert_eq!(error.refusal(), Some(code), "{error}");
    }
    let exact = ClaimRequest { min_lease: Millis(60_000), ..good };
    assert!(claim(&mut worker.session, &exact).await.is_ok());
}

#[tokio::test]
async fn paused_rail_leases_nothing_and_says_so() {
    let mut world = World::new().await;
    world.enqueue("a", 3).await;
    let mut worker = world.worker("w");
    world.contract("paused = true").await;
    let batch = worker.claim(10).await;
    assert!(batch.leased.is_empty() && batch.summary.paused);
    world.contract("paused = false").await;
    assert_eq!(worker.claim(10).await.leased.len(), 3);
}

#[tokio::test]
async fn claim_goes_by_due_time_then_id() {
    let mut world = World::new().await;
    let all = world.enqueue("a", 6).await;
    let mut expected = Vec::new();
    for (id, seconds) in [(all[4], 50), (all[1], 40), (all[0], 20), (all[3], 20), (all[5], 10), (all[2], 5)] {
        world.tamper(id, &format!("next_attempt_at = created_at - interval '{seconds} s'")).await;
        expected.push(id);
    }
    // One clock for all, or equal ages would not be equal times.
    run(
        &mut world.dba,
        "update outbox.payment_outbox_pending set next_attempt_at = date_trunc('second', next_attempt_at)",
    )
    .await;
    expected[2..4].sort();
    let mut worker = world.worker("w");
    let mut got = Vec::new();
    for _ in 0..3 {
        let batch = worker.claim(2).await;
        let mut pair = ids(&batch);
        // The order in a reply is not promised, the choice is.
        pair.sort_by_key(|id| expected.iter().position(|other| other == id));
        got.extend(pair);
    }
    assert_eq!(got, expected);
}

/// Four payments due at one moment and one a second before, in order.
async fn equal_times(world: &mut World) -> Vec<OutboxId> {
    let mut all = world.enqueue("a", 5).await;
    all.sort();
    run(&mut world.dba, "update outbox.payment_outbox_pending set next_attempt_at = '2026-01-01 00:00:01'").await;
    world.tamper(all[0], "next_attempt_at = '2026-01-01 00:00:00'").await;
    all
}

#[tokio::test]
async fn cursor_goes_forward_through_equal_times_without_a_gap() {
    let mut world = World::new().await;
    let all = equal_times(&mut world).await;
    let mut worker = world.worker("w");
    let (mut cursor, mut got) = (None, Vec::new());
    for _ in 0..5 {
        let batch = worker.claim_after(1, cursor).await;
        got.extend(ids(&batch));
        cursor = batch.summary.cursor;
        assert_eq!(cursor.map(|c| c.outbox_id), got.last().copied());
    }
    assert_eq!(got, all);
    let last = worker.claim_after(1, cursor).await;
    assert!(last.leased.is_empty() && last.summary.cursor.is_none());
}

#[tokio::test]
async fn cursor_may_go_back_and_a_sweep_finds_what_committed_behind_it() {
    let mut world = World::new().await;
    let all = equal_times(&mut world).await;
    let mut worker = world.worker("w");
    let ahead = ClaimCursor { due_at: time::macros::datetime!(2026-01-01 0:00:01 UTC), outbox_id: all[3] };
    assert_eq!(ids(&worker.claim_after(10, Some(ahead)).await), [all[4]]);
    let back = ClaimCursor { outbox_id: all[2], ..ahead };
    assert_eq!(ids(&worker.claim_after(10, Some(back)).await), [all[3]]);
    assert_eq!(
        ids(&worker.claim_after(10, None).await).into_iter().collect::<BTreeSet<_>>(),
        all[..3].iter().copied().collect()
    );
}

#[tokio::test]
async fn concurrent_claimers_get_disjoint_payments() {
    let mut world = World::new().await;
    let all: BTreeSet<OutboxId> = world.enqueue("a", 600).await.into_iter().collect();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..4 {
        let mut worker = world.worker(&format!("w{n}"));
        tasks.spawn(async move {
            let mut mine = Vec::new();
            // Skipped rows may be all there is for a moment: the end is when nothing is left unleased.
            for _ in 0..60 {
                mine.extend(ids(&worker.claim(20).await));
            }
            mine
        });
    }
    let got: Vec<OutboxId> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(got.len(), 600);
    assert_eq!(got.into_iter().collect::<BTreeSet<_>>(), all);
    let attempts: i64 = scalar(&mut world.dba, "select sum(attempt_count) from outbox.payment_outbox_pending").await;
    assert_eq!(attempts, 600);
}

#[tokio::test]
async fn rows_locked_by_a_stuck_session_are_passed_over_not_waited_for() {
    let world = World::new().await;
    let all = world.enqueue("a", 4).await;
    let mut stuck = Actor::enter(&world.db, "t_dispatcher", "stuck").await;
    stuck.does("begin").await;
    assert_eq!(stuck.asks("select * from outbox.claim_outbox_batch('wire', 'stuck', 2, 1, 0)").await.len(), 3);
    let mut worker = world.worker("w");
    let got = ids(&worker.claim(10).await);
    assert_eq!(got.len(), 2);
    stuck.does("rollback").await;
    let rest = ids(&worker.claim(10).await);
    assert_eq!(got.into_iter().chain(rest).collect::<BTreeSet<_>>(), all.into_iter().collect());
}

#[tokio::test]
async fn leased_payment_is_not_claimed_again_while_its_lease_holds() {
    let world = World::new().await;
    world.enqueue("a", 3).await;
    let (mut one, mut two): (Worker, Worker) = (world.worker("w"), world.worker("w"));
    assert_eq!(one.claim(2).await.leased.len(), 2);
    assert_eq!(two.claim(10).await.leased.len(), 1);
    for worker in [&mut one, &mut two] {
        let batch = worker.claim(10).await;
        assert!(batch.leased.is_empty() && batch.held.is_empty() && batch.summary.expired == 0);
    }
}

#[tokio::test]
async fn full_claim_names_no_next_time_and_an_empty_one_the_soonest() {
    let mut world = World::new().await;
    let all = world.enqueue("a", 3).await;
    world.tamper(all[2], "next_attempt_at = '2999-01-01'").await;
    let mut worker = world.worker("w");
    assert_eq!(worker.claim(2).await.summary.next_due_at, None);
    let empty = worker.claim(2).await;
    assert_eq!(empty.summary.next_due_at, Some(time::macros::datetime!(2999-01-01 0:00 UTC)));
}

#[tokio::test]
async fn nothing_refers_to_the_queue_by_a_foreign_key() {
    // A foreign key would share-lock the rows that claims lock, and each claim would make a MultiXact.
    let mut world = World::new().await;
    let keys: i64 = scalar(
        &mut world.dba,
        "select count(*) from pg_constraint where contype = 'f' and confrelid = 'outbox.payment_outbox_pending'::regclass",
    )
    .await;
    assert_eq!(keys, 0);
}

#[tokio::test]
async fn claim_inside_an_older_transaction_sees_what_fell_due_since_and_grants_whole_leases() {
    let mut world = World::new().await;
    let mut connection = world.db.connect_as("t_dispatcher").await.unwrap();
    run(&mut connection, "begin").await;
    fetch(&mut connection, "select now()").await;
    world.enqueue("a", 1).await;
    let claim =
        "select kind, (select now()) < due_at as due_since from outbox.claim_outbox_batch('wire', 'w', 10, 1, 0)";
    let rows = fetch(&mut connection, claim).await;
    assert_eq!(rows[0].get::<String, _>("kind"), "SUBMIT");
    assert!(rows[0].get::<bool, _>("due_since"));
    run(&mut connection, "commit").await;
    let whole: bool = scalar(
        &mut world.dba,
        "select p.lease_expires_at - p.claimed_at = r.lease_duration_ms * interval '1 ms' and p.claimed_at > p.next_attempt_at \
         from outbox.payment_outbox_pending p join outbox.payment_rails r using (rail)",
    )
    .await;
    assert!(whole);
}
