//! How many statements a payment takes: those that are sent, each a transaction of its own, and those that run inside of them, as
//! `pg_stat_statements` counts them. On a server of its own, which has that loaded and where nobody else runs anything.

use outbox_core::{Millis, Outcome};
use outbox_store::{
    ClaimedPayment, Completion, CompletionVerdict, Hint, NewPayment, RenewVerdict, Session, enqueue_batch, renew_leases,
};
use outbox_testkit::{PgServer, PgVersion, ServerSettings, TestDb};

use crate::cost::BATCH;
use crate::enqueue_identity::enqueue_sql;
use crate::sql::{fetch, run, scalar};
use crate::world::{Worker, World, completion, lease, payment};
use sqlx::Row as _;

/// What was taken between two looks.
#[derive(Debug, Clone, Copy)]
struct Taken {
    /// Statements that were sent.
    sent: i64,
    /// Statements that ran inside of those, in functions.
    inside: i64,
    /// How often the one ran inside that ran most often of those that looked at a table or an index.
    most_of_one: i64,
    /// Transactions that wrote, and the parts of one that can be rolled back alone.
    transactions: i64,
}

/// A database on a server that counts, and the sessions of an ingest and of a dispatcher.
struct Counted {
    world: World,
    ingest: Session,
    worker: Worker,
    first_transaction: i64,
    /// Whether each payment is enqueued under an ordering key of its own.
    is_ordered: bool,
    /// The last to go.
    _server: PgServer,
}

impl Counted {
    /// The sessions have made each call before: what a connection begins with is not what a payment costs.
    async fn new() -> Self {
        let lines =
            ["shared_preload_libraries = 'pg_stat_statements'", "pg_stat_statements.track = all", "autovacuum = off"];
        let settings = ServerSettings { configuration: lines.map(str::to_owned).to_vec(), ..ServerSettings::default() };
        let server = PgServer::start_with(PgVersion::from_environment().unwrap(), &settings).unwrap();
        let mut world = World::on(TestDb::create_on(server.address()).await.unwrap()).await;
        run(&mut world.dba, "create extension pg_stat_statements").await;
        let (ingest, worker) = (world.session("t_ingest"), world.worker("w"));
        let mut counted = Self { world, ingest, worker, first_transaction: 0, is_ordered: false, _server: server };
        counted.enqueue("warm", 1).await;
        let warm = counted.worker.claim(1).await.leased;
        counted.complete(&warm, Outcome::Accepted).await;
        counted.begin().await;
        counted
    }

    async fn next_transaction(&mut self) -> i64 {
        scalar(&mut self.world.dba, "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint").await
    }

    async fn begin(&mut self) {
        run(&mut self.world.dba, "select pg_stat_statements_reset()").await;
        self.first_transaction = self.next_transaction().await;
    }

    /// What was taken since the last look, by everybody but the superuser. What runs inside as the superuser is counted.
    async fn taken(&mut self) -> Taken {
        let transactions = self.next_transaction().await - self.first_transaction;
        let text = "select coalesce(sum(calls) filter (where toplevel and userid <> 'postgres'::regrole), 0)::bigint, \
                    coalesce(sum(calls) filter (where not toplevel), 0)::bigint, \
                    coalesce(max(calls) filter (where not toplevel and shared_blks_hit + shared_blks_read > 0), 0)::bigint \
                    from pg_stat_statements";
        let row = fetch(&mut self.world.dba, text).await.remove(0);
        self.begin().await;
        Taken { sent: row.get(0), inside: row.get(1), most_of_one: row.get(2), transactions }
    }

    async fn enqueue(&mut self, prefix: &str, count: u32) {
        let names = (0..count).map(|n| format!("{prefix}-{n}"));
        let key = |name: &String| self.is_ordered.then(|| name.clone());
        let payments: Vec<NewPayment> =
            names.map(|name| NewPayment { ordering_key: key(&name), ..payment(&name) }).collect();
        enqueue_batch(&mut self.ingest, &payments, Hint::Wake).await.unwrap();
    }

    /// Enqueues, claims, renews and completes `count` payments, each in one call: what each of the four took.
    async fn life(&mut self, outcome: Outcome, count: u32) -> [Taken; 4] {
        self.enqueue(&format!("{outcome:?}-{count}"), count).await;
        let enqueued = self.taken().await;
        let leased = self.worker.claim(count).await.leased;
        assert_eq!(leased.len(), count as usize);
        let claimed = self.taken().await;
        let leases: Vec<_> = leased.iter().map(lease).collect();
        let verdicts = renew_leases(&mut self.worker.session, &self.worker.id, &leases).await.unwrap();
        assert!(verdicts.iter().all(|verdict| matches!(verdict, RenewVerdict::Renewed(_))), "{verdicts:?}");
        let renewed = self.taken().await;
        self.complete(&leased, outcome).await;
        [enqueued, claimed, renewed, self.taken().await]
    }

    /// Completes in one call, with results that leave nothing due.
    async fn complete(&mut self, leased: &[ClaimedPayment], outcome: Outcome) {
        let of = |claimed| Completion { delay: Millis(3_600_000), ..completion(lease(claimed), outcome) };
        let results: Vec<Completion> = leased.iter().map(of).collect();
        let verdicts = self.worker.complete(&results).await;
        assert!(verdicts.iter().all(|verdict| matches!(verdict, CompletionVerdict::Applied { .. })), "{verdicts:?}");
    }
}

#[tokio::test]
async fn a_payment_takes_no_more_statements_and_transactions_than_are_written_down() {
    const BATCHES: i64 = 10;
    let mut counted = Counted::new().await;
    for part in 0..BATCHES {
        counted.enqueue(&part.to_string(), BATCH).await;
    }
    let enqueued = counted.taken().await;
    let mut cursor = None;
    for _ in 0..BATCHES {
        let claimed = counted.worker.claim_after(BATCH, cursor).await;
        cursor = claimed.summary.cursor;
        assert_eq!(claimed.leased.len(), BATCH as usize);
        counted.complete(&claimed.leased, Outcome::Accepted).await;
    }
    let dispatched = counted.taken().await;
    // One enqueues a batch; one claims it, and one completes it.
    for (taken, most) in [(enqueued, BATCHES), (dispatched, 2 * BATCHES)] {
        assert!((1..=most).contains(&taken.sent), "{taken:?} for {BATCHES} batches");
        assert!((1..=most).contains(&taken.transactions), "{taken:?} for {BATCHES} batches");
    }
}

#[tokio::test]
async fn no_call_runs_a_statement_inside_for_each_payment() {
    let mut counted = Counted::new().await;
    let few = counted.life(Outcome::Accepted, 5).await;
    let many = counted.life(Outcome::Accepted, BATCH).await;
    let calls = [("enqueue of a batch", 13), ("claim", 17), ("renewal", 3), ("completion", 8)];
    for ((call, most), (few, many)) in calls.into_iter().zip(few.iter().zip(&many)) {
        assert_eq!((few.sent, many.sent), (1, 1), "{call}");
        assert!((1..=most).contains(&few.inside), "{call} of 5: {few:?}");
        assert!(many.inside <= few.inside, "{call} of 5: {few:?}, of {BATCH}: {many:?}");
    }
    let mut ingest = counted.world.db.connect_as("t_ingest").await.unwrap();
    counted.begin().await;
    run(&mut ingest, &enqueue_sql("alone", "k", "x", "")).await;
    let alone = counted.taken().await;
    assert!(alone.sent == 1 && alone.transactions == 1 && (1..=7).contains(&alone.inside), "enqueue alone: {alone:?}");
}

#[tokio::test]
async fn results_that_are_no_acceptances_run_one_statement_without_a_table_for_each_payment_and_no_more() {
    let mut counted = Counted::new().await;
    for outcome in [Outcome::Refused, Outcome::NotSent, Outcome::Unknown] {
        let [.., few] = counted.life(outcome, 5).await;
        let [.., many] = counted.life(outcome, BATCH).await;
        assert_eq!((few.sent, many.sent), (1, 1), "{outcome:?}");
        // `hold_reason_after`, which the planner does not put into the caller's statement.
        assert!((1..=17).contains(&few.inside), "{outcome:?} of 5: {few:?}");
        assert!(many.inside - few.inside <= i64::from(BATCH - 5), "{outcome:?} of 5: {few:?}, of {BATCH}: {many:?}");
        assert!((1..=few.most_of_one).contains(&many.most_of_one), "{outcome:?} of 5: {few:?}, of {BATCH}: {many:?}");
    }
}

#[tokio::test]
async fn an_ordering_key_costs_a_payment_no_more_than_five_statements_inside() {
    let mut counted = Counted::new().await;
    counted.is_ordered = true;
    let few = counted.life(Outcome::Accepted, 5).await;
    let many = counted.life(Outcome::Accepted, BATCH).await;
    // The key's lock, and who is before it; who is before it, and which participants are paused; who comes next.
    let calls = [("enqueue of a batch", 2), ("claim", 2), ("renewal", 0), ("completion", 1)];
    for ((call, most), (few, many)) in calls.into_iter().zip(few.iter().zip(&many)) {
        assert_eq!((few.sent, many.sent), (1, 1), "{call}");
        assert!(many.inside - few.inside <= most * i64::from(BATCH - 5), "{call} of 5: {few:?}, of {BATCH}: {many:?}");
    }
}
