//! Lines of JSON for `outboxd enqueue`: a payment is what its line says and no more, each line is judged once, and what is
//! plainly a payment is one.

use outbox_core::RailName;
use outbox_store::NewPayment;
use outboxd::parsers::payments;
use time::format_description::well_known::Rfc3339;

use crate::json::{self, Json, quoted};

const TEXTS: [&str; 13] = [
    "participant_id",
    "instruction_id",
    "idempotency_key",
    "rail",
    "payload",
    "payload_base64",
    "content_type",
    "currency",
    "not_before",
    "not_after",
    "ordering_key",
    "traceparent",
    "attestation_id",
];
const PAYLOAD_BYTES_MAX: usize = 1_048_576;

/// Panics unless it holds of `data`.
pub(crate) fn target(data: &[u8]) {
    let found = read(data);
    let lines = lines(data);
    assert_eq!(found.len(), lines.len(), "not as many payments and faults as lines that are not blank");
    for (found, line) in found.into_iter().zip(lines) {
        match found {
            Ok(payment) => accepted(&payment, line),
            Err(fault) => {
                assert!(!fault.chars().any(char::is_control), "a message with control characters: {fault:?}");
                assert!(!is_plainly_a_payment(line), "refused: {fault}");
            }
        }
    }
}

fn read(data: &[u8]) -> Vec<Result<NewPayment, String>> {
    let rail = RailName::new("wire").expect("a name");
    payments(data, "acme", &rail, "text/plain")
}

fn lines(data: &[u8]) -> Vec<&[u8]> {
    let data = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
    data.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end).filter(|line| !line.is_empty()).collect()
}

/// The members of a line by name, those that are null left out.
fn members(line: &[u8]) -> Option<Vec<(String, Json)>> {
    let json = json::read(line)?;
    let members = json.members()?.to_vec();
    Some(members.into_iter().filter(|(_, value)| *value != Json::Null).collect())
}

fn accepted(payment: &NewPayment, line: &[u8]) {
    let members = members(line).expect("accepted, and is no JSON object with each name once");
    let text = |name: &str| members.iter().find(|(given, _)| given == name).map(|(_, value)| value);
    for (name, value) in &members {
        let is_text = TEXTS.contains(&name.as_str()) && value.text().is_some();
        let is_amount = name == "amount_minor" && matches!(value, Json::Number(_));
        assert!(is_text || is_amount, "accepted with {name}: {value:?}");
    }
    let is = |name: &str, taken: Option<&str>, default: Option<&str>| {
        assert_eq!(taken, text(name).and_then(Json::text).or(default), "{name}");
    };
    is("participant_id", Some(&payment.participant_id), Some("acme"));
    is("instruction_id", Some(&payment.instruction_id), None);
    is("idempotency_key", Some(&payment.idempotency_key), Some(&payment.instruction_id));
    is("rail", Some(payment.rail.as_str()), Some("wire"));
    is("content_type", Some(&payment.content_type), Some("text/plain"));
    is("currency", payment.currency.as_deref(), None);
    is("ordering_key", payment.ordering_key.as_deref(), None);
    is("traceparent", payment.traceparent.as_deref(), None);
    let digits = payment.amount_minor.map(|amount| amount.to_string());
    let written = text("amount_minor").map(|value| match value {
        Json::Number(digits) => if digits == "-0" { "0" } else { digits }.to_owned(),
        _ => String::new(),
    });
    assert_eq!(digits, written, "amount_minor");
    match (text("payload").and_then(Json::text), text("payload_base64").and_then(Json::text)) {
        (Some(payload), None) => assert_eq!(payment.payload, payload.as_bytes(), "payload"),
        (None, Some(encoded)) => assert_eq!(base64(&payment.payload), encoded, "payload_base64"),
        both => panic!("accepted with payloads {both:?}"),
    }
    assert!(payment.payload.len() <= PAYLOAD_BYTES_MAX);
    let written = written_out(payment);
    let again = read(written.as_bytes());
    let again: Vec<Result<String, &String>> = again.iter().map(|found| found.as_ref().map(written_out)).collect();
    assert_eq!(again, [Ok(written)], "written out and read again it is another payment");
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |bytes: &[u8]| {
        let bits = (0..3).fold(0_usize, |bits, place| bits << 8 | usize::from(bytes.get(place).copied().unwrap_or(0)));
        let digit = |place: usize| match place <= bytes.len() {
            true => char::from(DIGITS[bits >> (18 - 6 * place) & 63]),
            false => '=',
        };
        [digit(0), digit(1), digit(2), digit(3)]
    };
    bytes.chunks(3).flat_map(group).collect()
}

fn written_out(payment: &NewPayment) -> String {
    let time = |at: time::OffsetDateTime| at.format(&Rfc3339).expect("it was read in this form");
    let texts = [
        ("participant_id", Some(payment.participant_id.clone())),
        ("instruction_id", Some(payment.instruction_id.clone())),
        ("idempotency_key", Some(payment.idempotency_key.clone())),
        ("rail", Some(payment.rail.to_string())),
        ("payload_base64", Some(base64(&payment.payload))),
        ("content_type", Some(payment.content_type.clone())),
        ("currency", payment.currency.clone()),
        ("not_before", payment.not_before.map(time)),
        ("not_after", payment.not_after.map(time)),
        ("ordering_key", payment.ordering_key.clone()),
        ("traceparent", payment.traceparent.clone()),
        ("attestation_id", payment.attestation_id.map(|id| id.to_string())),
    ];
    let texts = texts.iter().filter_map(|(name, text)| Some(format!("\"{name}\":{}", quoted(text.as_deref()?))));
    let amount = payment.amount_minor.map(|amount| format!("\"amount_minor\":{amount}"));
    format!("{{{}}}", texts.chain(amount).collect::<Vec<_>>().join(","))
}

/// Whether no rule can be found by which the line could be refused.
fn is_plainly_a_payment(line: &[u8]) -> bool {
    const PLAIN: [&str; 6] =
        ["participant_id", "instruction_id", "idempotency_key", "payload", "content_type", "currency"];
    let Some(json) = json::read(line) else { return false };
    let Some(members) = json.members() else { return false };
    let is_plain = |(name, value): &(String, Json)| match value {
        Json::Text(text) => PLAIN.contains(&name.as_str()) && (name == "payload" || !text.contains('\0')),
        Json::Number(digits) => name == "amount_minor" && digits.parse::<i64>().is_ok(),
        _ => false,
    };
    let has = |wanted: &str| members.iter().any(|(name, _)| name == wanted);
    members.iter().all(is_plain) && has("instruction_id") && has("payload")
}
