//! What a payment without an ordering key pays for the order of others: nothing. Plans are the server's own, and the
//! records of the log are those that it counted for the call; time is not looked at. On a server of its own, where nobody
//! else's end of a database writes a checkpoint: after one, to read a page with checksums writes a record.

use std::collections::BTreeSet;

use outbox_store::{Hint, NewPayment, enqueue_batch};
use outbox_testkit::{PgServer, PgVersion, TestDb};

use crate::batch_plans::plans_told;
use crate::sql::run;
use crate::world::{World, payment};

/// Payments in one batch.
const BATCH: usize = 500;

/// How many records more, in thousandths, the log may get because an index has its page splits elsewhere.
const SPLITS: i64 = 10;

/// Records of the log that a payment without a key costs, at most, in hundredths: to enqueue, to claim, to complete it. What
/// is written is the identity, the instruction, the row of the queue and the attempt, with their indexes.
const CEILINGS: [i64; 3] = [810, 210, 510];

/// The calls of a payment's life, each on the whole batch. `KEY` is the ordering key of payment `n`; what a dispatcher
/// would keep in memory is in `kept`.
const ENQUEUE: &str = "select count(*) from (select array_agg('i' || n order by n) as id, array_agg('acme'::text) as who, \
     array_agg('wire'::text) as rail, array_agg('x'::bytea) as payload, array_agg('text/plain'::text) as type, \
     array_agg(1::bigint) as amount, array_agg('EUR'::text) as currency, array_agg(null::timestamptz) as never, \
     array_agg(null::text) as none, array_agg(KEY) as key, array_agg(null::uuid) as nobody from generate_series(1, 500) as n) as b, \
     outbox.enqueue_payment_outbox_batch(who, id, id, rail, payload, type, amount, currency, never, never, key, none, nobody)";
const CLAIM: &str = "select count(*) from outbox.claim_outbox_batch('wire', 'w', 500, 1, 0) where kind = 'SUBMIT'";
const COMPLETE: &str = "select count(*) from (select array_agg(outbox_id order by outbox_id) as a, array_agg(attempt_count order by outbox_id) as b, \
     array_agg(lease_token order by outbox_id) as c, array_agg('ACCEPTED'::text) as d, array_agg(0::bigint) as e, \
     array_agg(null::timestamptz) as t, array_agg('ref'::text) as r, array_agg(null::text) as n, array_agg(null::bytea) as h \
     from kept) as k, outbox.complete_outbox_batch('w', a, b, c, d, e, t, t, n, h, h, r, n, n, n)";

/// A call on a batch: the nodes of its plans that were executed, and the records that it wrote to the log.
struct Call {
    nodes: BTreeSet<String>,
    records: i64,
}

impl Call {
    fn on(world: &World, text: &str) -> Self {
        let (count, plans) = plans_told(&world.db, text);
        assert_eq!(count, BATCH.to_string(), "{text}");
        let node = |line: &&str| line.contains("(cost=") && !line.contains("(never executed)");
        let drawn = |line: &str| line.split("  (cost").next().unwrap().trim().to_owned();
        // The plan of the call itself is told last, and counts what the functions in it wrote.
        let (_, counted) = plans.rsplit("duration:").next().unwrap().split_once("WAL: records=").unwrap();
        let records = counted.split(' ').next().unwrap().parse().unwrap();
        Self { nodes: plans.lines().filter(node).map(drawn).collect(), records }
    }
}

/// What a batch costs in its life: enqueued, claimed, completed.
async fn life(world: &mut World, key: &str) -> [Call; 3] {
    let enqueued = Call::on(world, &ENQUEUE.replace("KEY", key));
    let claimed = Call::on(world, CLAIM);
    let kept = "create table kept as select outbox_id, attempt_count, lease_token from outbox.payment_outbox_pending \
                where claimed_by = 'w'; analyze kept";
    run(&mut world.dba, kept).await;
    [enqueued, claimed, Call::on(world, COMPLETE)]
}

/// A world where 2,000 payments of others wait: under fifty keys, each behind its first, or without a key.
async fn others_wait(server: &PgServer, with_key: bool) -> World {
    let mut world = World::on(TestDb::create_on(server.address()).await.unwrap()).await;
    let key = |n: usize| with_key.then(|| format!("k{}", n % 50));
    let others: Vec<NewPayment> =
        (0..2_000).map(|n| NewPayment { ordering_key: key(n), ..payment(&format!("other-{n}")) }).collect();
    for part in others.chunks(500) {
        enqueue_batch(&mut world.session("t_ingest"), part, Hint::Quiet).await.unwrap();
    }
    let leased = world.worker("other").claim(2_000).await.leased.len();
    assert_eq!(leased, if with_key { 50 } else { 2_000 });
    run(&mut world.dba, "vacuum (analyze, truncate off)").await;
    world
}

#[tokio::test]
async fn payments_without_a_key_have_the_plans_and_the_log_of_a_queue_that_knows_no_order() {
    let server = PgServer::start(PgVersion::from_environment().unwrap()).unwrap();
    let unordered = life(&mut others_wait(&server, false).await, "null::text").await;
    let beside = life(&mut others_wait(&server, true).await, "null::text").await;
    let ordered = life(&mut others_wait(&server, true).await, "'own' || n").await;
    for (call, ((unordered, beside), ordered)) in unordered.iter().zip(&beside).zip(&ordered).enumerate() {
        assert_eq!(unordered.nodes, beside.nodes, "call {call}");
        let ceiling = CEILINGS[call] * BATCH as i64 / 100;
        assert!(beside.records <= ceiling, "call {call}: {} records, {ceiling} at most", beside.records);
        let more = (beside.records - unordered.records).abs() * 1_000;
        assert!(
            more <= SPLITS * unordered.records,
            "call {call}: {} and {} records",
            unordered.records,
            beside.records
        );
        let of_order = |node: &&String| node.contains("payment_outbox_order") || node.contains("unparking");
        assert_eq!(beside.nodes.iter().find(of_order), None, "call {call}");
        // A key does cost something, so a difference would be seen.
        assert_ne!(ordered.nodes, beside.nodes, "call {call}");
    }
    let records = |life: &[Call; 3]| life.iter().map(|call| call.records).sum::<i64>();
    assert!(records(&ordered) > records(&beside) * 11 / 10, "a key writes nothing");
}
