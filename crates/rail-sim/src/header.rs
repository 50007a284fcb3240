//! What is read from a request's headers: the wire key in either of its two forms, and the little
//! that goes on record. A secret header is only ever hashed.

use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName};
use sha2::{Digest as _, Sha256};

/// The longest wire key taken.
const KEY_MAX_CHARS: usize = 255;

/// A wire key as found in its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WireKey {
    pub(crate) key: String,
    pub(crate) quoted: bool,
}

/// The wire key, bare or quoted (draft-ietf-httpapi-idempotency-key-header: an item of structured
/// fields, hence quoted; many rails take it bare), or the code of what is wrong with it. Only
/// characters that need no encoding in a path, so that `GET /payments/{key}` can ask for any key.
pub(crate) fn wire_key(headers: &HeaderMap, name: &HeaderName) -> Result<WireKey, &'static str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or("KEY_MISSING")?;
    if values.next().is_some() {
        return Err("KEY_TWICE");
    }
    let text = value.to_str().map_err(|_| "KEY_INVALID")?;
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let key = inner.unwrap_or(text);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte);
    if key.is_empty() || key.len() > KEY_MAX_CHARS || !key.bytes().all(plain) {
        return Err("KEY_INVALID");
    }
    Ok(WireKey { key: key.to_owned(), quoted: inner.is_some() })
}

/// The headers that go on record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Noted {
    pub(crate) content_type: Option<String>,
    pub(crate) content_encoding: Option<String>,
    pub(crate) authorization_sha256: Option<String>,
    pub(crate) traceparent: Option<String>,
    pub(crate) possible_duplicate: Option<String>,
}

impl Noted {
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        let text =
            |name: HeaderName| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        Self {
            content_type: text(CONTENT_TYPE),
            content_encoding: text(CONTENT_ENCODING),
            authorization_sha256: headers.get(AUTHORIZATION).map(|value| sha256(value.as_bytes())),
            traceparent: text(HeaderName::from_static("traceparent")),
            possible_duplicate: text(HeaderName::from_static("x-possible-duplicate")),
        }
    }
}

/// The SHA-256 of some bytes, in lower-case hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[&str], expected: Result<(&str, bool), &'static str>) {
        let name = HeaderName::from_static("idempotency-key");
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, value.parse().unwrap());
        }
        let expected = expected.map(|(key, quoted)| WireKey { key: key.to_owned(), quoted });
        assert_eq!(wire_key(&headers, &name), expected, "{values:?}");
    }

    #[test]
    fn a_wire_key_is_taken_bare_or_quoted_and_once() {
        check(&["0190-a"], Ok(("0190-a", false)));
        check(&["\"0190-a\""], Ok(("0190-a", true)));
        check(&[], Err("KEY_MISSING"));
        check(&["a", "a"], Err("KEY_TWICE"));
        for bad in ["", "\"\"", "\"", "\"a", "a b", "a/b", "a\"b", "a%20", &"k".repeat(256)] {
            check(&[bad], Err("KEY_INVALID"));
        }
        check(&["k".repeat(255).as_str()], Ok(("k".repeat(255).as_str(), false)));
    }
}
