//! One forged history for each check: in order it passes, with one thing wrong the finding comes, both from a pass that
//! saw what was right before and from a checker that sees it for the first time.

use crate::rig::{HOLD, RESEND, Rig, now_us};

/// A rig with payments in order of every kind, looked at once.
async fn in_order() -> Rig {
    let mut rig = Rig::new().await;
    rig.dispatch(RESEND).await;
    rig.dispatch(HOLD).await;
    rig.enqueue(RESEND).await;
    let refused = rig.enqueue(RESEND).await;
    rig.refuse(RESEND, &refused);
    rig.attempt(&refused, "FAILED", "REFUSED", 30_000, 10).await;
    rig.end(&refused).await;
    let held = rig.enqueue(HOLD).await;
    rig.executed(HOLD, &held);
    rig.answer(HOLD, &held, r#""delivery":"reset","status":201,"reference":"R","executed":true,"unknown":true"#);
    rig.attempt(&held, "IN_DOUBT", "UNKNOWN", 30_000, 10).await;
    rig.hold(&held, "UNKNOWN").await;
    rig.pass().await;
    assert_eq!(rig.said.checks(), [""; 0]);
    rig
}

/// The same findings must come from a pass over what changed, and from a look at everything.
async fn is_found(rig: &mut Rig, checks: &[&str]) {
    rig.pass().await;
    assert_eq!(rig.said.checks(), checks, "from a pass");
    assert_eq!(rig.seen_afresh().await.1, checks, "afresh");
}

#[tokio::test]
async fn a_history_in_order_has_no_finding_and_is_counted() {
    let mut rig = in_order().await;
    let report = rig.finish().await;
    assert_eq!(rig.said.checks(), [""; 0]);
    let line = "CHECKED passes=2 payments=5 effects=3 unknown=1 held=1 dispatched=2 failed=1 cancelled=0 pending=2 lost=0 double=0 findings=0";
    assert_eq!(report.summary.to_string(), line);
}

#[tokio::test]
async fn a_payment_that_is_nowhere_is_found() {
    let mut rig = in_order().await;
    let id = rig.enqueue(RESEND).await;
    rig.pass().await;
    rig.end(&id).await;
    is_found(&mut rig, &["lost_payment"]).await;
    assert_eq!(rig.seen_afresh().await.0.summary.lost, 1);
}

#[tokio::test]
async fn a_payment_that_was_never_seen_and_is_nowhere_is_found() {
    let mut rig = in_order().await;
    let id = rig.enqueue(RESEND).await;
    rig.end(&id).await;
    is_found(&mut rig, &["lost_payment"]).await;
}

#[tokio::test]
async fn a_payment_that_is_pending_and_ended_is_found() {
    let mut rig = in_order().await;
    let id = rig.enqueue(RESEND).await;
    rig.refuse(RESEND, &id);
    rig.attempt(&id, "FAILED", "REFUSED", 30_000, 10).await;
    is_found(&mut rig, &["pending_and_terminal"]).await;
}

#[tokio::test]
async fn an_identity_alone_and_an_instruction_alone_are_found() {
    let mut rig = in_order().await;
    let id = rig.enqueue(RESEND).await;
    let gone = format!("delete from outbox.payment_outbox_instructions where outbox_id = '{id}'");
    rig.rewrite("payment_outbox_instructions", &gone).await;
    is_found(&mut rig, &["instruction_missing"]).await;
    let mut rig = in_order().await;
    let id = rig.enqueue(RESEND).await;
    let gone = format!("delete from outbox.payment_outbox_identities where outbox_id = '{id}'");
    rig.rewrite("payment_outbox_identities", &gone).await;
    is_found(&mut rig, &["identity_missing"]).await;
}

#[tokio::test]
async fn an_enqueue_that_was_acknowledged_and_is_not_there_is_found() {
    let mut rig = in_order().await;
    let id = rig.enqueue(RESEND).await;
    let other = "0192f000-0000-7000-8000-000000000001";
    let at_us = now_us();
    rig.append("faults", &format!(r#"{{"event":"enqueued","at_us":{at_us},"ids":["{id}"],"rail":"{RESEND}"}}"#));
    rig.pass().await;
    assert_eq!(rig.said.checks(), [""; 0]);
    rig.append("faults", &format!(r#"{{"event":"enqueued","at_us":{at_us},"ids":["{other}"],"rail":"{RESEND}"}}"#));
    is_found(&mut rig, &["lost_enqueue"]).await;
    assert_eq!(rig.seen_afresh().await.0.summary.lost, 1);
}

#[tokio::test]
async fn a_second_effect_is_found_and_counted() {
    let mut rig = in_order().await;
    let id = rig.dispatch(HOLD).await;
    rig.executed(HOLD, &id);
    rig.pass().await;
    assert!(rig.said.checks().contains(&"executed_twice".to_owned()), "{:?}", rig.said.checks());
    assert_eq!(rig.seen_afresh().await.0.summary.double, 1);
}

#[tokio::test]
async fn an_effect_that_no_table_knows_is_found() {
    let mut rig = in_order().await;
    rig.executed(HOLD, "0192f000-0000-7000-8000-000000000001");
    is_found(&mut rig, &["effect_unknown"]).await;
    let mut rig = in_order().await;
    rig.executed(HOLD, "no-key-of-ours");
    is_found(&mut rig, &["effect_unknown"]).await;
}

#[tokio::test]
async fn an_effect_of_a_failed_payment_is_found() {
    let mut rig = in_order().await;
    let id = rig.enqueue(RESEND).await;
    rig.executed(RESEND, &id);
    rig.refuse(RESEND, &id);
    rig.attempt(&id, "FAILED", "REFUSED", 30_000, 10).await;
    rig.end(&id).await;
    rig.pass().await;
    assert!(rig.said.checks().contains(&"effect_of_ended".to_owned()), "{:?}", rig.said.checks());
}

#[tokio::test]
async fn an_effect_that_nobody_doubts_at_the_end_is_found() {
    let mut rig = in_order().await;
    let id = rig.enqueue(RESEND).await;
    rig.executed(RESEND, &id);
    rig.answer(RESEND, &id, r#""delivery":"whole","status":429,"reference":null,"executed":true,"unknown":false"#);
    rig.attempt(&id, "RETRYABLE", "THROTTLED", 30_000, 10).await;
    rig.pass().await;
    assert_eq!(rig.said.checks(), [""; 0]);
    rig.finish().await;
    assert_eq!(rig.said.checks(), ["effect_not_doubted"]);
}

#[tokio::test]
async fn other_bytes_another_rail_and_another_reference_are_found() {
    let mut rig = in_order().await;
    let id = rig.dispatch(RESEND).await;
    let other = "update outbox.payment_outbox_instructions set payload_sha256 = decode(repeat('cd', 32), 'hex')";
    rig.rewrite("payment_outbox_instructions", &format!("{other} where outbox_id = '{id}'")).await;
    is_found(&mut rig, &["bytes_differ"]).await;
    let mut rig = in_order().await;
    let id = rig.dispatch(RESEND).await;
    rig.refuse(HOLD, &id);
    rig.pass().await;
    assert!(rig.said.checks().contains(&"effect_on_other_rail".to_owned()), "{:?}", rig.said.checks());
    let mut rig = in_order().await;
    let id = rig.dispatch(RESEND).await;
    let other =
        format!("update outbox.payment_outbox_attempts set rail_reference = 'another' where outbox_id = '{id}'");
    rig.rewrite("payment_outbox_attempts", &other).await;
    is_found(&mut rig, &["reference_differs"]).await;
}

#[tokio::test]
async fn a_dispatched_payment_without_an_effect_is_lost() {
    let mut rig = in_order().await;
    let id = rig.enqueue(RESEND).await;
    rig.attempt(&id, "DISPATCHED", "ACCEPTED", 30_000, 10).await;
    rig.end(&id).await;
    is_found(&mut rig, &["dispatched_without_effect"]).await;
    assert_eq!(rig.seen_afresh().await.0.summary.lost, 1);
}

#[tokio::test]
async fn a_failed_payment_without_a_refusal_is_found() {
    let mut rig = in_order().await;
    let id = rig.enqueue(RESEND).await;
    rig.answer(RESEND, &id, r#""delivery":"whole","status":500,"reference":null,"executed":false,"unknown":true"#);
    rig.attempt(&id, "FAILED", "REFUSED", 30_000, 10).await;
    rig.end(&id).await;
    is_found(&mut rig, &["failed_without_refusal"]).await;
}

#[tokio::test]
async fn a_cancelled_payment_that_was_sent_or_that_nobody_cancelled_is_found() {
    let mut rig = in_order().await;
    let id = rig.enqueue(RESEND).await;
    rig.refuse(RESEND, &id);
    rig.attempt(&id, "CANCELLED", "RELEASED", 30_000, 10).await;
    rig.end(&id).await;
    rig.pass().await;
    assert!(rig.said.checks().contains(&"cancelled_was_sent".to_owned()), "{:?}", rig.said.checks());
    let mut rig = in_order().await;
    let id = rig.enqueue(RESEND).await;
    rig.attempt(&id, "CANCELLED", "RELEASED", 30_000, 10).await;
    rig.end(&id).await;
    is_found(&mut rig, &["ended_by_nobody"]).await;
}

#[tokio::test]
async fn a_gap_and_a_count_without_a_row_are_found() {
    let mut rig = in_order().await;
    let id = rig.enqueue(RESEND).await;
    rig.attempt(&id, "RELEASED", "RELEASED", 30_000, 10).await;
    rig.attempt(&id, "RELEASED", "RELEASED", 20_000, 10).await;
    let gap = format!("delete from outbox.payment_outbox_attempts where outbox_id = '{id}' and attempt_no = 1");
    rig.rewrite("payment_outbox_attempts", &gap).await;
    is_found(&mut rig, &["attempt_count_differs", "attempts_not_contiguous"]).await;
}

#[tokio::test]
async fn leases_that_overlap_are_found() {
    let mut rig = in_order().await;
    let id = rig.enqueue(RESEND).await;
    for ago_ms in [30_000, 29_000] {
        rig.refuse(RESEND, &id);
        rig.attempt(&id, "RETRYABLE", "THROTTLED", ago_ms, 2000).await;
    }
    is_found(&mut rig, &["leases_overlap"]).await;
}

#[tokio::test]
async fn what_was_sent_before_its_lease_was_granted_is_found() {
    let mut rig = in_order().await;
    let id = rig.enqueue(RESEND).await;
    rig.refuse(RESEND, &id);
    rig.attempt(&id, "RETRYABLE", "THROTTLED", 30_000, 2000).await;
    let earlier = format!(
        "update outbox.payment_outbox_attempts set first_byte_at = claimed_at - interval '1001 ms' where outbox_id = '{id}'"
    );
    rig.rewrite("payment_outbox_attempts", &earlier).await;
    is_found(&mut rig, &["sent_outside_lease"]).await;
}

#[tokio::test]
async fn a_lease_that_is_settled_before_its_end_is_found() {
    let mut rig = in_order().await;
    let id = rig.enqueue(RESEND).await;
    rig.attempt(&id, "LEASE_EXPIRED", "", 80_000, 60_000).await;
    rig.pass().await;
    assert_eq!(rig.said.checks(), [""; 0]);
    let id = rig.enqueue(RESEND).await;
    rig.attempt(&id, "LEASE_EXPIRED", "", 80_000, 59_999).await;
    is_found(&mut rig, &["lease_settled_early"]).await;
}

#[tokio::test]
async fn a_lease_token_of_two_attempts_is_found() {
    let mut rig = in_order().await;
    let (first, second) = (rig.dispatch(RESEND).await, rig.dispatch(RESEND).await);
    let same = format!(
        "update outbox.payment_outbox_attempts a set lease_token =
            (select b.lease_token from outbox.payment_outbox_attempts b where b.outbox_id = '{first}')
          where a.outbox_id = '{second}'"
    );
    rig.rewrite("payment_outbox_attempts", &same).await;
    is_found(&mut rig, &["lease_token_reused"]).await;
}

#[tokio::test]
async fn a_result_that_counts_under_a_lost_lease_is_found() {
    let mut rig = in_order().await;
    let id = rig.enqueue(RESEND).await;
    rig.run(&format!(
        "update outbox.payment_outbox_pending set attempt_count = 1, claimed_by = 'd1/x', lease_token = '{id}',
                claimed_at = clock_timestamp() - interval '30 s', lease_expires_at = clock_timestamp() - interval '10 s'
          where outbox_id = '{id}'"
    ))
    .await;
    rig.pass().await;
    rig.executed(RESEND, &id);
    rig.answer(RESEND, &id, r#""delivery":"whole","status":201,"reference":"R","executed":true,"unknown":false"#);
    rig.attempt(&id, "DISPATCHED", "ACCEPTED", 30_000, 30_000).await;
    rig.rewrite(
        "payment_outbox_attempts",
        &format!("update outbox.payment_outbox_attempts set lease_token = '{id}' where outbox_id = '{id}'"),
    )
    .await;
    rig.end(&id).await;
    rig.pass().await;
    assert_eq!(rig.said.checks(), ["lost_lease_completed"]);
}

#[tokio::test]
async fn a_hold_and_a_doubt_without_a_cause_are_found() {
    let mut rig = in_order().await;
    let id = rig.enqueue(HOLD).await;
    rig.hold(&id, "UNKNOWN").await;
    rig.finish().await;
    assert_eq!(rig.said.checks(), ["held_without_cause"]);
    let mut rig = in_order().await;
    let id = rig.enqueue(HOLD).await;
    rig.executed(HOLD, &id);
    rig.answer(HOLD, &id, r#""delivery":"whole","status":201,"reference":"R","executed":true,"unknown":false"#);
    rig.attempt(&id, "IN_DOUBT", "UNKNOWN", 30_000, 10).await;
    rig.hold(&id, "UNKNOWN").await;
    rig.finish().await;
    assert_eq!(rig.said.checks(), ["doubt_without_cause"]);
}

#[tokio::test]
async fn a_hold_that_a_person_asked_for_has_its_cause_only_if_it_was_applied() {
    let mut rig = in_order().await;
    let id = rig.enqueue(HOLD).await;
    rig.hold(&id, "REQUESTED").await;
    let action = "0192f000-0000-7000-8000-00000000000a";
    rig.run(&format!(
        "insert into outbox.operator_actions (action_id, kind, parameters, reason, needs_approval, member_count, members_sha256,
                amounts, proposed_by, proposed_at)
         values ('{action}', 'HOLD', '{{}}', 'because', false, 1, sha256('x'), '{{}}', 'op', clock_timestamp());
         insert into outbox.operator_action_results (action_id, outbox_id, result, applied_by, applied_at)
         values ('{action}', '{id}', 'APPLIED', 'op', clock_timestamp())"
    ))
    .await;
    rig.finish().await;
    assert_eq!(rig.said.checks(), [""; 0]);
    let skipped = "update outbox.operator_action_results set result = 'SKIPPED'";
    rig.rewrite("operator_action_results", skipped).await;
    assert_eq!(rig.seen_afresh().await.1, ["held_without_cause"]);
}

#[tokio::test]
async fn a_success_that_a_living_worker_forgot_is_found() {
    let mut rig = in_order().await;
    let id = rig.enqueue(HOLD).await;
    rig.executed(HOLD, &id);
    rig.answer(HOLD, &id, r#""delivery":"whole","status":201,"reference":"R","executed":true,"unknown":false"#);
    rig.attempt(&id, "LEASE_EXPIRED", "", 80_000, 61_000).await;
    rig.hold(&id, "UNKNOWN").await;
    // The same worker goes on.
    let other = rig.enqueue(RESEND).await;
    rig.attempt(&other, "RELEASED", "RELEASED", 5000, 100).await;
    assert_eq!(rig.seen_afresh().await.1, ["late_evidence_forgotten"]);
    rig.run(&format!(
        "insert into outbox.payment_outbox_late_outcomes (outbox_id, attempt_no, evidence_sha256, lease_token, worker_id, outcome,
                recorded_at, rail_reference)
         values ('{id}', 1, sha256('x'), '{id}', 'd1/x', 'ACCEPTED', clock_timestamp(), 'R')"
    ))
    .await;
    rig.finish().await;
    assert_eq!(rig.said.checks(), [""; 0]);
}

#[tokio::test]
async fn a_request_without_an_attempt_is_found() {
    let mut rig = in_order().await;
    let id = rig.dispatch(RESEND).await;
    rig.answer(RESEND, &id, r#""delivery":"whole","status":200,"reference":"R","executed":false,"unknown":false"#);
    is_found(&mut rig, &["sent_more_than_claimed"]).await;
}

#[tokio::test]
async fn a_second_send_of_a_doubtful_payment_on_a_hold_rail_is_found() {
    let mut rig = in_order().await;
    let id = rig.enqueue(HOLD).await;
    rig.answer(HOLD, &id, r#""delivery":"whole","status":500,"reference":null,"executed":false,"unknown":true"#);
    rig.attempt(&id, "IN_DOUBT", "UNKNOWN", 30_000, 10).await;
    rig.executed(HOLD, &id);
    rig.answer(HOLD, &id, r#""delivery":"whole","status":201,"reference":"R","executed":true,"unknown":false"#);
    rig.attempt(&id, "DISPATCHED", "ACCEPTED", 20_000, 10).await;
    rig.end(&id).await;
    is_found(&mut rig, &["resent_after_doubt"]).await;
}

#[tokio::test]
async fn a_recovery_is_measured_from_the_kill_to_the_last_settlement() {
    let mut rig = in_order().await;
    let id = rig.enqueue(RESEND).await;
    rig.attempt(&id, "LEASE_EXPIRED", "", 80_000, 70_000).await;
    let at_us = now_us() - 79_000_000;
    rig.append("faults", &format!(r#"{{"event":"killed","worker":"d1/x","at_us":{at_us},"lease_ms":60000}}"#));
    let report = rig.finish().await;
    let recovery = &report.slowest_recoveries[0];
    assert_eq!((report.crashes, recovery.leases, recovery.is_open), (1, 1, false));
    assert!((68_000..69_500).contains(&recovery.took_ms), "{recovery:?}");
}
