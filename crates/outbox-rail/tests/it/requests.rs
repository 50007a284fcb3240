//! What the rail receives: the bytes, the headers, and nothing when nothing is permitted.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use outbox_core::Outcome;
use outbox_rail::{HttpRail, HttpRailSettings, Rail, Submission, WireKeyForm, WireKeyHeader};
use tokio::net::TcpListener;

use crate::hostile::{ACCEPTED, Hostile, permitted, rail, send, settings, submission, submit};

const KEY: &str = "01990000-0000-7000-8000-000000000042";

#[tokio::test]
async fn payloads_arrive_byte_for_byte() {
    let hostile = Hostile::answering(ACCEPTED).await;
    let rail = rail(settings(hostile.url()));
    let every_byte: Vec<u8> = (0..=255).collect();
    let payloads: [&[u8]; 7] =
        [b"", b"\0", b"\xef\xbb\xbf<?xml?>", b"a\r\nb\nc\r", b"\xff\xfe\xc3\x28", &every_byte, &vec![b'x'; 1_000_000]];
    for payload in payloads {
        let report = rail.submit(submission(Bytes::copy_from_slice(payload)), permitted()).await;
        assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
        let seen = hostile.requests().pop().expect("a request");
        assert!(seen.body == payload, "{} bytes were changed", payload.len());
        assert_eq!(seen.header("content-length"), [payload.len().to_string()]);
        assert_eq!(seen.header("content-type"), ["application/json"]);
    }
    assert_eq!(hostile.requests().len(), payloads.len());
}

#[tokio::test]
async fn the_wire_key_is_the_outbox_id_quoted_or_bare() {
    let hostile = Hostile::answering(ACCEPTED).await;
    for (name, form, expected) in [
        ("Idempotency-Key", WireKeyForm::Quoted, format!("\"{KEY}\"")),
        ("x-request-id", WireKeyForm::Bare, KEY.to_owned()),
    ] {
        let wire_key = WireKeyHeader { name: name.to_owned(), form };
        submit(HttpRailSettings { wire_key, ..settings(hostile.url()) }).await;
        let seen = hostile.requests().pop().expect("a request");
        assert_eq!(seen.header(name), [expected]);
    }
}

#[tokio::test]
async fn the_same_submission_is_the_same_request_hash_and_another_body_is_not() {
    let hostile = Hostile::answering(ACCEPTED).await;
    let rail = rail(settings(hostile.url()));
    let first = send(&rail, "{}").await.request_sha256.expect("a hash");
    assert_eq!(send(&rail, "{}").await.request_sha256, Some(first));
    assert_ne!(send(&rail, "{ }").await.request_sha256, Some(first));
}

#[tokio::test]
async fn a_valid_traceparent_passes_and_an_injecting_one_is_left_out() {
    let hostile = Hostile::answering(ACCEPTED).await;
    let rail = rail(settings(hostile.url()));
    let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (given, expected) in [(valid, vec![valid]), ("00-x\r\nevil: 1", vec![])] {
        let submission = Submission { traceparent: Some(given.to_owned()), ..submission("{}") };
        let report = rail.submit(submission, permitted()).await;
        assert_eq!(report.outcome, Outcome::Accepted);
        let seen = hostile.requests().pop().expect("a request");
        assert_eq!(seen.header("traceparent"), expected);
        assert!(seen.header("evil").is_empty());
    }
}

#[tokio::test]
async fn an_injecting_content_type_is_not_sent() {
    let hostile = Hostile::answering(ACCEPTED).await;
    let rail = rail(settings(hostile.url()));
    for content_type in ["a/b\r\nevil: 1", "a/b\n", "a/\0b", ""] {
        let submission = Submission { content_type: content_type.to_owned(), ..submission("{}") };
        let report = rail.submit(submission, permitted()).await;
        assert_eq!((report.outcome, report.error_class), (Outcome::NotSent, Some("content_type_invalid")));
    }
    assert_eq!(hostile.connections(), 0);
}

#[test]
fn a_header_that_http_or_this_rail_owns_cannot_be_configured() {
    for (name, value, words) in [
        ("Host", "other.example", "set by the rail itself"),
        ("transfer-encoding", "chunked", "set by the rail itself"),
        ("content-length", "0", "set by the rail itself"),
        ("idempotency-key", "x", "set twice"),
        ("x y", "1", "not a header's name"),
        ("x-a", "1\r\nevil: 1", "no header can carry"),
    ] {
        let headers = vec![(name.to_owned(), value.to_owned())];
        let error = HttpRail::new(HttpRailSettings { headers, ..settings("http://127.0.0.1:1/") }).expect_err(name);
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn without_permission_not_a_byte_reaches_the_rail() {
    let hostile = Hostile::answering(ACCEPTED).await;
    let rail = rail(settings(hostile.url()));
    let report = rail.submit(submission("{}"), Arc::new(|| false)).await;
    assert_eq!((report.outcome, report.error_class), (Outcome::NotSent, Some("not_permitted")));
    assert_eq!(report.first_byte_at, None);
    // The next payment's arrival shows that the rail has read all there was.
    assert_eq!(send(&rail, "{}").await.outcome, Outcome::Accepted);
    let seen = hostile.requests();
    assert_eq!(seen.len(), 1);
    assert_eq!(hostile.bytes(), seen[0].head.len() + seen[0].body.len());
}

#[tokio::test]
async fn permission_is_asked_after_connecting_and_once() {
    let hostile = Hostile::answering(ACCEPTED).await;
    let rail = rail(settings(hostile.url()));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let report = rail
        .submit(
            submission(vec![b'x'; 3_000_000]),
            Arc::new(move || {
                count.fetch_add(1, Ordering::SeqCst);
                true
            }),
        )
        .await;
    assert_eq!(report.outcome, Outcome::Accepted);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = nobody.local_addr().expect("address");
    drop(nobody);
    let refused = crate::hostile::rail(settings(format!("http://{address}/")));
    let report = refused.submit(submission("{}"), Arc::new(|| panic!("asked without a connection"))).await;
    assert_eq!((report.outcome, report.error_class), (Outcome::NotSent, Some("connect")));
}

#[tokio::test]
async fn a_proxy_in_the_environment_is_ignored() {
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    proxy.set_nonblocking(true).expect("nonblocking");
    let address = format!("http://{}", proxy.local_addr().expect("address"));
    let mut again = Command::new(std::env::current_exe().expect("this test"));
    again.args(["--exact", "requests::payloads_arrive_byte_for_byte"]);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        again.env(name, &address);
    }
    let run = tokio::task::spawn_blocking(move || again.output()).await.expect("joined").expect("run");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
    let called = proxy.accept().map_err(|error| error.kind());
    assert_eq!(called.map(|_| ()), Err(std::io::ErrorKind::WouldBlock), "the proxy was connected to");
}
