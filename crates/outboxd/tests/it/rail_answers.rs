//! Each way in which a rail can answer, or not, ends as the attempt state that says whether the payment
//! could have been executed; and nothing secret is logged on any of those ways.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use outbox_testkit::{Certs, wait_until};
use rail_sim::{Fault, Profile, Script};
use serde_json::Value;
use sqlx::Row as _;

use crate::end_to_end::enqueue;
use crate::launch::cut_sessions;
use crate::rig::{HOLD, LIMIT, RAILS, RESEND, Rig};

/// The table of codes that a bank would agree with these rails.
const CODES: &str = "[{status = 503, code = \"NOT_EXECUTED\", means = \"not_executed\"}, \
                     {status = 422, code = \"KEY_REUSED\", means = \"key_reused\"}]";

fn codes() -> Vec<String> {
    RAILS.iter().map(|rail| format!("rails.{rail}.codes={CODES}")).collect()
}

/// What the first attempt ends as, its outcome, and where the payment then stands on the rail that
/// executes every request.
const ENDS: [(Fault, &str, &str); 18] = [
    (Fault::None, "DISPATCHED ACCEPTED", "DISPATCHED"),
    (Fault::Slow, "DISPATCHED ACCEPTED", "DISPATCHED"),
    (Fault::Refuse, "FAILED REFUSED", "FAILED"),
    (Fault::Throttle, "RETRYABLE THROTTLED", "DISPATCHED"),
    (Fault::Unavailable, "RETRYABLE NOT_EXECUTED", "DISPATCHED"),
    (Fault::Unauthorized, "RETRYABLE RAIL_REFUSED_US", "DISPATCHED"),
    (Fault::Forbidden, "RETRYABLE RAIL_REFUSED_US", "DISPATCHED"),
    (Fault::ErrorBefore, "IN_DOUBT UNKNOWN", "HELD UNKNOWN"),
    (Fault::ResetBefore, "IN_DOUBT UNKNOWN", "HELD UNKNOWN"),
    (Fault::ErrorAfter, "IN_DOUBT UNKNOWN", "HELD UNKNOWN"),
    (Fault::Hang, "IN_DOUBT UNKNOWN", "HELD UNKNOWN"),
    (Fault::Reset, "IN_DOUBT UNKNOWN", "HELD UNKNOWN"),
    (Fault::Truncate, "IN_DOUBT UNKNOWN", "HELD UNKNOWN"),
    (Fault::Oversize, "IN_DOUBT UNKNOWN", "HELD UNKNOWN"),
    (Fault::Interim, "IN_DOUBT INTERIM", "HELD UNKNOWN"),
    (Fault::Garbage, "IN_DOUBT UNKNOWN", "HELD UNKNOWN"),
    (Fault::Redirect, "IN_DOUBT UNKNOWN", "HELD UNKNOWN"),
    // Nothing was sent before, so nothing can be in doubt.
    (Fault::Gateway, "FAILED REFUSED", "FAILED"),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_of_a_rail_ends_as_what_is_known_after_it() {
    assert!(Fault::ALL.iter().all(|fault| ENDS.iter().any(|(known, ..)| known == fault)));
    let rig = Rig::start().await;
    let mut script = Script::default();
    let mut expected = Vec::new();
    for rail in RAILS {
        for ((fault, first, then), id) in ENDS.iter().zip(rig.enqueue(rail, ENDS.len()).await) {
            script = script.with_key(&id.to_string(), [*fault]);
            // The other rail replays what it did before, so nothing but a refusal ends differently.
            let then = if rail == RESEND && *then != "FAILED" { "DISPATCHED" } else { then };
            expected.push((rail, fault.name(), id, (*first).to_owned(), then.to_owned()));
        }
    }
    rig.resend.script(script.clone());
    rig.hold.script(script);
    let daemon = rig.daemon_with("a", rig.proxy.address(), &codes());
    rig.settled().await;
    let mut wrong = Vec::new();
    for (rail, fault, id, first, then) in expected {
        let attempts = rig.attempts(id).await;
        let held =
            format!("select max('HELD ' || hold_reason) from outbox.payment_outbox_pending where outbox_id = '{id}'");
        let stands: Option<String> = rig.value(&held).await;
        let stands = stands.unwrap_or_else(|| attempts.last().unwrap().split(' ').next().unwrap().to_owned());
        if attempts[0] != first || stands != then {
            wrong.push(format!("{rail} {fault}: {attempts:?} {stands}; should be {first}, {then}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    rig.conserved().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_does_not_find_the_rail_fails_no_payment_that_may_have_been_executed() {
    let rig = Rig::start().await;
    let id = rig.enqueue(RESEND, 1).await[0];
    rig.resend.script(Script::by_order([Fault::ErrorAfter, Fault::Gateway, Fault::Gateway]));
    let daemon = rig.daemon_with("a", rig.proxy.address(), &codes());
    rig.settled().await;
    let ends = ["IN_DOUBT UNKNOWN", "IN_DOUBT UNKNOWN", "IN_DOUBT UNKNOWN", "DISPATCHED ACCEPTED"];
    assert_eq!(rig.attempts(id).await, ends);
    rig.conserved().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn not_executed_counts_against_a_payment_and_refusing_us_does_not() {
    let rig = Rig::start().await;
    rig.contract(HOLD, "null, p_max_sends => 2").await;
    let ids = rig.enqueue(HOLD, 2).await;
    let script = Script::default()
        .with_key(&ids[0].to_string(), [Fault::Unavailable; 2])
        .with_key(&ids[1].to_string(), [Fault::Unauthorized, Fault::Forbidden, Fault::Unauthorized]);
    rig.hold.script(script);
    let daemon = rig.daemon_with("a", rig.proxy.address(), &codes());
    rig.settled().await;
    assert_eq!(rig.attempts(ids[0]).await, ["RETRYABLE NOT_EXECUTED"; 2]);
    let sql = "select hold_reason || ' ' || send_count from outbox.payment_outbox_pending";
    assert_eq!(rig.value::<String>(sql).await, "EXHAUSTED 2");
    assert_eq!(rig.attempts(ids[1]).await.len(), 4);
    assert_eq!(rig.attempts(ids[1]).await[3], "DISPATCHED ACCEPTED");
    rig.conserved().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_rail_knows_with_other_bytes_is_held_as_a_contradiction() {
    let rig = Rig::start().await;
    let id = rig.enqueue(RESEND, 1).await[0];
    // Somebody else used our key.
    let (address, key) = (rig.resend.addr(), id.to_string());
    let intruder = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(
            stream,
            "POST /payments HTTP/1.1\r\nHost: x\r\nIdempotency-Key: {key}\r\nContent-Length: 5\r\n\r\nother"
        )
        .unwrap();
        stream
    });
    let _stream = intruder.await.unwrap();
    rig.resend.wait_for_effects(1).await;
    let daemon = rig.daemon_with("a", rig.proxy.address(), &codes());
    rig.settled().await;
    assert_eq!(rig.held(RESEND).await, ["CONTRADICTION 1"]);
    assert_eq!(rig.attempts(id).await.len(), 1);
    assert_eq!(daemon.logged("payment.held", 1).await["reason"], "CONTRADICTION");
    daemon.stop().await;
}

/// Strings that must never be logged.
const CANARIES: [&str; 3] = ["canary-payload-71c4", "canary-token-0b2e", "canary-password-9d55"];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_is_logged_at_the_most_talkative_level_on_any_way() {
    let rig = Rig::start().await;
    let write = |name: &str, text: &str| {
        let path = rig.dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let (token, password) = (write("token", CANARIES[1]), write("password", CANARIES[2]));
    let certs = Certs::new(rig.dir.path()).unwrap();
    let key = fs::read_to_string(&certs.client.key).unwrap();
    let key_line = key.lines().nth(1).unwrap().to_owned();
    let mut settings = codes();
    settings.extend([
        "log.filter=trace".to_owned(),
        format!("database.password_file={}", password.display()),
        format!("rails.resend.secret_headers.Authorization={{file = \"{}\", prefix = \"Bearer \"}}", token.display()),
        // A rail that speaks no TLS: the handshake with our key fails.
        format!("rails.hold.url=https://{}/payments", rig.hold.addr()),
        format!("rails.hold.ca_file={}", certs.ca.display()),
        format!("rails.hold.client_cert_file={}", certs.client.certificate.display()),
        format!("rails.hold.client_key_file={}", certs.client.key.display()),
    ]);
    for fault in Fault::ALL {
        enqueue(&rig, fault.name(), format!("{} {}", CANARIES[0], fault.name()).as_bytes()).await;
    }
    rig.enqueue(HOLD, 1).await;
    rig.resend.script(Script::by_order(Fault::ALL));
    let mut daemon = rig.daemon_with("a", rig.proxy.address(), &settings);
    daemon.logged("complete.applied", Fault::ALL.len()).await;
    rig.until(
        "the rail's payments",
        "select not exists (select from outbox.payment_outbox_pending where rail = 'resend')",
    )
    .await;
    // A credential of the rail that goes bad: rotated, and now everybody may read it.
    fs::write(&token, format!("{}-rotated", CANARIES[1])).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    enqueue(&rig, "last", CANARIES[0].as_bytes()).await;
    let refused = "select exists (select from outbox.payment_outbox_attempts where error_class = 'credential')";
    rig.until("a credential that is refused", refused).await;
    // The database's, one that goes away, and one that fails within calls. No result waits meanwhile, since lanes would not claim
    // until it is recorded; nor are they paused, since they would not claim either: nothing is due.
    let later = "update outbox.payment_outbox_pending set next_attempt_at = now() + interval '1 hour' where lease_token is null";
    let still = "select not exists (select from outbox.payment_outbox_pending \
                 where lease_token is not null or next_attempt_at < now() + interval '30 minutes')";
    let nothing_due = async || {
        rig.run(later).await;
        rig.value::<bool>(still).await
    };
    wait_until("nothing that is due or leased", LIMIT, nothing_due).await.unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o644)).unwrap();
    rig.run("revoke execute on function outbox.dispatcher_heartbeat from outbox_dispatcher").await;
    let cut = async || {
        cut_sessions(&rig.db).await;
        ["claim.failed", "listener.lost", "upkeep.failed"].iter().all(|event| !daemon.events(event).is_empty())
    };
    wait_until("failures", LIMIT, cut).await.unwrap();
    daemon.terminate();
    daemon.ended().await;
    let log = daemon.child.log();
    for canary in CANARIES.iter().copied().chain([&*key_line]) {
        let leak = log.lines().find(|line| line.contains(canary));
        assert_eq!(leak, None, "{canary}");
    }
    let hex: String = CANARIES[0].bytes().map(|byte| format!("{byte:02x}")).collect();
    assert!(!log.contains(&hex), "the payload in hexadecimal");
    all_lines_are_events(&log);
}

/// Each line is one JSON object, and what the daemon itself says has the name of an event.
fn all_lines_are_events(log: &str) {
    let names: Vec<&str> = outboxd::events::ALL.iter().map(|(name, _)| *name).collect();
    for line in log.lines().filter(|line| !line.starts_with("error: ")) {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let ours = value["target"].as_str().unwrap().starts_with("outboxd");
        assert!(!ours || names.iter().any(|name| value["event"] == *name), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rail_that_misbehaves_at_random_keeps_every_line_of_the_log_an_event() {
    let rig = Rig::start().await;
    for rail in RAILS {
        let profile =
            Profile::new(Fault::ALL.into_iter().filter(|f| !matches!(f, Fault::None | Fault::Hang)).map(|f| (f, 30)));
        rig.sim(rail).set_profile(profile).unwrap();
        rig.enqueue(rail, 60).await;
    }
    let mut daemon = rig.daemon_with("a", rig.proxy.address(), &codes());
    rig.settled().await;
    daemon.terminate();
    assert_eq!(daemon.ended().await, Some(0));
    all_lines_are_events(&daemon.child.log());
    assert_eq!(rig.held(RESEND).await, Vec::<String>::new());
    let sql = "select count(*) from outbox.payment_outbox_attempts where (request_sha256 is null) <> (outcome in ('NOT_SENT')) \
               and state <> 'RELEASED' and request_sha256 is null";
    assert_eq!(rig.value::<i64>(sql).await, 0);
    let rows =
        rig.rows("select count(distinct request_sha256) from outbox.payment_outbox_attempts group by outbox_id").await;
    assert!(rows.iter().all(|row| row.get::<i64, _>(0) == 1), "the request changed between attempts");
    rig.conserved().await;
}
