//! A rail's answer, without the network: no acceptance without a success of the table and one readable reference, and nothing
//! but what the table or its status says ends a payment or lets it be sent again. The first line says to what the answer
//! is (`submit`, `resend`, `inquire`), of which rail (`codes`) and with which status; then headers, a blank line, the body.

use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue, Response};
use outbox_core::{AttemptKind, Meaning, Outcome};
use outbox_rail::{HttpRail, WireReport};
use sha2::{Digest as _, Sha256};

use crate::json::{self, Json};
use crate::rail_table::{Table, means, rail};
use crate::retry_after;

/// The longest reference or code, in bytes.
const FIELD_BYTES_MAX: usize = 256;

/// What is asked, and of which rail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    pub(crate) kind: AttemptKind,
    pub(crate) is_resend: bool,
    pub(crate) table: Table,
}

impl Question {
    /// By the words of a line.
    pub(crate) fn of(line: &str) -> Self {
        let has = |wanted: &str| line.split(' ').any(|word| word == wanted);
        Self {
            kind: if has("inquire") { AttemptKind::Inquire } else { AttemptKind::Submit },
            is_resend: has("resend"),
            table: if has("codes") { Table::Codes } else { Table::Plain },
        }
    }
}

thread_local! {
    static RAILS: [HttpRail; 2] = [Table::Plain, Table::Codes].map(|table| rail("http://127.0.0.1/pay", table));
}

/// Panics unless it holds of `data`.
pub(crate) fn target(data: &[u8]) {
    let Some((question, answer)) = read(data) else { return };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let judged = |rails: &[HttpRail; 2]| {
        let rail = &rails[usize::from(question.table == Table::Codes)];
        rail.judge_answer(question.kind, question.is_resend, answer.clone(), now)
    };
    let report = RAILS.with(judged);
    judge(question, &answer, &report);
    retry_after::judge(answer.headers(), now, report.retry_after);
}

fn read(data: &[u8]) -> Option<(Question, Response<Vec<u8>>)> {
    let mut left = data;
    let mut line = || {
        let end = left.iter().position(|byte| *byte == b'\n')?;
        let line = &left[..end];
        left = &left[end + 1..];
        Some(line)
    };
    let first = std::str::from_utf8(line()?).ok()?;
    let status: u16 =
        first.split(' ').find_map(|word| word.parse().ok()).filter(|status| (200..600).contains(status))?;
    let mut answer = Response::builder().status(status);
    while let Some(header) = line().filter(|line| !line.is_empty()) {
        let at = header.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&header[..at]).ok()?;
        answer = answer.header(name, HeaderValue::from_bytes(header[at + 1..].trim_ascii()).ok()?);
    }
    Some((Question::of(first), answer.body(left.to_vec()).ok()?))
}

/// What the answer says at a place, by the oracle.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Text(String),
}

/// What must hold of the report of an answer that came whole.
pub(crate) fn judge(question: Question, answer: &Response<Vec<u8>>, report: &WireReport) {
    let json = json::read(answer.body());
    let (reference, code) = (said(answer, json.as_ref(), "id"), said(answer, json.as_ref(), "code"));
    let is_doubtful = report.error_class.is_some();
    for (given, found) in [(&report.rail_reference, &reference), (&report.rail_code, &code)] {
        if let Some(given) = given {
            assert!((1..=FIELD_BYTES_MAX).contains(&given.len()) && !given.chars().any(char::is_control));
            // Of a body that is not relied on, a header may still tell.
            assert!(
                is_doubtful || *found == Said::Text(given.clone()),
                "read {given:?}, and the answer says {found:?}"
            );
        } else {
            assert!(is_doubtful || *found == Said::Nothing, "not read: {found:?}");
        }
    }
    assert!(report.error_detail.as_ref().is_none_or(|detail| detail.chars().count() <= 200));
    assert!(report.outcome.is_of(question.kind), "{:?}", report.outcome);
    let status = answer.status().as_u16();
    assert_eq!(report.response_sha256, Some(hash(status, answer.body())));
    let meaning = means(question.table, question.kind, status, report.rail_code.as_deref());
    let is_borne_out = match report.outcome {
        Outcome::Accepted => {
            let is_json = answer.body().is_empty() || json.is_some();
            meaning == Meaning::Accepted && report.rail_reference.is_some() && !is_doubtful && is_json
        }
        Outcome::Refused => meaning == Meaning::Refused,
        Outcome::NotExecuted => meaning == Meaning::NotExecuted,
        Outcome::Throttled => meaning == Meaning::Throttled,
        Outcome::RailRefusedUs => meaning == Meaning::RailRefusedUs,
        Outcome::Interim => meaning == Meaning::Interim,
        Outcome::KeyReused => meaning == Meaning::KeyReused,
        Outcome::NotFound => meaning == Meaning::NotFound && !is_doubtful,
        Outcome::Unknown | Outcome::Inconclusive => true,
        Outcome::NotSent => false,
    };
    assert!(is_borne_out, "{:?} of a {meaning:?}: {question:?} {status} {code:?} {report:?}", report.outcome);
    if question.is_resend && report.outcome == Outcome::Refused {
        let is_named =
            question.table == Table::Codes && matches!(report.rail_code.as_deref(), Some("REJECTED" | "DECLINED"));
        assert!(
            is_named || !is_doubtful && (report.rail_code.is_some() || report.rail_reference.is_some()),
            "{report:?}"
        );
    }
    if meaning == Meaning::Accepted && matches!(reference, Said::Text(_)) && !is_doubtful {
        assert_eq!(report.outcome, Outcome::Accepted, "a success with its reference was not taken: {report:?}");
    }
    let is_bare = answer.headers().is_empty() && json.as_ref().is_some_and(|json| !json.has_two_readings());
    assert!(!(is_bare && is_doubtful), "a whole JSON answer without headers was not relied on: {report:?}");
}

fn said(answer: &Response<Vec<u8>>, json: Option<&Json>, name: &str) -> Said {
    let fit = |text: &str| {
        let text = text.trim();
        let fits = (1..=FIELD_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
        fits.then(|| Said::Text(text.to_owned()))
    };
    let in_body = match json.and_then(|json| json.member(name)) {
        Some(Json::Text(text)) => fit(text),
        Some(Json::Number(digits)) if digits.parse::<i64>().is_ok() || digits.parse::<u64>().is_ok() => {
            Some(Said::Text(digits.clone()))
        }
        _ => None,
    };
    let in_header = || {
        let values: Vec<&HeaderValue> = answer.headers().get_all(format!("x-{name}")).iter().collect();
        if let [only] = values[..] { only.to_str().ok().and_then(fit) } else { None }
    };
    in_body.or_else(in_header).unwrap_or(Said::Nothing)
}

fn hash(status: u16, body: &[u8]) -> [u8; 32] {
    let status = status.to_be_bytes();
    let fields: [&[u8]; 3] = [b"outbox-rail/response/1", &status, body];
    let encoded = fields.iter().flat_map(|field| [&(field.len() as u64).to_be_bytes()[..], field].concat());
    Sha256::digest(encoded.collect::<Vec<u8>>()).into()
}
