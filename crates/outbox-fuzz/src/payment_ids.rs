//! The file of `--ids-from`: exactly one payment a record, the one that it names, and none that it does not.

use outboxd::parsers::payment_ids;
use uuid::Uuid;

use crate::csv;

/// Panics unless it holds of `data`.
pub(crate) fn target(data: &[u8]) {
    let ids = match payment_ids(data) {
        Ok(ids) => ids,
        Err(fault) => {
            assert!(!fault.chars().any(char::is_control), "a message with control characters: {fault:?}");
            return;
        }
    };
    let records = csv::records(std::str::from_utf8(data).expect("accepted, and is no UTF-8"));
    let column = records.first().and_then(|(_, header)| header.iter().position(|name| name == "outbox_id"));
    let named = records.iter().skip(usize::from(column.is_some()));
    let named: Vec<&str> = named.map(|(_, record)| record[column.unwrap_or(0)].as_str()).collect();
    assert_eq!(ids.len(), named.len(), "not as many payments as records");
    for (id, text) in ids.iter().zip(named) {
        assert_eq!(hex_digits(text), id.0.simple().to_string(), "another payment than the file names");
    }
    let text: String = ids.iter().map(|id| format!("{id}\n")).collect();
    assert_eq!(payment_ids(text.as_bytes()), Ok(ids), "written out and read again");
}

/// The digits of a UUID, whatever stands between and around them.
fn hex_digits(text: &str) -> String {
    let text = text.to_lowercase();
    let text = text.trim_start_matches("urn:uuid:");
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let rest = text.chars().all(|c| c.is_ascii_hexdigit() || "-{}".contains(c));
    if rest && digits.len() == Uuid::nil().simple().to_string().len() { digits } else { String::new() }
}
