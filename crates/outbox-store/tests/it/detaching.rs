//! Detaching a month: what keeps it from going, what an interruption leaves, and who waits for it.

use std::time::Duration;

use outbox_core::{OutboxId, Outcome};
use outbox_store::{ActionKind, AuditScope, Detaching, MonthToDetach, PartitionStep, decide_action};

use crate::control::Desk;
use crate::old_month::{DAY, OldMonth};
use crate::sql::{column, refused, run, scalar};
use crate::steps::Actor;
use crate::world::{completion, lease};

/// Months after the old one.
fn later(old: &OldMonth, months: i32) -> time::Date {
    let mut month = old.month;
    for _ in 0..months {
        let year = if month.month() == time::Month::December { month.year() + 1 } else { month.year() };
        month = time::Date::from_calendar_date(year, month.month().next(), 1).unwrap();
    }
    month
}

async fn next_of(old: &OldMonth, month: time::Date, min_age_ms: i64) -> PartitionStep {
    let month = MonthToDetach { holds: "PAYMENTS".to_owned(), month, min_age_ms };
    let mut detaching = Detaching::begin(&old.settings(20_000), Duration::from_secs(20), month).await.unwrap();
    let step = detaching.next().await.unwrap();
    // Sealing looks for itself: nobody has to have asked before.
    let sealed = detaching.take(&PartitionStep::Seal).await.unwrap();
    match &step {
        PartitionStep::Refused(why) => assert_eq!(&sealed, why),
        _ => assert_eq!(sealed, Vec::<String>::new()),
    }
    detaching.end().await;
    step
}

/// What is open, put there by force, the words of the refusal, and how it is taken back.
const OPEN: [(&str, &str, &str); 8] = [
    (
        "insert into outbox.payment_outbox_pending (outbox_id, rail, participant_id, next_attempt_at, created_at) values ('{id}', 'wire', 'acme', now(), now())",
        "1 payments are pending (ready), such as {id}",
        "delete from outbox.payment_outbox_pending",
    ),
    (
        "insert into outbox.payment_outbox_pending (outbox_id, rail, participant_id, next_attempt_at, created_at, disposition, in_doubt_since) \
         values ('{id}', 'wire', 'acme', now(), now(), 'IN_DOUBT', now())",
        "1 payments are pending (in_doubt), such as {id}",
        "delete from outbox.payment_outbox_pending",
    ),
    (
        "insert into outbox.payment_outbox_pending (outbox_id, rail, participant_id, next_attempt_at, created_at, disposition, hold_reason) \
         values ('{id}', 'wire', 'acme', now(), now(), 'HELD', 'UNKNOWN')",
        "1 payments are pending (held), such as {id}",
        "delete from outbox.payment_outbox_pending",
    ),
    (
        "insert into outbox.reconcile_breaks (break_id, statement_id, rail, kind, subject, outbox_id, found_at) \
         values ('01900000-0000-7000-8000-000000000001', '01900000-0000-7000-8000-000000000002', 'wire', 'MISSING_AT_RAIL', '{id}', '{id}', now())",
        "1 breaks with a statement are open, such as 01900000-0000-7000-8000-000000000001 of payment {id}",
        "insert into outbox.reconcile_resolutions values ('01900000-0000-7000-8000-000000000001', 'found', null, null, 'ben', now(), 1)",
    ),
    (
        "insert into outbox.payment_outbox_late_outcomes (outbox_id, attempt_no, evidence_sha256, lease_token, worker_id, outcome, recorded_at) \
         values ('{id}', 1, sha256(''), gen_random_uuid(), 'w', 'UNKNOWN', now())",
        "1 outcomes were learned late less than 30 days ago, such as one of payment {id}",
        "alter table outbox.payment_outbox_late_outcomes disable trigger history_is_never_changed; delete from outbox.payment_outbox_late_outcomes; \
         alter table outbox.payment_outbox_late_outcomes enable always trigger history_is_never_changed",
    ),
    (
        "insert into outbox.audit_open values ('{id}', true)",
        "1 payments break a promise, says the last audit, such as {id}",
        "delete from outbox.audit_open",
    ),
    (
        "insert into outbox.reconcile_statements values ('01900000-0000-7000-8000-000000000003', 'wire', now() - interval '200 days', \
         now() - interval '190 days', 0, 'f', sha256(''), 0, sha256(''), '{}', '{}', 'r', 'me', now(), 0); \
         insert into outbox.reconcile_comparisons values ('01900000-0000-7000-8000-000000000003', 1, 0, 0, 0, 0, 0, now() - interval '190 days', 'me', now())",
        "1 dispatched payments of rail wire wait for a statement, such as {id}",
        "insert into outbox.reconcile_comparisons values ('01900000-0000-7000-8000-000000000003', 2, 0, 0, 0, 0, 0, now(), 'me', now())",
    ),
    (
        "update outbox.payment_rails set idempotency_window_ms = 101 * 86400000::bigint",
        "1 payments of rail wire ended an attempt less than 101 days ago, such as {id}",
        "update outbox.payment_rails set idempotency_window_ms = 86400000",
    ),
];

#[tokio::test]
async fn a_month_is_refused_by_name_while_anything_in_it_is_open() {
    let (mut old, ids) = OldMonth::with(1).await;
    for (open, expected, close) in OPEN {
        let fill = |text: &str| text.replace("{id}", &ids[0].to_string());
        run(&mut old.world.dba, &fill(open)).await;
        let step = next_of(&old, old.month, 30 * DAY).await;
        let PartitionStep::Refused(why) = &step else { panic!("{expected}: {step:?}") };
        assert!(why.len() == 1 && why[0].starts_with(&fill(expected)), "{expected}: {why:?}");
        run(&mut old.world.dba, close).await;
    }
    let mut desk = Desk::of(&old.world);
    let proposal = desk.propose(ActionKind::Redrive, &ids).await;
    let PartitionStep::Refused(why) = next_of(&old, old.month, 30 * DAY).await else { panic!("a redrive is proposed") };
    assert_eq!(why, [format!("an action of 1 payments is not done and not withdrawn: {}", proposal.action_id)]);
    decide_action(&mut desk.checker, &proposal, false, "no").await.unwrap();
    let PartitionStep::Refused(why) = next_of(&old, old.month, 101 * DAY).await else {
        panic!("younger than asked for")
    };
    assert!(why[0].contains("ended an attempt less than 101 days ago"), "{why:?}");
    for months in 1..=2 {
        let PartitionStep::Refused(why) = next_of(&old, later(&old, months), 0).await else { panic!("not over") };
        assert_eq!(why, ["the month is not over"]);
    }
    let seals = "select count(*) from outbox.partition_seals";
    assert_eq!(scalar::<i64>(&mut old.world.dba, seals).await, 0, "what is refused is not sealed");
    assert_eq!(next_of(&old, old.month, 30 * DAY).await, PartitionStep::Seal);
}

#[tokio::test]
async fn a_payment_of_the_month_that_nobody_sees_yet_keeps_it_from_being_sealed() {
    let (mut old, _) = OldMonth::with(1).await;
    old.back_in_time().await;
    let mut producer = Actor::enter(&old.world.db, "t_ingest", "producer").await;
    producer.does("begin").await;
    producer
        .does("select * from outbox.enqueue_payment_outbox_text('acme', 'late', 'k', 'wire', 'x', 'text/plain', 1, 'EUR')")
        .await;
    old.back_to_now().await;
    let why = old.steps(1).await.unwrap();
    assert_eq!(why, [format!("an open transaction has written to {}", old.tables[0])]);
    // One that commits while the seal waits for it is seen after the wait.
    let mut sealing = Actor::enter(&old.world.db, "t_migrator", "sealing").await;
    sealing.does("set statement_timeout = '20s'").await;
    sealing.starts(&format!("select outbox.seal_outbox_month('PAYMENTS', '{}', 0)", old.month));
    sealing.waits(&mut old.world.dba).await;
    producer.does("commit").await;
    let why: Vec<String> = sqlx::Row::get(&sealing.ends().await.unwrap()[0], 0);
    assert!(why[0].starts_with("1 payments are pending (ready)"), "{why:?}");
}

#[tokio::test]
async fn a_sealed_month_takes_no_row_and_is_detached_only_after_a_full_audit_of_it() {
    let (mut old, _) = OldMonth::with(1).await;
    // An audit before it was sealed has not seen what is sealed.
    old.breaches(AuditScope::Full).await;
    // Nor has one that is under way.
    let mut auditor = Actor::enter(&old.world.db, "postgres", "auditor").await;
    auditor.does("begin; select outbox.audit_outbox(true)").await;
    assert_eq!(old.steps(1).await.unwrap(), ["an audit is under way"]);
    auditor.does("commit").await;
    old.steps(1).await.unwrap();
    assert_eq!(old.states().await, ["SEALED", "SEALED"]);
    let mut detaching = old.detaching(30 * DAY).await;
    assert_eq!(detaching.next().await.unwrap(), PartitionStep::Audit);
    let early = detaching.take(&PartitionStep::Count(old.tables.to_vec())).await.unwrap();
    assert_eq!(early, ["the next step is AUDIT"]);
    old.breaches(AuditScope::Changed).await;
    assert_eq!(detaching.next().await.unwrap(), PartitionStep::Audit, "a full one is asked for");
    detaching.end().await;
    old.back_in_time().await;
    let mut ingest = old.world.db.connect_as("t_ingest").await.unwrap();
    let refusal = refused(
        &mut ingest,
        "select * from outbox.enqueue_payment_outbox_text('acme', 'x', 'k', 'wire', 'x', 'text/plain', 1, 'EUR')",
    )
    .await;
    assert_eq!(refusal.code, "OB009");
    assert!(refusal.message.ends_with("refused: the month is sealed"), "{refusal:?}");
    old.back_to_now().await;
    old.detach().await;
}

#[tokio::test]
async fn what_was_interrupted_at_any_step_is_gone_on_with_and_no_audit_misses_a_payment() {
    // Seal, audit, count, and detach each table.
    for steps in 0..=5 {
        let (mut old, _) = OldMonth::with(3).await;
        old.world.enqueue("new", 2).await;
        old.breaches(AuditScope::Full).await;
        assert_eq!(old.steps(steps).await.unwrap(), Vec::<String>::new());
        let states = match steps {
            0 => ["ATTACHED"; 2],
            1 | 2 => ["SEALED"; 2],
            3 => ["COUNTED"; 2],
            4 => ["DETACHED", "COUNTED"],
            _ => ["DETACHED"; 2],
        };
        assert_eq!(old.states().await, states, "{steps} steps");
        for scope in [AuditScope::Changed, AuditScope::Full] {
            assert_eq!(old.breaches(scope).await, Vec::<String>::new(), "{steps} steps, {scope:?}");
        }
        old.detach().await;
        let report = old.audited(AuditScope::Full).await;
        let counts = ["identities", "pending", "detached", "breaches"].map(|name| report[name].as_i64().unwrap());
        assert_eq!(counts, [5, 2, 3, 0], "{steps} steps");
        assert_eq!(scalar::<i64>(&mut old.world.dba, "select count(*) from outbox.partition_receipts").await, 2);
    }
}

#[tokio::test]
async fn a_detach_that_gave_up_or_was_killed_between_its_transactions_is_finished_by_the_next_run() {
    for kill in [false, true] {
        let (mut old, _) = OldMonth::with(2).await;
        old.steps(3).await.unwrap();
        drop_last_month(&mut old).await;
        let mut reader = Actor::enter(&old.world.db, "t_migrator", "reader").await;
        reader.does("begin; select count(*) from outbox.payment_outbox_instructions").await;
        if kill {
            let mut detaching = old.detaching(30 * DAY).await;
            let PartitionStep::Detach { statement, .. } = detaching.next().await.unwrap() else { panic!("no detach") };
            detaching.end().await;
            let mut killed = Actor::enter(&old.world.db, "t_migrator", "killed").await;
            killed.starts(&statement);
            killed.waits(&mut old.world.dba).await;
            let kill = format!("select pg_terminate_backend({})", killed.pid());
            assert!(scalar::<bool>(&mut old.world.dba, &kill).await);
            assert!(killed.ends().await.is_err());
        } else {
            let month = MonthToDetach { holds: "PAYMENTS".to_owned(), month: old.month, min_age_ms: 30 * DAY };
            let mut detaching = Detaching::begin(&old.settings(50), Duration::from_secs(20), month).await.unwrap();
            let step = detaching.next().await.unwrap();
            let gave_up = detaching.take(&step).await.unwrap_err();
            assert!(gave_up.is_lock_timeout(), "{gave_up:?}");
        }
        assert_eq!(old.states().await, ["DETACHING", "COUNTED"], "killed: {kill}");
        for scope in [AuditScope::Changed, AuditScope::Full] {
            assert_eq!(old.breaches(scope).await, Vec::<String>::new(), "killed: {kill}, {scope:?}");
        }
        // Half-way, the months to come are made all the same.
        let mut owner = old.world.db.connect_as("t_migrator").await.unwrap();
        assert_eq!(scalar::<i32>(&mut owner, "select outbox.ensure_outbox_partitions()").await, 2);
        reader.does("commit").await;
        old.detach().await;
        assert_eq!(old.breaches(AuditScope::Full).await, Vec::<String>::new(), "killed: {kill}");
    }
}

/// Takes the month farthest ahead away.
async fn drop_last_month(old: &mut OldMonth) {
    let names: Vec<String> = column(
        &mut old.world.dba,
        "select p.table_name from outbox.read_outbox_partitions() p order by p.month desc limit 2",
    )
    .await;
    run(&mut old.world.dba, &format!("drop table outbox.{}, outbox.{}", names[0], names[1])).await;
}

#[tokio::test]
async fn payments_are_recorded_claimed_and_completed_while_a_detach_waits_for_an_open_transaction() {
    let (mut old, _) = OldMonth::with(2).await;
    old.steps(3).await.unwrap();
    for _ in &old.tables.clone() {
        let mut detaching = old.detaching(30 * DAY).await;
        let PartitionStep::Detach { statement, .. } = detaching.next().await.unwrap() else { panic!("no detach") };
        detaching.end().await;
        let mut reader = Actor::enter(&old.world.db, "t_migrator", "reader").await;
        reader
            .does("begin; select count(*) from outbox.payment_outbox_instructions; select count(*) from outbox.payment_outbox_attempts")
            .await;
        let mut migrator = Actor::enter(&old.world.db, "t_migrator", "migrator").await;
        migrator.starts(&statement);
        migrator.waits(&mut old.world.dba).await;
        let mut ingest = Actor::enter(&old.world.db, "t_ingest", "ingest").await;
        let mut worker = old.world.worker("w");
        for n in 0..20 {
            let one = format!(
                "select * from outbox.enqueue_payment_outbox_text('acme', '{statement}-{n}', 'k', 'wire', 'x', 'text/plain', 1, 'EUR')"
            );
            ingest.does("set lock_timeout = '1ms'").await;
            ingest.does(&one).await;
            let claimed = worker.claim_one().await;
            worker.complete_one(lease(&claimed), Outcome::Accepted).await;
        }
        // It has waited all the time.
        migrator.waits(&mut old.world.dba).await;
        reader.does("commit").await;
        assert!(migrator.ends().await.is_ok());
    }
    assert_eq!(old.states().await, ["DETACHED", "DETACHED"]);
}

#[tokio::test]
async fn a_month_with_a_receipt_is_not_made_again() {
    let (mut old, ids) = OldMonth::with(1).await;
    old.detach().await;
    let mut owner = old.world.db.connect_as("t_migrator").await.unwrap();
    const ENSURE: &str = "select outbox.ensure_outbox_partitions()";
    assert_eq!(scalar::<i32>(&mut owner, ENSURE).await, 0);
    let [instructions, attempts] = old.tables.clone();
    run(&mut owner, &format!("drop table outbox.{instructions}, outbox.{attempts}")).await;
    assert_eq!(scalar::<i32>(&mut owner, ENSURE).await, 0);
    assert_eq!(scalar::<i32>(&mut owner, "select outbox.partition_headroom_months()").await, 24);
    assert_eq!(old.states().await, ["GONE", "GONE"]);
    assert_eq!(old.breaches(AuditScope::Full).await, Vec::<String>::new());
    assert_eq!(completion_of(&mut old, ids[0]).await, "fenced");
}

/// What a report about a payment comes to that nobody has leased.
async fn completion_of(old: &mut OldMonth, id: OutboxId) -> String {
    let mut worker = old.world.worker("w");
    let done = completion(crate::world::forged_lease(id, 1), Outcome::Refused);
    format!("{:?}", worker.complete(&[done]).await[0]).to_lowercase()
}

#[tokio::test]
async fn another_table_of_months_is_one_line_and_its_months_go_after_the_payments() {
    let (mut old, _) = OldMonth::with(1).await;
    let mut owner = old.world.db.connect_as("t_migrator").await.unwrap();
    run(
        &mut owner,
        "create table outbox.probes (probe_id uuid primary key, what text) partition by range (probe_id);
         create trigger history_is_never_changed before update or delete on outbox.probes
             for each row execute function outbox.refuse_history_change();
         alter table outbox.probes enable always trigger history_is_never_changed;
         create or replace function outbox.month_tables() returns table (place integer, name text, id_column text, holds text)
             language sql immutable parallel safe as $$
             values (1, 'payment_outbox_instructions', 'outbox_id', 'PAYMENTS'),
                    (2, 'payment_outbox_attempts', 'outbox_id', 'PAYMENTS'),
                    (3, 'probes', 'probe_id', 'PROBES') $$",
    )
    .await;
    assert_eq!(scalar::<i32>(&mut owner, "select outbox.partition_headroom_months()").await, -1);
    assert_eq!(scalar::<i32>(&mut owner, "select outbox.ensure_outbox_partitions()").await, 26);
    assert_eq!(scalar::<i32>(&mut owner, "select outbox.partition_headroom_months()").await, 24);
    let month = MonthToDetach { holds: "PROBES".to_owned(), month: old.month, min_age_ms: 0 };
    let mut probes = Detaching::begin(&old.settings(20_000), Duration::from_secs(20), month).await.unwrap();
    let refusal = probes.next().await.unwrap();
    probes.end().await;
    let PartitionStep::Refused(why) = refusal else { panic!("{refusal:?}") };
    // Those of this month may name what came in at the end of the month before.
    assert_eq!(why.len(), 2, "{why:?}");
    assert!(why.iter().all(|one| one.contains("go first")), "{why:?}");
    assert_eq!(old.steps(20).await.unwrap(), Vec::<String>::new());
    assert_eq!(old.states().await, ["DETACHED", "DETACHED"]);
    assert_eq!(old.states_of("PROBES").await, ["ATTACHED"]);
}

#[tokio::test]
async fn no_receipt_is_recorded_over_counts_that_do_not_agree() {
    let (mut old, ids) = OldMonth::with(2).await;
    old.steps(2).await.unwrap();
    let mut owner = old.world.db.connect_as("t_migrator").await.unwrap();
    let record = format!(
        "select outbox.record_partition_receipts('PAYMENTS', '{}', 0, array[2, 3], array[sha256(''), sha256('')])",
        old.month
    );
    let why: Vec<String> = scalar(&mut owner, &record).await;
    assert_eq!(why, ["rows hashed: {2,3}, rows there: {2,2}"]);
    // What was hashed agrees with what is there, and what is there is not whole.
    let attempts = old.tables[1].clone();
    let lost = format!(
        "alter table outbox.{attempts} disable trigger user; delete from outbox.{attempts} where outbox_id = '{}'; \
         alter table outbox.{attempts} enable always trigger month_is_sealed, enable always trigger history_is_never_changed, \
         enable always trigger history_is_never_truncated",
        ids[0]
    );
    run(&mut old.world.dba, &lost).await;
    assert_eq!(old.steps(1).await.unwrap(), ["2 payments, and 1 that have ended"]);
    assert_eq!(scalar::<i64>(&mut owner, "select count(*) from outbox.partition_receipts").await, 0);
    assert_eq!(old.breaches(AuditScope::Full).await, [format!("LOST {}", ids[0])]);
    let why = old.steps(1).await.unwrap();
    assert_eq!(why, [format!("1 payments break a promise, says the last audit, such as {}", ids[0])]);
}
