//! Calls whose futures are dropped at any moment: the daemon drops them at every timeout and shutdown. What
//! a call was told stays true, nothing is lost, and no server process is left inside a transaction.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use outbox_core::Outcome;
use outbox_store::{HeldLease, Hint, NewPayment, enqueue_batch, release_leases, renew_leases};
use outbox_testkit::wait_until;

use crate::conservation::assert_conserved;
use crate::seed::Seed;
use crate::sql::{run, scalar};
use crate::world::{Worker, World, completion, lease, payment};

const CALLS: usize = 3_000;
const TASKS: usize = 4;

/// A future that is dropped after so many polls, unless it has ended before.
struct Cut<F> {
    inner: Pin<Box<F>>,
    polls_left: usize,
}

fn cut<F: Future>(inner: F, polls: usize) -> Cut<F> {
    Cut { inner: Box::pin(inner), polls_left: polls }
}

impl<F: Future> Future for Cut<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls_left == 0 {
            return Poll::Ready(None);
        }
        self.polls_left -= 1;
        match self.inner.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            // Out of polls: end now, not when the server's answer wakes us.
            Poll::Pending if self.polls_left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// What one task did, and was told.
#[derive(Debug, Default)]
struct Told {
    recorded: Vec<String>,
    cut: usize,
}

/// One task's calls: its own sessions, the same payments as everybody.
async fn calls(world: &World, task: usize, seed: u64) -> Told {
    let mut seed = Seed::new(seed);
    let mut ingest = world.session("t_ingest");
    let mut worker: Worker = world.worker(&format!("w{task}"));
    let mut held: Vec<HeldLease> = Vec::new();
    let mut told = Told::default();
    for n in 0..CALLS / TASKS {
        // Connecting takes about ten, a call on an open connection two or three.
        let polls = seed.below(24);
        let done = match seed.below(5) {
            0 => {
                let names: Vec<String> = (0..3).map(|one| format!("{task}-{n}-{one}")).collect();
                let payments: Vec<NewPayment> = names.iter().map(|name| payment(name)).collect();
                let result = cut(enqueue_batch(&mut ingest, &payments, Hint::Wake), polls).await;
                told.recorded.extend(result.iter().flat_map(|done| done.as_ref().map(|_| names.clone())).flatten());
                result.map(|done| assert!(done.is_ok(), "{done:?}"))
            }
            1 => {
                let request = worker.request(4);
                let result = cut(outbox_store::claim(&mut worker.session, &request), polls).await;
                // An unacknowledged claim is never used; its leases run out.
                held.extend(result.iter().flat_map(|done| done.as_ref().unwrap().leased.iter().map(lease)));
                result.map(drop)
            }
            2 => cut(renew_leases(&mut worker.session, &worker.id, &held), polls).await.map(|done| drop(done.unwrap())),
            3 => {
                let some = held.split_off(held.len() / 2);
                let result = cut(release_leases(&mut worker.session, &worker.id, &some), polls).await;
                result.map(|done| drop(done.unwrap()))
            }
            _ => {
                let outcome = *seed.pick(&Outcome::ALL);
                let some: Vec<_> = held.drain(..held.len() / 2).map(|one| completion(one, outcome)).collect();
                cut(worker.try_complete(&some), polls).await.map(|done| drop(done.unwrap()))
            }
        };
        told.cut += usize::from(done.is_none());
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_cut_off_at_random_lose_nothing_and_leave_no_transaction_open() {
    let mut world = World::new().await;
    world.contract("max_sends = 1000").await;
    let seed = Seed::of_this_run();
    println!("OUTBOXD_TEST_SEED={seed}");
    let (a, b, c, d) = tokio::join!(
        calls(&world, 0, seed),
        calls(&world, 1, seed ^ 1),
        calls(&world, 2, seed ^ 2),
        calls(&world, 3, seed ^ 3)
    );
    let all = [a, b, c, d];
    let cut: usize = all.iter().map(|told| told.cut).sum();
    assert!(cut > CALLS / 10 && cut < CALLS, "{cut} of {CALLS} calls were cut");

    // The server finishes what it was sent, then notices that the caller is gone.
    let name = world.db.name().to_owned();
    let busy = format!(
        "select not exists (select from pg_stat_activity where datname = '{name}' and pid <> pg_backend_pid() \
         and state in ('active', 'idle in transaction', 'idle in transaction (aborted)'))"
    );
    let dba = &mut world.dba;
    wait_until("every server process at rest", Duration::from_secs(20), async || scalar(dba, &busy).await)
        .await
        .unwrap();
    let locks: i64 = scalar(
        &mut world.dba,
        "select count(*) from pg_locks l join pg_class c on c.oid = l.relation where c.relname ~ '^payment_outbox' \
         and l.pid <> pg_backend_pid() and l.database = (select oid from pg_database where datname = current_database())",
    )
    .await;
    assert_eq!(locks, 0);
    assert_conserved(&mut world.dba).await;
    let recorded: Vec<String> = all.into_iter().flat_map(|told| told.recorded).collect();
    let list = recorded.iter().map(|name| format!("('{name}')")).collect::<Vec<_>>().join(", ");
    let vanished: i64 = scalar(
        &mut world.dba,
        &format!(
            "select count(*) from (values {list}) as told (name) \
             where not exists (select from outbox.payment_outbox_identities i where i.instruction_id = told.name)"
        ),
    )
    .await;
    assert!(recorded.len() > 100 && vanished == 0, "{vanished} of {} payments vanished", recorded.len());
    every_payment_can_still_be_paid(&mut world).await;
}

async fn every_payment_can_still_be_paid(world: &mut World) {
    run(
        &mut world.dba,
        "update outbox.payment_outbox_pending set lease_expires_at = clock_timestamp() where lease_token is not null;
         update outbox.payment_outbox_pending set disposition = 'READY', hold_reason = null, late_success = false;
         update outbox.payment_rails set max_crashes = 1000",
    )
    .await;
    let mut worker = world.worker("last");
    loop {
        let batch = worker.claim(500).await;
        let all: Vec<_> = batch.leased.iter().map(|claimed| completion(lease(claimed), Outcome::Accepted)).collect();
        worker.complete(&all).await;
        if all.is_empty() && batch.summary.expired == 0 {
            break;
        }
    }
    let left: i64 = scalar(&mut world.dba, "select count(*) from outbox.payment_outbox_pending").await;
    assert_eq!(left, 0);
    assert_conserved(&mut world.dba).await;
}

#[tokio::test]
async fn call_cut_off_at_any_poll_leaves_no_transaction_behind_its_session() {
    let mut world = World::new().await;
    for polls in 0..10 {
        let mut session = world.session("t_ingest");
        let pid: i32 = {
            // Connected and at rest.
            enqueue_batch(&mut session, &[payment(&format!("before-{polls}"))], Hint::Wake).await.unwrap();
            let text = "select max(pid) from pg_stat_activity where usename = 't_ingest' and datname = current_database() \
                        and backend_start = (select max(backend_start) from pg_stat_activity where usename = 't_ingest' \
                        and datname = current_database())";
            scalar(&mut world.dba, text).await
        };
        let done = cut(enqueue_batch(&mut session, &[payment(&format!("cut-{polls}"))], Hint::Wake), polls).await;
        // The session is alive, cut off or not, while we look at its process.
        let rest = format!("select not exists (select from pg_stat_activity where pid = {pid} and state <> 'idle')");
        let dba = &mut world.dba;
        let at_rest =
            wait_until("the process at rest or gone", Duration::from_secs(5), async || scalar(dba, &rest).await);
        assert!(at_rest.await.is_ok(), "cut off after {polls} polls, a transaction stayed open");
        let again = enqueue_batch(&mut session, &[payment(&format!("cut-{polls}"))], Hint::Wake).await.unwrap();
        assert!(done.is_none() || !again[0].created, "a payment that was acknowledged vanished");
    }
    assert_conserved(&mut world.dba).await;
}
