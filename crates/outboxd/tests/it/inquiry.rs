//! A rail that executes every request, and can be asked: what is in doubt is asked after, and sent again only if the
//! rail promises that it never had it.

use std::collections::BTreeMap;

use rail_sim::{Fault, Point, Script};

use crate::rig::{Daemon, HOLD, LIMIT, Rig};

const COUNT: usize = 5;

/// How the daemon asks `rail-sim`.
pub(crate) const ASKED: [&str; 3] = [
    "rails.hold.inquiry.path=/payments/{key}",
    "rails.hold.inquiry.code_json_pointer=/status",
    "rails.hold.inquiry.codes=[{status=200,code=\"ACCEPTED\",means=\"accepted\"},\
     {status=200,code=\"REFUSED\",means=\"refused\"}]",
];

/// A rig whose rail `hold` has a contract that lets it be asked.
async fn asked(contract: &str) -> Rig {
    let rig = Rig::start().await;
    rig.contract(HOLD, &format!("'inquire', {contract}")).await;
    rig
}

fn daemon(rig: &Rig, name: &str) -> Daemon {
    rig.daemon_with(name, rig.proxy.address(), &ASKED)
}

/// What each payment's attempts were, with how many payments it was so.
async fn lives(rig: &Rig) -> Vec<String> {
    let sql = "select l.life || ' x' || count(*) from (select string_agg(concat_ws(' ', kind, state, outcome), ', ' order by attempt_no) as life \
               from outbox.payment_outbox_attempts where rail = 'hold' group by outbox_id) as l group by l.life order by l.life";
    rig.rows(sql).await.iter().map(|row| sqlx::Row::get(row, 0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_executed_and_not_answered_is_found_by_asking_and_sent_once() {
    let rig = asked("p_max_sends => 10").await;
    rig.hold.script(Script::by_order([
        Fault::ErrorAfter,
        Fault::Reset,
        Fault::Truncate,
        Fault::Interim,
        Fault::Garbage,
    ]));
    rig.enqueue(HOLD, COUNT).await;
    let daemon = daemon(&rig, "a");
    rig.settled().await;
    rig.all_dispatched().await;
    assert_eq!(rig.hold.stats().requests, COUNT as u64);
    assert_eq!(
        lives(&rig).await,
        [
            "SUBMIT IN_DOUBT INTERIM, INQUIRE DISPATCHED ACCEPTED x1",
            "SUBMIT IN_DOUBT UNKNOWN, INQUIRE DISPATCHED ACCEPTED x4"
        ]
    );
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_rail_never_had_is_sent_again_when_nothing_can_be_on_its_way_any_more() {
    let rig = asked("p_not_found_is_final => true").await;
    rig.hold.script(Script::by_order([Fault::ErrorBefore, Fault::ResetBefore]));
    rig.enqueue(HOLD, 2).await;
    let daemon = daemon(&rig, "a");
    rig.settled().await;
    rig.all_dispatched().await;
    assert_eq!(rig.hold.stats().requests, 4);
    assert_eq!(
        lives(&rig).await,
        [
            "SUBMIT IN_DOUBT UNKNOWN, INQUIRE IN_DOUBT NOT_FOUND, INQUIRE RETRYABLE NOT_FOUND, SUBMIT DISPATCHED ACCEPTED x2"
        ]
    );
    // The contract's timeout and processing bound: 1.5 s.
    let soonest: i32 = rig
        .value(
            "select min(extract(epoch from again.claimed_at - first.completed_at) * 1000)::integer \
             from outbox.payment_outbox_attempts first join outbox.payment_outbox_attempts again using (outbox_id) \
             where first.attempt_no = 1 and again.kind = 'SUBMIT' and again.attempt_no > 1",
        )
        .await;
    assert!(soonest >= 1_500, "sent again after {soonest} ms");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn not_found_that_is_no_promise_never_leads_to_another_send() {
    let rig = asked("p_not_found_is_final => false, p_max_inquiries => 3").await;
    rig.hold.script(Script::by_order([Fault::ErrorBefore]));
    rig.enqueue(HOLD, 1).await;
    let daemon = daemon(&rig, "a");
    rig.settled().await;
    assert_eq!(rig.held(HOLD).await, ["EXHAUSTED 1"]);
    assert_eq!(rig.hold.stats().requests, 1);
    assert_eq!(
        lives(&rig).await,
        [
            "SUBMIT IN_DOUBT UNKNOWN, INQUIRE IN_DOUBT NOT_FOUND, INQUIRE IN_DOUBT NOT_FOUND, INQUIRE IN_DOUBT NOT_FOUND x1"
        ]
    );
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rail_that_does_not_answer_questions_uses_none_of_them_up() {
    let rig = asked("p_max_inquiries => 1").await;
    rig.hold.script(Script::by_order([Fault::ErrorAfter]));
    rig.hold.park(Point::AfterExecution);
    rig.enqueue(HOLD, 1).await;
    let daemon = daemon(&rig, "a");
    tokio::time::timeout(LIMIT, rig.hold.wait_for_parked(Point::AfterExecution, 1)).await.unwrap();
    rig.hold.set_down(true).await.unwrap();
    rig.until(
        "three questions without an answer",
        "select count(*) >= 3 from outbox.payment_outbox_attempts where kind = 'INQUIRE'",
    )
    .await;
    let counts =
        "select inquiry_count = 0 and disposition = 'IN_DOUBT' and send_count = 1 from outbox.payment_outbox_pending";
    assert!(rig.value::<bool>(counts).await);
    rig.hold.release();
    rig.hold.set_down(false).await.unwrap();
    rig.settled().await;
    rig.all_dispatched().await;
    assert_eq!(rig.hold.stats().requests, 1);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_the_table_of_codes_lacks_hold_the_payment_at_the_limit_and_open_no_breaker() {
    let rig = asked("p_max_inquiries => 5").await;
    rig.hold.script(Script::by_order([Fault::ErrorAfter]));
    rig.enqueue(HOLD, 1).await;
    let codes = "rails.hold.inquiry.codes=[{status=200,code=\"SETTLED\",means=\"accepted\"}]";
    let breaker = "rails.hold.breaker.failures=3";
    let daemon = rig.daemon_with("a", rig.proxy.address(), &[ASKED[0], ASKED[1], codes, breaker]);
    rig.settled().await;
    assert_eq!(rig.held(HOLD).await, ["EXHAUSTED 1"]);
    let asked = ", INQUIRE IN_DOUBT INCONCLUSIVE".repeat(5);
    assert_eq!(lives(&rig).await, [format!("SUBMIT IN_DOUBT UNKNOWN{asked} x1")]);
    assert_eq!(daemon.events("breaker.opened").len(), 0);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_of_a_killed_dispatcher_are_asked_after_by_its_heir_and_sent_once() {
    let rig = asked("p_max_crashes => 9").await;
    rig.enqueue(HOLD, COUNT).await;
    rig.hold.park(Point::AfterExecution);
    let mut first = daemon(&rig, "a");
    tokio::time::timeout(LIMIT, rig.hold.wait_for_parked(Point::AfterExecution, COUNT as u64)).await.unwrap();
    first.kill();
    rig.hold.release();
    let heir = daemon(&rig, "b");
    rig.settled().await;
    rig.all_dispatched().await;
    assert_eq!(rig.hold.stats().requests, COUNT as u64);
    assert_eq!(lives(&rig).await, [format!("SUBMIT LEASE_EXPIRED, INQUIRE DISPATCHED ACCEPTED x{COUNT}")]);
    heir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_that_asks_a_rail_that_cannot_be_asked_turns_its_lane_off_by_name() {
    let rig = asked("p_max_sends => 10").await;
    rig.enqueue(HOLD, 1).await;
    let daemon = rig.daemon("a");
    let off = daemon.logged("lane.off", 1).await;
    let reason = off["reason"].as_str().unwrap();
    assert!(reason.contains("inquiry") && off["rail"] == HOLD, "{off}");
    assert_eq!(rig.hold.stats().requests, 0);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rail_is_told_of_a_possible_duplicate_with_every_send_after_one_that_may_have_left_and_no_other() {
    let rig = asked("p_not_found_is_final => true").await;
    let marker = ["rails.hold.possible_duplicate.header=X-Possible-Duplicate"];
    rig.hold.script(Script::by_order([Fault::ErrorBefore]));
    rig.enqueue(HOLD, 2).await;
    let daemon = rig.daemon_with("a", rig.proxy.address(), &[&ASKED[..], &marker].concat());
    rig.settled().await;
    rig.all_dispatched().await;
    let mut marks: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
    for received in rig.hold.received().unwrap() {
        marks.entry(received.key.unwrap()).or_default().push(received.possible_duplicate);
    }
    let mut marks: Vec<_> = marks.into_values().collect();
    marks.sort_by_key(Vec::len);
    assert_eq!(marks, [vec![None], vec![None, Some("true".to_owned())]]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payment_that_is_pending_at_the_rail_is_asked_after_until_it_is_refused_and_then_failed() {
    let rig = asked("p_max_inquiries => 1000").await;
    rig.hold.script(Script::by_order([Fault::Refuse]));
    rig.hold.park(Point::BeforeExecution);
    rig.enqueue(HOLD, 1).await;
    let daemon = daemon(&rig, "a");
    rig.until("two answers that it is pending", &pending_twice()).await;
    rig.hold.release();
    rig.settled().await;
    let life = lives(&rig).await;
    assert!(life[0].starts_with("SUBMIT IN_DOUBT UNKNOWN, INQUIRE IN_DOUBT INTERIM"), "{life:?}");
    assert!(life[0].ends_with(", INQUIRE FAILED REFUSED x1"), "{life:?}");
    assert_eq!(rig.hold.stats().requests, 1);
    rig.conserved().await;
    daemon.stop().await;
}

fn pending_twice() -> String {
    "select count(*) >= 2 from outbox.payment_outbox_attempts where kind = 'INQUIRE' and outcome = 'INTERIM'".to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn success_whose_iso_20022_status_is_interim_is_asked_after_until_it_is_settled() {
    for interim in ["ACTC", "ACCP", "ACSP"] {
        let rig = asked("p_max_inquiries => 1000").await;
        rig.hold.call_executed(interim);
        rig.enqueue(HOLD, 1).await;
        // No table of codes: what ISO 20022 means by its statuses is known.
        let settings = ["rails.hold.code_json_pointer=/status", ASKED[0]];
        let daemon = rig.daemon_with("a", rig.proxy.address(), &settings);
        rig.until("two answers that it is pending", &pending_twice()).await;
        rig.hold.call_executed("ACSC");
        rig.settled().await;
        rig.all_dispatched().await;
        let life = lives(&rig).await;
        assert!(life[0].starts_with("SUBMIT IN_DOUBT INTERIM, INQUIRE IN_DOUBT INTERIM"), "{interim}: {life:?}");
        assert!(life[0].ends_with(", INQUIRE DISPATCHED ACCEPTED x1"), "{interim}: {life:?}");
        assert_eq!(rig.hold.stats().requests, 1, "{interim}");
        daemon.stop().await;
    }
}

/// Answers to a question that say nothing of the payment, and what each is recorded as.
const NOTHING: [(Fault, &str); 13] = [
    (Fault::ErrorBefore, "UNKNOWN"),
    (Fault::Unavailable, "UNKNOWN"),
    (Fault::Redirect, "INCONCLUSIVE"),
    (Fault::Garbage, "INCONCLUSIVE"),
    (Fault::Gateway, "INCONCLUSIVE"),
    (Fault::Truncate, "UNKNOWN"),
    (Fault::Oversize, "INCONCLUSIVE"),
    (Fault::Reset, "UNKNOWN"),
    (Fault::ResetBefore, "UNKNOWN"),
    (Fault::Hang, "UNKNOWN"),
    (Fault::Throttle, "THROTTLED"),
    (Fault::Unauthorized, "RAIL_REFUSED_US"),
    (Fault::Forbidden, "RAIL_REFUSED_US"),
];

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_say_nothing_of_the_payment_leave_it_in_doubt_and_only_whole_ones_use_questions_up() {
    let rig = asked("p_max_inquiries => 5, p_not_found_is_final => true").await;
    let faults = NOTHING.map(|(fault, _)| fault);
    rig.hold.script(Script::by_order([Fault::ErrorAfter]).with_inquiries(faults));
    rig.enqueue(HOLD, 1).await;
    let daemon = daemon(&rig, "a");
    rig.settled().await;
    rig.all_dispatched().await;
    let outcomes: Vec<String> = rig
        .rows("select outcome from outbox.payment_outbox_attempts where kind = 'INQUIRE' order by attempt_no")
        .await
        .iter()
        .map(|row| sqlx::Row::get(row, 0))
        .collect();
    let expected: Vec<&str> = NOTHING.iter().map(|(_, outcome)| *outcome).chain(["ACCEPTED"]).collect();
    assert_eq!(outcomes, expected);
    assert_eq!((rig.hold.stats().requests, rig.hold.stats().inquiries), (1, expected.len() as u64));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payment_of_a_dispatcher_killed_while_it_asked_is_asked_after_again_and_sent_once() {
    let rig = asked("p_max_crashes => 9").await;
    rig.hold.script(Script::by_order([Fault::ErrorAfter]));
    rig.hold.park(Point::AfterLookUp);
    rig.enqueue(HOLD, 1).await;
    let mut first = daemon(&rig, "a");
    tokio::time::timeout(LIMIT, rig.hold.wait_for_parked(Point::AfterLookUp, 1)).await.unwrap();
    first.kill();
    rig.hold.release();
    let heir = daemon(&rig, "b");
    rig.settled().await;
    rig.all_dispatched().await;
    assert_eq!(lives(&rig).await, ["SUBMIT IN_DOUBT UNKNOWN, INQUIRE LEASE_EXPIRED, INQUIRE DISPATCHED ACCEPTED x1"]);
    assert_eq!(rig.hold.stats().requests, 1);
    heir.stop().await;
}

/// Lets a daemon record the success of its only payment after its lease was over and nobody had taken it over.
async fn late_success(rig: &Rig, settings: &[&str]) -> Daemon {
    rig.enqueue(HOLD, 1).await;
    rig.hold.park(Point::AfterExecution);
    let settings = [settings, &["dispatcher.maintenance_interval=10m"]].concat();
    let mut daemon = rig.daemon_with("a", rig.proxy.address(), &settings);
    tokio::time::timeout(LIMIT, rig.hold.wait_for_parked(Point::AfterExecution, 1)).await.unwrap();
    daemon.freeze().await;
    rig.run("update outbox.payment_rails set paused = true where rail = 'hold'").await;
    rig.hold.release();
    tokio::time::timeout(LIMIT, rig.hold.wait_for_answers(1)).await.unwrap();
    rig.leases_over().await;
    daemon.thaw();
    daemon.logged("complete.fenced", 1).await;
    rig.run("update outbox.payment_rails set paused = false where rail = 'hold'").await;
    rig.settled().await;
    daemon
}

#[tokio::test(flavor = "multi_thread")]
async fn success_that_came_after_the_lease_is_asked_after_and_never_sent_again() {
    let rig = asked("p_not_found_is_final => true").await;
    let daemon = late_success(&rig, &ASKED).await;
    rig.all_dispatched().await;
    assert_eq!(lives(&rig).await, ["SUBMIT LEASE_EXPIRED, INQUIRE DISPATCHED ACCEPTED x1"]);
    assert_eq!(rig.hold.stats().requests, 1);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn not_found_after_a_late_success_is_a_contradiction_and_never_sent_again_even_if_it_is_final() {
    let rig = asked("p_not_found_is_final => true").await;
    // Where the rail knows nothing.
    let daemon = late_success(&rig, &["rails.hold.inquiry.path=/elsewhere/{key}", ASKED[1], ASKED[2]]).await;
    assert_eq!(rig.held(HOLD).await, ["CONTRADICTION 1"]);
    assert_eq!(lives(&rig).await, ["SUBMIT LEASE_EXPIRED, INQUIRE IN_DOUBT NOT_FOUND x1"]);
    assert_eq!(rig.hold.stats().requests, 1);
    rig.conserved().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn not_found_that_was_asked_before_the_quarantine_was_over_is_not_final_however_late_it_is_recorded() {
    let rig = asked("p_not_found_is_final => true, p_lease_duration_ms => 20000").await;
    rig.enqueue(HOLD, 1).await;
    // The send is on its way for longer than its timeout, and the rail is asked meanwhile.
    rig.hold.park(Point::BeforeKey);
    rig.hold.park(Point::AfterLookUp);
    let daemon = daemon(&rig, "a");
    tokio::time::timeout(LIMIT, rig.hold.wait_for_parked(Point::AfterLookUp, 1)).await.unwrap();
    // The rail has answered "not found"; now the send arrives, and the answer's way into the database takes long.
    rig.proxy.black_hole();
    rig.hold.release();
    tokio::time::timeout(LIMIT, rig.hold.wait_for_effects(1)).await.unwrap();
    daemon.logged("send.finished", 2).await;
    rig.until(
        "the end of the quarantine",
        "select clock_timestamp() > quarantine_until + interval '5 ms' from outbox.payment_outbox_pending",
    )
    .await;
    rig.proxy.forward();
    rig.proxy.cut_all();
    rig.settled().await;
    rig.all_dispatched().await;
    assert_eq!(
        lives(&rig).await,
        ["SUBMIT IN_DOUBT UNKNOWN, INQUIRE IN_DOUBT NOT_FOUND, INQUIRE DISPATCHED ACCEPTED x1"]
    );
    assert_eq!(rig.hold.stats().requests, 1);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn doubt_of_a_paused_participant_is_asked_after_and_nothing_of_it_is_sent() {
    let rig = asked("p_not_found_is_final => true").await;
    rig.hold.script(Script::by_order([Fault::ErrorAfter, Fault::ErrorBefore]));
    rig.hold.park(Point::AfterExecution);
    rig.enqueue(HOLD, 2).await;
    let daemon = daemon(&rig, "a");
    tokio::time::timeout(LIMIT, rig.hold.wait_for_parked(Point::AfterExecution, 1)).await.unwrap();
    rig.run("select outbox.set_outbox_pause(null, participant_id, true, 'drill') from (select distinct participant_id from outbox.payment_outbox_pending) as p").await;
    rig.hold.release();
    // The one that was executed ends; the other is found to be free, and parked instead of sent again.
    rig.until(
        "one end and one parked",
        "select count(*) filter (where disposition = 'PARKED') = 1 and count(*) = 1 from outbox.payment_outbox_pending",
    )
    .await;
    assert_eq!(rig.hold.stats().requests, 2);
    assert_eq!(rig.count(HOLD, "RELEASED").await, 0, "leased again and again for nothing");
    rig.run("select outbox.set_outbox_pause(null, participant_id, false, 'drill') from (select distinct participant_id from outbox.outbox_pauses) as p").await;
    rig.settled().await;
    rig.all_dispatched().await;
    daemon.stop().await;
}
