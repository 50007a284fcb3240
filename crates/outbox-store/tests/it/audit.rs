//! The audit sees each promise broken, by its name, and none where none is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use outbox_core::{OutboxId, Outcome};
use outbox_store::{ActionKind, AuditScope, Hint, Session, audit, enqueue_batch};
use serde_json::Value;
use sqlx::postgres::PgConnection;

use crate::control::Desk;
use crate::sql::{run, scalar};
use crate::world::{World, completion, lease, payment};

/// A terminal or other attempt by hand: `('id', number, 'state')` follows.
const ATTEMPT: &str = "insert into outbox.payment_outbox_attempts (rail, kind, worker_id, lease_token, claimed_at, completed_at, \
                       rail_reference, outbox_id, attempt_no, state) select 'wire', 'OPERATOR', 'x', gen_random_uuid(), now(), now(), 'R', v.* from";

/// What is done by force, and what an audit calls it.
const BROKEN: [(&str, &[&str]); 17] = [
    ("delete from outbox.payment_outbox_pending where outbox_id = '{open}'", &["LOST {open}"]),
    (
        "delete from outbox.payment_outbox_attempts where outbox_id = '{ended}' and state = 'DISPATCHED'",
        &["LOST {ended}"],
    ),
    (
        "delete from outbox.payment_outbox_attempts where outbox_id = '{ended}' and attempt_no = 1",
        &["ATTEMPTS_WITH_GAPS {ended}"],
    ),
    (
        "drop index outbox.payment_outbox_attempts_one_terminal; {ATTEMPT} (values ('{ended}'::uuid, 3, 'FAILED')) as v",
        &["ENDED_TWICE {ended}", "ENDS_UNGUARDED -", "STATE_WITHOUT_CAUSE {ended}"],
    ),
    (
        "{ATTEMPT} (values ('{ended}'::uuid, 3, 'RETRYABLE')) as v",
        &["ENDED_BEFORE_LAST {ended}", "STATE_WITHOUT_CAUSE {ended}"],
    ),
    (
        "{ATTEMPT} (values ('{open}'::uuid, 2, 'FAILED')) as v",
        &["LEDGER_AND_FENCE_DIFFER {open}", "PENDING_AND_ENDED {open}", "STATE_WITHOUT_CAUSE {open}"],
    ),
    (
        "update outbox.payment_outbox_pending set attempt_count = 7 where outbox_id = '{open}'",
        &["LEDGER_AND_FENCE_DIFFER {open}"],
    ),
    ("delete from outbox.payment_outbox_identities where outbox_id = '{open}'", &["WITHOUT_IDENTITY {open}"]),
    ("delete from outbox.payment_outbox_instructions where outbox_id = '{open}'", &["WITHOUT_INSTRUCTION {open}"]),
    (
        "update outbox.payment_outbox_instructions set payload = '\\x00' where outbox_id = '{ended}'",
        &["PAYLOAD_DIFFERS {ended}"],
    ),
    (
        "update outbox.payment_outbox_instructions set amount_minor = 999999, currency = 'USD' where outbox_id = '{open}'",
        &["INSTRUCTION_DIFFERS {open}"],
    ),
    (
        "update outbox.payment_outbox_instructions set payload = '\\x00', payload_sha256 = sha256('\\x00') where outbox_id = '{ended}'",
        &["INSTRUCTION_DIFFERS {ended}"],
    ),
    (
        "alter table outbox.payment_outbox_attempts drop constraint dispatched_has_a_reference; \
         update outbox.payment_outbox_attempts set rail_reference = '' where outbox_id = '{ended}' and state = 'DISPATCHED'",
        &["DISPATCHED_WITHOUT_REFERENCE {ended}"],
    ),
    (
        "update outbox.payment_outbox_attempts set state = 'FAILED' where outbox_id = '{ended}' and attempt_no = 2",
        &["STATE_WITHOUT_CAUSE {ended}"],
    ),
    (
        "update outbox.payment_outbox_attempts set outcome = 'REFUSED' where outbox_id = '{ended}' and attempt_no = 2",
        &["STATE_WITHOUT_CAUSE {ended}"],
    ),
    (
        "update outbox.payment_outbox_attempts set outcome = 'PAID' where outbox_id = '{ended}' and attempt_no = 2",
        &["STATE_WITHOUT_CAUSE {ended}"],
    ),
    // With the token of an action of another kind, for another payment.
    (
        "insert into outbox.operator_actions select '01900000-0000-7000-8000-000000000001', 'REDRIVE', null, null, '{}', 'r', 'e', true, 1, \
         sha256(''), '{}', 'm', now(); update outbox.payment_outbox_attempts set kind = 'OPERATOR', outcome = null, \
         lease_token = '01900000-0000-7000-8000-000000000001' where outbox_id = '{ended}' and attempt_no = 2",
        &["STATE_WITHOUT_CAUSE {ended}"],
    ),
];

pub(crate) async fn audited(session: &mut Session, scope: AuditScope) -> Value {
    serde_json::from_str(&audit(session, scope, 100).await.unwrap()).unwrap()
}

/// The breaches as `KIND outbox_id`.
pub(crate) fn breaches(report: &Value) -> Vec<String> {
    let all = report["findings"].as_array().unwrap().iter().filter(|one| one["is_breach"] == true);
    let word = |one: &Value, name: &str| one[name].as_str().unwrap_or("-").to_owned();
    let shown: Vec<String> = all.map(|one| format!("{} {}", word(one, "kind"), word(one, "outbox_id"))).collect();
    assert_eq!(report["breaches"], shown.len());
    shown
}

/// One payment that took two attempts and is dispatched, and one that waits after one attempt; audited once.
async fn clean() -> (World, Session, OutboxId, OutboxId) {
    let mut world = World::new().await;
    let ids = world.enqueue("a", 2).await;
    let mut worker = world.worker("w");
    for claimed in &worker.claim(2).await.leased {
        worker.complete_one(lease(claimed), Outcome::NotSent).await;
    }
    run(&mut world.dba, "update outbox.payment_outbox_pending set next_attempt_at = now()").await;
    let claimed = worker.claim(1).await.leased.remove(0);
    let mut done = completion(lease(&claimed), Outcome::Accepted);
    done.rail_reference = Some("R".to_owned());
    worker.complete(&[done]).await;
    let mut session = world.session("t_auditor");
    let report = audited(&mut session, AuditScope::Changed).await;
    assert_eq!((breaches(&report), &report["is_full"], &report["examined"]), (vec![], &true.into(), &2.into()));
    let other = ids.into_iter().find(|id| *id != claimed.outbox_id).unwrap();
    (world, session, claimed.outbox_id, other)
}

/// What nobody but a superuser can do.
pub(crate) async fn by_force(dba: &mut PgConnection, statement: &str) {
    const TABLES: [&str; 3] = ["payment_outbox_identities", "payment_outbox_instructions", "payment_outbox_attempts"];
    let all = |verb: &str| -> String {
        TABLES.iter().map(|t| format!("alter table outbox.{t} {verb} trigger history_is_never_changed;")).collect()
    };
    run(dba, &format!("{} {statement}; {}", all("disable"), all("enable always"))).await;
}

#[tokio::test]
async fn each_promise_that_is_broken_is_named_until_it_is_mended() {
    for (statement, expected) in BROKEN {
        let (mut world, mut session, ended, open) = clean().await;
        let fill = |text: &str| {
            let text = text.replace("{ATTEMPT}", ATTEMPT);
            text.replace("{open}", &open.to_string()).replace("{ended}", &ended.to_string())
        };
        by_force(&mut world.dba, &fill(statement)).await;
        let expected: Vec<String> = expected.iter().map(|text| fill(text)).collect();
        for scope in [AuditScope::Changed, AuditScope::Changed, AuditScope::Full] {
            let report = audited(&mut session, scope).await;
            let found: Vec<String> =
                breaches(&report).into_iter().filter(|one| !one.starts_with("FEWER_THAN_BEFORE")).collect();
            assert_eq!(found, expected, "{statement} {scope:?}");
        }
    }
}

#[tokio::test]
async fn identities_that_are_gone_without_a_trace_are_missed_by_their_number() {
    let (mut world, mut session, ended, _) = clean().await;
    let gone: String = ["identities", "instructions", "attempts"]
        .iter()
        .map(|table| format!("delete from outbox.payment_outbox_{table} where outbox_id = '{ended}';"))
        .collect();
    // A full audit counts what is there before it; what was enqueued since hides nothing.
    assert_eq!(breaches(&audited(&mut session, AuditScope::Full).await), Vec::<String>::new());
    by_force(&mut world.dba, &gone).await;
    world.enqueue("more", 5).await;
    for _ in 0..2 {
        assert_eq!(breaches(&audited(&mut session, AuditScope::Full).await), ["FEWER_THAN_BEFORE -"]);
    }
}

#[tokio::test]
async fn trigger_that_does_not_fire_for_everybody_is_named() {
    let (mut world, mut session, ..) = clean().await;
    let partition: String =
        scalar(&mut world.dba, "select max(tableoid::regclass::text) from outbox.payment_outbox_attempts").await;
    run(&mut world.dba, &format!("alter table {partition} enable trigger history_is_never_changed")).await;
    run(&mut world.dba, "drop trigger history_is_never_truncated on outbox.operator_actions").await;
    let report = audited(&mut session, AuditScope::Changed).await;
    assert_eq!(report["breaches"], 2, "{report}");
    let details = report["findings"].to_string();
    assert!(details.contains(&format!("{partition}: history_is_never_changed is O")), "{details}");
    assert!(details.contains("operator_actions: history_is_never_truncated is missing"), "{details}");
}

#[tokio::test]
async fn payment_that_commits_late_is_examined_by_a_later_audit() {
    let (mut world, mut session, ..) = clean().await;
    let mut late = world.db.connect_as("t_ingest").await.unwrap();
    run(
        &mut late,
        "begin; select outbox.enqueue_payment_outbox_text('p', 'late', 'late', 'wire', 'x', 'text/plain', 1, 'EUR')",
    )
    .await;
    for _ in 0..3 {
        assert_eq!(audited(&mut session, AuditScope::Changed).await["pending"], 1);
    }
    // By the clock the last audits were long after the payment; by their snapshots they cannot have seen it.
    let later = "alter table outbox.audit_checkpoints disable trigger history_is_never_changed; \
                 update outbox.audit_checkpoints set audited_at = audited_at + interval '2 hours' where checkpoint_no > 1; \
                 alter table outbox.audit_checkpoints enable always trigger history_is_never_changed";
    run(&mut world.dba, later).await;
    run(&mut late, "commit").await;
    let lost = "delete from outbox.payment_outbox_pending p using outbox.payment_outbox_instructions i \
                where i.outbox_id = p.outbox_id and i.instruction_id = 'late'";
    run(&mut world.dba, lost).await;
    let report = audited(&mut session, AuditScope::Changed).await;
    assert_eq!((breaches(&report).len(), &report["is_full"]), (1, &false.into()), "{report}");
    assert!(breaches(&report)[0].starts_with("LOST "), "{report}");
}

#[tokio::test]
async fn busy_database_gives_no_false_breach() {
    let mut world = World::new().await;
    world.contract("backoff_base_ms = 1, backoff_cap_ms = 1").await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for n in 0..2 {
        let (mut worker, mut ingest) = (world.worker(&format!("w{n}")), world.session("t_ingest"));
        let stop = Arc::clone(&stop);
        tasks.push(tokio::spawn(async move {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                round += 1;
                let new: Vec<_> = (0..20).map(|k| payment(&format!("b{n}-{round}-{k}"))).collect();
                enqueue_batch(&mut ingest, &new, Hint::Wake).await.unwrap();
                for (place, claimed) in worker.claim(30).await.leased.iter().enumerate() {
                    let outcome = if place % 3 == 0 { Outcome::NotSent } else { Outcome::Accepted };
                    let mut done = completion(lease(claimed), outcome);
                    done.rail_reference = Some("R".to_owned());
                    worker.complete(&[done]).await;
                }
            }
        }));
    }
    let passes = std::env::var("OUTBOXD_TEST_AUDITS").map_or(20, |text| text.parse().unwrap());
    let mut session = world.session("t_auditor");
    for _ in 0..passes {
        assert_eq!(breaches(&audited(&mut session, AuditScope::Changed).await), Vec::<String>::new());
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    let report = audited(&mut session, AuditScope::Full).await;
    assert_eq!(breaches(&report), Vec::<String>::new());
    assert!(report["examined"].as_i64().unwrap() >= 40, "{report}");
}

#[tokio::test]
async fn trigger_function_that_refuses_nothing_is_named() {
    let (mut world, mut session, ..) = clean().await;
    let harmless = "create or replace function outbox.refuse_history_change() returns trigger language plpgsql as $$ begin return new; end $$";
    run(&mut world.dba, harmless).await;
    let report = audited(&mut session, AuditScope::Changed).await;
    assert_eq!(breaches(&report), ["HISTORY_UNGUARDED -"]);
    let (mut world, mut session, ..) = clean().await;
    run(
        &mut world.dba,
        "drop trigger history_is_never_changed on outbox.operator_actions; \
         create trigger history_is_never_changed before delete on outbox.operator_actions for each row when (false) \
         execute function outbox.refuse_history_change(); \
         alter table outbox.operator_actions enable always trigger history_is_never_changed",
    )
    .await;
    let report = audited(&mut session, AuditScope::Changed).await;
    assert!(
        report["findings"].to_string().contains("operator_actions: history_is_never_changed does not refuse"),
        "{report}"
    );
}

#[tokio::test]
async fn what_ended_long_ago_is_looked_at_again_in_its_turn() {
    let (mut world, mut session, ended, _) = clean().await;
    let later = "alter table outbox.audit_checkpoints disable trigger history_is_never_changed; \
                 update outbox.audit_checkpoints set audited_at = audited_at + interval '2 hours'; \
                 alter table outbox.audit_checkpoints enable always trigger history_is_never_changed";
    run(&mut world.dba, later).await;
    let forged = format!("update outbox.payment_outbox_instructions set amount_minor = 1 where outbox_id = '{ended}'");
    by_force(&mut world.dba, &forged).await;
    let report = audited(&mut session, AuditScope::Changed).await;
    assert_eq!(breaches(&report), [format!("INSTRUCTION_DIFFERS {ended}")], "{report}");
    // Then it is broken, and named by each.
    assert_eq!(breaches(&audited(&mut session, AuditScope::Changed).await).len(), 1);
}

#[tokio::test]
async fn what_people_decide_and_dispatchers_report_is_no_breach() {
    let mut world = World::new().await;
    world.contract("on_unknown = 'inquire', not_found_is_final = true").await;
    let (mut worker, mut desk) = (world.worker("w"), Desk::of(&world));
    let ids = world.enqueue("a", 4).await;
    assert!(desk.does(ActionKind::Cancel, &ids[..1]).await[0].applied);
    for id in &ids[1..] {
        world
            .tamper(*id, "first_sent_at = now(), in_doubt_since = now(), disposition = 'HELD', hold_reason = 'UNKNOWN'")
            .await;
    }
    for (kind, id) in
        [ActionKind::ReleaseAsResend, ActionKind::ResolveDispatched, ActionKind::ResolveFailed].iter().zip(&ids[1..])
    {
        assert!(desk.does(*kind, &[*id]).await[0].applied);
    }
    // Each outcome, from a send and from an inquiry, those among them that cannot be.
    let sent = world.enqueue("b", 2 * Outcome::ALL.len()).await;
    for id in &sent[Outcome::ALL.len()..] {
        world.tamper(*id, "disposition = 'IN_DOUBT', in_doubt_since = now(), first_sent_at = now()").await;
    }
    for claimed in worker.claim(100).await.leased {
        let place = sent.iter().position(|id| *id == claimed.outbox_id);
        let outcome = place.map_or(Outcome::Refused, |place| Outcome::ALL[place % Outcome::ALL.len()]);
        let mut done = completion(lease(&claimed), outcome);
        done.rail_reference = Some("R".to_owned());
        worker.complete(&[done]).await;
    }
    let kinds = "select count(distinct (kind, outcome)) from outbox.payment_outbox_attempts where outcome is not null";
    assert_eq!(scalar::<i64>(&mut world.dba, kinds).await, 2 * i64::try_from(Outcome::ALL.len()).unwrap());
    let report = audited(&mut world.session("t_auditor"), AuditScope::Full).await;
    assert_eq!(breaches(&report), Vec::<String>::new());
}
