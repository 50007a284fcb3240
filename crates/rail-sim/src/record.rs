//! What the rail writes down besides its effects: the answers it gave or withheld, and the requests it
//! took in. And which answers leave a dispatcher in doubt; the judgement is the rail's own.

use std::{collections::HashSet, io, path::Path};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{error::SimError, fault::Fault};

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// It was given whole.
    Whole,
    /// Its body ended before the announced length.
    Truncated,
    /// Its body was larger than anybody should read.
    Oversize,
    /// Its body was not JSON, and it carried no reference.
    Garbage,
    /// The connection was reset in the middle of it.
    Reset,
    /// The connection was reset before it.
    ResetBefore,
    /// It was never given.
    Hung,
    /// The client had gone before it was given.
    Abandoned,
    /// The rail could not write down the effect, and so said nothing.
    Withheld,
}

/// One answer, given or withheld.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The number of the request it answers.
    pub request: u64,
    /// When, in microseconds since 1970.
    pub at_us: u64,
    /// The wire key, where the request had one that can be used.
    pub key: Option<String>,
    /// The fault that the request met.
    pub fault: Fault,
    /// What became of it.
    pub delivery: Delivery,
    /// Its status, if there was one.
    pub status: Option<u16>,
    /// The code in it, if there was one.
    pub code: Option<String>,
    /// The reference in it, if there was one.
    pub reference: Option<String>,
    /// True if this request made an effect.
    pub executed: bool,
    /// True if the first result was replayed.
    pub replayed: bool,
    /// True if the dispatcher cannot tell from it whether the payment was executed.
    pub unknown: bool,
}

impl Answer {
    /// Reads a log of answers; a torn last line is left out.
    ///
    /// # Errors
    /// If the file cannot be read, or a complete line is damaged.
    pub fn read(path: &Path) -> Result<Vec<Self>, SimError> {
        read_lines(path).map(|(records, _)| records)
    }

    /// True if the dispatcher cannot tell from such an answer whether the payment was executed.
    /// `telling` names the answers of 3xx and 5xx that its table of codes explains.
    pub(crate) fn leaves_doubt(
        delivery: Delivery,
        status: Option<u16>,
        code: Option<&str>,
        has_reference: bool,
        telling: &[String],
    ) -> bool {
        let Some(status) = status else { return true };
        if delivery != Delivery::Whole {
            return true;
        }
        let explained = telling.iter().any(|rule| match rule.split_once(':') {
            Some((rule_status, rule_code)) => rule_status == status.to_string() && code == Some(rule_code),
            None => *rule == status.to_string(),
        });
        match status {
            200 | 201 => !has_reference,
            // The rail has it, and does not say what becomes of it.
            202 | 409 => true,
            400..=499 => false,
            _ => !explained,
        }
    }
}

/// One request whose body arrived whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// Its number, in the order of arrival.
    pub request: u64,
    /// When its headers arrived, in microseconds since 1970.
    pub at_us: u64,
    /// The path it was sent to.
    pub path: String,
    /// The wire key, where it had one that can be used.
    pub key: Option<String>,
    /// True if the key came in quotes.
    pub key_quoted: bool,
    /// The hash of the body, byte for byte.
    pub body_sha256: String,
    /// The length of the body.
    pub body_bytes: u64,
    /// The content type.
    pub content_type: Option<String>,
    /// The content encoding: a client that compresses has changed the bytes.
    pub content_encoding: Option<String>,
    /// The hash of the Authorization header; the header itself is never kept.
    pub authorization_sha256: Option<String>,
    /// The trace header.
    pub traceparent: Option<String>,
    /// What `X-Possible-Duplicate` says: that the client may have sent the payment before.
    pub possible_duplicate: Option<String>,
    /// The hash of the client's certificate.
    pub client_certificate_sha256: Option<String>,
}

impl Received {
    /// Reads a log of received requests; a torn last line is left out.
    ///
    /// # Errors
    /// If the file cannot be read, or a complete line is damaged.
    pub fn read(path: &Path) -> Result<Vec<Self>, SimError> {
        read_lines(path).map(|(records, _)| records)
    }
}

/// How many requests left the dispatcher in doubt: those with an unknown answer, and those received
/// whole to which no answer is on record (the rail was killed).
#[must_use]
pub fn unknown_answers(answers: &[Answer], received: &[Received]) -> u64 {
    let answered: HashSet<u64> = answers.iter().map(|answer| answer.request).collect();
    let unknown = answers.iter().filter(|answer| answer.unknown).map(|answer| answer.request);
    let silent = received.iter().map(|received| received.request).filter(|request| !answered.contains(request));
    unknown.chain(silent).collect::<HashSet<_>>().len() as u64
}

/// A record as a line of its file.
pub(crate) fn line_of(record: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(record).expect("records are plain structures with text keys");
    line.push(b'\n');
    line
}

/// The records of a file, and whether its last line is torn. A file that is not there is empty.
pub(crate) fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<(Vec<T>, bool), SimError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(SimError::File { action: "read", path: path.to_owned(), source }),
    };
    // What follows the last line feed is not a line, even if it looks like one.
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let mut records = Vec::new();
    for (number, line) in (1..).zip(bytes[..end].split_inclusive(|byte| *byte == b'\n')) {
        let record = serde_json::from_slice(line);
        records.push(record.map_err(|source| SimError::Line { path: path.to_owned(), line: number, source })?);
    }
    Ok((records, end < bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(delivery: Delivery, status: u16, code: Option<&str>, has_reference: bool, doubt: bool) {
        let telling = ["503:NOT_EXECUTED".to_owned(), "504".to_owned()];
        let found = Answer::leaves_doubt(delivery, Some(status), code, has_reference, &telling);
        assert_eq!(found, doubt, "{delivery:?} {status} {code:?} {has_reference}");
    }

    #[test]
    fn an_answer_leaves_doubt_unless_it_is_whole_and_says_what_happened() {
        use Delivery::{Oversize, Truncated, Whole};
        check(Whole, 201, None, true, false);
        check(Whole, 200, None, false, true);
        check(Whole, 202, None, true, true);
        check(Whole, 307, None, false, true);
        check(Whole, 401, None, false, false);
        check(Whole, 409, Some("IN_FLIGHT"), false, true);
        check(Whole, 422, Some("AC04"), false, false);
        check(Whole, 429, None, false, false);
        check(Whole, 500, Some("INTERNAL"), false, true);
        check(Whole, 503, Some("NOT_EXECUTED"), false, false);
        check(Whole, 503, Some("OTHER"), false, true);
        check(Whole, 503, None, false, true);
        check(Whole, 504, Some("ANY"), false, false);
        check(Truncated, 201, None, true, true);
        check(Oversize, 201, None, true, true);
        assert!(Answer::leaves_doubt(Whole, None, None, false, &[]));
    }
}
