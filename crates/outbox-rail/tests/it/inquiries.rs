//! What a rail is asked, and what its answers are taken for: by a table of their own, and never for more than
//! they say.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use outbox_core::{CodeRule, CodeTable, Meaning, Millis, OutboxId, Outcome};
use outbox_rail::{
    AnswerField, HttpRail, HttpRailSettings, Inquiry, InquirySettings, Rail, SecretHeader, Submission, WireReport,
    check_inquiry_path,
};
use sha2::{Digest, Sha256};

use crate::hostile::{ACCEPTED, Ending, Hostile, PATIENCE, impatient, permitted, rail, send, settings, submission};

const KEY: &str = "01990000-0000-7000-8000-000000000042";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn rule(status: u16, code: Option<&str>, means: Meaning) -> CodeRule {
    CodeRule { status, code: code.map(str::to_owned), means }
}

/// A rail that is asked at `path`, with the code in `/status` and the reference in `/ref`.
fn asked_at(settings: HttpRailSettings, path: &str) -> HttpRailSettings {
    let at = |pointer: &str| AnswerField { json_pointer: Some(pointer.to_owned()), header: None };
    let codes = vec![
        rule(200, Some("SETTLED"), Meaning::Accepted),
        rule(200, Some("REJECTED"), Meaning::Refused),
        rule(404, None, Meaning::Unknown),
        rule(404, Some("NO_SUCH_KEY"), Meaning::NotFound),
    ];
    let inquiry = InquirySettings {
        path: path.to_owned(),
        reference: at("/ref"),
        code: at("/status"),
        codes: CodeTable::new(codes),
    };
    HttpRailSettings { inquiry: Some(inquiry), ..settings }
}

fn asked(settings: HttpRailSettings) -> HttpRailSettings {
    asked_at(settings, "/payments/{key}?view=full")
}

fn inquiry() -> Inquiry {
    Inquiry { outbox_id: submission("").outbox_id, traceparent: Some(TRACE.to_owned()) }
}

async fn ask(rail: &HttpRail) -> WireReport {
    tokio::time::timeout(PATIENCE, rail.inquire(inquiry(), permitted())).await.expect("an end in time")
}

fn with_body(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn inquiry_is_a_get_of_the_key_with_the_rails_headers_and_no_body() {
    let hostile = Hostile::answering(with_body("200 OK", r#"{"ref":"R-7","status":"SETTLED"}"#)).await;
    let mut token = tempfile::NamedTempFile::new().expect("file");
    token.write_all(b"secret-1\n").expect("write");
    token.as_file().set_permissions(std::fs::Permissions::from_mode(0o600)).expect("mode");
    let secret =
        SecretHeader { name: "authorization".to_owned(), prefix: "Bearer ".to_owned(), file: token.path().to_owned() };
    let rail = rail(HttpRailSettings {
        headers: vec![("x-participant".to_owned(), "EXAMPLE".to_owned())],
        possible_duplicate: Some(("x-possible-duplicate".to_owned(), "true".to_owned())),
        secret_headers: vec![secret],
        ..asked(settings(hostile.url()))
    });
    let report = ask(&rail).await;
    assert_eq!((report.outcome, report.rail_reference.as_deref()), (Outcome::Accepted, Some("R-7")), "{report:?}");
    assert_eq!((report.rail_code.as_deref(), report.error_class), (Some("SETTLED"), None));
    let seen = hostile.requests().pop().expect("a request");
    assert!(seen.head.starts_with(&format!("GET /payments/{KEY}?view=full HTTP/1.1\r\n")), "{}", seen.head);
    assert_eq!(seen.header("x-participant"), ["EXAMPLE"]);
    assert_eq!(seen.header("authorization"), ["Bearer secret-1"]);
    assert_eq!(seen.header("traceparent"), [TRACE]);
    assert_eq!(seen.header("host"), [hostile.address.to_string()]);
    for none in ["content-type", "content-length", "transfer-encoding", "x-possible-duplicate"] {
        assert!(seen.header(none).is_empty(), "{none}: {}", seen.head);
    }
    assert_eq!(hostile.bytes(), seen.head.len());
    assert_eq!(report.endpoint, format!("http://{}/payments/{KEY}", hostile.address));
    let (first, last) = (report.first_byte_at.expect("sent"), report.last_byte_at.expect("answered"));
    assert!(first <= last, "{first:?} {last:?}");
    assert!(report.response_sha256.is_some());
}

#[tokio::test]
async fn request_hash_of_an_inquiry_covers_method_url_and_headers() {
    let hostile = Hostile::answering(with_body("202 Accepted", "")).await;
    let plain = HttpRailSettings {
        headers: vec![("x-participant".to_owned(), "EXAMPLE".to_owned())],
        ..asked_at(settings(hostile.url()), "/status?key={key}")
    };
    let hash = ask(&rail(plain.clone())).await.request_sha256.expect("a hash");
    let url = format!("http://{}/status?key={KEY}", hostile.address);
    let fields: [&[u8]; 13] = [
        b"outbox-rail/request/1",
        b"GET",
        url.as_bytes(),
        &4_u64.to_be_bytes(),
        b"accept-encoding",
        b"identity",
        b"cache-control",
        b"no-cache, no-store",
        b"traceparent",
        TRACE.as_bytes(),
        b"x-participant",
        b"EXAMPLE",
        b"",
    ];
    let mut encoded = Vec::new();
    for field in fields {
        encoded.extend_from_slice(&u64::try_from(field.len()).expect("short").to_be_bytes());
        encoded.extend_from_slice(field);
    }
    assert_eq!(hash, <[u8; 32]>::from(Sha256::digest(&encoded)));
    let other = Inquiry { outbox_id: OutboxId(uuid::Uuid::from_u128(1)), ..inquiry() };
    let other = rail(plain).inquire(other, permitted()).await;
    assert_ne!(other.request_sha256, Some(hash));
}

#[tokio::test]
async fn answers_to_an_inquiry_are_read_by_their_own_table_and_fields() {
    for (status, body, outcome) in [
        ("200 OK", r#"{"ref":"R-7","status":"SETTLED"}"#, Outcome::Accepted),
        ("200 OK", r#"{"id":"R-7","status":"SETTLED"}"#, Outcome::Inconclusive),
        ("200 OK", r#"{"ref":"R-7","code":"SETTLED"}"#, Outcome::Inconclusive),
        ("200 OK", r#"{"ref":"R-7","status":"ACSC"}"#, Outcome::Accepted),
        ("200 OK", r#"{"ref":"R-7","status":"ACSP"}"#, Outcome::Interim),
        ("200 OK", r#"{"ref":"R-7","status":"RJCT"}"#, Outcome::Refused),
        ("200 OK", r#"{"status":"REJECTED"}"#, Outcome::Refused),
        ("200 OK", r#"{"ref":"R-7"}"#, Outcome::Inconclusive),
        ("200 OK", r#"{"ref":"R-7","status":"SETTLED""#, Outcome::Inconclusive),
        ("201 Created", r#"{"ref":"R-7"}"#, Outcome::Inconclusive),
        ("202 Accepted", "", Outcome::Interim),
        ("404 Not Found", r#"{"status":"NO_SUCH_KEY"}"#, Outcome::NotFound),
        // A gateway in front of the rail says it too.
        ("404 Not Found", "<html>no such page", Outcome::Inconclusive),
        ("404 Not Found", "", Outcome::Inconclusive),
        ("400 Bad Request", r#"{"status":"REJECTED"}"#, Outcome::Inconclusive),
        // What the table of the submit means by it is no answer to a question.
        ("422 Unprocessable", r#"{"code":"AC04"}"#, Outcome::Inconclusive),
        ("503 Unavailable", r#"{"code":"NOT_EXECUTED"}"#, Outcome::Unknown),
        ("401 Unauthorized", "", Outcome::RailRefusedUs),
        ("429 Too Many", "", Outcome::Throttled),
        ("500 Error", "", Outcome::Unknown),
        ("302 Found", "", Outcome::Inconclusive),
    ] {
        let hostile = Hostile::answering(with_body(status, body)).await;
        let codes = CodeTable::new(vec![
            rule(422, None, Meaning::Refused),
            rule(503, None, Meaning::NotExecuted),
            rule(200, None, Meaning::Accepted),
        ]);
        let report = ask(&rail(HttpRailSettings { codes, ..asked(settings(hostile.url())) })).await;
        assert_eq!(report.outcome, outcome, "{status} {body} {report:?}");
        assert_eq!(hostile.requests().len(), 1, "{status} {body}");
    }
}

#[tokio::test]
async fn table_of_inquiries_says_nothing_about_answers_to_a_send() {
    for (status, outcome) in [("404 Not Found", Outcome::Refused), ("200 OK", Outcome::Unknown)] {
        let hostile = Hostile::answering(with_body(status, r#"{"ref":"R-7","status":"SETTLED"}"#)).await;
        assert_eq!(send(&rail(asked(settings(hostile.url()))), "{}").await.outcome, outcome, "{status}");
    }
}

#[tokio::test]
async fn refusal_and_not_found_that_do_not_come_whole_teach_nothing() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n{\"status\":\"REJECTED\"}",
        "HTTP/1.1 404 Not Found\r\ncontent-length: 40\r\n\r\n{\"status\":\"NO_SUCH_KEY\"}",
    ] {
        for ending in [Ending::Orderly, Ending::Reset] {
            let hostile = Hostile::start(None, ending, move |_, mut peer| async move {
                peer.request().await;
                peer.write(answer.as_bytes()).await;
            })
            .await;
            let report = ask(&rail(asked(settings(hostile.url())))).await;
            assert_eq!((report.outcome, report.error_class), (Outcome::Unknown, Some("body_truncated")), "{answer}");
        }
    }
}

#[tokio::test]
async fn answer_out_of_a_cache_is_no_answer() {
    for (age, outcome, class) in [("0", Outcome::NotFound, None), ("1", Outcome::Inconclusive, Some("body_cached"))] {
        let body = r#"{"status":"NO_SUCH_KEY"}"#;
        let head = format!("HTTP/1.1 404 Not Found\r\nage: {age}\r\ncontent-length: {}", body.len());
        let hostile = Hostile::answering(format!("{head}\r\n\r\n{body}")).await;
        let report = ask(&rail(asked(settings(hostile.url())))).await;
        assert_eq!((report.outcome, report.error_class), (outcome, class), "{age}");
    }
}

#[tokio::test]
async fn inquiry_follows_no_redirect_and_is_asked_once() {
    let elsewhere = Hostile::answering(ACCEPTED).await;
    let location = elsewhere.url();
    let answer = format!("HTTP/1.1 307 Moved\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
    let moved = Hostile::answering(answer).await;
    assert_eq!(ask(&rail(asked(settings(moved.url())))).await.outcome, Outcome::Inconclusive);
    assert_eq!((moved.requests().len(), elsewhere.connections()), (1, 0));
    // A GET may be repeated by any client that thinks for itself; this one does not.
    let deaf = Hostile::start(None, Ending::Reset, |_, mut peer| async move {
        peer.request().await;
    })
    .await;
    let report = ask(&rail(asked(settings(deaf.url())))).await;
    assert_eq!((report.outcome, report.error_class), (Outcome::Unknown, Some("interrupted")));
    assert_eq!(deaf.connections(), 1);
}

#[tokio::test]
async fn inquiry_that_is_not_answered_teaches_nothing_at_the_timeout() {
    let hostile = Hostile::start(None, Ending::Orderly, |_, mut peer| async move { peer.hang().await }).await;
    let report = ask(&rail(asked(impatient(hostile.url())))).await;
    assert_eq!((report.outcome, report.error_class), (Outcome::Unknown, Some("timeout")));
    assert_eq!(hostile.requests().len(), 0);
}

#[tokio::test]
async fn without_permission_no_byte_of_an_inquiry_leaves() {
    let hostile = Hostile::answering(with_body("202 Accepted", "")).await;
    let rail = rail(asked(settings(hostile.url())));
    let report = rail.inquire(inquiry(), Arc::new(|| false)).await;
    assert_eq!((report.outcome, report.error_class), (Outcome::NotSent, Some("not_permitted")));
    assert_eq!(report.first_byte_at, None);
    assert_eq!(ask(&rail).await.outcome, Outcome::Interim);
    let seen = hostile.requests();
    assert_eq!((seen.len(), hostile.bytes()), (1, seen[0].head.len()));
}

#[tokio::test]
async fn retry_after_of_an_interim_answer_is_reported() {
    let hostile = Hostile::answering("HTTP/1.1 202 Accepted\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(ask(&rail(asked(settings(hostile.url())))).await.retry_after, Some(Millis(7_000)));
}

#[tokio::test]
async fn rail_without_an_inquiry_is_not_asked() {
    let hostile = Hostile::answering(ACCEPTED).await;
    let rail = rail(settings(hostile.url()));
    assert!(!rail.can_inquire());
    let report = ask(&rail).await;
    assert_eq!((report.outcome, report.error_class), (Outcome::NotSent, Some("not_configured")));
    assert_eq!(hostile.connections(), 0);
    assert!(crate::hostile::rail(asked(settings(hostile.url()))).can_inquire());
}

#[test]
fn path_of_an_inquiry_names_the_key_once_and_stays_on_the_rails_host() {
    for good in ["/payments/{key}", "/p?key={key}", "/p/{key}/status?full=1", "/v1/{key}?a=%20"] {
        assert!(check_inquiry_path(good).is_ok(), "{good}");
    }
    for (bad, words) in [
        ("/payments", "has no `{key}`"),
        ("/payments/{KEY}", "has no `{key}`"),
        ("/{key}/{key}", "twice"),
        ("payments/{key}", "no path and query"),
        ("https://other.example/{key}", "no path and query"),
        ("//other.example/{key}#part", "no path and query"),
        ("/a b/{key}", "no path and query"),
        ("/a\n/{key}", "no path and query"),
    ] {
        let error = check_inquiry_path(bad).expect_err(bad).to_string();
        assert!(error.contains(words), "{bad}: {error}");
        assert!(HttpRail::new(asked_at(settings("http://127.0.0.1:1/pay"), bad)).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn possible_duplicate_is_marked_on_a_resend_and_on_nothing_else_and_the_hash_covers_it() {
    let hostile = Hostile::answering(ACCEPTED).await;
    let marker = Some(("X-Possible-Duplicate".to_owned(), "true".to_owned()));
    let rail = rail(HttpRailSettings { possible_duplicate: marker, ..settings(hostile.url()) });
    let mut hashes = Vec::new();
    for (is_resend, expected) in [(false, vec![]), (true, vec!["true"]), (false, vec![])] {
        let report = rail.submit(Submission { is_resend, ..submission("{}") }, permitted()).await;
        assert_eq!(report.outcome, Outcome::Accepted);
        assert_eq!(hostile.requests().pop().expect("a request").header("x-possible-duplicate"), expected);
        hashes.push(report.request_sha256.expect("a hash"));
    }
    assert!(hashes[0] == hashes[2] && hashes[0] != hashes[1], "{hashes:?}");
}

#[test]
fn header_of_a_possible_duplicate_is_checked_like_any_other() {
    for (name, value, words) in [
        ("content-length", "1", "set by the rail itself"),
        ("idempotency-key", "1", "set twice"),
        ("x y", "1", "not a header's name"),
        ("x-a", "1\r\nevil: 1", "no header can carry"),
    ] {
        let marker = Some((name.to_owned(), value.to_owned()));
        let settings = HttpRailSettings { possible_duplicate: marker, ..settings("http://127.0.0.1:1/") };
        let error = HttpRail::new(settings).expect_err(name).to_string();
        assert!(error.contains(words), "{error}");
    }
}
