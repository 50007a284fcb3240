//! What the rail does with a key it has seen before, and what it says about one when asked.

use rail_sim::{Fault, KeyMode, Ledger, Script, Sim, SimConfig};

use crate::raw::{DEADLINE, Raw, get, pay};

#[tokio::test]
async fn the_same_key_and_bytes_get_the_first_result_and_no_second_effect() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::start(SimConfig::in_dir(dir.path())).await.unwrap();
    let first = pay(sim.addr(), "k", b"body").await;
    let quoted = pay(sim.addr(), "\"k\"", b"body").await;
    assert_eq!((first.status(), quoted.status()), (201, 200));
    assert_eq!(first.body, quoted.body);
    assert_eq!(sim.effects().unwrap().len(), 1);
    let answers = sim.answers().unwrap();
    assert_eq!((answers[0].executed, answers[0].replayed), (true, false));
    assert_eq!((answers[1].executed, answers[1].replayed), (false, true));
    sim.stop().await;
}

#[tokio::test]
async fn other_bytes_under_a_known_key_are_refused_and_on_record_by_hash() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::start(SimConfig::in_dir(dir.path())).await.unwrap();
    pay(sim.addr(), "k", b"body").await;
    let other = pay(sim.addr(), "k", b"Body").await;
    assert_eq!((other.status(), other.code().as_str()), (422, "KEY_REUSED"));
    assert_eq!(sim.effects().unwrap().len(), 1);
    let received = sim.received().unwrap();
    assert_ne!(received[0].body_sha256, received[1].body_sha256);
    sim.stop().await;
}

#[tokio::test]
async fn a_refusal_is_replayed_too() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::by_order([Fault::Refuse]);
    let sim = Sim::start(SimConfig { script, ..SimConfig::in_dir(dir.path()) }).await.unwrap();
    let (first, second) = (pay(sim.addr(), "k", b"body").await, pay(sim.addr(), "k", b"body").await);
    assert_eq!((first.status(), &first.body), (second.status(), &second.body));
    assert_eq!(sim.effects().unwrap(), []);
    sim.stop().await;
}

#[tokio::test]
async fn an_executed_payment_is_never_refused_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::by_order([Fault::ErrorAfter, Fault::Refuse]);
    let sim = Sim::start(SimConfig { script, ..SimConfig::in_dir(dir.path()) }).await.unwrap();
    assert_eq!(pay(sim.addr(), "k", b"body").await.status(), 500);
    assert_eq!(pay(sim.addr(), "k", b"body").await.status(), 200);
    sim.stop().await;
}

#[tokio::test]
async fn a_non_idempotent_rail_makes_an_effect_for_every_request() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = SimConfig { keys: KeyMode::NonIdempotent, ..SimConfig::in_dir(dir.path()) };
    let ledger = cfg.ledger.clone();
    let sim = Sim::start(cfg).await.unwrap();
    let (first, second) = (pay(sim.addr(), "k", b"body").await, pay(sim.addr(), "k", b"body").await);
    assert_ne!(first.body, second.body);
    assert_eq!(Ledger::read(&ledger).unwrap().duplicates(), 1);
    sim.stop().await;
}

#[tokio::test]
async fn after_its_window_a_key_executes_again() {
    let dir = tempfile::tempdir().unwrap();
    let window_ms = 300;
    let keys = KeyMode::Idempotent { window_ms: Some(window_ms) };
    let sim = Sim::start(SimConfig { keys, ..SimConfig::in_dir(dir.path()) }).await.unwrap();
    let mut client = Raw::connect(sim.addr()).await;
    let begun = std::time::Instant::now();
    client.pay("k", b"body").await;
    while sim.effects().unwrap().len() < 2 {
        assert!(begun.elapsed() < DEADLINE, "the key is never forgotten");
        client.pay("k", b"body").await;
    }
    let effects = sim.effects().unwrap();
    assert!(effects[1].at_us - effects[0].at_us >= window_ms * 1000);
    assert!(sim.answers().unwrap().iter().any(|answer| answer.replayed));
    assert_ne!(effects[0].reference, effects[1].reference);
    sim.stop().await;
}

#[tokio::test]
async fn a_forgotten_key_executes_again() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::start(SimConfig::in_dir(dir.path())).await.unwrap();
    pay(sim.addr(), "k", b"body").await;
    sim.forget_keys();
    assert_eq!(pay(sim.addr(), "k", b"body").await.status(), 201);
    assert_eq!(sim.effects().unwrap().len(), 2);
    sim.stop().await;
}

#[tokio::test]
async fn whoever_asks_is_told_the_state_of_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::by_order([Fault::Interim, Fault::Refuse, Fault::ErrorBefore]);
    let sim = Sim::start(SimConfig { script, ..SimConfig::in_dir(dir.path()) }).await.unwrap();
    for key in ["paid", "refused", "unseen"] {
        pay(sim.addr(), key, b"body").await;
    }
    let paid = get(&sim, "/payments/paid").await.json();
    let effect = sim.effects().unwrap().remove(0);
    assert_eq!((&paid["status"], &paid["effects"]), (&"ACCEPTED".into(), &1.into()));
    assert_eq!(paid["reference"], effect.reference);
    let refused = get(&sim, "/payments/refused").await.json();
    assert_eq!((&refused["status"], &refused["code"]), (&"REFUSED".into(), &"AC04".into()));
    assert_eq!(get(&sim, "/payments/unseen").await.status(), 404);
    assert_eq!(get(&sim, "/payments/never").await.status(), 404);
    assert_eq!(get(&sim, "/_stats").await.json()["requests"], 3);
    let ledger = get(&sim, "/_ledger").await;
    assert_eq!(ledger.body, std::fs::read(dir.path().join("ledger.jsonl")).unwrap());
    sim.stop().await;
}
