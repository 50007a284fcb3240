//! A rail that executes every request, and can be asked: what is in doubt is asked after, and sent again only if the
//! rail promises that it never had it.

use outbox_testkit::wait_until;
use rail_sim::{Fault, Point, Script};

use crate::rig::{Daemon, HOLD, LIMIT, Rig};

const COUNT: usize = 5;

/// How the daemon asks `rail-sim`.
const ASKED: [&str; 3] = [
    "rails.hold.inquiry.path=/payments/{key}",
    "rails.hold.inquiry.code_json_pointer=/status",
    "rails.hold.inquiry.codes=[{status=200,code=\"ACCEPTED\",means=\"accepted\"},\
     {status=200,code=\"REFUSED\",means=\"refused\"},{status=200,code=\"IN_FLIGHT\",means=\"interim\"}]",
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
    // The hash covers the headers: a send with the marker is another request than one without.
    let wait = async || rig.hold.stats().requests == 3;
    wait_until("all requests", LIMIT, wait).await.unwrap();
    let hashes: i64 = rig
        .value("select count(distinct request_sha256) from outbox.payment_outbox_attempts where kind = 'SUBMIT' and rail = 'hold'")
        .await;
    assert_eq!(hashes, 3);
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
