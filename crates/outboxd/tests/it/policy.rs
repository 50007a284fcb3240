//! Daemons under a policy: whose decisions they go by, what they record, and what turns a lane off. Policies are put in force by
//! the commands, as two people do it.

use std::path::Path;
use std::process::Command;

use outbox_testkit::{Certs, TestDb, wait_until};
use rail_sim::{Fault, Script, Sim, SimConfig, TlsFiles};
use serde_json::{Value, json};

use crate::commands_binary::{Ended, OUTBOXD, end, text};
use crate::rig::{Daemon, HOLD, LIMIT, RAILS, RESEND, Rig};

/// A table of codes that no file has: 503 with this code was not executed.
const NOT_EXECUTED: &str = "not_executed";

/// The configuration of a daemon that leaves all decisions to the policy.
fn governed(rig: &Rig, name: &str) -> String {
    let decisions = ["timeout = ", "reference_json_pointer = ", "code_json_pointer = "];
    let text = rig.configuration(name, rig.proxy.address());
    let kept = text.lines().filter(|line| !decisions.iter().any(|key| line.starts_with(key)));
    kept.map(
        |line| {
            if line.starts_with("url = ") { format!("decisions = \"policy\"\n{line}\n") } else { format!("{line}\n") }
        },
    )
    .collect()
}

/// A policy of both rails, in which 503 means this.
fn policy(rig: &Rig, means: &str) -> Value {
    let contract = json!({"on_unknown": "hold", "rail_timeout_ms": 1_000, "processing_bound_ms": 500, "lease_duration_ms": 4_000,
        "amount_required": false, "backoff_base_ms": 20, "backoff_cap_ms": 200, "idempotency_window_ms": 86_400_000});
    let rail = |name: &str| {
        let mut contract = contract.clone();
        contract["on_unknown"] = name.into();
        json!({"contract": contract, "endpoints": [{"origin": rig.sim(name).url()}],
               "reference_json_pointer": "/reference", "code_json_pointer": "/code",
               "codes": [{"status": 503, "code": "NOT_EXECUTED", "means": means}]})
    };
    json!({"format": 1, "rails": {"resend": rail(RESEND), "hold": rail(HOLD)}})
}

fn run(db: &TestDb, login: &str, arguments: &[&str]) -> Ended {
    let mut command = Command::new(OUTBOXD);
    command.args(arguments).env_clear().env("HOME", "/").env("DATABASE_URL", db.url(login));
    end(&mut command, b"")
}

/// Puts a policy in force by two logins; its version.
pub(crate) fn put_in_force(db: &TestDb, dir: &Path, policy: &Value) -> i64 {
    let file = dir.join("policy.json");
    std::fs::write(&file, policy.to_string()).unwrap();
    let file = text(&file);
    let dry =
        run(db, "t_operator", &["policy", "propose", file, "--reason", "r", "--dry-run", "--output", "json"]).json();
    let count = dry["differences"].as_array().unwrap().len().to_string();
    let said = ["--reason", "r", "--confirm", &count, "--output", "json"];
    let proposed = run(db, "t_operator", &[&["policy", "propose", file], &said[..]].concat()).json();
    let version = proposed["version"].as_i64().unwrap();
    for (login, verb) in [("t_approver", "approve"), ("t_operator", "activate")] {
        run(db, login, &[&["policy", verb, &version.to_string()], &said[..]].concat()).json();
    }
    version
}

fn in_force(rig: &Rig, policy: &Value) -> i64 {
    put_in_force(&rig.db, rig.dir.path(), policy)
}

/// Waits until the lane of `rail` is off for a reason with this word; the reason.
async fn lane_off(daemon: &Daemon, rail: &str, word: &str) -> String {
    let mut reason = String::new();
    let waited = wait_until("a lane that is off", LIMIT, async || {
        let events = daemon.events("lane.off");
        let mut said = events.iter().filter(|event| event["rail"] == rail).filter_map(|event| event["reason"].as_str());
        reason = said.next_back().unwrap_or_default().to_owned();
        reason.contains(word)
    });
    waited.await.unwrap_or_else(|error| panic!("{error}: {word}: {reason}"));
    reason
}

async fn lanes_on(daemon: &Daemon, rail: &str, count: usize) {
    let waited = wait_until("a lane that is on", LIMIT, async || {
        daemon.events("lane.on").iter().filter(|event| event["rail"] == rail).count() >= count
    });
    waited.await.unwrap();
}

/// Each attempt of `rail` as `outcome version`.
async fn outcomes(rig: &Rig, rail: &str) -> Vec<String> {
    let sql = format!(
        "select concat_ws(' ', outcome, policy_version) as said from outbox.payment_outbox_attempts where rail = '{rail}' \
         order by completed_at, attempt_no"
    );
    rig.rows(&sql).await.iter().map(|row| sqlx::Row::get(row, 0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_read_by_the_policy_and_by_the_next_one_without_a_restart() {
    let rig = Rig::start().await;
    let first = in_force(&rig, &policy(&rig, NOT_EXECUTED));
    let id = rig.enqueue(HOLD, 1).await[0];
    rig.hold.script(Script::default().with_key(&id.to_string(), [Fault::Unavailable]));
    let daemon = rig.daemon_of("a", &governed(&rig, "a"));
    rig.settled().await;
    assert_eq!(outcomes(&rig, HOLD).await, [format!("NOT_EXECUTED {first}"), format!("ACCEPTED {first}")]);
    // The same answer, under a policy that takes it for a doubt.
    let second = in_force(&rig, &policy(&rig, "unknown"));
    daemon.logged("policy.taken", 4).await;
    let id = rig.enqueue(HOLD, 1).await[0];
    rig.hold.script(Script::default().with_key(&id.to_string(), [Fault::Unavailable]));
    rig.settled().await;
    assert_eq!(outcomes(&rig, HOLD).await.last(), Some(&format!("UNKNOWN {second}")));
    assert_eq!(rig.held(HOLD).await, ["UNKNOWN 1"]);
    let inspected = run(&rig.db, "t_operator", &["inspect", &id.to_string()]);
    assert_eq!(inspected.out.matches(&format!("policy version {second}")).count(), 2, "{inspected:?}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_that_is_not_the_policys_turns_its_lane_off_until_it_is() {
    let rig = Rig::start().await;
    in_force(&rig, &policy(&rig, NOT_EXECUTED));
    let daemon = rig.daemon_of("a", &governed(&rig, "a"));
    daemon.becomes_ready(true).await;
    lanes_on(&daemon, RESEND, 1).await;
    rig.run("update outbox.payment_rails set max_sends = 99 where rail = 'resend'").await;
    lane_off(&daemon, RESEND, "is not that of policy version 1: max_sends").await;
    assert!(daemon.ready().await.starts_with("HTTP/1.1 200"), "the other rail goes on");
    let ids = [rig.enqueue(RESEND, 1).await[0], rig.enqueue(HOLD, 1).await[0]];
    rig.until("the other rail", "select count(*) = 1 from outbox.payment_outbox_attempts").await;
    assert_eq!(rig.attempts(ids[0]).await, Vec::<String>::new());
    rig.run("update outbox.payment_rails set max_sends = 10 where rail = 'resend'").await;
    rig.settled().await;
    assert_eq!(rig.attempts(ids[0]).await, ["DISPATCHED ACCEPTED"]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn document_that_was_not_approved_turns_every_lane_off() {
    let rig = Rig::start().await;
    in_force(&rig, &policy(&rig, NOT_EXECUTED));
    let daemon = rig.daemon_of("a", &governed(&rig, "a"));
    daemon.becomes_ready(true).await;
    // Document and checksum together, past the triggers: only the approval still tells.
    let forged = "replace(document, 'not_executed', 'refused')";
    rig.run(&format!(
        "alter table outbox.policy_documents disable trigger all; \
         update outbox.policy_documents set document = {forged}, checksum = sha256(convert_to({forged}, 'UTF8'))"
    ))
    .await;
    for rail in RAILS {
        lane_off(&daemon, rail, "policy version 1 is not what was approved").await;
    }
    daemon.becomes_ready(false).await;
    assert!(daemon.ready().await.contains("not what was approved"));
    // Nor does another start with it.
    let other = rig.daemon_of("b", &governed(&rig, "b"));
    lane_off(&other, HOLD, "not what was approved").await;
    rig.enqueue(HOLD, 1).await;
    assert_eq!(rig.value::<i64>("select count(*) from outbox.payment_outbox_attempts").await, 0);
    // Forged whole, it deceives who reads it first, and not who knew it.
    rig.run(
        "alter table outbox.policy_decisions disable trigger all; alter table outbox.policy_activations disable trigger all; \
         update outbox.policy_decisions c set checksum = d.checksum from outbox.policy_documents d; \
         update outbox.policy_activations a set checksum = d.checksum from outbox.policy_documents d",
    )
    .await;
    lane_off(&daemon, HOLD, "has changed").await;
    for daemon in [daemon, other] {
        daemon.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_that_the_policy_does_not_name_is_not_sent_to() {
    let rig = Rig::start().await;
    let mut elsewhere = policy(&rig, NOT_EXECUTED);
    elsewhere["rails"]["resend"]["endpoints"] = json!([{"origin": "https://instant.bank.example"}]);
    in_force(&rig, &elsewhere);
    let ids = [rig.enqueue(RESEND, 1).await[0], rig.enqueue(HOLD, 1).await[0]];
    let daemon = rig.daemon_of("a", &governed(&rig, "a"));
    let reason = lane_off(&daemon, RESEND, "is no endpoint of the rail in policy version 1").await;
    assert!(reason.starts_with(&rig.resend.url()), "{reason}");
    rig.until("the other rail", "select count(*) = 1 from outbox.payment_outbox_attempts").await;
    assert_eq!(rig.attempts(ids[0]).await, Vec::<String>::new());
    // A policy that names it is taken without a restart; one without the rail turns it off again.
    in_force(&rig, &policy(&rig, NOT_EXECUTED));
    rig.settled().await;
    let mut without = policy(&rig, NOT_EXECUTED);
    without["rails"].as_object_mut().unwrap().remove(RESEND);
    let third = in_force(&rig, &without);
    lane_off(&daemon, RESEND, &format!("rail resend is not in policy version {third}")).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rail_must_show_a_certificate_with_the_name_in_the_policy() {
    let rig = Rig::start().await;
    let certs = Certs::new(rig.dir.path()).unwrap();
    let files = &certs.server_other_name;
    let tls = TlsFiles { certificate: files.certificate.clone(), private_key: files.key.clone(), client_ca: None };
    let dir = tempfile::tempdir().unwrap();
    let secured = Sim::start(SimConfig { tls: Some(tls), ..SimConfig::in_dir(dir.path()) }).await.unwrap();
    let at = format!("url = \"{}/payments\"\nca_file = \"{}\"", secured.url(), text(&certs.ca));
    let file = governed(&rig, "a").replace(&format!("url = \"{}/payments\"", rig.hold.url()), &at);
    let with = |san: Option<&str>| {
        let mut policy = policy(&rig, NOT_EXECUTED);
        policy["rails"]["hold"]["endpoints"] = json!([{"origin": secured.url(), "san": san}]);
        policy
    };
    // Without a name of its own, the origin's host, and the certificate is another's.
    in_force(&rig, &with(None));
    rig.enqueue(HOLD, 1).await;
    let daemon = rig.daemon_of("a", &file);
    rig.until("a send that fails", "select count(*) > 0 from outbox.payment_outbox_attempts where error_class = 'tls'")
        .await;
    assert_eq!(secured.stats().requests, 0);
    in_force(&rig, &with(Some("other.example")));
    rig.settled().await;
    assert_eq!((outcomes(&rig, HOLD).await.pop(), secured.stats().requests), (Some("ACCEPTED 2".to_owned()), 1));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_are_in_the_file_or_in_the_policy_and_never_in_both_or_neither() {
    let rig = Rig::start().await;
    // Neither: the file leaves them to a policy, and there is none.
    let governed = rig.daemon_of("governed", &governed(&rig, "governed"));
    for rail in RAILS {
        lane_off(&governed, rail, "decisions is \"policy\", and no policy is active").await;
    }
    governed.becomes_ready(false).await;
    // As before there were policies.
    let filed = rig.daemon("filed");
    filed.becomes_ready(true).await;
    let before = rig.enqueue(HOLD, 1).await[0];
    rig.settled().await;
    assert_eq!(
        (rig.attempts(before).await, outcomes(&rig, HOLD).await),
        (vec!["DISPATCHED ACCEPTED".to_owned()], vec!["ACCEPTED".to_owned()])
    );
    // Both: the running daemon stops, and says what to remove.
    in_force(&rig, &policy(&rig, NOT_EXECUTED));
    let reason = lane_off(&filed, HOLD, "policy version 1 is active: set").await;
    assert!(
        reason.ends_with(
            "set rails.hold.decisions to \"policy\", and remove timeout, reference_json_pointer, code_json_pointer"
        ),
        "{reason}"
    );
    filed.becomes_ready(false).await;
    governed.becomes_ready(true).await;
    rig.enqueue(HOLD, 1).await;
    rig.settled().await;
    assert_eq!(outcomes(&rig, HOLD).await, ["ACCEPTED", "ACCEPTED 1"]);
    for daemon in [governed, filed] {
        daemon.stop().await;
    }
}
