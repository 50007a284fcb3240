//! `revoke`: what a person types, sees, and how it ends; and what `enqueue` and `inspect` make of attestations.

use std::fs;

use outbox_testkit::Certs;
use serde_json::json;
use sqlx::Executor as _;

use crate::commands_binary::{Desk, text};
use crate::end_to_end::der_sha256;

async fn count(desk: &Desk, table: &str) -> i64 {
    let sql = sqlx::AssertSqlSafe(format!("select count(*) from outbox.{table}"));
    sqlx::query_scalar(sql).fetch_one(&mut desk.dba().await).await.unwrap()
}

#[tokio::test]
async fn a_credential_is_revoked_only_when_the_number_is_confirmed_and_once() {
    let desk = Desk::with_rails().await;
    let certs = Certs::new(desk.dir.path()).unwrap();
    let file = text(&certs.client.certificate);
    let fingerprint = der_sha256(&certs.client.certificate);
    let pairs: Vec<String> = (0..32).map(|byte| format!("{:02X}", byte * 3)).collect();
    let other = pairs.join(":");
    let both = ["revoke", "cert", &other, "--cert-file", file, "--reason", "host was broken into"];
    let dry = desk.run("t_operator", &[&both[..], &["--dry-run"]].concat());
    assert_eq!(dry.code, Some(0), "{dry:?}");
    assert!(dry.out.contains(&format!("would revoke certificate {fingerprint}\n")), "{dry:?}");
    assert!(dry.out.contains(&format!("certificate {}\n", pairs.concat().to_lowercase())), "{dry:?}");
    for (confirm, words) in [(&[][..], "--confirm 2"), (&["--confirm", "1"][..], "it is 2 credentials, not 1")] {
        let ended = desk.run("t_operator", &[&both[..], confirm].concat());
        assert!(ended.code == Some(64) && ended.err.contains(words), "{ended:?}");
    }
    assert_eq!(count(&desk, "revoked_client_certs").await, 0);
    let done = desk.run("t_operator", &[&both[..], &["--confirm", "2"]].concat());
    assert!(done.code == Some(0) && done.out.contains(&format!("revoked certificate {fingerprint}\n")), "{done:?}");
    let again = desk.run("t_operator", &[&both[..], &["--confirm", "2", "--output", "json"]].concat()).json();
    assert_eq!((&again[0]["created"], &again[1]["created"]), (&json!(false), &json!(false)));
    assert_eq!(count(&desk, "revoked_client_certs").await, 2);

    let tokens =
        ["revoke", "token", "--jti", "t-1", "--key-id", "k-1", "--issuer", "https://i.example", "--reason", "leaked"];
    let done =
        desk.run("t_operator", &[&tokens[..], &["--expires-at", "2999-01-01T00:00:00Z", "--confirm", "2"]].concat());
    assert_eq!((done.code, done.out.as_str()), (Some(0), "revoked token t-1\nrevoked key k-1\n"));
    assert_eq!(count(&desk, "revoked_tokens where jwt_iss = 'https://i.example' and expires_at > now()").await, 2);
}

#[tokio::test]
async fn what_names_no_credential_is_refused_and_only_an_operator_revokes() {
    let desk = Desk::with_rails().await;
    let broken = desk.file("broken.pem", "no PEM");
    for (arguments, code, words) in [
        (&["cert", "--reason", "r"][..], 64, "say what"),
        (&["token", "--reason", "r"], 64, "say what"),
        (&["cert", "00ff", "--reason", "r"], 64, "is no SHA-256"),
        (&["cert", "--cert-file", "/nowhere.pem", "--reason", "r"], 66, "/nowhere.pem"),
        (&["cert", "--cert-file", text(&broken), "--reason", "r"], 66, "holds no certificate in PEM"),
        (&["token", "--jti", "t", "--reason", " ", "--confirm", "1"], 65, "needs a reason"),
        (
            &["token", "--jti", "t", "--reason", "r", "--expires-at", "2020-01-01T00:00:00Z", "--confirm", "1"],
            65,
            "expires_at is past",
        ),
    ] {
        let ended = desk.run("t_operator", &[&["revoke"], arguments].concat());
        assert!(ended.code == Some(code) && ended.err.contains(words), "{words}: {ended:?}");
    }
    for login in ["t_ingest", "t_approver", "t_auditor", "t_monitor", "t_dispatcher"] {
        let ended = desk.run(login, &["revoke", "token", "--jti", "t", "--reason", "r", "--confirm", "1"]);
        assert_eq!(ended.code, Some(77), "{login}: {ended:?}");
    }
    assert_eq!(count(&desk, "revoked_tokens").await, 0);
}

/// Records an accepted request as the entrance does, and returns the attestation.
async fn attested(desk: &Desk, instruction: &str, payload: &str) -> String {
    let mut entrance = desk.db.connect_as("t_ingest").await.unwrap();
    let sql = "select attestation_id::text from outbox.record_ingress_attestation('request-' || $1, 'p', $1, \
               '2026-01-31T08:00:00Z', sha256(convert_to($2, 'UTF8')), 'JWS', 'ACCEPTED', p_key_id => 'k-1', \
               p_signature_alg => 'ES256', p_signature => 'canary-signature', p_policy_version => '2026-11')";
    sqlx::query_scalar(sql).bind(instruction).bind(payload).fetch_one(&mut entrance).await.unwrap()
}

fn line(instruction: &str, payload: &str, attestation_id: Option<&str>) -> String {
    let payment = json!({"participant_id": "p", "instruction_id": instruction, "rail": "telex", "payload": payload,
                         "content_type": "text/plain", "attestation_id": attestation_id});
    format!("{payment}\n")
}

#[tokio::test]
async fn enqueue_names_the_line_whose_attestation_is_missing_or_of_another_payload() {
    let desk = Desk::with_rails().await;
    assert_eq!(desk.run("t_operator", &["rail", "set", "telex", "--require-attestation", "true"]).code, Some(0));
    let (first, second) = (attested(&desk, "i1", "one").await, attested(&desk, "i2", "two").await);
    let good = line("i1", "one", Some(&first));
    for (bad, what) in [
        (line("i2", "two", None), "in.ndjson:2: attestation_id is required by the contract of the rail"),
        (line("i2", "zwei", Some(&second)), "in.ndjson:2: attestation_id is of another payload"),
        (line("i2", "two", Some(&first)), "in.ndjson:2: attestation_id is of another instruction"),
        (line("i2", "two", Some("none")), "in.ndjson:2: attestation_id must be a UUID"),
    ] {
        let file = desk.file("in.ndjson", format!("{good}{bad}"));
        let ended = desk.enqueue(text(&file), &[]);
        assert!(ended.code == Some(65) && ended.err.contains(what), "{what}: {ended:?}");
        assert_eq!(desk.recorded().await, 0);
    }
    let file = desk.file("in.ndjson", format!("{good}{}", line("i2", "two", Some(&second))));
    assert_eq!(desk.enqueue(text(&file), &[]).json()["enqueued"], 2);
    // And beside a message.
    let messages = desk.dir.path().join("messages");
    fs::create_dir(&messages).unwrap();
    fs::write(messages.join("i3.txt"), "three").unwrap();
    let options = ["--rail", "telex", "--participant", "p", "--content-type", "text/plain"];
    let refused = desk.enqueue(text(&messages), &options);
    assert!(refused.err.contains("messages/i3.txt: attestation_id is required"), "{refused:?}");
    let third = attested(&desk, "i3", "three").await;
    fs::write(messages.join("i3.json"), json!({ "attestation_id": third }).to_string()).unwrap();
    assert_eq!(desk.enqueue(text(&messages), &options).json()["enqueued"], 1);
    let mut dba = desk.dba().await;
    dba.execute("select outbox.revoke_token(null, 'k-1', null, 'leaked')").await.unwrap();
    let file = desk.file("in.ndjson", line("i4", "four", Some(&attested(&desk, "i4", "four").await)));
    let refused = desk.enqueue(text(&file), &[]);
    assert!(
        refused.code == Some(65)
            && refused.err.contains("in.ndjson:1: attestation_id names a request that was rejected"),
        "{refused:?}"
    );
    assert_eq!(desk.recorded().await, 3);
}

#[tokio::test]
async fn inspect_shows_the_chain_from_the_attestation_to_what_people_did() {
    let desk = Desk::with_rails().await;
    let attestation_id = attested(&desk, "i", "x").await;
    let file = desk.file("in.ndjson", line("i", "x", Some(&attestation_id)));
    assert_eq!(desk.enqueue(text(&file), &[]).code, Some(0));
    let mut dba = desk.dba().await;
    let id: String = sqlx::query_scalar("select outbox_id::text from outbox.payment_outbox_instructions")
        .fetch_one(&mut dba)
        .await
        .unwrap();
    assert_eq!(desk.run("t_operator", &["hold", &id, "--reason", "looks odd", "--confirm", "1"]).code, Some(0));
    let release =
        desk.run("t_operator", &["release", &id, "--reason", "it is fine", "--confirm", "1", "--output", "json"]);
    let action = release.json()["action_id"].as_str().unwrap().to_owned();
    let approved = desk.run("t_approver", &["approve", &action, "--reason", "agreed", "--confirm", "1"]);
    assert_eq!(approved.code, Some(0), "{approved:?}");
    let dispatch = "select outbox.claim_outbox_batch('telex', 'w/1', 1, 1, 0)";
    desk.db.connect_as("t_dispatcher").await.unwrap().execute(dispatch).await.unwrap();
    dba.execute("select outbox.revoke_token(null, 'k-1', null, 'leaked')").await.unwrap();

    let shown = desk.run("t_operator", &["inspect", "i"]);
    let steps = [
        "attested: ACCEPTED",
        "enqueued",
        "HOLD: proposed",
        "HOLD: APPLIED",
        "RELEASE: proposed",
        "RELEASE: APPROVED",
        "RELEASE: APPLIED",
        "attempt 1: claimed",
    ];
    let places: Vec<usize> =
        steps.iter().map(|step| shown.out.find(step).unwrap_or_else(|| panic!("{step}: {}", shown.out))).collect();
    assert!(places.is_sorted(), "{}", shown.out);
    for part in [
        "by JWS, key k-1, algorithm ES256, request request-i, policy 2026-11, received 2026-01-31T08:00:00.000Z, recorded by t_ingest",
        "credential revoked since 2",
        "by t_operator, reason looks odd",
        "by t_approver, reason agreed",
        &attestation_id,
    ] {
        assert!(shown.out.contains(part), "{part}: {}", shown.out);
    }
    let document = &desk.run("t_auditor", &["inspect", &id, "--output", "json"]).json()[0];
    assert_eq!(document["attestation"]["attestation_id"], json!(attestation_id));
    assert_eq!(
        (&document["actions"][1]["kind"], &document["actions"][1]["decided_by"]),
        (&json!("RELEASE"), &json!("t_approver"))
    );
}
