//! Who a payment is: what counts as the same payment, for ever and at every isolation level.

use outbox_core::Outcome;
use outbox_store::{Hint, NewPayment, enqueue_batch, enqueue_in};
use sqlx::{Connection as _, Row as _};
use uuid::Uuid;

use crate::conservation::assert_conserved;
use crate::sql::{fetch, refused, run, scalar};
use crate::steps::Actor;
use crate::world::{World, lease, payment};

/// An enqueue of one payment as a statement; `extra` are further named arguments.
pub(crate) fn enqueue_sql(instruction: &str, key: &str, payload: &str, extra: &str) -> String {
    format!(
        "select * from outbox.enqueue_payment_outbox('acme', '{instruction}', '{key}', 'wire', '{payload}'::bytea, \
         'application/xml', p_amount_minor => 100, p_currency => 'EUR'{extra})"
    )
}

async fn count(world: &mut World, table: &str) -> i64 {
    scalar(&mut world.dba, &format!("select count(*) from outbox.{table}")).await
}

#[tokio::test]
async fn same_participant_instruction_key_and_request_is_the_same_payment() {
    let mut world = World::new().await;
    let mut ingest = world.db.connect_as("t_ingest").await.unwrap();
    let first = fetch(&mut ingest, &enqueue_sql("i", "k", "a", "")).await.remove(0);
    // Trace and attestation are new at every repetition and no part of the request.
    let traced = ", p_traceparent => '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', \
                  p_attestation_id => '2b0f2a52-7f7c-4c54-9d3e-1f8f3f0c2c11'";
    for extra in ["", traced] {
        let again = fetch(&mut ingest, &enqueue_sql("i", "k", "a", extra)).await.remove(0);
        assert!(!again.get::<bool, _>("created"));
        assert_eq!(again.get::<Uuid, _>("outbox_id"), first.get::<Uuid, _>("outbox_id"));
    }
    assert!(first.get::<bool, _>("created"));
    assert_eq!(
        (count(&mut world, "payment_outbox_identities").await, count(&mut world, "payment_outbox_pending").await),
        (1, 1)
    );
}

#[tokio::test]
async fn known_instruction_with_another_request_is_refused_whatever_differs() {
    let mut world = World::new().await;
    run(&mut world.dba, "select outbox.set_payment_rail('other', 'hold')").await;
    let mut ingest = world.db.connect_as("t_ingest").await.unwrap();
    run(&mut ingest, &enqueue_sql("i", "k", "a", "")).await;
    let base = enqueue_sql("i", "k", "a", "");
    for (part, other) in [
        ("payload", enqueue_sql("i", "k", "b", "")),
        ("amount", base.replace("=> 100", "=> 101")),
        ("currency", base.replace("'EUR'", "'USD'")),
        ("rail", base.replace("'wire'", "'other'")),
        ("content type", base.replace("application/xml", "application/json")),
        ("not_before", enqueue_sql("i", "k", "a", ", p_not_before => '2020-01-01'")),
        ("not_after", enqueue_sql("i", "k", "a", ", p_not_after => '2999-01-01'")),
        ("ordering_key", enqueue_sql("i", "k", "a", ", p_ordering_key => 'account'")),
    ] {
        let refusal = refused(&mut ingest, &other).await;
        assert_eq!((refusal.code.as_str(), refusal.column.as_deref()), ("OB001", Some("instruction_id")), "{part}");
        assert!(refusal.message.contains("payment 1 of the batch"), "{part}: {}", refusal.message);
    }
    assert_eq!(count(&mut world, "payment_outbox_pending").await, 1);
}

#[tokio::test]
async fn known_instruction_under_another_key_is_refused() {
    let world = World::new().await;
    let mut ingest = world.db.connect_as("t_ingest").await.unwrap();
    run(&mut ingest, &enqueue_sql("i", "k", "a", "")).await;
    for (key, payload) in [("other", "a"), ("other", "b")] {
        let refusal = refused(&mut ingest, &enqueue_sql("i", key, payload, "")).await;
        assert_eq!((refusal.code.as_str(), refusal.column.as_deref()), ("OB002", Some("idempotency_key")));
    }
}

#[tokio::test]
async fn enqueue_repeated_after_not_after_finds_the_payment() {
    let mut world = World::new().await;
    let mut ingest = world.db.connect_as("t_ingest").await.unwrap();
    let not_after: String = scalar(&mut world.dba, "select (clock_timestamp() + interval '300 ms')::text").await;
    let enqueue = enqueue_sql("i", "k", "a", &format!(", p_not_after => '{not_after}'"));
    run(&mut ingest, &enqueue).await;
    let past = format!("select clock_timestamp() > '{not_after}'::timestamptz");
    while !scalar::<bool>(&mut world.dba, &past).await {}
    let again = fetch(&mut ingest, &enqueue).await.remove(0);
    assert!(!again.get::<bool, _>("created"));
    let refusal = refused(&mut ingest, &enqueue.replace("'i'", "'j'")).await;
    assert_eq!((refusal.code.as_str(), refusal.column.as_deref()), ("OB003", Some("not_after")));
}

#[tokio::test]
async fn other_participant_or_instruction_is_another_payment_even_under_one_key() {
    let mut world = World::new().await;
    let mut ingest = world.db.connect_as("t_ingest").await.unwrap();
    let first: Uuid = scalar(&mut ingest, &enqueue_sql("i", "k", "a", "")).await;
    let other_instruction: Uuid = scalar(&mut ingest, &enqueue_sql("j", "k", "a", "")).await;
    let other_participant: Uuid =
        scalar(&mut ingest, &enqueue_sql("i", "k", "a", "").replace("'acme'", "'bolt'")).await;
    // The wire key is the id: a rail cannot take one of them for a repetition of another.
    let distinct = std::collections::BTreeSet::from([first, other_instruction, other_participant]);
    assert_eq!(distinct.len(), 3);
    assert_eq!(count(&mut world, "payment_outbox_pending").await, 3);
}

#[tokio::test]
async fn enqueue_after_dispatch_returns_the_dispatched_payment() {
    let mut world = World::new().await;
    let mut worker = world.worker("w");
    for (instruction, outcome) in [("paid", Outcome::Accepted), ("refused", Outcome::Refused)] {
        let id = world.enqueue(instruction, 1).await[0];
        let claimed = worker.claim_one().await;
        worker.complete_one(lease(&claimed), outcome).await;
        assert!(world.pending(id).await.is_none());
        let again =
            enqueue_batch(&mut world.session("t_ingest"), &[payment(&format!("{instruction}-1"))], Hint::Wake).await;
        let again = again.unwrap().remove(0);
        assert_eq!((again.outbox_id, again.created), (id, false));
        assert!(world.pending(id).await.is_none(), "the payment is in the queue again");
    }
    assert!(worker.claim(10).await.leased.is_empty());
    assert_conserved(&mut world.dba).await;
}

/// One payment, or 40001: what an enqueue of a payment that another session just recorded may come to.
async fn one_payment_or_40001(world: &mut World, level: &str, result: Result<Vec<sqlx::postgres::PgRow>, sqlx::Error>) {
    match result {
        Ok(rows) => {
            assert_eq!(level, "read committed");
            assert!(!rows[0].get::<bool, _>("created"), "{level}: paid twice");
        }
        Err(error) => {
            assert_eq!(crate::sql::refusal_of(&error).code, "40001", "{level}");
            assert_ne!(level, "read committed");
        }
    }
    assert_eq!(count(world, "payment_outbox_identities").await, 1, "{level}");
    assert_eq!(count(world, "payment_outbox_instructions").await, 1, "{level}");
    assert_conserved(&mut world.dba).await;
}

const LEVELS: [&str; 3] = ["read committed", "repeatable read", "serializable"];

#[tokio::test]
async fn payment_dispatched_behind_an_old_snapshot_is_not_paid_again() {
    for level in LEVELS {
        let mut world = World::new().await;
        let mut old = Actor::enter(&world.db, "t_ingest", "old").await;
        // The snapshot is from before the payment: neither the queue nor the ledger shows it.
        old.does(&format!("begin isolation level {level}")).await;
        old.asks("select count(*) from outbox.read_payment_rails()").await;
        let mut other = Actor::enter(&world.db, "t_ingest", "other").await;
        other.does(&enqueue_sql("i", "k", "a", "")).await;
        let mut worker = world.worker("w");
        let claimed = worker.claim_one().await;
        worker.complete_one(lease(&claimed), Outcome::Accepted).await;
        old.starts(&enqueue_sql("i", "k", "a", ""));
        let result = old.ends().await;
        old.does("commit").await;
        one_payment_or_40001(&mut world, level, result).await;
    }
}

#[tokio::test]
async fn enqueue_that_waited_for_another_of_the_same_payment_finds_it() {
    for level in LEVELS {
        let mut world = World::new().await;
        let mut first = Actor::enter(&world.db, "t_ingest", "first").await;
        let mut second = Actor::enter(&world.db, "t_ingest", "second").await;
        first.does("begin").await;
        first.does(&enqueue_sql("i", "k", "a", "")).await;
        second.does(&format!("begin isolation level {level}")).await;
        second.starts(&enqueue_sql("i", "k", "a", ""));
        second.waits(&mut world.dba).await;
        first.does("commit").await;
        let result = second.ends().await;
        second.does("commit").await;
        one_payment_or_40001(&mut world, level, result).await;
    }
}

#[tokio::test]
async fn enqueue_that_waited_for_one_that_rolled_back_records_the_payment() {
    let mut world = World::new().await;
    let mut first = Actor::enter(&world.db, "t_ingest", "first").await;
    let mut second = Actor::enter(&world.db, "t_ingest", "second").await;
    first.does("begin").await;
    first.does(&enqueue_sql("i", "k", "a", "")).await;
    second.starts(&enqueue_sql("i", "k", "a", ""));
    second.waits(&mut world.dba).await;
    first.does("rollback").await;
    assert!(second.ends().await.unwrap()[0].get::<bool, _>("created"));
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn sixteen_concurrent_enqueues_of_one_instruction_make_one_payment() {
    let mut world = World::new().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let mut session = world.session("t_ingest");
        tasks.spawn(async move { enqueue_batch(&mut session, &[payment("i")], Hint::Wake).await.unwrap().remove(0) });
    }
    let done = tasks.join_all().await;
    assert_eq!(done.iter().filter(|enqueued| enqueued.created).count(), 1);
    assert!(done.iter().all(|enqueued| enqueued.outbox_id == done[0].outbox_id));
    assert_eq!(count(&mut world, "payment_outbox_pending").await, 1);
}

#[tokio::test]
async fn enqueue_inside_a_transaction_exists_only_if_it_commits() {
    let mut world = World::new().await;
    let mut connection = world.db.connect_as("t_ingest").await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    let lost = enqueue_in(&mut transaction, &[payment("i")], Hint::Wake).await.unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(count(&mut world, "payment_outbox_identities").await, 0);
    assert_eq!(count(&mut world, "payment_outbox_instructions").await, 0);

    let mut transaction = connection.begin().await.unwrap();
    let kept = enqueue_in(&mut transaction, &[payment("i")], Hint::Wake).await.unwrap();
    assert!(world.worker("w").claim(1).await.leased.is_empty(), "claimed before the commit");
    transaction.commit().await.unwrap();
    assert!(lost[0].created && kept[0].created);
    assert_eq!(world.worker("w").claim_one().await.outbox_id, kept[0].outbox_id);
}

#[tokio::test]
async fn single_text_and_batch_forms_are_the_same_request() {
    let world = World::new().await;
    let mut ingest = world.db.connect_as("t_ingest").await.unwrap();
    let grüße = NewPayment { payload: "Grüße".as_bytes().to_vec(), ..payment("i") };
    let batch = enqueue_batch(&mut world.session("t_ingest"), &[grüße], Hint::Wake).await.unwrap()[0];
    let single = "select * from outbox.enqueue_payment_outbox('acme', 'i', 'key-i', 'wire', '\\x4772c3bcc39f65', \
                  'application/xml', 1250, 'EUR')";
    let text = "select * from outbox.enqueue_payment_outbox_text('acme', 'i', 'key-i', 'wire', 'Grüße', \
                'application/xml', 1250, 'EUR')";
    for form in [single, text] {
        let row = fetch(&mut ingest, form).await.remove(0);
        assert_eq!((row.get::<Uuid, _>("outbox_id"), row.get::<bool, _>("created")), (batch.outbox_id.0, false));
    }
}

#[tokio::test]
async fn two_requests_whose_values_run_together_to_the_same_bytes_are_two_requests() {
    let mut world = World::new().await;
    // 4702111234474983745 is the bytes of AAAAAAAA.
    let requests = [
        "'wire', 'x', 'a/bAAAAAAAA', null, 'EUR'",
        "'wire', 'x', 'a/b', 4702111234474983745, 'EUR'",
        "'wire', 'x', 'a/b', null, 'AAAAAAAAEUR'",
        "'wire', 'x', 'a/bAAAAAAAAEUR', null, null",
    ];
    let mut hashes = std::collections::BTreeSet::new();
    for request in requests {
        let call = format!("select outbox.payment_identity_sha256({request}, null, null, null)");
        assert!(hashes.insert(scalar::<Vec<u8>>(&mut world.dba, &call).await), "{request}");
    }
}
