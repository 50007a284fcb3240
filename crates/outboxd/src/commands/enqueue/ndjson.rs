//! Payments from lines of JSON (NDJSON), one line in memory at a time. Blank lines are no payments, a
//! byte-order mark before the first line is no part of it, and a line may end with CRLF.

use std::io::{BufRead, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use outbox_core::RailName;
use outbox_store::NewPayment;

use super::fault::Fault;
use super::fields::Fields;
use super::{Located, PAYLOAD_MAX_BYTES};

/// Every byte of the largest payload may be written as `\u00XX`, six bytes; the rest is for the other keys.
/// It bounds the memory that a file without ends of lines can take.
const LINE_MAX_BYTES: usize = 7 * PAYLOAD_MAX_BYTES;

const KEYS: &[&str] = &[
    "participant_id",
    "instruction_id",
    "idempotency_key",
    "rail",
    "payload",
    "payload_base64",
    "content_type",
    "amount_minor",
    "currency",
    "not_before",
    "not_after",
    "ordering_key",
    "traceparent",
    "attestation_id",
];

/// What a line need not say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Defaults {
    /// Who pays.
    pub(crate) participant_id: Option<String>,
    /// Over which rail.
    pub(crate) rail: Option<RailName>,
    /// The media type.
    pub(crate) content_type: Option<String>,
}

/// The payments of `input`.
pub(crate) struct Lines<R> {
    input: R,
    name: String,
    number: u64,
    defaults: Defaults,
    ended: bool,
}

impl<R: BufRead> Lines<R> {
    /// Reads from `input`, which messages call `name`.
    pub(crate) fn new(input: R, name: String, defaults: Defaults) -> Self {
        Self { input, name, number: 0, defaults, ended: false }
    }

    fn place(&self) -> String {
        format!("{}:{}", self.name, self.number)
    }

    /// The next line with its end; empty after the last.
    fn read_line(&mut self) -> Result<Vec<u8>, Fault> {
        let mut line = Vec::new();
        self.number += 1;
        let limit = LINE_MAX_BYTES + 1;
        let read = self.input.by_ref().take(limit as u64).read_until(b'\n', &mut line);
        let skipped = read.and_then(|length| {
            let too_long = length == limit && line.last() != Some(&b'\n');
            if too_long { self.input.skip_until(b'\n').map(|_| true) } else { Ok(false) }
        });
        match skipped {
            Ok(false) => Ok(line),
            Ok(true) => Err(Fault::data(self.place(), format!("the line has more than {LINE_MAX_BYTES} bytes"))),
            Err(error) => {
                self.ended = true;
                Err(Fault::unreadable(self.place(), error))
            }
        }
    }

    fn payment(&self, line: &[u8]) -> Result<NewPayment, Fault> {
        let fields = Fields::parse(line, KEYS)
            .map_err(|bad| Fault::data(format!("{}:{}", self.place(), bad.column), bad.what))?;
        payment(fields, &self.defaults).map_err(|what| Fault::data(self.place(), what))
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<Located, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let line = match self.read_line() {
                Ok(line) => line,
                Err(fault) => return Some(Err(fault)),
            };
            self.ended = line.is_empty();
            let line = match line.strip_prefix(b"\xef\xbb\xbf") {
                Some(rest) if self.number == 1 => rest,
                _ => &line,
            };
            let line = line.trim_ascii_end();
            if !line.is_empty() {
                return Some(self.payment(line).map(|payment| Located { place: self.place(), payment }));
            }
        }
        None
    }
}

fn payment(mut fields: Fields, defaults: &Defaults) -> Result<NewPayment, String> {
    let payload = payload(&mut fields)?;
    let participant_id = fields.text("participant_id").or_else(|| defaults.participant_id.clone());
    let instruction_id = required(fields.text("instruction_id"), "instruction_id", "")?;
    let rail = match fields.text("rail") {
        Some(name) => Some(RailName::new(name).map_err(|bad| format!("rail: {bad}"))?),
        None => defaults.rail.clone(),
    };
    let content_type = fields.text("content_type").or_else(|| defaults.content_type.clone());
    let (not_before, not_after) = (fields.time("not_before")?, fields.time("not_after")?);
    let payment = NewPayment {
        participant_id: required(participant_id, "participant_id", ", and there is no --participant")?,
        idempotency_key: fields.text("idempotency_key").unwrap_or_else(|| instruction_id.clone()),
        instruction_id,
        rail: rail.ok_or("rail is missing, and there is no --rail")?,
        payload,
        content_type: required(content_type, "content_type", ", and there is no --content-type")?,
        amount_minor: fields.amount_minor,
        currency: fields.text("currency"),
        not_before,
        not_after,
        ordering_key: fields.text("ordering_key"),
        traceparent: fields.text("traceparent"),
        attestation_id: fields.uuid("attestation_id")?,
    };
    without_nul(&payment)?;
    Ok(payment)
}

fn required(value: Option<String>, key: &str, beside: &str) -> Result<String, String> {
    value.ok_or_else(|| format!("{key} is missing{beside}"))
}

fn payload(fields: &mut Fields) -> Result<Vec<u8>, String> {
    let payload = match (fields.text("payload"), fields.text("payload_base64")) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(text)) => {
            STANDARD.decode(text).map_err(|_| "payload_base64 is not base64 (RFC 4648, with padding)".to_owned())?
        }
        (None, None) => return Err("payload or payload_base64 is missing".to_owned()),
        (Some(_), Some(_)) => return Err("payload and payload_base64 exclude each other".to_owned()),
    };
    let length = payload.len();
    if length > PAYLOAD_MAX_BYTES {
        return Err(format!("the payload has {length} bytes, more than {PAYLOAD_MAX_BYTES}"));
    }
    Ok(payload)
}

/// No text in the database can have U+0000; it would refuse the batch without naming the payment.
pub(super) fn without_nul(payment: &NewPayment) -> Result<(), String> {
    let texts = [
        ("participant_id", Some(&payment.participant_id)),
        ("instruction_id", Some(&payment.instruction_id)),
        ("idempotency_key", Some(&payment.idempotency_key)),
        ("content_type", Some(&payment.content_type)),
        ("currency", payment.currency.as_ref()),
        ("ordering_key", payment.ordering_key.as_ref()),
        ("traceparent", payment.traceparent.as_ref()),
    ];
    match texts.iter().find(|(_, text)| text.is_some_and(|text| text.contains('\0'))) {
        Some((key, _)) => Err(format!("{key} must not have the character U+0000")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Vec<Result<Located, String>> {
        let defaults = Defaults {
            participant_id: Some("p".to_owned()),
            rail: RailName::new("r").ok(),
            content_type: Some("text/plain".to_owned()),
        };
        Lines::new(text, "in".to_owned(), defaults).map(|found| found.map_err(|fault| fault.to_string())).collect()
    }

    fn one(json: &str) -> Result<NewPayment, String> {
        let mut found = read(json.as_bytes());
        assert_eq!(found.len(), 1);
        found.remove(0).map(|located| located.payment)
    }

    #[test]
    fn a_mark_blank_lines_crlf_and_a_last_line_without_end_are_read() {
        let text = b"\xef\xbb\xbf{\"instruction_id\":\"a\",\"payload\":\"x\\r\\n\"}\r\n\r\n  \n{\"instruction_id\":\"b\",\"payload\":\"\xef\xbb\xbfy\"}";
        let found: Vec<(String, String, Vec<u8>)> = read(text)
            .into_iter()
            .map(|found| found.unwrap())
            .map(|located| (located.place, located.payment.instruction_id, located.payment.payload))
            .collect();
        assert_eq!(
            found,
            [
                ("in:1".to_owned(), "a".to_owned(), b"x\r\n".to_vec()),
                ("in:4".to_owned(), "b".to_owned(), b"\xef\xbb\xbfy".to_vec())
            ]
        );
    }

    #[test]
    fn the_key_is_the_instruction_unless_the_line_has_one() {
        assert_eq!(one(r#"{"instruction_id":"i","payload":""}"#).unwrap().idempotency_key, "i");
        assert_eq!(one(r#"{"instruction_id":"i","idempotency_key":"k","payload":""}"#).unwrap().idempotency_key, "k");
    }

    #[test]
    fn a_payload_is_any_bytes_and_given_once() {
        assert_eq!(one(r#"{"instruction_id":"i","payload_base64":"AP/+"}"#).unwrap().payload, b"\x00\xff\xfe");
        for (json, what) in [
            (r#"{"instruction_id":"i"}"#, "payload or payload_base64 is missing"),
            (r#"{"instruction_id":"i","payload":"","payload_base64":""}"#, "exclude each other"),
            (r#"{"instruction_id":"i","payload_base64":"AP_-"}"#, "is not base64"),
        ] {
            let fault = one(json).unwrap_err();
            assert!(fault.starts_with("in:1: ") && fault.contains(what), "{fault}");
        }
    }

    #[test]
    fn the_cap_holds_for_the_bytes_and_not_for_how_they_are_written() {
        let json = |bytes: usize| format!("{{\"instruction_id\":\"i\",\"payload\":\"{}\"}}", "\\u0001".repeat(bytes));
        assert_eq!(one(&json(PAYLOAD_MAX_BYTES)).unwrap().payload.len(), PAYLOAD_MAX_BYTES);
        assert!(one(&json(PAYLOAD_MAX_BYTES + 1)).unwrap_err().contains("has 1048577 bytes, more than 1048576"));
    }

    #[test]
    fn reading_goes_on_after_a_line_that_is_too_long() {
        let mut text = vec![b'x'; LINE_MAX_BYTES + 2];
        text.extend_from_slice(b"\n{\"instruction_id\":\"b\",\"payload\":\"y\"}\n");
        let found = read(&text);
        assert!(found[0].as_ref().is_err_and(|fault| fault.starts_with("in:1: the line has more than")));
        assert!(found[1].as_ref().is_ok_and(|located| located.place == "in:2"));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn a_nul_in_a_text_is_found_before_the_database_sees_it() {
        let fault = one(r#"{"instruction_id":"i\u0000","payload":"\u0000"}"#).unwrap_err();
        assert!(fault.contains("idempotency_key") || fault.contains("instruction_id"), "{fault}");
    }
}
