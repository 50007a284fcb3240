//! `enqueue` of lines: every payment once, whatever is wrong with its neighbours.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use outbox_testkit::{ChildGuard, PgServer, PgVersion, TestDb, wait_until};
use serde_json::json;

use crate::commands_binary::{Desk, OUTBOXD, end, text};

/// Something that must show in no message.
const CANARY: &str = "DE00CANARY";

fn line(number: u32) -> String {
    let payment = json!({
        "participant_id": "p", "instruction_id": format!("i{number}"), "rail": "sepa", "payload": format!("<p>{number}</p>"),
        "content_type": "application/xml", "amount_minor": number, "currency": "EUR",
    });
    format!("{payment}\n")
}

const DEFAULTS: [&str; 6] = ["--participant", "p", "--rail", "telex", "--content-type", "text/plain"];

#[tokio::test]
async fn every_byte_of_a_payload_arrives_whatever_the_lines_end_with() {
    let desk = Desk::with_rails().await;
    let content = b"\xef\xbb\xbf{\"instruction_id\":\"crlf\",\"payload\":\"\xef\xbb\xbfa\\r\\nb\\u0000\"}\r\n\r\n\
        {\"instruction_id\":\"bytes\",\"payload_base64\":\"AP/+gA0K77u/\"}\r\n\
        {\"instruction_id\":\"empty\",\"payload\":\"\"}";
    let file = desk.file("payments.ndjson", content);
    let first = desk.enqueue(text(&file), &DEFAULTS).json();
    assert_eq!(first, json!({"enqueued": 3, "already_recorded": 0, "repeated_batches": 0}));
    assert_eq!(desk.payload("crlf").await, b"\xef\xbb\xbfa\r\nb\0");
    assert_eq!(desk.payload("bytes").await, b"\x00\xff\xfe\x80\r\n\xef\xbb\xbf");
    assert_eq!(desk.payload("empty").await, b"");
    let again = desk.enqueue(text(&file), &DEFAULTS).json();
    assert_eq!(again, json!({"enqueued": 0, "already_recorded": 3, "repeated_batches": 0}));
    assert_eq!(desk.recorded().await, 3);
}

#[tokio::test]
async fn standard_input_is_recorded_with_all_its_columns() {
    let desk = Desk::with_rails().await;
    let payment = json!({
        "participant_id": "q", "instruction_id": "i", "idempotency_key": "k", "rail": "sepa", "payload": "x",
        "content_type": "application/json", "amount_minor": 1_234_567_890_123_i64, "currency": "JPY",
        "not_before": "2026-01-31T08:00:00+01:00", "not_after": "2999-12-31T23:59:59.5Z",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    });
    let mut command = desk.command("t_ingest", &[&["enqueue", "-", "--output", "table"][..], &DEFAULTS].concat());
    let ended = end(&mut command, payment.to_string().as_bytes());
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    assert_eq!(ended.out, "enqueued          1\nalready recorded  0\n");
    let found = &desk.run("t_operator", &["inspect", "i", "--output", "json"]).json()[0];
    for (key, value) in [
        ("participant_id", json!("q")),
        ("idempotency_key", json!("k")),
        ("rail", json!("sepa")),
        ("content_type", json!("application/json")),
        ("amount_minor", json!(1_234_567_890_123_i64)),
        ("currency", json!("JPY")),
        ("not_before", json!("2026-01-31T07:00:00+00:00")),
        ("not_after", json!("2999-12-31T23:59:59.5+00:00")),
        ("traceparent", payment["traceparent"].clone()),
        ("enqueued_by", json!("t_ingest")),
    ] {
        assert_eq!(found[key], value, "{key}");
    }
}

#[tokio::test]
async fn one_bad_line_of_ten_thousand_stops_before_its_batch_and_the_mended_file_loses_nothing() {
    let desk = Desk::with_rails().await;
    let good: Vec<String> = (1..=10_000).map(line).collect();
    let mut bad = good.clone();
    bad[6_788] = bad[6_788].replace("\"amount_minor\":6789", &format!("\"amount_minor\":\"{CANARY}\""));
    bad[9_000] = "{\n".to_owned();
    let file = desk.file("payments.ndjson", bad.concat());
    let ended = desk.enqueue(text(&file), &[]);
    assert_eq!(ended.code, Some(65), "{ended:?}");
    let faults: Vec<&str> = ended.err.lines().filter(|line| line.contains("payments.ndjson:")).collect();
    assert_eq!(faults.len(), 2, "{ended:?}");
    let column = bad[6_788].find(CANARY).unwrap() + CANARY.len() + 1;
    assert!(
        faults[0].ends_with(&format!("payments.ndjson:6789:{column}: amount_minor must be a whole number")),
        "{faults:?}"
    );
    assert!(faults[1].contains("payments.ndjson:9001:1: "), "{faults:?}");
    assert!(ended.err.contains("6500 payments enqueued, 0 already recorded") && ended.err.contains("safe to repeat"));
    assert!(!ended.err.contains(CANARY) && !ended.out.contains(CANARY), "{ended:?}");
    assert_eq!(desk.recorded().await, 6_500);

    desk.file("payments.ndjson", good.concat());
    let mended = desk.enqueue(text(&file), &[]).json();
    assert_eq!(mended, json!({"enqueued": 3_500, "already_recorded": 6_500, "repeated_batches": 0}));
    assert_eq!(desk.recorded().await, 10_000);
}

#[tokio::test]
async fn what_the_database_refuses_is_named_by_its_line() {
    let desk = Desk::with_rails().await;
    let payments = desk.file("good.ndjson", line(1));
    assert_eq!(desk.enqueue(text(&payments), &[]).code, Some(0));
    for (bad, what) in [
        (line(3).replace("EUR", "eur"), "in.ndjson:4: currency must be three capital letters"),
        (line(3).replace("sepa", "swift"), "in.ndjson:4: rail is not a rail with a contract"),
        (line(3).replace("\"amount_minor\":3", "\"amount_minor\":0"), "in.ndjson:4: amount_minor must be above zero"),
        (line(1).replace("<p>1</p>", CANARY), "in.ndjson:4: instruction 'i1' is already recorded as "),
        (line(1).replace('{', r#"{"idempotency_key":"k2","#), "under another idempotency key"),
        (line(2).replace("<p>2</p>", CANARY), "in.ndjson:4: instruction 'i2' is already recorded as "),
    ] {
        let file = desk.file("in.ndjson", format!("\n{}\n{bad}{}", line(2), line(4)));
        let ended = desk.enqueue(text(&file), &[]);
        assert_eq!(ended.code, Some(65), "{ended:?}");
        assert!(ended.err.contains(what) && !ended.err.contains(CANARY), "{what}: {ended:?}");
        assert_eq!(desk.recorded().await, 1, "one bad payment refuses its whole batch");
    }
}

#[tokio::test]
async fn a_line_that_is_no_payment_is_refused_before_anything_is_sent() {
    let desk = Desk::with_rails().await;
    let with = |key: &str, value: &str| format!("{{\"instruction_id\":\"i\",\"payload\":\"x\",\"{key}\":{value}}}");
    for (bad, what) in [
        (with("amount", "5"), "unknown key `amount`"),
        (with("payload_base64", "\"eA==\""), "exclude each other"),
        (with("not_after", "\"tomorrow\""), "not_after must be an RFC 3339 time"),
        (with("rail", "\"No Rail\""), "a rail's name has 1 to 40 characters"),
        (with("currency", "\"E\\u0000R\""), "currency must not have the character U+0000"),
        (with("payload", "\"y\""), "payload is there twice"),
        (format!("[\"{CANARY}\"]"), "is not a JSON object"),
        ("{\"payload\":\"x\"}".to_owned(), "instruction_id is missing"),
        (format!("{{\"instruction_id\":\"i\",\"payload\":\"{}\"}}", "x".repeat(1_048_577)), "has 1048577 bytes"),
    ] {
        let file = desk.file("in.ndjson", format!("{{\"instruction_id\":\"ok\",\"payload\":\"x\"}}\n{bad}\n"));
        let ended = desk.enqueue(text(&file), &DEFAULTS);
        assert_eq!(ended.code, Some(65), "{what}: {ended:?}");
        assert!(ended.err.contains("in.ndjson:2:") && ended.err.contains(what), "{what}: {}", ended.err);
        assert!(!ended.err.contains(CANARY), "{ended:?}");
    }
    let missing = desk.file("in.ndjson", "{\"instruction_id\":\"i\",\"payload\":\"x\"}");
    for without in ["--participant", "--rail", "--content-type"] {
        let options: Vec<&str> = DEFAULTS.chunks(2).filter(|option| option[0] != without).flatten().copied().collect();
        let ended = desk.enqueue(text(&missing), &options);
        assert!(ended.code == Some(65) && ended.err.contains(without), "{ended:?}");
    }
    assert_eq!(desk.recorded().await, 0);
}

#[tokio::test]
async fn the_exit_code_tells_what_is_missing() {
    let desk = Desk::with_rails().await;
    let file = desk.file("in.ndjson", line(1));
    let nothing = desk.enqueue("/nowhere/payments.ndjson", &[]);
    assert!(nothing.code == Some(66) && nothing.err.starts_with("error: /nowhere/payments.ndjson: "), "{nothing:?}");
    let forbidden = desk.run("t_dispatcher", &["enqueue", text(&file)]);
    assert_eq!(forbidden.code, Some(77), "{forbidden:?}");
    assert!(forbidden.err.contains("permission denied for function enqueue_payment_outbox_batch"), "{forbidden:?}");
    let mut elsewhere = desk.command("t_ingest", &["enqueue", text(&file)]);
    let ended = end(elsewhere.env("DATABASE_URL", desk.db.address().url("postgres", "t_ingest")), b"");
    assert_eq!(ended.code, Some(76), "a database without the schema: {ended:?}");
    assert_eq!(desk.recorded().await, 0);
}

#[tokio::test]
async fn a_database_that_goes_away_for_a_moment_loses_nothing_and_doubles_nothing() {
    let mut server = PgServer::start(PgVersion::from_environment().unwrap()).unwrap();
    let desk = Desk::on(TestDb::create_on(server.address()).await.unwrap());
    assert_eq!(desk.run("t_operator", &["rail", "set", "sepa", "--on-unknown", "hold"]).code, Some(0));
    let url = desk.db.url("t_ingest");
    let mut enqueue = ChildGuard::spawn(Path::new(OUTBOXD), &desk.dir.path().join("log"), |command| {
        command.args(["enqueue", "-", "--batch-size", "1", "--output", "json"]).env("DATABASE_URL", &url);
        command.stdin(Stdio::piped());
    })
    .unwrap();
    let mut input = enqueue.child().stdin.take().unwrap();
    input.write_all(line(1).as_bytes()).unwrap();
    wait_until("first payment", Duration::from_secs(20), async || desk.recorded().await == 1).await.unwrap();
    server.stop_immediate().unwrap();
    input.write_all(line(2).as_bytes()).unwrap();
    wait_until("first warning", Duration::from_secs(20), async || enqueue.log().contains("trying again"))
        .await
        .unwrap();
    server.restart().unwrap();
    input.write_all(line(3).as_bytes()).unwrap();
    drop(input);
    let status = enqueue.wait_exit(Duration::from_secs(60)).unwrap();
    assert_eq!(status.code(), Some(0), "{}", enqueue.log());
    let summary = json!({"enqueued": 3, "already_recorded": 0, "repeated_batches": 1}).to_string();
    assert!(enqueue.log().contains(&summary), "{}", enqueue.log());
    assert_eq!(desk.recorded().await, 3);
}
