//! A rail's answer: how much of the body came, what it says, and how long to wait. What it means for
//! the payment is not decided here.

use std::time::SystemTime;

use http::header::{AGE, CONTENT_ENCODING, CONTENT_LENGTH, RETRY_AFTER, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderMap, HeaderName, Version};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use outbox_core::outcome::Body;
use outbox_core::{AttemptKind, Millis};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::deadline::by;
use crate::error::RailError;
use crate::fault::Fault;
use crate::one_reading::has_one_reading;
use crate::settings::AnswerField;

/// The longest reference or code that is taken, in bytes. References in use have up to 64; a longer
/// one is taken for none, because half a reference is worse than no reference.
const FIELD_BYTES_MAX: usize = 256;

/// The version of the response hash's encoding, its first field.
const RESPONSE_HASH: &[u8] = b"outbox-rail/response/1";

/// A checked [`AnswerField`].
pub(crate) struct Field {
    json_pointer: Option<String>,
    header: Option<HeaderName>,
}

impl Field {
    pub(crate) fn parse(field: AnswerField, setting: &'static str) -> Result<Self, RailError> {
        let AnswerField { json_pointer, header } = field;
        if json_pointer.as_ref().is_some_and(|pointer| !pointer.starts_with('/')) {
            return Err(RailError::Setting { setting, reason: "has a json pointer that does not begin with `/`" });
        }
        let parsed = header.map(|name| {
            HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| RailError::Header { name, reason: "is not a header's name" })
        });
        Ok(Self { json_pointer, header: parsed.transpose()? })
    }

    /// Whether the field is looked for anywhere.
    pub(crate) const fn is_configured(&self) -> bool {
        self.json_pointer.is_some() || self.header.is_some()
    }

    fn find(&self, headers: &HeaderMap, body: Option<&Value>) -> Option<String> {
        let pointed = self.json_pointer.as_deref().zip(body).and_then(|(pointer, body)| body.pointer(pointer));
        let named = || {
            let mut values = self.header.as_ref().map(|name| headers.get_all(name).iter())?;
            // Two values contradict each other.
            let only = values.next().filter(|_| values.next().is_none())?;
            only.to_str().ok().and_then(fit)
        };
        pointed.and_then(as_text).or_else(named)
    }
}

/// A string or an exact integer; a number with a fraction or above 64 bits may have lost digits.
fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => fit(text),
        Value::Number(number) if number.is_u64() || number.is_i64() => Some(number.to_string()),
        _ => None,
    }
}

fn fit(text: &str) -> Option<String> {
    let text = text.trim();
    let fits = (1..=FIELD_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

/// What came of an answer's body.
pub(crate) struct Read {
    pub(crate) bytes: Vec<u8>,
    /// Why it is not the whole body.
    pub(crate) fault: Option<Fault>,
}

/// Reads `body` up to `bytes_max` bytes and until `until`.
pub(crate) async fn read(mut body: Incoming, bytes_max: usize, until: Instant) -> Read {
    let mut bytes = Vec::new();
    let announced = body.size_hint().lower();
    if announced > bytes_max as u64 {
        return Read { bytes, fault: Some(Fault::plain("body_too_large")) };
    }
    // One wait for the whole body: a rail that drips gets no more time than any other.
    match by(until, collect(&mut body, &mut bytes, bytes_max)).await {
        Some(fault) => Read { bytes, fault },
        None => Read { bytes, fault: Some(Fault::plain("body_timeout")) },
    }
}

/// Adds the rest of `body` to `bytes`; why it is not the whole, if it is not.
async fn collect(body: &mut Incoming, bytes: &mut Vec<u8>, bytes_max: usize) -> Option<Fault> {
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return Some(Fault { class: "body_truncated", ..Fault::http(&error) }),
        };
        let Some(data) = frame.data_ref() else { continue };
        if data.len() > bytes_max.saturating_sub(bytes.len()) {
            return Some(Fault::plain("body_too_large"));
        }
        bytes.extend_from_slice(data);
    }
    None
}

/// What an answer says.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) body: Body,
    pub(crate) reference: Option<String>,
    pub(crate) code: Option<String>,
    pub(crate) fault: Option<Fault>,
}

/// Finds reference and code in the answer to `kind`.
pub(crate) fn understand(kind: AttemptKind, head: &Parts, read: &Read, reference: &Field, code: &Field) -> Said {
    let (version, headers) = (head.version, &head.headers);
    let fault = read.fault.clone().or_else(|| encoded(headers)).or_else(|| cached(kind, headers));
    let json = match (&fault, read.bytes.is_empty()) {
        // Two codes contradict each other, as two headers do.
        (None, false) => serde_json::from_slice(&read.bytes).ok().filter(|_| has_one_reading(&read.bytes)),
        _ => None,
    };
    let said = (reference.find(headers, json.as_ref()), code.find(headers, json.as_ref()));
    let fault = fault.or_else(|| {
        let unparsed = json.is_none() && !read.bytes.is_empty();
        // A success with a lost code may be no success, whatever a header says of the reference.
        let tells_in_body = reference.json_pointer.is_some() || code.json_pointer.is_some();
        // Where nothing frames the body, its end cannot be told from a break; JSON frames itself.
        let is_certainly_whole = json.is_some() || is_framed(version, headers);
        match (unparsed && tells_in_body, is_certainly_whole) {
            (true, _) => Some(Fault::plain("body_unparsable")),
            (false, false) => Some(Fault::plain("body_unframed")),
            (false, true) => None,
        }
    });
    // Every gateway has pages of its own, some in JSON. A rail whose answers carry a code is told by it.
    let is_marked =
        said.1.is_some() || !code.is_configured() && json.is_some_and(|json| json.is_object() || json.is_array());
    let body = match (&fault, &said.0) {
        (Some(fault), _) if matches!(fault.class, "body_truncated" | "body_timeout") => Body::CutOff,
        (Some(_), _) => Body::Unreadable,
        (None, Some(_)) => Body::WithReference,
        (None, None) if is_marked => Body::WithoutReference,
        (None, None) => Body::Unmarked,
    };
    Said { body, reference: said.0, code: said.1, fault }
}

fn encoded(headers: &HeaderMap) -> Option<Fault> {
    let plain =
        headers.get_all(CONTENT_ENCODING).iter().all(|value| value.as_bytes().eq_ignore_ascii_case(b"identity"));
    (!plain).then(|| Fault::plain("body_encoded"))
}

/// An answer out of a cache is from before the question: "not found" of then is not "not found" of now. An `Age` shows
/// it (RFC 9111, 5.1); some gateways write a zero on what they fetched. No cache answers a POST (RFC 9111, 4).
fn cached(kind: AttemptKind, headers: &HeaderMap) -> Option<Fault> {
    let is_aged = headers.get_all(AGE).iter().any(|age| age.as_bytes() != b"0");
    (kind == AttemptKind::Inquire && is_aged).then(|| Fault::plain("body_cached"))
}

fn is_framed(version: Version, headers: &HeaderMap) -> bool {
    version == Version::HTTP_2 || headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING)
}

/// SHA-256 over `outbox-rail/response/1`, the status as two bytes, and the body bytes that were read.
/// Every field is preceded by its length in 8 bytes; all numbers are big-endian.
pub(crate) fn response_sha256(status: u16, body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for field in [RESPONSE_HASH, &status.to_be_bytes(), body] {
        hash.update((field.len() as u64).to_be_bytes());
        hash.update(field);
    }
    hash.finalize().into()
}

/// The wait of a `Retry-After` header (RFC 9110, 10.2.3) at `now`: seconds, or a date that is still to come.
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Millis> {
    let mut values = headers.get_all(RETRY_AFTER).iter();
    let only = values.next().filter(|_| values.next().is_none())?;
    let text = only.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit ask for longer than anything; the core caps it.
        return Some(Millis(text.parse().unwrap_or(u64::MAX).saturating_mul(1000)));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    until.duration_since(now).ok().map(Millis::from).filter(|wait| *wait > Millis::ZERO)
}
