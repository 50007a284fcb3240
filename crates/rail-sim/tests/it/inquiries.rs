//! What the rail says of a payment when it is asked: the truth of its ledger, spoiled where a script says so. A
//! question executes nothing and leaves no record of a payment.

use rail_sim::{Fault, Ledger, Point, Script, Sim, SimConfig};

use crate::raw::{End, Raw, Seen, get, pay, request, within};

/// Pays under the key `k`, then asks after it into one fault.
async fn ask_into(fault: Fault) -> Seen {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::default().with_inquiries([fault]);
    let cfg = SimConfig { script, oversize_bytes: 300_000, slow_ms: 5, ..SimConfig::in_dir(dir.path()) };
    let sim = Sim::start(cfg).await.unwrap();
    pay(sim.addr(), "k", b"body").await;
    let seen = get(&sim, "/payments/k").await;
    // The next question meets no fault, and nothing was executed by asking.
    let after = get(&sim, "/payments/k").await;
    assert_eq!(
        (after.status(), after.json()["effects"].as_u64(), after.json()["requests"].as_u64()),
        (200, Some(1), Some(1))
    );
    assert_eq!((sim.stats().requests, sim.stats().inquiries), (1, 2));
    assert_eq!((sim.answers().unwrap().len(), sim.received().unwrap().len(), sim.effects().unwrap().len()), (1, 1, 1));
    sim.stop().await;
    seen
}

#[tokio::test]
async fn inquiry_meets_the_faults_of_its_script() {
    for (fault, status) in [
        (Fault::None, 200),
        (Fault::Slow, 200),
        (Fault::Interim, 202),
        (Fault::Throttle, 429),
        (Fault::Unauthorized, 401),
        (Fault::Forbidden, 403),
        (Fault::ErrorBefore, 500),
        (Fault::ErrorAfter, 500),
        (Fault::Unavailable, 503),
        (Fault::Redirect, 307),
        (Fault::Gateway, 404),
    ] {
        let seen = ask_into(fault).await;
        assert_eq!((seen.status(), seen.end), (status, End::Complete), "{fault:?}");
    }
    assert!(serde_json::from_slice::<serde_json::Value>(&ask_into(Fault::Garbage).await.body).is_err());
    let truncated = ask_into(Fault::Truncate).await;
    assert_eq!((truncated.status(), &truncated.end), (200, &End::Fin));
    assert!(truncated.body.len() < truncated.announced);
    assert_eq!(ask_into(Fault::Reset).await.end, End::Reset);
    assert_eq!(ask_into(Fault::ResetBefore).await.head, "");
    assert!(ask_into(Fault::Oversize).await.body.len() > 300_000);
}

#[tokio::test]
async fn inquiry_that_hangs_is_never_answered() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::default().with_inquiries([Fault::Hang]);
    let sim = Sim::start(SimConfig { script, ..SimConfig::in_dir(dir.path()) }).await.unwrap();
    let mut asking = Raw::connect(sim.addr()).await;
    asking.send(b"GET /payments/k HTTP/1.1\r\nhost: rail\r\n\r\n").await;
    within(sim.wait_for(|stats| stats.inquiries == 1)).await;
    sim.stop().await;
    assert_eq!(asking.answer().await.head, "");
}

#[tokio::test]
async fn payment_that_is_being_worked_on_is_pending_and_then_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::start(SimConfig::in_dir(dir.path())).await.unwrap();
    sim.park(Point::BeforeExecution);
    let mut paying = Raw::connect(sim.addr()).await;
    paying.send(&request("k", b"body")).await;
    within(sim.wait_for_parked(Point::BeforeExecution, 1)).await;
    let pending = get(&sim, "/payments/k").await;
    assert_eq!((pending.status(), &pending.json()["status"]), (202, &"IN_FLIGHT".into()));
    sim.release();
    paying.answer().await;
    let accepted = get(&sim, "/payments/k").await;
    assert_eq!((accepted.status(), &accepted.json()["status"]), (200, &"ACCEPTED".into()));
    sim.stop().await;
}

#[tokio::test]
async fn payment_whose_key_has_not_been_looked_at_is_not_found_and_executed_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::start(SimConfig::in_dir(dir.path())).await.unwrap();
    sim.park(Point::BeforeKey);
    let mut paying = Raw::connect(sim.addr()).await;
    paying.send(&request("k", b"body")).await;
    within(sim.wait_for_parked(Point::BeforeKey, 1)).await;
    assert_eq!(get(&sim, "/payments/k").await.status(), 404);
    // Whoever goes away stops nothing.
    drop(paying);
    sim.release();
    within(sim.wait_for_effects(1)).await;
    assert_eq!(get(&sim, "/payments/k").await.status(), 200);
    sim.stop().await;
}

#[tokio::test]
async fn answer_that_was_looked_up_does_not_know_what_happens_before_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::start(SimConfig::in_dir(dir.path())).await.unwrap();
    sim.park(Point::AfterLookUp);
    let mut asking = Raw::connect(sim.addr()).await;
    asking.send(b"GET /payments/k HTTP/1.1\r\nhost: rail\r\n\r\n").await;
    within(sim.wait_for_parked(Point::AfterLookUp, 1)).await;
    assert_eq!(pay(sim.addr(), "k", b"body").await.status(), 201);
    sim.release();
    assert_eq!(asking.answer().await.status(), 404);
    assert_eq!(get(&sim, "/payments/k").await.status(), 200);
    sim.stop().await;
}

#[tokio::test]
async fn rail_that_was_started_again_answers_from_its_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::start(SimConfig::in_dir(dir.path())).await.unwrap();
    pay(sim.addr(), "k", b"body").await;
    sim.stop().await;
    let sim = Sim::start(SimConfig::in_dir(dir.path())).await.unwrap();
    let told = get(&sim, "/payments/k").await.json();
    let ledger = Ledger::read(&dir.path().join("ledger.jsonl")).unwrap();
    assert_eq!(
        (&told["status"], told["reference"].as_str()),
        (&"ACCEPTED".into(), Some(&*ledger.effects[0].reference))
    );
    sim.stop().await;
}

#[tokio::test]
async fn executed_payment_is_called_what_the_rail_was_told_to_call_it() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::start(SimConfig::in_dir(dir.path())).await.unwrap();
    sim.call_executed("ACSP");
    assert_eq!(pay(sim.addr(), "k", b"body").await.json()["status"], "ACSP");
    assert_eq!(get(&sim, "/payments/k").await.json()["status"], "ACSP");
    sim.call_executed("ACSC");
    assert_eq!(get(&sim, "/payments/k").await.json()["status"], "ACSC");
    sim.stop().await;
}

#[tokio::test]
async fn mark_of_a_possible_duplicate_is_on_record() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::start(SimConfig::in_dir(dir.path())).await.unwrap();
    pay(sim.addr(), "k", b"body").await;
    let marked = "POST /pay HTTP/1.1\r\nhost: rail\r\nidempotency-key: k\r\nx-possible-duplicate: true\r\ncontent-length: 4\r\n\r\nbody";
    let mut again = Raw::connect(sim.addr()).await;
    again.send(marked.as_bytes()).await;
    again.answer().await;
    let marks: Vec<_> = sim.received().unwrap().into_iter().map(|received| received.possible_duplicate).collect();
    assert_eq!(marks, [None, Some("true".to_owned())]);
    sim.stop().await;
}
