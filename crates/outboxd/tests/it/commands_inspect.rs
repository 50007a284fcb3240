//! `inspect`: a payment's whole story, and never its bytes.

use outbox_core::{Millis, Outcome, RailName, WorkerId};
use outbox_store::{
    ClaimRequest, ClaimedPayment, Completion, ConnectSettings, HeldLease, Memory, Session, claim, complete,
};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::commands_binary::{Desk, text};

const CANARY: &str = "DE00CANARY";

async fn enqueued(desk: &Desk) {
    let line = json!({"participant_id": "p", "instruction_id": "i", "rail": "telex", "payload": CANARY, "content_type": "text/plain"});
    let file = desk.file("in.ndjson", line.to_string());
    assert_eq!(desk.enqueue(text(&file), &[]).code, Some(0));
}

fn worker() -> WorkerId {
    WorkerId::new("pay-1", Uuid::from_u128(7)).unwrap()
}

fn dispatcher(desk: &Desk) -> Session {
    Session::new(ConnectSettings::from_url(&desk.db.url("t_dispatcher")).unwrap().into())
}

async fn claimed(session: &mut Session) -> ClaimedPayment {
    let request = ClaimRequest {
        rail: RailName::new("telex").unwrap(),
        worker_id: worker(),
        limit: 1,
        min_lease: Millis(1),
        in_flight: 0,
        after: None,
        environment: None,
        endpoint: None,
        seen: Memory::default(),
        policy_version: None,
    };
    claim(session, &request).await.unwrap().leased.remove(0)
}

fn unknown(payment: &ClaimedPayment) -> Completion {
    let lease =
        HeldLease { outbox_id: payment.outbox_id, attempt_no: payment.attempt_no, lease_token: payment.lease_token };
    Completion {
        lease,
        outcome: Outcome::Unknown,
        delay: Millis::ZERO,
        first_byte_at: Some(OffsetDateTime::now_utc()),
        last_byte_at: None,
        endpoint: Some("https://rail.example/".to_owned()),
        request_sha256: Some([1; 32]),
        response_sha256: None,
        rail_reference: None,
        rail_code: Some("504".to_owned()),
        error_class: Some("timeout".to_owned()),
        error_detail: Some("no answer\u{1b}[31m".to_owned()),
    }
}

#[tokio::test]
async fn the_timeline_tells_each_step_until_the_payment_waits_for_a_person() {
    let desk = Desk::with_rails().await;
    enqueued(&desk).await;
    let waiting = desk.run("t_operator", &["inspect", "i"]);
    assert!(waiting.out.contains("READY, next attempt not before 2"), "{waiting:?}");

    let mut session = dispatcher(&desk);
    let payment = claimed(&mut session).await;
    let in_flight = desk.run("t_operator", &["inspect", "i"]);
    assert!(in_flight.out.contains("claimed by pay-1/00000000-"), "{in_flight:?}");
    assert!(in_flight.out.contains("lease until 2"), "{in_flight:?}");

    complete(&mut session, &worker(), &[&unknown(&payment)]).await.unwrap();
    let id = payment.outbox_id.to_string();
    let held = desk.run("t_operator", &["inspect", &id]);
    assert_eq!((held.code, held.err.as_str()), (Some(0), ""));
    let steps = ["enqueued", "attempt 1: claimed", "attempt 1: first byte", "attempt 1: IN_DOUBT", "now  "];
    let places: Vec<usize> =
        steps.iter().map(|step| held.out.find(step).unwrap_or_else(|| panic!("{step}: {held:?}"))).collect();
    assert!(places.is_sorted(), "{held:?}");
    for part in
        ["by t_ingest", "outcome UNKNOWN", "code 504", "error timeout", "HELD, UNKNOWN: waits for a person", &id]
    {
        assert!(held.out.contains(part), "{part}: {held:?}");
    }
    assert!(held.out.contains("no answer\\u{1b}[31m") && !held.out.contains('\u{1b}'), "{held:?}");
    let document = &desk.run("t_auditor", &["inspect", "i", "--participant", "p", "--output", "json"]).json()[0];
    assert_eq!((&document["attempts"][0]["state"], &document["payload_bytes"]), (&json!("IN_DOUBT"), &json!(10)));
    for ended in [waiting.out, in_flight.out, held.out, document.to_string()] {
        assert!(!ended.contains(CANARY), "{ended}");
    }
}

#[tokio::test]
async fn a_late_outcome_is_part_of_the_timeline() {
    let desk = Desk::with_rails().await;
    enqueued(&desk).await;
    let mut session = dispatcher(&desk);
    let payment = claimed(&mut session).await;
    complete(&mut session, &worker(), &[&unknown(&payment)]).await.unwrap();
    let mut late = unknown(&payment);
    (late.outcome, late.rail_reference) = (Outcome::Accepted, Some("ref-9".to_owned()));
    complete(&mut session, &worker(), &[&late]).await.unwrap();
    let ended = desk.run("t_operator", &["inspect", "i"]);
    assert!(ended.out.contains("late outcome of attempt 1"), "{ended:?}");
    assert!(ended.out.contains("outcome ACCEPTED") && ended.out.contains("reference ref-9"), "{ended:?}");
    assert!(ended.out.contains("a late success is known"), "{ended:?}");
}

#[tokio::test]
async fn an_id_that_is_not_there_ends_with_66() {
    let desk = Desk::with_rails().await;
    enqueued(&desk).await;
    for arguments in [
        &["inspect", "no-such"][..],
        &["inspect", "i", "--participant", "q"],
        &["inspect", "00000000-0000-7000-8000-000000000000", "--output", "json"],
    ] {
        let ended = desk.run("t_operator", arguments);
        assert_eq!((ended.code, ended.out.as_str()), (Some(66), ""), "{ended:?}");
        assert!(ended.err.contains("no payment with the id"), "{ended:?}");
    }
    let ended = desk.run("t_monitor", &["inspect", "i"]);
    assert_eq!(ended.code, Some(77), "{ended:?}");
}
