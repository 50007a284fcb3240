//! What passes see and what they remember: rows that commit late, history that is rewritten between two readings, a
//! failover that takes rows away, and torn lines.

use outbox_checker::CheckError;
use sqlx::Connection as _;

use crate::rig::{HOLD, RESEND, Rig, now_us};

#[tokio::test]
async fn a_payment_whose_transaction_commits_late_is_seen_by_the_pass_after_its_commit() {
    let mut rig = Rig::new().await;
    rig.dispatch(RESEND).await;
    rig.pass().await;
    // Recorded and sent in a transaction that is older than many that end before it.
    let mut late = rig.db.connect_as("postgres").await.unwrap();
    std::mem::swap(&mut late, &mut rig.sql);
    rig.run("begin").await;
    let id = rig.enqueue(HOLD).await;
    std::mem::swap(&mut late, &mut rig.sql);
    for _ in 0..3 {
        rig.dispatch(RESEND).await;
        rig.pass().await;
    }
    std::mem::swap(&mut late, &mut rig.sql);
    rig.attempt(&id, "DISPATCHED", "ACCEPTED", 10, 5).await;
    rig.end(&id).await;
    rig.run("commit").await;
    rig.pass().await;
    // It has no effect: only who saw it can say so.
    assert_eq!(rig.said.checks(), ["dispatched_without_effect"]);
}

#[tokio::test]
async fn what_leaves_the_queue_and_what_never_was_in_it_is_found_before_its_turn_to_be_read_again() {
    for was_seen in [true, false] {
        let mut rig = Rig::new().await;
        rig.others(600).await;
        let id = rig.enqueue(RESEND).await;
        if was_seen {
            rig.pass().await;
            rig.end(&id).await;
        } else {
            rig.end(&id).await;
            let more = rig.enqueue(RESEND).await;
            rig.pass().await;
            rig.end(&more).await;
            rig.others(1).await;
            let never_seen = rig.enqueue(RESEND).await;
            rig.end(&never_seen).await;
        }
        rig.pass().await;
        assert_eq!(rig.said.checks(), ["lost_payment"]);
        assert_eq!(rig.checker.findings(), if was_seen { 1 } else { 3 });
    }
}

#[tokio::test]
async fn an_attempt_that_is_rewritten_or_removed_between_two_readings_is_found() {
    for (change, check) in [
        ("update outbox.payment_outbox_attempts set error_detail = 'other'", "history_changed"),
        ("delete from outbox.payment_outbox_attempts", "history_shrank"),
    ] {
        // By a pass whose turn it is to read it again, and by the last reading.
        for is_final in [false, true] {
            let mut rig = Rig::new().await;
            let id = rig.dispatch(RESEND).await;
            rig.pass().await;
            rig.rewrite("payment_outbox_attempts", &format!("{change} where outbox_id = '{id}'")).await;
            if is_final {
                rig.finish().await;
            } else {
                rig.pass().await;
            }
            assert!(rig.said.checks().contains(&check.to_owned()), "{is_final} {:?}", rig.said.checks());
        }
    }
}

#[tokio::test]
async fn an_instruction_and_an_identity_that_are_rewritten_are_found() {
    for (table, change) in [
        ("payment_outbox_instructions", "set content_type = 'text/html'"),
        ("payment_outbox_identities", "set idempotency_key = 'another'"),
    ] {
        let mut rig = Rig::new().await;
        let id = rig.dispatch(RESEND).await;
        rig.pass().await;
        rig.rewrite(table, &format!("update outbox.{table} {change} where outbox_id = '{id}'")).await;
        rig.pass().await;
        assert_eq!(rig.said.checks(), ["history_changed"], "{table}");
    }
}

#[tokio::test]
async fn other_history_that_shrinks_or_changes_is_found() {
    let late = "insert into outbox.payment_outbox_late_outcomes (outbox_id, attempt_no, evidence_sha256, lease_token, worker_id,
                       outcome, recorded_at)
                values (gen_random_uuid(), 1, sha256('x'), gen_random_uuid(), 'd1/x', 'UNKNOWN', clock_timestamp())";
    for change in [
        "delete from outbox.payment_outbox_late_outcomes",
        "update outbox.payment_outbox_late_outcomes set worker_id = 'd2/x'",
    ] {
        let mut rig = Rig::new().await;
        rig.run(late).await;
        rig.pass().await;
        let before = rig.said.checks();
        assert!(!before.contains(&"history_shrank".to_owned()));
        rig.rewrite("payment_outbox_late_outcomes", change).await;
        rig.finish().await;
        assert!(rig.said.checks().contains(&"history_shrank".to_owned()), "{:?}", rig.said.checks());
    }
}

#[tokio::test]
async fn what_a_failover_may_have_lost_may_be_gone_and_nothing_else() {
    let mut rig = Rig::new().await;
    let (old, young) = (rig.dispatch(RESEND).await, rig.dispatch(RESEND).await);
    let before = format!(
        "update outbox.payment_outbox_instructions set created_at = created_at - interval '1 day' where outbox_id = '{old}'"
    );
    rig.rewrite("payment_outbox_instructions", &before).await;
    rig.rewrite("payment_outbox_attempts", &format!(
        "update outbox.payment_outbox_attempts set claimed_at = claimed_at - interval '1 day', completed_at = completed_at - interval '1 day' where outbox_id = '{old}'"
    )).await;
    rig.pass().await;
    assert_eq!(rig.said.checks(), [""; 0]);
    let gone = |id: &str, table: &str| format!("delete from outbox.{table} where outbox_id = '{id}'");
    for table in ["payment_outbox_attempts", "payment_outbox_instructions", "payment_outbox_identities"] {
        rig.rewrite(table, &gone(&young, table)).await;
    }
    let at_us = now_us();
    let lost_from: String = sqlx::query_scalar("select to_char((clock_timestamp() - interval '2 minutes') at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")
        .fetch_one(&mut rig.sql)
        .await
        .unwrap();
    rig.append("faults", &format!(r#"{{"event":"failover","at_us":{at_us},"lost_from":"{lost_from}"}}"#));
    rig.pass().await;
    assert_eq!(rig.said.checks(), [""; 0]);
    rig.rewrite("payment_outbox_attempts", &gone(&old, "payment_outbox_attempts")).await;
    rig.finish().await;
    assert_eq!(rig.said.checks(), ["history_shrank", "lost_payment"]);
}

#[tokio::test]
async fn a_failover_excuses_no_history_that_shrinks_after_it_was_seen() {
    let mut rig = Rig::new().await;
    let late = "insert into outbox.payment_outbox_late_outcomes (outbox_id, attempt_no, evidence_sha256, lease_token, worker_id,
                       outcome, recorded_at)
                values (gen_random_uuid(), 1, sha256('x'), gen_random_uuid(), 'd1/x', 'UNKNOWN', clock_timestamp())";
    rig.run(late).await;
    rig.pass().await;
    let before = rig.said.checks();
    let at_us = now_us();
    rig.append("faults", &format!(r#"{{"event":"failover","at_us":{at_us},"lost_from":"2026-01-01T00:00:00Z"}}"#));
    rig.pass().await;
    assert_eq!(rig.said.checks(), before);
    rig.rewrite("payment_outbox_late_outcomes", "delete from outbox.payment_outbox_late_outcomes").await;
    rig.pass().await;
    assert!(rig.said.checks().contains(&"history_shrank".to_owned()), "{:?}", rig.said.checks());
}

#[tokio::test]
async fn a_ledger_that_became_shorter_is_found() {
    let mut rig = Rig::new().await;
    rig.dispatch(RESEND).await;
    rig.pass().await;
    std::fs::write(rig.dir.path().join("sepa.ledger"), "").unwrap();
    rig.finish().await;
    let checks = rig.said.checks();
    assert!(checks.contains(&"rail_files_changed".to_owned()), "{checks:?}");
}

#[tokio::test]
async fn a_torn_line_is_left_for_the_next_pass() {
    let mut rig = Rig::new().await;
    rig.executed(RESEND, "0192f000-0000-7000-8000-000000000001");
    let path = rig.dir.path().join("sepa.ledger");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
    rig.pass().await;
    assert_eq!(rig.said.checks(), [""; 0]);
    std::fs::write(&path, &whole).unwrap();
    rig.pass().await;
    assert_eq!(rig.said.checks(), ["effect_unknown"]);
}

#[tokio::test]
async fn a_database_that_is_away_is_no_finding_and_the_next_pass_goes_on() {
    let mut rig = Rig::new().await;
    rig.dispatch(RESEND).await;
    rig.pass().await;
    rig.run("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'outbox-checker' and datname = current_database()").await;
    let lost = rig.dispatch(RESEND).await;
    let error = rig.checker.pass().await.unwrap_err();
    assert!(matches!(error, CheckError::Away(_)), "{error}");
    rig.end(&lost).await;
    let id = rig.enqueue(RESEND).await;
    rig.end(&id).await;
    rig.pass().await;
    assert_eq!(rig.said.checks(), ["lost_payment"]);
    rig.sql.ping().await.unwrap();
}
