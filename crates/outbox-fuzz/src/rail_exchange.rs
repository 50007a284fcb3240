//! A rail's answer over a socket, byte for byte as it was found: the head is read by the HTTP library, the body up to its cap.
//! An answer that is plain HTTP/1.1 means over the network what it means without it. The first line is as for `rail_answer`.

use std::sync::Arc;

use http::Response;
use outbox_core::{AttemptKind, OutboxId, Outcome};
use outbox_rail::{Exchanging, HttpRail, Inquiry, Rail as _, Submission, WireReport};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::rail_answer::{Question, judge};
use crate::rail_table::{BODY_BYTES_MAX, Table, rail};

/// A rail of each kind, and the socket that answers in its place.
struct Stage {
    runtime: Runtime,
    listener: TcpListener,
    plain: HttpRail,
    codes: HttpRail,
}

thread_local! {
    static STAGE: Stage = Stage::new();
}

/// Panics unless it holds of `data`.
pub(crate) fn target(data: &[u8]) {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return };
    let Ok(first) = std::str::from_utf8(&data[..end]) else { return };
    let (question, raw) = (Question::of(first), &data[end + 1..]);
    STAGE.with(|stage| {
        let report = stage.runtime.block_on(stage.exchange(question, raw));
        bounds(question, raw, &report);
        let Some(answer) = plain(raw) else { return };
        judge(question, &answer, &report);
        let at = report.last_byte_at.expect("an answer came");
        let without = stage.rail(question.table).judge_answer(question.kind, question.is_resend, answer, at);
        // A date is reckoned from the moment, which is another one.
        let without = WireReport { retry_after: report.retry_after, ..without };
        let told = |report: &WireReport| (report.outcome, report.rail_reference.clone(), report.rail_code.clone());
        assert_eq!(told(&report), told(&without), "over the network it means something else");
        assert_eq!((report.response_sha256, report.error_class), (without.response_sha256, without.error_class));
    });
}

impl Stage {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port of this machine");
        let url = format!("http://{}/pay", listener.local_addr().expect("it is bound"));
        Self { plain: rail(&url, Table::Plain), codes: rail(&url, Table::Codes), runtime, listener }
    }

    fn rail(&self, table: Table) -> &HttpRail {
        match table {
            Table::Plain => &self.plain,
            Table::Codes => &self.codes,
        }
    }

    async fn exchange(&self, question: Question, raw: &[u8]) -> WireReport {
        let rail = self.rail(question.table);
        let outbox_id = OutboxId(Uuid::nil());
        let may_send = Arc::new(|| true);
        let exchanging: Exchanging<'_> = match question.kind {
            AttemptKind::Submit => {
                let submission = Submission {
                    outbox_id,
                    payload: b"{}".as_slice().into(),
                    content_type: "application/json".to_owned(),
                    traceparent: None,
                    is_resend: question.is_resend,
                };
                rail.submit(submission, may_send)
            }
            AttemptKind::Inquire => rail.inquire(Inquiry { outbox_id, traceparent: None }, may_send),
        };
        tokio::select! {
            report = exchanging => report,
            () = self.answer(raw) => unreachable!("it answers until it is dropped"),
        }
    }

    /// Answers whatever it is sent with `raw`, and hangs up.
    async fn answer(&self, raw: &[u8]) {
        loop {
            let (mut stream, _) = self.listener.accept().await.expect("a connection");
            let (mut head, mut buffer) = (Vec::new(), [0; 4_096]);
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut buffer).await {
                    Ok(count @ 1..) => head.extend_from_slice(&buffer[..count]),
                    Ok(0) | Err(_) => break,
                }
            }
            // Whoever has read enough hangs up first.
            let _ = stream.write_all(raw).await;
            let _ = stream.shutdown().await;
            while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
        }
    }
}

/// What holds of any bytes.
fn bounds(question: Question, raw: &[u8], report: &WireReport) {
    assert!(report.outcome.is_of(question.kind));
    assert!(report.first_byte_at.is_some() && report.outcome != Outcome::NotSent, "the request was sent: {report:?}");
    let lower: Vec<u8> = raw.iter().map(u8::to_ascii_lowercase).collect();
    let has = |wanted: &[u8]| lower.windows(wanted.len()).any(|part| part == wanted);
    let has_status =
        |digit: &str| [" 1.1 ", " 1.0 "].iter().any(|v| has(format!("http/{}{digit}", v.trim_start()).as_bytes()));
    let settled = matches!(
        report.outcome,
        Outcome::Accepted | Outcome::Refused | Outcome::NotExecuted | Outcome::NotFound | Outcome::KeyReused
    );
    if !settled {
        return;
    }
    assert!(["2", "4", "5"].iter().any(|digit| has_status(digit)), "{:?} without a status", report.outcome);
    if report.outcome == Outcome::Accepted {
        assert!(has_status("2"), "accepted without a status of success");
        let reference = report.rail_reference.as_deref().expect("accepted without a reference").to_ascii_lowercase();
        let is_as_written = !raw.contains(&b'\\') && !has(b"chunked");
        assert!(!is_as_written || has(reference.as_bytes()), "the reference {reference:?} is not in the answer");
        let announced = lower.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"content-length:"));
        let lengths =
            announced.filter_map(|length| std::str::from_utf8(length.trim_ascii()).ok()?.parse::<usize>().ok());
        assert!(
            lengths.clone().count() == 0 || lengths.min().is_some_and(|length| length <= BODY_BYTES_MAX),
            "beyond the cap"
        );
    }
}

/// The answer, if it is plain HTTP/1.1 with a body of the length that it says.
fn plain(raw: &[u8]) -> Option<Response<Vec<u8>>> {
    let end = raw.windows(4).position(|end| end == b"\r\n\r\n")?;
    let (head, body) = (std::str::from_utf8(&raw[..end]).ok()?, &raw[end + 4..]);
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.strip_suffix(" Said")?;
    let status: u16 =
        status.parse().ok().filter(|status| (200..600).contains(status) && ![204, 304].contains(status))?;
    let mut answer = Response::builder().status(status);
    let mut length = None;
    for line in lines {
        let (name, value) = line.split_once(": ")?;
        let is_token = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let is_visible = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_token
            || !is_visible
            || ["transfer-encoding", "connection", "upgrade"].contains(&name.to_ascii_lowercase().as_str())
        {
            return None;
        }
        if name.eq_ignore_ascii_case("content-length") && length.replace(value.parse::<usize>().ok()?).is_some() {
            return None;
        }
        answer = answer.header(name, value);
    }
    let is_whole = length == Some(body.len()) && body.len() <= BODY_BYTES_MAX;
    is_whole.then(|| answer.body(body.to_vec()).ok()).flatten()
}
