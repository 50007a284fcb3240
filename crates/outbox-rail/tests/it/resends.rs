//! Who refuses a payment that was sent before: its rail, or a gateway that stands before it.

use outbox_core::{CodeRule, CodeTable, Meaning, Outcome};
use outbox_rail::{AnswerField, HttpRailSettings, Rail as _, Submission, WireReport};

use crate::hostile::{Hostile, permitted, rail, settings, submission};

/// What a load balancer says while nothing stands behind it.
const PAGE: &str = "<html><head><title>404 Not Found</title></head></html>";

async fn sent(answer: &str, is_resend: bool, of: impl FnOnce(HttpRailSettings) -> HttpRailSettings) -> WireReport {
    let hostile = Hostile::answering(answer).await;
    let rail = rail(of(settings(hostile.url())));
    rail.submit(Submission { is_resend, ..submission("{}") }, permitted()).await
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Checks what a first send and a resend come to.
async fn check(answer: &str, (first, again): (Outcome, Outcome), of: impl Fn(HttpRailSettings) -> HttpRailSettings) {
    for (is_resend, expected) in [(false, first), (true, again)] {
        let report = sent(answer, is_resend, &of).await;
        assert_eq!(report.outcome, expected, "resend: {is_resend} {answer:?} {report:?}");
    }
}

const DOUBTED: (Outcome, Outcome) = (Outcome::Refused, Outcome::Unknown);
const REFUSED: (Outcome, Outcome) = (Outcome::Refused, Outcome::Refused);

#[tokio::test]
async fn a_page_of_a_gateway_refuses_a_first_send_and_leaves_a_resend_in_doubt() {
    for status in ["404 Not Found", "413 Too Large", "421 Misdirected", "431 Headers Too Large", "400 Bad Request"] {
        check(&answer(status, PAGE), DOUBTED, |settings| settings).await;
        check(&answer(status, ""), DOUBTED, |settings| settings).await;
    }
    // Gateways answer in JSON, too, but not with the rail's code. A number is JSON as well.
    for body in [r#"{"message":"no Route matched with those values"}"#, "404"] {
        check(&answer("404 Not Found", body), DOUBTED, |settings| settings).await;
    }
    let cut = "HTTP/1.1 404 Not Found\r\ncontent-length: 400\r\nconnection: close\r\n\r\n{\"code\":\"AC";
    let hostile = Hostile::start(None, crate::hostile::Ending::Orderly, move |_, mut peer| async move {
        peer.request().await;
        peer.write(cut.as_bytes()).await;
    })
    .await;
    let rail = rail(settings(hostile.url()));
    let report = rail.submit(Submission { is_resend: true, ..submission("{}") }, permitted()).await;
    assert_eq!((report.outcome, report.error_class), (Outcome::Unknown, Some("body_truncated")));
}

#[tokio::test]
async fn a_refusal_that_the_rail_itself_wrote_ends_a_resend_too() {
    check(&answer("422 Unprocessable", r#"{"code":"AM05"}"#), REFUSED, |settings| settings).await;
    check(&answer("404 Not Found", r#"{"id":"R-7"}"#), REFUSED, |settings| settings).await;
    // Where nobody said where answers carry a code, an object is all that tells the rail's from a page.
    let without_code = |settings| HttpRailSettings { code: AnswerField::default(), ..settings };
    check(&answer("422 Unprocessable", r#"{"error":"no such account"}"#), REFUSED, without_code).await;
    check(&answer("422 Unprocessable", PAGE), DOUBTED, without_code).await;
    check(&answer("422 Unprocessable", "422"), DOUBTED, without_code).await;
}

#[tokio::test]
async fn a_rail_that_is_told_by_headers_refuses_a_resend_by_its_headers() {
    let by_header = |settings| {
        let named = |name: &str| AnswerField { json_pointer: None, header: Some(name.to_owned()) };
        HttpRailSettings { reference: named("X-Reference"), code: named("X-Code"), ..settings }
    };
    let with_code =
        format!("HTTP/1.1 422 Unprocessable\r\nx-code: AM05\r\ncontent-length: {}\r\n\r\n{PAGE}", PAGE.len());
    check(&with_code, REFUSED, by_header).await;
    check(&answer("422 Unprocessable", PAGE), DOUBTED, by_header).await;
}

#[tokio::test]
async fn a_refusal_that_the_table_of_codes_names_ends_a_resend_whoever_wrote_it() {
    let rule = |status, code: Option<&str>, means| CodeRule { status, code: code.map(str::to_owned), means };
    let named = |settings| {
        let rules = vec![rule(413, None, Meaning::Refused), rule(422, Some("AM05"), Meaning::Refused)];
        HttpRailSettings { codes: CodeTable::new(rules), ..settings }
    };
    check(&answer("413 Too Large", PAGE), REFUSED, named).await;
    check(&answer("422 Unprocessable", r#"{"code":"AM05"}"#), REFUSED, named).await;
    check(&answer("404 Not Found", PAGE), DOUBTED, named).await;
}
