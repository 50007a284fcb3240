//! Each fault as the client sees it, next to what the rail did and wrote down.

use rail_sim::{Answer, Callers, Delivery, Fault, Profile, Script, Sim, SimConfig, unknown_answers};
use tempfile::TempDir;

use crate::raw::{DEADLINE, End, Raw, Seen, pay, within};

async fn rail(dir: &TempDir, script: Script) -> Sim {
    Sim::start(SimConfig { script, oversize_bytes: 300_000, ..SimConfig::in_dir(dir.path()) }).await.unwrap()
}

struct Case {
    seen: Seen,
    effects: usize,
    answer: Answer,
}

/// Sends one payment into one fault.
async fn meet(fault: Fault) -> Case {
    let dir = tempfile::tempdir().unwrap();
    let sim = rail(&dir, Script::by_order([fault])).await;
    let seen = pay(sim.addr(), "k", b"body").await;
    let effects = sim.effects().unwrap().len();
    let answers = sim.answers().unwrap();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!((answers[0].fault, answers[0].key.as_deref()), (fault, Some("k")));
    assert_eq!(sim.stats().unknown_answers, unknown_answers(&answers, &sim.received().unwrap()));
    assert_eq!(answers[0].executed, effects == 1);
    sim.stop().await;
    Case { seen, effects, answer: answers[0].clone() }
}

fn check(case: &Case, status: u16, effects: usize, unknown: bool) {
    let found = (case.seen.status(), case.effects, case.answer.unknown);
    assert_eq!(found, (status, effects, unknown), "{:?}", case.answer.fault);
}

#[tokio::test]
async fn a_success_carries_its_reference_in_body_and_header_and_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let sim = rail(&dir, Script::default()).await;
    let seen = pay(sim.addr(), "k", b"\x00\xff\xef\xbb\xbf\r\n").await;
    let effect = sim.effects().unwrap().remove(0);
    assert_eq!((seen.status(), seen.end), (201, End::Complete));
    assert_eq!(seen.body, format!(r#"{{"reference":"{}","status":"ACCEPTED"}}"#, effect.reference).as_bytes());
    assert!(seen.head.contains(&format!("rail-reference: {}\r\n", effect.reference)));
    // sha256 of those bytes, from another implementation.
    assert_eq!(effect.body_sha256, "4dad4c439a94b6d84aa7f3721fec48743a0fb7c24d43afa1f1eaeff6c3224d3b");
    assert_eq!((effect.seq, effect.body_bytes, effect.content_type.as_deref()), (1, 7, Some("application/xml")));
    sim.stop().await;
}

#[tokio::test]
async fn faults_at_the_door_execute_nothing() {
    let throttled = meet(Fault::Throttle).await;
    check(&throttled, 429, 0, false);
    assert_eq!(throttled.seen.header("retry-after"), Some("1"));
    check(&meet(Fault::Unauthorized).await, 401, 0, false);
    check(&meet(Fault::Forbidden).await, 403, 0, false);
    check(&meet(Fault::ErrorBefore).await, 500, 0, true);
    let redirect = meet(Fault::Redirect).await;
    check(&redirect, 307, 0, true);
    assert_eq!(redirect.seen.header("location"), Some("/moved"));
    let gateway = meet(Fault::Gateway).await;
    check(&gateway, 404, 0, false);
    assert!(serde_json::from_slice::<serde_json::Value>(&gateway.seen.body).is_err());
    let unavailable = meet(Fault::Unavailable).await;
    check(&unavailable, 503, 0, true);
    assert_eq!(unavailable.seen.code(), "NOT_EXECUTED");
}

#[tokio::test]
async fn a_refusal_carries_a_code_and_has_no_effect() {
    let case = meet(Fault::Refuse).await;
    check(&case, 422, 0, false);
    assert_eq!((case.seen.code().as_str(), case.answer.code.as_deref()), ("AC04", Some("AC04")));
}

#[tokio::test]
async fn errors_before_and_after_execution_look_alike() {
    let (before, after) = (meet(Fault::ErrorBefore).await, meet(Fault::ErrorAfter).await);
    check(&after, 500, 1, true);
    assert_eq!(before.seen.body, after.seen.body);
    let without_date = |seen: &Seen| seen.head.lines().filter(|line| !line.starts_with("date")).collect::<String>();
    assert_eq!(without_date(&before.seen), without_date(&after.seen));
}

#[tokio::test]
async fn an_interim_answer_has_no_reference() {
    let case = meet(Fault::Interim).await;
    check(&case, 202, 1, true);
    assert_eq!(case.seen.header("rail-reference"), None);
    assert_eq!(case.seen.code(), "PENDING");
}

#[tokio::test]
async fn a_truncated_answer_ends_early_and_in_order() {
    let case = meet(Fault::Truncate).await;
    check(&case, 201, 1, true);
    assert_eq!(case.seen.end, End::Fin);
    assert!(!case.seen.body.is_empty() && case.seen.body.len() < case.seen.announced);
}

#[tokio::test]
async fn a_reset_comes_in_mid_answer() {
    let case = meet(Fault::Reset).await;
    check(&case, 201, 1, true);
    assert_eq!(case.seen.end, End::Reset);
    assert!(!case.seen.body.is_empty() && case.seen.body.len() < case.seen.announced);
}

#[tokio::test]
async fn a_reset_before_execution_gives_no_byte() {
    let case = meet(Fault::ResetBefore).await;
    check(&case, 0, 0, true);
    assert_eq!((case.seen.end, case.seen.head.as_str()), (End::Reset, ""));
}

#[tokio::test]
async fn an_oversize_answer_is_valid_and_too_large() {
    let case = meet(Fault::Oversize).await;
    check(&case, 201, 1, true);
    assert_eq!((&case.seen.end, case.seen.body.len()), (&End::Complete, case.seen.announced));
    assert!(case.seen.announced > 300_000);
    assert_eq!(case.seen.json()["status"], "ACCEPTED");
}

#[tokio::test]
async fn garbage_is_a_200_that_nobody_can_read() {
    let case = meet(Fault::Garbage).await;
    check(&case, 200, 1, true);
    assert!(serde_json::from_slice::<serde_json::Value>(&case.seen.body).is_err());
    assert_eq!(case.seen.header("rail-reference"), None);
}

#[tokio::test]
async fn a_hang_executes_and_is_on_record_before_the_client_gives_up() {
    let dir = tempfile::tempdir().unwrap();
    let sim = rail(&dir, Script::by_order([Fault::Hang])).await;
    let mut client = Raw::connect(sim.addr()).await;
    client.send(&crate::raw::request("k", b"body")).await;
    within(sim.wait_for_answers(1)).await;
    let mut byte = [0];
    assert_eq!(client.0.try_read(&mut byte).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    let answer = sim.answers().unwrap().remove(0);
    assert_eq!((answer.delivery, answer.status, answer.executed, answer.unknown), (Delivery::Hung, None, true, true));
    assert_eq!(sim.effects().unwrap().len(), 1);
    sim.stop().await;
}

#[tokio::test]
async fn a_slow_answer_comes_after_its_delay() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = SimConfig { slow_ms: 150, script: Script::by_order([Fault::Slow]), ..SimConfig::in_dir(dir.path()) };
    let sim = Sim::start(cfg).await.unwrap();
    let mut client = Raw::connect(sim.addr()).await;
    let begun = std::time::Instant::now();
    assert_eq!(client.pay("k", b"body").await.status(), 201);
    assert!(begun.elapsed() >= std::time::Duration::from_millis(150));
    sim.stop().await;
}

#[tokio::test]
async fn a_client_that_gives_up_on_a_slow_answer_is_on_record_as_in_doubt() {
    let dir = tempfile::tempdir().unwrap();
    let slow_ms = 1000 * 2 * DEADLINE.as_secs();
    let cfg = SimConfig { slow_ms, script: Script::by_order([Fault::Slow]), ..SimConfig::in_dir(dir.path()) };
    let sim = Sim::start(cfg).await.unwrap();
    let mut client = Raw::connect(sim.addr()).await;
    client.send(&crate::raw::request("k", b"body")).await;
    within(sim.wait_for_effects(1)).await;
    drop(client);
    within(sim.wait_for_answers(1)).await;
    let answer = sim.answers().unwrap().remove(0);
    assert_eq!((answer.delivery, answer.executed, answer.unknown), (Delivery::Abandoned, true, true));
    sim.stop().await;
}

#[tokio::test]
async fn answers_of_the_table_of_codes_are_not_in_doubt() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = SimConfig {
        telling: vec!["503:NOT_EXECUTED".to_owned()],
        script: Script::by_order([Fault::Unavailable, Fault::ErrorBefore]),
        ..SimConfig::in_dir(dir.path())
    };
    let sim = Sim::start(cfg).await.unwrap();
    let mut client = Raw::connect(sim.addr()).await;
    for key in ["a", "b"] {
        client.pay(key, b"body").await;
    }
    let unknown: Vec<_> = sim.answers().unwrap().iter().map(|answer| answer.unknown).collect();
    assert_eq!(unknown, [false, true]);
    assert_eq!(sim.stats().connections, 1);
    sim.stop().await;
}

#[tokio::test]
async fn bad_requests_execute_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::start(SimConfig { body_max_bytes: 100, ..SimConfig::in_dir(dir.path()) }).await.unwrap();
    let no_key = b"POST / HTTP/1.1\r\nhost: rail\r\ncontent-length: 1\r\n\r\nx";
    let mut client = Raw::connect(sim.addr()).await;
    client.send(no_key).await;
    assert_eq!(client.answer().await.code(), "KEY_MISSING");
    assert_eq!(pay(sim.addr(), "a b", b"x").await.code(), "KEY_INVALID");
    let large = pay(sim.addr(), "k", &[b'x'; 101]).await;
    assert_eq!((large.status(), large.code().as_str()), (413, "TOO_LARGE"));
    assert_eq!(sim.effects().unwrap(), []);
    sim.stop().await;
}

#[tokio::test]
async fn the_same_seed_plays_the_same_run() {
    let profile = Profile::new([(Fault::Refuse, 200), (Fault::Throttle, 200), (Fault::ErrorAfter, 200)]);
    let play = async |seed| {
        let dir = tempfile::tempdir().unwrap();
        let cfg = SimConfig { seed, profile: profile.clone(), ..SimConfig::in_dir(dir.path()) };
        let sim = Sim::start(cfg).await.unwrap();
        let mut client = Raw::connect(sim.addr()).await;
        let mut run = Vec::new();
        for round in 0..3 {
            for key in 0..20 {
                let seen = client.pay(&format!("k{key}"), b"body").await;
                run.push((round, seen.status(), seen.body));
            }
        }
        sim.stop().await;
        run
    };
    let first = play(1).await;
    assert_eq!(first, play(1).await);
    assert_ne!(first, play(2).await);
}

#[tokio::test]
async fn a_caller_that_the_rail_no_longer_takes_is_told_so_and_nothing_is_executed() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::start(SimConfig::in_dir(dir.path())).await.unwrap();
    assert_eq!(pay(sim.addr(), "before", b"body").await.status(), 201);
    let authorization_sha256 = ["00".repeat(32)].into();
    sim.admit_only(Callers { authorization_sha256, ..Callers::default() });
    let refused = pay(sim.addr(), "after", b"body").await;
    assert_eq!((refused.status(), refused.code().as_str()), (401, "UNAUTHORIZED"));
    assert_eq!(sim.effects().unwrap().len(), 1);
    sim.admit_only(Callers::default());
    assert_eq!(pay(sim.addr(), "after", b"body").await.status(), 201);
    sim.stop().await;
}
