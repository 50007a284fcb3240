//! `enqueue` of a directory: one payment a file, byte for byte.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::commands_binary::{Desk, text};

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/messages")
}

const SEPA: [&str; 4] = ["--rail", "sepa", "--participant", "bank"];

#[tokio::test]
async fn message_files_are_recorded_byte_for_byte_and_once() {
    let desk = Desk::with_rails().await;
    let first = desk.enqueue(text(&fixtures()), &SEPA).json();
    assert_eq!(first, json!({"enqueued": 4, "already_recorded": 0, "repeated_batches": 0}));
    let again = desk.enqueue(text(&fixtures()), &[&SEPA[..], &["--batch-size", "1"]].concat()).json();
    assert_eq!(again, json!({"enqueued": 0, "already_recorded": 4, "repeated_batches": 0}));
    for (stem, amount, mark) in [
        ("bom-crlf", 1_234, &b"\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n"[..]),
        ("non-ascii", 1, b"<?xml"),
        ("latin-1", 99_900, b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\n"),
        ("no-last-newline", 500, b"<?xml"),
    ] {
        let sent = fs::read(fixtures().join(format!("{stem}.xml"))).unwrap();
        assert!(sent.starts_with(mark), "the fixture {stem} has lost what it is for");
        assert_eq!(desk.payload(stem).await, sent, "{stem}");
        let found = &desk.run("t_operator", &["inspect", stem, "--output", "json"]).json()[0];
        assert_eq!(found["amount_minor"], json!(amount));
        assert_eq!((&found["idempotency_key"], &found["content_type"]), (&json!(stem), &json!("application/xml")));
    }
    let latin = fs::read(fixtures().join("latin-1.xml")).unwrap();
    assert!(String::from_utf8(latin).is_err(), "the fixture latin-1 is UTF-8");
    assert_eq!(desk.recorded().await, 4);
}

#[tokio::test]
async fn a_changed_message_under_a_known_name_is_refused() {
    let desk = Desk::with_rails().await;
    let dir = desk.dir.path().join("messages");
    fs::create_dir(&dir).unwrap();
    let options = ["--rail", "telex", "--participant", "bank", "--content-type", "text/plain"];
    fs::write(dir.join("a.txt"), "one").unwrap();
    assert_eq!(desk.enqueue(text(&dir), &options).code, Some(0));
    fs::write(dir.join("a.txt"), "two").unwrap();
    let ended = desk.enqueue(text(&dir), &options);
    assert_eq!(ended.code, Some(65), "{ended:?}");
    assert!(ended.err.contains("messages/a.txt: instruction 'a' is already recorded as "), "{ended:?}");
    assert_eq!(desk.payload("a").await, b"one");
}

#[tokio::test]
async fn nothing_of_a_doubtful_directory_is_sent() {
    let desk = Desk::with_rails().await;
    let dir = desk.dir.path().join("messages");
    let amount = "{\"amount_minor\": 5, \"currency\": \"EUR\"}";
    for (name, files, rail, what) in [
        ("twice", &[("a.xml", "x"), ("b.xml", "x"), ("b.txt", "x")][..], "telex", "has the stem of b.txt as well"),
        ("lone", &[("b.json", amount)], "telex", "is the amount of a message that is not there"),
        ("missing", &[("b.xml", "x")], "sepa", "b.json must say amount_minor and currency"),
        ("empty", &[("b.xml", "")], "telex", "b.xml: the file is empty"),
        ("odd", &[("b.xml", "x"), ("b.json", "{\"amount\": 5}")], "sepa", "b.json:1:9: unknown key `amount`"),
        ("rail", &[("b.xml", "x")], "swift", "rail swift has no contract"),
    ] {
        let dir = dir.join(name);
        fs::create_dir_all(&dir).unwrap();
        for (file, content) in files {
            fs::write(dir.join(file), content).unwrap();
        }
        let ended = desk.enqueue(text(&dir), &["--rail", rail, "--participant", "bank"]);
        assert!(ended.code == Some(65) && ended.err.contains(what), "{what}: {ended:?}");
    }
    let ended = desk.enqueue(text(&dir.join("lone")), &["--rail", "telex"]);
    assert!(ended.code == Some(64) && ended.err.contains("--participant"), "{ended:?}");
    assert_eq!(desk.recorded().await, 0);
}
