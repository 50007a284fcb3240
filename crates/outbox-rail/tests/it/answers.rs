//! What a rail's answer is taken for: whole, broken, oversize, slow, packed, redirecting.

use std::sync::Arc;
use std::time::Duration;

use outbox_core::{CodeRule, CodeTable, Meaning, Millis, Outcome};
use outbox_rail::{AnswerField, HttpRailSettings, WireReport};
use sha2::{Digest, Sha256};

use crate::hostile::{ACCEPTED, Ending, Hostile, impatient, rail, send, settings, submit};

async fn check(answer: &str, outcome: Outcome, error_class: Option<&str>) -> WireReport {
    let hostile = Hostile::answering(answer).await;
    let report = submit(settings(hostile.url())).await;
    assert_eq!((report.outcome, report.error_class), (outcome, error_class), "{answer:?} {report:?}");
    assert_eq!(hostile.requests().len(), 1, "{answer:?}");
    report
}

/// An answer that ends with its connection right after `answer`.
async fn check_cut(answer: &'static str, ending: Ending, outcome: Outcome, error_class: &str) -> WireReport {
    let hostile = Hostile::start(None, ending, move |_, mut peer| async move {
        peer.request().await;
        peer.write(answer.as_bytes()).await;
    })
    .await;
    let report = submit(settings(hostile.url())).await;
    assert_eq!((report.outcome, report.error_class), (outcome, Some(error_class)), "{answer:?} {report:?}");
    assert_eq!(hostile.requests().len(), 1, "{answer:?}");
    report
}

fn with_body(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn an_acceptance_is_reported_with_reference_code_hash_and_times() {
    let body = r#"{"id":"R-7","code":"ACCC"}"#;
    let report = check(&with_body("201 Created", body), Outcome::Accepted, None).await;
    assert_eq!(report.rail_reference.as_deref(), Some("R-7"));
    assert_eq!(report.rail_code.as_deref(), Some("ACCC"));
    let mut encoded = Vec::new();
    for field in [&b"outbox-rail/response/1"[..], &201_u16.to_be_bytes(), body.as_bytes()] {
        encoded.extend_from_slice(&u64::try_from(field.len()).expect("short").to_be_bytes());
        encoded.extend_from_slice(field);
    }
    assert_eq!(report.response_sha256, Some(Sha256::digest(&encoded).into()));
    let (first, last) = (report.first_byte_at.expect("sent"), report.last_byte_at.expect("answered"));
    assert!(first <= last, "{first:?} {last:?}");
}

#[tokio::test]
async fn a_reference_is_text_or_an_exact_integer_or_none_at_all() {
    for (body, outcome, reference) in [
        (r#"{"id":42}"#, Outcome::Accepted, Some("42")),
        (r#"{"id":" R-7 "}"#, Outcome::Accepted, Some("R-7")),
        (r#"{"id":1.5}"#, Outcome::Unknown, None),
        (r#"{"id":123456789012345678901234567890}"#, Outcome::Unknown, None),
        (r#"{"id":"a\u0000b"}"#, Outcome::Unknown, None),
        (r#"{"id":""}"#, Outcome::Unknown, None),
        (r#"{"id":null}"#, Outcome::Unknown, None),
        (r#"{"ID":"R-7"}"#, Outcome::Unknown, None),
        ("", Outcome::Unknown, None),
    ] {
        let report = check(&with_body("200 OK", body), outcome, None).await;
        assert_eq!(report.rail_reference.as_deref(), reference, "{body}");
    }
    let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(257));
    check(&with_body("200 OK", &long), Outcome::Unknown, None).await;
}

#[tokio::test]
async fn a_reference_in_a_header_counts_if_there_is_exactly_one() {
    let in_header = |url| {
        let reference = AnswerField { json_pointer: None, header: Some("X-Reference".to_owned()) };
        HttpRailSettings { reference, code: AnswerField::default(), ..settings(url) }
    };
    for (headers, outcome) in [
        ("x-reference: R-7\r\n", Outcome::Accepted),
        ("x-reference: R-7\r\nx-reference: R-8\r\n", Outcome::Unknown),
        ("", Outcome::Unknown),
    ] {
        let hostile = Hostile::answering(format!("HTTP/1.1 200 OK\r\n{headers}content-length: 2\r\n\r\nok")).await;
        assert_eq!(submit(in_header(hostile.url())).await.outcome, outcome, "{headers:?}");
    }
    // Without a length, an answer cut short looks like a whole one.
    let hostile = Hostile::start(None, Ending::Orderly, |_, mut peer| async move {
        peer.request().await;
        peer.write(b"HTTP/1.1 200 OK\r\nx-reference: R-7\r\nconnection: close\r\n\r\no").await;
    })
    .await;
    let report = submit(in_header(hostile.url())).await;
    assert_eq!((report.outcome, report.error_class), (Outcome::Unknown, Some("body_unframed")));
}

#[tokio::test]
async fn a_success_that_cannot_be_read_whole_is_unknown() {
    check(&with_body("200 OK", "{\"id\":\"R-7\""), Outcome::Unknown, Some("body_unparsable")).await;
    check(&with_body("200 OK", "<id>R-7</id>"), Outcome::Unknown, Some("body_unparsable")).await;
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n{\"id\":\"R-7\"}";
    check_cut(cut, Ending::Orderly, Outcome::Unknown, "body_truncated").await;
    check_cut(cut, Ending::Reset, Outcome::Unknown, "body_truncated").await;
    let chunk = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nc\r\n{\"id\":\"R-7\"}\r\n";
    check_cut(chunk, Ending::Orderly, Outcome::Unknown, "body_truncated").await;
}

#[tokio::test]
async fn an_answer_that_contradicts_itself_or_can_be_read_in_two_ways_is_no_success() {
    for body in [
        "{\"id\":\"R-7\",\"id\":\"R-8\"}",
        "{\"id\":\"R-7\",\"code\":\"RJCT\",\"code\":\"ACSC\"}",
        "{\"id\":\"R-7\",\"code\":\"RJCT\",\"\\u0063ode\":\"ACSC\"}",
        "{\"id\":{\"$serde_json::private::Number\":\"7\"}}",
    ] {
        check(&with_body("200 OK", body), Outcome::Unknown, Some("body_unparsable")).await;
    }
}

#[tokio::test]
async fn a_body_that_should_carry_the_code_and_cannot_be_parsed_leaves_the_outcome_unknown() {
    let codes =
        CodeTable::new(vec![CodeRule { status: 422, code: Some("KEY_REUSED".to_owned()), means: Meaning::KeyReused }]);
    for status in ["200 OK", "422 Unprocessable"] {
        for body in ["{\"code\":\"KEY_REU", "<html>"] {
            let answer =
                format!("HTTP/1.1 {status}\r\nx-reference: R-7\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let hostile = Hostile::answering(answer).await;
            let reference = AnswerField { json_pointer: None, header: Some("X-Reference".to_owned()) };
            let report = submit(HttpRailSettings { reference, codes: codes.clone(), ..settings(hostile.url()) }).await;
            let got = (report.outcome, report.error_class);
            assert_eq!(got, (Outcome::Unknown, Some("body_unparsable")), "{status} {body} {report:?}");
        }
    }
}

#[tokio::test]
async fn a_refusal_stands_even_if_its_body_is_cut() {
    let cut = "HTTP/1.1 422 Unprocessable\r\ncontent-length: 40\r\n\r\n{\"code\":\"A";
    check_cut(cut, Ending::Orderly, Outcome::Refused, "body_truncated").await;
}

#[tokio::test]
async fn an_oversize_body_is_not_read_to_its_end() {
    let announced = "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n{";
    check(announced, Outcome::Unknown, Some("body_too_large")).await;
    let endless = Hostile::start(None, Ending::Orderly, |_, mut peer| async move {
        peer.request().await;
        peer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        let chunk = [b"1000\r\n".as_slice(), &[b' '; 0x1000], b"\r\n"].concat();
        let mut wire = peer.into_wire();
        while tokio::io::AsyncWriteExt::write_all(&mut wire, &chunk).await.is_ok() {}
    })
    .await;
    let report = submit(HttpRailSettings { response_body_max: 10_000, ..settings(endless.url()) }).await;
    assert_eq!((report.outcome, report.error_class), (Outcome::Unknown, Some("body_too_large")));
}

#[tokio::test]
async fn a_dripping_body_ends_at_the_timeout() {
    let hostile = Hostile::start(None, Ending::Orderly, |_, mut peer| async move {
        peer.request().await;
        peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await;
        let mut beat = tokio::time::interval(Duration::from_millis(20));
        for _ in 0..1000 {
            beat.tick().await;
            peer.write(b" ").await;
        }
    })
    .await;
    let report = submit(impatient(hostile.url())).await;
    assert_eq!((report.outcome, report.error_class), (Outcome::Unknown, Some("body_timeout")));
}

#[tokio::test]
async fn endless_headers_are_not_read_to_their_end() {
    let hostile = Hostile::start(None, Ending::Orderly, |_, mut peer| async move {
        peer.request().await;
        peer.write(b"HTTP/1.1 200 OK\r\nx: ").await;
        let mut wire = peer.into_wire();
        while tokio::io::AsyncWriteExt::write_all(&mut wire, &[b'x'; 4096]).await.is_ok() {}
    })
    .await;
    let report = submit(settings(hostile.url())).await;
    assert_eq!((report.outcome, report.error_class), (Outcome::Unknown, Some("answer_invalid")));
}

#[tokio::test]
async fn a_packed_answer_is_not_unpacked() {
    let packed = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 12\r\n\r\n{\"id\":\"R-7\"}";
    check(packed, Outcome::Unknown, Some("body_encoded")).await;
    let hostile = Hostile::answering(ACCEPTED).await;
    submit(settings(hostile.url())).await;
    assert_eq!(hostile.requests()[0].header("accept-encoding"), ["identity"]);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Hostile::answering(ACCEPTED).await;
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let answer = format!("HTTP/1.1 {status}\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", elsewhere.url());
        check(&answer, Outcome::Unknown, None).await;
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_broken_exchange_is_unknown_and_not_repeated() {
    check_cut("", Ending::Orderly, Outcome::Unknown, "interrupted").await;
    check_cut("", Ending::Reset, Outcome::Unknown, "interrupted").await;
    check_cut("HTTP/1.1 20", Ending::Orderly, Outcome::Unknown, "interrupted").await;
    check_cut("HTTP/1.1 20", Ending::Reset, Outcome::Unknown, "interrupted").await;
    check_cut("nonsense\r\n\r\n", Ending::Orderly, Outcome::Unknown, "answer_invalid").await;
    let deaf = Hostile::start(None, Ending::Reset, |_, mut peer| async move {
        peer.more().await;
    })
    .await;
    let payload: &'static str = Box::leak("x".repeat(12_000_000).into_boxed_str());
    let report = send(&rail(settings(deaf.url())), payload).await;
    assert_eq!((report.outcome, report.error_class), (Outcome::Unknown, Some("interrupted")));
    assert_eq!(deaf.connections(), 1);
}

#[tokio::test]
async fn a_rail_that_never_answers_is_unknown_at_the_timeout() {
    let hostile = Hostile::start(None, Ending::Orderly, |_, mut peer| async move { peer.hang().await }).await;
    let report = submit(impatient(hostile.url())).await;
    assert_eq!((report.outcome, report.error_class), (Outcome::Unknown, Some("timeout")));
    assert!(report.first_byte_at.is_some(), "{report:?}");
    assert_eq!(hostile.connections(), 1);
}

#[tokio::test]
async fn the_table_of_codes_reaches_the_outcome() {
    let rule = |status, code: Option<&str>, means| CodeRule { status, code: code.map(str::to_owned), means };
    let codes =
        CodeTable::new(vec![rule(422, Some("KEY_REUSED"), Meaning::KeyReused), rule(503, None, Meaning::NotExecuted)]);
    for (status, body, outcome) in [
        ("422 Unprocessable", r#"{"code":"KEY_REUSED"}"#, Outcome::KeyReused),
        ("422 Unprocessable", r#"{"code":"AM05"}"#, Outcome::Refused),
        ("503 Unavailable", "", Outcome::NotExecuted),
        ("500 Error", "", Outcome::Unknown),
        ("202 Accepted", r#"{"id":"R-7"}"#, Outcome::Interim),
        ("401 Unauthorized", "", Outcome::RailRefusedUs),
    ] {
        let hostile = Hostile::answering(with_body(status, body)).await;
        let report = submit(HttpRailSettings { codes: codes.clone(), ..settings(hostile.url()) }).await;
        assert_eq!(report.outcome, outcome, "{status} {body}");
    }
}

#[tokio::test]
async fn a_wait_is_taken_from_seconds_or_a_date_to_come_and_else_ignored() {
    let soon = std::time::SystemTime::now() + Duration::from_secs(100);
    let soon = Arc::new(httpdate::fmt_http_date(soon));
    for (value, at_least, at_most) in [
        ("7", 7_000, 7_000),
        ("0", 0, 0),
        ("99999999999999999999999", u64::MAX, u64::MAX),
        (soon.as_str(), 90_000, 100_000),
    ] {
        let hostile = Hostile::answering(with_retry_after(value)).await;
        let report = submit(settings(hostile.url())).await;
        assert_eq!(report.outcome, Outcome::Throttled);
        let wait = report.retry_after.expect(value);
        assert!((Millis(at_least)..=Millis(at_most)).contains(&wait), "{value}: {wait}");
    }
    for value in ["Sun, 06 Nov 1994 08:49:37 GMT", "-1", "1.5", "soon", ""] {
        let hostile = Hostile::answering(with_retry_after(value)).await;
        assert_eq!(submit(settings(hostile.url())).await.retry_after, None, "{value}");
    }
}

fn with_retry_after(value: &str) -> String {
    format!("HTTP/1.1 429 Too Many\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n")
}
