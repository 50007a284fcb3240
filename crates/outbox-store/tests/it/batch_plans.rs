//! What each call on a batch costs when the planner believes the queue empty. Vacuum sees it so at every quiet
//! moment, and a plan for one row reads the batch again for each of its rows: 2,000 completions took 7 s. What is
//! counted is the rows that went through each node of the plans that the server ran, never time.

use outbox_testkit::TestDb;

use crate::sql::run;
use crate::world::World;

/// Payments of a batch.
const BATCH: usize = 600;

/// What a node may handle of each payment: a few looks. Quadratic is 600.
const MOST_PER_PAYMENT: usize = 8;

/// Every row that a node of a plan returned or threw away, loop by loop, with the line that says so.
pub(crate) fn rows_handled(plans: &str) -> Vec<(usize, String)> {
    let mut handled = Vec::new();
    let mut loops = 1;
    for line in plans.lines() {
        if let Some((_, actual)) = line.split_once("(actual ") {
            loops = number_after(actual, "loops=").unwrap_or(1);
            handled.push((number_after(actual, "rows=").unwrap_or(0) * loops, line.trim().to_owned()));
        } else if line.contains("Rows Removed by") {
            let removed = number_after(line, ": ").unwrap_or(0);
            handled.push((removed * loops, line.trim().to_owned()));
        }
    }
    handled
}

/// The whole number that follows `mark`; PostgreSQL 18 writes rows with two decimals.
fn number_after(text: &str, mark: &str) -> Option<usize> {
    let (_, rest) = text.split_once(mark)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Runs `call` in a session that tells the plans of all statements inside functions; returns its rows, and the plans.
pub(crate) fn plans_told(db: &TestDb, call: &str) -> (String, String) {
    let script = format!(
        "set client_min_messages = error; load 'auto_explain'; set auto_explain.log_min_duration = 0; \
         set auto_explain.log_analyze = on; set auto_explain.log_timing = off; \
         set auto_explain.log_wal = on; set auto_explain.log_nested_statements = on; set auto_explain.log_level = notice; \
         set client_min_messages = notice; {call}"
    );
    let output = std::process::Command::new("psql")
        .args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", &db.url("postgres"), "-c", &script])
        .output()
        .expect("psql is needed for this test");
    let (rows, plans) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{call}: {plans}");
    (rows.trim().to_owned(), plans.into_owned())
}

/// The plans of `call`, which must count a whole batch.
fn plans_of(db: &TestDb, call: &str) -> String {
    let (rows, plans) = plans_told(db, call);
    assert_eq!(rows, BATCH.to_string(), "{call}: the batch is not whole");
    plans
}

/// Asserts that no node of any plan of `call` handles more than a few rows for each payment.
fn assert_linear(db: &TestDb, call: &str) {
    assert_within(db, call, MOST_PER_PAYMENT);
}

fn assert_within(db: &TestDb, call: &str, most_per_payment: usize) {
    let plans = plans_of(db, call);
    let (most, line) = rows_handled(&plans).into_iter().max().expect("no plan was told");
    assert!(most >= BATCH, "the plans of the call are not among those told: {plans}");
    assert!(most <= BATCH * most_per_payment, "{call}: {most} rows for {BATCH} payments in `{line}`: {plans}");
}

/// The arrays that name every lease of the queue, in order of id.
const LEASES: &str = "array_agg(outbox_id order by outbox_id), array_agg(attempt_count order by outbox_id), \
                      array_agg(lease_token order by outbox_id)";

/// Keeps what was leased in a table, as a dispatcher keeps it in memory.
pub(crate) const KEEP: &str = "create table kept as select outbox_id, attempt_count, lease_token from outbox.payment_outbox_pending \
                               where lease_token is not null; analyze kept";

/// Completes every lease of the queue, whoever holds it now, as `outcome`.
pub(crate) fn complete_all(outcome: &str) -> String {
    let each = |value: &str| format!("array_agg({value} order by outbox_id)");
    let nulls = ["timestamptz", "timestamptz", "text", "bytea", "bytea"].map(|kind| each(&format!("null::{kind}")));
    let texts = ["'ref'::text", "null::text", "null::text", "null::text"].map(each);
    format!(
        "select count(*) from (select {LEASES}, {outcome}, {delay}, {nulls}, {texts} from kept) as k (a, b, c, d, e, f, g, h, \
         i, j, k, l, m, n), outbox.complete_outbox_batch('w', a, b, c, d, e, f, g, h, i, j, k, l, m, n)",
        outcome = each(&format!("'{outcome}'::text")),
        delay = each("0::bigint"),
        nulls = nulls.join(", "),
        texts = texts.join(", "),
    )
}

const CLAIM: &str = "select count(*) from outbox.claim_outbox_batch('wire', 'w', 600, 1, 0) where kind = 'SUBMIT'";
const CLAIM_HOLDS: &str = "select count(*) from outbox.claim_outbox_batch('wire', 'w', 600, 1, 0) where kind = 'HELD'";

/// A world whose queue vacuum saw empty, and then `BATCH` payments.
async fn believed_empty() -> World {
    let mut world = World::new().await;
    world.enqueue("warm", 1).await;
    run(&mut world.dba, "delete from outbox.payment_outbox_pending").await;
    run(&mut world.dba, "vacuum (analyze, truncate off) outbox.payment_outbox_pending").await;
    world.enqueue("p", BATCH).await;
    world
}

impl World {
    /// Claims everything and keeps what was leased in a table, as a dispatcher keeps it in memory.
    async fn claim_all(&mut self) {
        assert_linear(&self.db, CLAIM);
        run(&mut self.dba, KEEP).await;
    }

    async fn change_all(&mut self, assignments: &str) {
        run(&mut self.dba, &format!("update outbox.payment_outbox_pending set {assignments}")).await;
    }

    async fn lose_all(&mut self) {
        self.change_all("lease_expires_at = clock_timestamp() - interval '1 ms'").await;
    }
}

#[tokio::test]
async fn claiming_and_renewing_a_batch_handles_each_payment_a_few_times_in_a_queue_believed_empty() {
    let mut world = believed_empty().await;
    world.claim_all().await;
    let renew = format!(
        "select count(*) from (select {LEASES} from kept) as k (a, b, c), outbox.renew_outbox_leases('w', a, b, c)"
    );
    assert_linear(&world.db, &renew);
}

#[tokio::test]
async fn completing_a_batch_handles_each_payment_a_few_times_in_a_queue_believed_empty() {
    for outcome in ["ACCEPTED", "REFUSED", "UNKNOWN", "RELEASED"] {
        let mut world = believed_empty().await;
        world.claim_all().await;
        assert_linear(&world.db, &complete_all(outcome));
    }
}

#[tokio::test]
async fn late_results_of_a_batch_handle_each_payment_a_few_times_in_a_queue_believed_empty() {
    let mut world = believed_empty().await;
    world.claim_all().await;
    world.lose_all().await;
    assert_linear(&world.db, &complete_all("ACCEPTED"));
    // And again: what is recorded already is found, not recorded twice.
    assert_linear(&world.db, &complete_all("ACCEPTED"));
}

#[tokio::test]
async fn settling_a_batch_of_lost_leases_handles_each_payment_a_few_times_in_a_queue_believed_empty() {
    let mut world = believed_empty().await;
    world.contract("on_unknown = 'hold'").await;
    world.claim_all().await;
    world.lose_all().await;
    assert_linear(&world.db, CLAIM_HOLDS);
}

#[tokio::test]
async fn expiring_the_leases_of_a_paused_rail_handles_each_payment_a_few_times_in_a_queue_believed_empty() {
    let mut world = believed_empty().await;
    world.claim_all().await;
    world.lose_all().await;
    assert_linear(&world.db, "select count(outbox_id) from outbox.expire_outbox_leases('wire', 600)");
}

#[tokio::test]
async fn holding_a_batch_that_missed_its_window_handles_each_payment_a_few_times_in_a_queue_believed_empty() {
    let mut world = believed_empty().await;
    world.change_all("not_after = now() - interval '1 s'").await;
    assert_linear(&world.db, CLAIM_HOLDS);
}

/// Enqueues every attested request.
const ENQUEUE_ATTESTED: &str = "select count(*) from (select array_agg(participant_id order by attestation_id) as who, \
     array_agg(instruction_id order by attestation_id) as id, array_agg('wire'::text) as rail, array_agg('x'::bytea) as payload, \
     array_agg('text/plain'::text) as type, array_agg(1::bigint) as amount, array_agg('EUR'::text) as currency, \
     array_agg(null::timestamptz) as never, array_agg(null::text) as none, array_agg(attestation_id order by attestation_id) as attested \
     from outbox.ingress_attestations) as b, \
     outbox.enqueue_payment_outbox_batch(who, id, id, rail, payload, type, amount, currency, never, never, none, none, attested)";

#[tokio::test]
async fn enqueueing_an_attested_batch_handles_each_payment_a_few_times_in_tables_believed_empty() {
    let mut world = World::new().await;
    world.contract("require_attestation = true").await;
    run(&mut world.dba, "vacuum analyze outbox.ingress_attestations").await;
    run(
        &mut world.dba,
        &format!(
            "select count(a.attestation_id) from generate_series(1, {BATCH}) as n, lateral outbox.record_ingress_attestation(
                 'r' || n, 'acme', 'i' || n, now(), sha256('x'), 'JWT', 'ACCEPTED', p_key_id => 'k', p_jti => 'j' || n) as a"
        ),
    )
    .await;
    // Each payment is judged by one row for each of its thirteen columns.
    assert_within(&world.db, ENQUEUE_ATTESTED, 13);
}

#[tokio::test]
async fn listing_a_page_handles_each_payment_a_few_times_in_tables_believed_empty() {
    let mut world = believed_empty().await;
    run(
        &mut world.dba,
        "vacuum analyze outbox.operator_action_members, outbox.operator_actions, outbox.operator_action_results",
    )
    .await;
    // Each was held by a person, and is named by a proposal that nobody decided on.
    let act = |kind: &str, rest: &str| {
        format!(
            "insert into outbox.operator_actions select gen_random_uuid(), '{kind}', null, null, '{{}}', 'r', null, true, 600, sha256(''), '{{}}', 'm', now(); \
             insert into outbox.operator_action_members select a.action_id, p.outbox_id, 'HELD', 'REQUESTED', false, 0, 1, 'EUR' \
             from outbox.payment_outbox_pending p, outbox.operator_actions a where a.kind = '{kind}'; {rest}"
        )
    };
    let held = "insert into outbox.operator_action_results select m.action_id, m.outbox_id, 'APPLIED', null, null, 'm', now() \
                from outbox.operator_action_members m";
    run(&mut world.dba, &act("HOLD", held)).await;
    run(&mut world.dba, &act("RELEASE", "")).await;
    world.change_all("disposition = 'HELD', hold_reason = 'REQUESTED'").await;
    assert_linear(
        &world.db,
        "select count(taken_up_by) from outbox.read_outbox_payments(p_limit => 1000) where waits_for = 'approver'",
    );
}
