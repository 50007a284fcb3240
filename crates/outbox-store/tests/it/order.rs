//! Order where it is asked for: one payment of an ordering key at a time, in the order of their enqueue.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use outbox_core::{AttemptNo, HoldReason, OutboxId, Outcome, RailName};
use outbox_store::{ActionKind, CompletionVerdict, Hint, NewPayment, enqueue_batch, read_blocked_keys, unpark};
use outbox_testkit::wait_until;
use sqlx::Row as _;

use crate::conservation::assert_conserved;
use crate::control::Desk;
use crate::enqueue_identity::enqueue_sql;
use crate::seed::Seed;
use crate::sql::{column, run, scalar};
use crate::steps::Actor;
use crate::world::{RAIL, World, lease, payment};

fn under(key: &str, instruction_id: &str) -> NewPayment {
    NewPayment { ordering_key: Some(key.to_owned()), ..payment(instruction_id) }
}

fn sql_under(key: &str, instruction: &str) -> String {
    enqueue_sql(instruction, "k", "a", &format!(", p_ordering_key => '{key}'"))
}

impl World {
    async fn enqueue_under(&self, key: &str, names: &[&str]) -> Vec<OutboxId> {
        let payments: Vec<NewPayment> = names.iter().map(|name| under(key, name)).collect();
        let done = enqueue_batch(&mut self.session("t_ingest"), &payments, Hint::Wake).await.unwrap();
        done.into_iter().map(|one| one.outbox_id).collect()
    }

    async fn disposition(&mut self, id: OutboxId) -> String {
        self.pending(id).await.unwrap().get("disposition")
    }

    async fn unpark(&mut self) -> u32 {
        let rail = RailName::new(RAIL).unwrap();
        unpark(&mut self.session("t_dispatcher"), &rail, 100).await.unwrap().keys
    }
}

#[tokio::test]
async fn payments_of_one_key_are_sent_one_at_a_time_in_the_order_of_their_enqueue() {
    let mut world = World::new().await;
    let ids = world.enqueue_under("account", &["a", "b", "c"]).await;
    let others = world.enqueue("free", 2).await;
    let mut worker = world.worker("w");
    let mut sent = Vec::new();
    for id in &ids {
        let batch = worker.claim(10).await;
        let mine: Vec<_> = batch.leased.iter().filter(|one| ids.contains(&one.outbox_id)).collect();
        assert_eq!(mine.iter().map(|one| one.outbox_id).collect::<Vec<_>>(), [*id]);
        for claimed in &batch.leased {
            worker.complete_one(lease(claimed), Outcome::Accepted).await;
            sent.push(claimed.outbox_id);
        }
    }
    assert_eq!(sent.len(), 5);
    assert!(others.iter().all(|id| sent.contains(id)));
    assert_eq!(scalar::<i64>(&mut world.dba, "select count(*) from outbox.payment_outbox_order").await, 0);
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn what_is_not_over_blocks_its_key_and_a_refusal_ends_it() {
    let mut world = World::new().await;
    let ids = world.enqueue_under("account", &["a", "b"]).await;
    let mut worker = world.worker("w");
    // Not sent, in doubt, lost: the first stays the first.
    for outcome in [Some(Outcome::NotSent), Some(Outcome::Unknown), None, Some(Outcome::Refused)] {
        let claimed = worker.claim(10).await.leased;
        assert_eq!(claimed.iter().map(|one| one.outbox_id).collect::<Vec<_>>(), [ids[0]], "before {outcome:?}");
        match outcome {
            Some(outcome) => drop(worker.complete_one(lease(&claimed[0]), outcome).await),
            None => {
                world.lose_lease(ids[0]).await;
                assert!(worker.claim(10).await.leased.is_empty());
            }
        }
    }
    assert_eq!(worker.claim_one().await.outbox_id, ids[1]);
}

#[tokio::test]
async fn held_payment_blocks_its_key_and_no_other_and_status_says_who_blocks_whom() {
    let world = World::new().await;
    let ids = world.enqueue_under("account", &["a", "b", "c"]).await;
    let other = world.enqueue_under("other", &["d"]).await[0];
    let mut worker = world.worker("w");
    for claimed in worker.claim(10).await.leased {
        let outcome = if claimed.outbox_id == other { Outcome::Accepted } else { Outcome::KeyReused };
        worker.complete_one(lease(&claimed), outcome).await;
    }
    let batch = worker.claim(10).await;
    assert!(batch.leased.is_empty() && batch.held.is_empty(), "{batch:?}");
    let blocked = read_blocked_keys(&mut world.session("t_monitor"), 10).await.unwrap();
    assert_eq!(blocked.len(), 1, "{blocked:?}");
    let key = &blocked[0];
    assert_eq!((key.rail.as_str(), key.ordering_key.as_str(), key.first, key.blocked), (RAIL, "account", ids[0], 2));
    assert_eq!((key.disposition.as_deref(), key.hold_reason.as_deref()), (Some("HELD"), Some("CONTRADICTION")));
    assert_eq!(key.amounts, "{\"EUR\": 2500}");
}

#[tokio::test]
async fn repeated_enqueue_under_an_ordering_key_is_the_same_payment_in_the_same_place() {
    let mut world = World::new().await;
    let ids = world.enqueue_under("account", &["a", "b"]).await;
    let again = world.enqueue_under("account", &["b", "c", "a"]).await;
    assert_eq!([again[0], again[2]], [ids[1], ids[0]]);
    let mut worker = world.worker("w");
    // Also of one that has ended: it gets no place again, which would block those behind it for ever.
    let first = lease(&worker.claim_one().await);
    worker.complete_one(first, Outcome::Accepted).await;
    assert_eq!(world.enqueue_under("account", &["a"]).await, ids[..1]);
    assert_eq!(worker.claim_one().await.outbox_id, ids[1]);
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn producer_under_the_same_key_waits_for_the_one_before_it_and_another_key_does_not() {
    let mut world = World::new().await;
    let mut first = Actor::enter(&world.db, "t_ingest", "first").await;
    let mut second = Actor::enter(&world.db, "t_ingest", "second").await;
    let mut third = Actor::enter(&world.db, "t_ingest", "third").await;
    first.does("begin").await;
    first.does(&sql_under("account", "a")).await;
    third.asks(&sql_under("other", "c")).await;
    second.starts(&sql_under("account", "b"));
    second.waits(&mut world.dba).await;
    first.does("commit").await;
    second.ends().await.unwrap();
    let order: Vec<String> = column(
        &mut world.dba,
        "select n.instruction_id || ' ' || p.disposition from outbox.payment_outbox_order o join outbox.payment_outbox_instructions n using (outbox_id)
           join outbox.payment_outbox_pending p using (outbox_id) where o.ordering_key = 'account' order by o.place",
    )
    .await;
    assert_eq!(order, ["a READY", "b PARKED"]);
}

#[tokio::test]
async fn successor_that_was_being_enqueued_while_its_predecessor_ended_is_brought_back() {
    let mut world = World::new().await;
    world.enqueue_under("account", &["a"]).await;
    let mut worker = world.worker("w");
    let claimed = worker.claim_one().await;
    let mut producer = Actor::enter(&world.db, "t_ingest", "producer").await;
    producer.does("begin").await;
    producer.does(&sql_under("account", "b")).await;
    // The end does not wait for the producer.
    worker.complete_one(lease(&claimed), Outcome::Accepted).await;
    assert_eq!(world.unpark().await, 0, "the producer has the key");
    producer.does("commit").await;
    assert!(worker.claim(10).await.leased.is_empty());
    assert_eq!(world.unpark().await, 1);
    worker.claim_one().await;
}

#[tokio::test]
async fn producer_with_an_old_snapshot_parks_nothing_and_claim_sees_to_the_order() {
    let world = World::new().await;
    for isolation in ["repeatable read", "serializable"] {
        let key = isolation.replace(' ', "_");
        let first = world.enqueue_under(&key, &[&format!("{key} a")]).await[0];
        let mut worker = world.worker("w");
        let claimed = worker.claim_one().await;
        let mut producer = Actor::enter(&world.db, "t_ingest", "producer").await;
        producer.does(&format!("begin isolation level {isolation}")).await;
        producer.asks("select 1").await;
        producer.does(&sql_under(&key, &format!("{key} b"))).await;
        producer.does("commit").await;
        let batch = worker.claim(10).await;
        assert!(batch.leased.is_empty() && batch.summary.parked == 1, "{batch:?}");
        worker.complete_one(lease(&claimed), Outcome::Accepted).await;
        let next = worker.claim_one().await;
        assert_ne!(next.outbox_id, first);
        worker.complete_one(lease(&next), Outcome::Accepted).await;
    }
}

#[tokio::test]
async fn claim_that_cannot_have_the_key_puts_off_instead_of_parking() {
    let mut world = World::new().await;
    let ids = world.enqueue_under("account", &["a", "b"]).await;
    world.tamper(ids[1], "disposition = 'READY'").await;
    let mut producer = Actor::enter(&world.db, "t_ingest", "producer").await;
    producer.does("begin").await;
    producer.does(&sql_under("account", "c")).await;
    let batch = world.worker("w").claim(10).await;
    assert_eq!(batch.leased.iter().map(|one| one.outbox_id).collect::<Vec<_>>(), [ids[0]]);
    assert_eq!(world.disposition(ids[1]).await, "READY");
    producer.does("commit").await;
    wait_until("the payment that was put off", Duration::from_secs(20), async || {
        world.worker("v").claim(10).await.summary.parked == 1
    })
    .await
    .unwrap();
    assert_eq!(world.disposition(ids[1]).await, "PARKED");
}

#[tokio::test]
async fn parked_payment_that_misses_its_window_is_held() {
    let mut world = World::new().await;
    let ids = world.enqueue_under("account", &["a", "b"]).await;
    world.tamper(ids[1], "not_after = now() - interval '1 s'").await;
    let rail = RailName::new(RAIL).unwrap();
    let report = unpark(&mut world.session("t_dispatcher"), &rail, 100).await.unwrap();
    assert_eq!((report.held, report.keys), (vec![ids[1]], 0));
    let row = world.pending(ids[1]).await.unwrap();
    assert_eq!(row.get::<String, _>("hold_reason"), HoldReason::MissedWindow.name());
}

#[tokio::test]
async fn payments_without_a_key_touch_nothing_of_the_order() {
    let mut world = World::new().await;
    world.enqueue("a", 300).await;
    let mut worker = world.worker("w");
    let claimed = worker.claim(300).await.leased;
    let all: Vec<_> = claimed.iter().map(|one| crate::world::completion(lease(one), Outcome::Accepted)).collect();
    worker.complete(&all).await;
    worker.session.close().await;
    run(&mut world.dba, "select pg_stat_force_next_flush()").await;
    let touched: i64 = scalar(
        &mut world.dba,
        "select coalesce(sum(seq_scan + coalesce(idx_scan, 0) + n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint from pg_stat_all_tables \
         where schemaname = 'outbox' and relname in ('payment_outbox_order', 'payment_outbox_unparking')",
    )
    .await;
    assert_eq!(touched, 0);
    // And the flag that says so lies in what alignment left free.
    let sizes: Vec<i32> = column(
        &mut world.dba,
        "select pg_column_size(row(true, true, now())) union select pg_column_size(row(true, true, true, now()))",
    )
    .await;
    assert_eq!(sizes.len(), 1, "{sizes:?}");
}

/// What the rail would see: payments in the order of their first lease.
async fn first_leases(world: &mut World) -> BTreeMap<String, Vec<i64>> {
    let text = "select n.ordering_key || ' ' || split_part(n.instruction_id, '-', 3) from outbox.payment_outbox_attempts a \
                join outbox.payment_outbox_instructions n using (outbox_id) where a.attempt_no = 1 order by a.claimed_at";
    let mut all: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for line in column::<String>(&mut world.dba, text).await {
        let (key, number) = line.split_once(' ').unwrap();
        all.entry(key.to_owned()).or_default().push(number.parse().unwrap());
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producers_and_workers_at_once_keep_every_key_in_order_and_leave_nothing_parked() {
    const KEYS: usize = 3;
    const EACH: usize = 12;
    let mut world = World::new().await;
    let seed = Seed::of_this_run();
    let settled = Arc::new(AtomicUsize::new(0));
    // A producer a key, so that the order of the enqueues is known; three workers that take what they get.
    let producers = (0..KEYS).map(|key| {
        let mut session = world.session("t_ingest");
        tokio::spawn(async move {
            for n in 0..EACH {
                let one = under(&format!("k{key}"), &format!("p-{key}-{n}"));
                enqueue_batch(&mut session, &[one], Hint::Quiet).await.unwrap();
            }
        })
    });
    let producers: Vec<_> = producers.collect();
    let workers: Vec<_> = (0..3)
        .map(|n| {
            let mut worker = world.worker(&format!("w{n}"));
            let mut upkeep = world.session("t_dispatcher");
            let (mut chance, settled) = (Seed::new(seed + n), Arc::clone(&settled));
            tokio::spawn(async move {
                let rail = RailName::new(RAIL).unwrap();
                while settled.load(Ordering::Relaxed) < KEYS * EACH {
                    for claimed in worker.claim(5).await.leased {
                        let again = claimed.attempt_no == AttemptNo(1) && chance.below(4) == 0;
                        let outcome = if again { Outcome::Unknown } else { Outcome::Accepted };
                        // Another worker's claim may hold the row for a moment, though it does not take it.
                        while worker.complete_one(lease(&claimed), outcome).await == CompletionVerdict::Busy {
                            tokio::task::yield_now().await;
                        }
                        settled.fetch_add(usize::from(!again), Ordering::Relaxed);
                    }
                    unpark(&mut upkeep, &rail, 100).await.unwrap();
                }
            })
        })
        .collect();
    for task in producers.into_iter().chain(workers) {
        tokio::time::timeout(Duration::from_secs(60), task).await.expect("something is left behind").unwrap();
    }
    let left: i64 = scalar(&mut world.dba, "select count(*) from outbox.payment_outbox_pending").await;
    assert_eq!(left, 0, "payments are left behind");
    for (key, numbers) in first_leases(&mut world).await {
        assert!(numbers.is_sorted() && numbers.len() == EACH, "{key}: {numbers:?}");
    }
    let overlaps: i64 = scalar(
        &mut world.dba,
        "select count(*) from outbox.payment_outbox_attempts a join outbox.payment_outbox_instructions n using (outbox_id) \
           join outbox.payment_outbox_instructions m on m.ordering_key = n.ordering_key and m.outbox_id <> n.outbox_id \
           join outbox.payment_outbox_attempts b on b.outbox_id = m.outbox_id and b.claimed_at < a.completed_at and a.claimed_at < b.completed_at",
    )
    .await;
    assert_eq!(overlaps, 0, "two payments of a key were under way at once");
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn released_payment_behind_another_of_its_key_is_parked_by_the_claim_alone() {
    let mut world = World::new().await;
    let ids = world.enqueue_under("account", &["a", "b"]).await;
    let mut desk = Desk::of(&world);
    desk.does(ActionKind::Hold, &[ids[1]]).await;
    // Parked here, without the key's lock, it could miss the end of the one before it.
    desk.does(ActionKind::Release, &[ids[1]]).await;
    assert_eq!(world.disposition(ids[1]).await, "READY");
    let batch = world.worker("w").claim(10).await;
    assert_eq!(batch.leased.iter().map(|one| one.outbox_id).collect::<Vec<_>>(), [ids[0]]);
    assert_eq!((batch.summary.parked, world.disposition(ids[1]).await.as_str()), (1, "PARKED"));
}
