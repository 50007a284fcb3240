//! docs/AUDITOR.md: each query runs as it stands for a login that may read history, and answers on a database with a payment's
//! whole life in it; those whose answer is that there is nothing find it when there is.

use outbox_testkit::workspace_root;
use serde_json::json;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor as _};

use crate::commands_binary::{Desk, text};
use crate::policy::put_in_force;

/// The queries, with what the document says of the answer.
fn queries() -> Vec<(String, String)> {
    let page = std::fs::read_to_string(workspace_root().join("docs/AUDITOR.md")).unwrap();
    let mut found = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(answer) = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")) else {
            assert_ne!(line, "```sql", "a query without a word on its answer");
            continue;
        };
        assert_eq!(lines.next(), Some("```sql"));
        let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        found.push((answer.to_owned(), text.join("\n")));
    }
    found
}

async fn run(connection: &mut PgConnection, sql: &str) {
    connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// A payment that was attested, enqueued under a policy, sent with an unknown outcome, and resolved by two people; with a request
/// that was turned away, a certificate that was revoked, a statement with a line too many, and an audit.
async fn a_whole_life() -> Desk {
    let desk = Desk::on(outbox_testkit::TestDb::create().await.unwrap());
    let contract =
        json!({"on_unknown": "hold", "rail_timeout_ms": 1_000, "lease_duration_ms": 60_000, "amount_required": true});
    let sepa = json!({"contract": contract, "endpoints": [{"origin": "https://rail.example"}], "reference_json_pointer": "/id"});
    assert_eq!(put_in_force(&desk.db, desk.dir.path(), &json!({"format": 1, "rails": {"sepa": sepa}})), 1);
    let beat = "select outbox.dispatcher_heartbeat('w/1', '1', 1, 'RUNNING', array['sepa'], 0, 3600000, 'production')";
    let mut dispatcher = desk.db.connect_as("t_dispatcher").await.unwrap();
    run(&mut dispatcher, beat).await;
    let mut entrance = desk.db.connect_as("t_ingest").await.unwrap();
    let attest = |request: &str, decision: &str, reason: &str| {
        format!(
            "select attestation_id::text from outbox.record_ingress_attestation('{request}', 'acme', '2026-0117', '2026-01-31T08:00:00Z', \
             sha256('pay'), 'MTLS', '{decision}', {reason}, p_client_cert_fingerprint => sha256('cert'))"
        )
    };
    run(&mut entrance, &attest("r-0", "REJECTED", "'BAD_SIGNATURE'")).await;
    let accepted = AssertSqlSafe(attest("r-1", "ACCEPTED", "null"));
    let attestation: String = sqlx::query_scalar(accepted).fetch_one(&mut entrance).await.unwrap();
    let line = json!({"instruction_id": "2026-0117", "payload": "pay", "amount_minor": 100, "currency": "EUR", "attestation_id": attestation});
    let input = desk.file("in.ndjson", format!("{line}\n"));
    let options = ["--participant", "acme", "--rail", "sepa", "--content-type", "text/plain"];
    let enqueued = desk.enqueue(text(&input), &options);
    assert_eq!(enqueued.code, Some(0), "{enqueued:?}");
    run(
        &mut dispatcher,
        "do $$ declare c record; begin
             select * into c from outbox.claim_outbox_batch('sepa', 'w/1', 1, 1, 0, p_environment => 'production', p_policy_version => 1) where kind = 'SUBMIT';
             perform outbox.complete_outbox_batch('w/1', array[c.outbox_id], array[c.attempt_no], array[c.lease_token], array['UNKNOWN'], array[0::bigint],
                 array[now()], array[now()], array['https://rail.example'], array[sha256('pay')], array[null::bytea], array[null::text], array[null::text],
                 array['timeout'], array[null::text]);
         end $$",
    )
    .await;
    let resolve = [
        "resolve",
        "--rail",
        "sepa",
        "--participant",
        "acme",
        "--state",
        "held",
        "--as",
        "dispatched",
        "--evidence",
        "BANK-7",
    ];
    let said = ["--reason", "the bank has it", "--confirm", "1", "--output", "json"];
    let proposed = desk.run("t_operator", &[&resolve[..], &said].concat());
    let action = proposed.json()["action_id"].as_str().unwrap_or_else(|| panic!("{proposed:?}")).to_owned();
    let approved = desk.run("t_approver", &["approve", &action, "--reason", "seen", "--confirm", "1"]);
    assert_eq!(approved.code, Some(0), "{approved:?}");
    run(&mut desk.dba().await, "select outbox.revoke_client_cert(sha256('cert'), 'key lost')").await;
    let statement = desk.file("sepa.csv", "wire_key,rail_reference,amount_minor,currency\n,R-9,100,EUR\n");
    let period = ["--from", "2026-01-01T00:00:00Z", "--until", "2026-01-02T00:00:00Z"];
    let reconcile = ["reconcile", "--statement", text(&statement), "--rail", "sepa", "--reason", "daily"];
    assert_eq!(desk.run("t_operator", &[&reconcile[..], &period].concat()).code, Some(3));
    assert_eq!(desk.run("t_auditor", &["audit"]).code, Some(0));
    desk
}

#[tokio::test]
async fn each_question_of_the_auditor_is_answered_by_its_query_as_it_stands() {
    let desk = a_whole_life().await;
    let queries = queries();
    assert!(queries.len() >= 16, "{} queries", queries.len());
    let mut auditor = desk.db.connect_as("t_auditor").await.unwrap();
    for (answer, query) in &queries {
        let rows = sqlx::query(AssertSqlSafe(query.clone())).fetch_all(&mut auditor).await;
        let rows = rows.unwrap_or_else(|error| panic!("{error}: {query}"));
        match answer.as_str() {
            "answered" => assert!(!rows.is_empty(), "no answer: {query}"),
            "none" => assert!(rows.is_empty(), "{} rows: {query}", rows.len()),
            other => assert_eq!(other, "may be empty"),
        }
    }
    // What nobody did is found when somebody did.
    let mut dba = desk.dba().await;
    for table in ["operator_action_decisions", "policy_decisions"] {
        run(&mut dba, &format!("alter table outbox.{table} disable trigger history_is_never_changed")).await;
    }
    run(&mut dba, "update outbox.operator_action_decisions set decided_by = 't_operator'").await;
    run(&mut dba, "update outbox.policy_decisions set decided_by = 't_operator'").await;
    let none: Vec<&String> = queries.iter().filter(|(answer, _)| answer == "none").map(|(_, query)| query).collect();
    let found = sqlx::query(AssertSqlSafe(none[0].clone())).fetch_all(&mut auditor).await.unwrap();
    assert_eq!(found.len(), 2, "an action and a policy");
    run(&mut dba, "update outbox.operator_action_decisions set decision = 'REJECTED'").await;
    assert_eq!(sqlx::query(AssertSqlSafe(none[1].clone())).fetch_all(&mut auditor).await.unwrap().len(), 1);
}

#[tokio::test]
async fn commands_that_the_auditor_is_given_run_for_the_auditor() {
    let desk = a_whole_life().await;
    for (words, code) in [
        (&["inspect", "2026-0117", "--participant", "acme"][..], 0),
        (&["audit", "--full"], 0),
        (&["partitions", "list"], 0),
        (&["status"], 0),
    ] {
        let ended = desk.run("t_auditor", words);
        assert_eq!(ended.code, Some(code), "{words:?}: {ended:?}");
    }
    let shown = desk.run("t_auditor", &["inspect", "2026-0117", "--participant", "acme"]).out;
    let steps = [
        "attested: ACCEPTED",
        "enqueued",
        "attempt 1: claimed",
        "RESOLVE_DISPATCHED: proposed",
        "RESOLVE_DISPATCHED: APPROVED",
    ];
    let places: Vec<usize> =
        steps.iter().map(|step| shown.find(step).unwrap_or_else(|| panic!("{step}: {shown}"))).collect();
    assert!(places.is_sorted(), "{shown}");
}
