//! A submission as an HTTP request: headers checked, hash taken. What cannot be a header is refused
//! here, before a connection is made. Secret headers come last, and are not part of the hash.

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use http_body_util::Full;
use sha2::{Digest, Sha256};

use crate::error::RailError;
use crate::rail::{Inquiry, Submission};
use crate::settings::{HttpRailSettings, WireKeyForm};

/// Headers that belong to HTTP or to this crate; set twice, they would let a rail and a proxy in
/// front of it see two different requests.
const RESERVED: [&str; 15] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "traceparent",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The version of the request hash's encoding, its first field.
const REQUEST_HASH: &[u8] = b"outbox-rail/request/1";

/// Why a submission cannot be a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadContentType;

/// What is the same in every request to one rail.
pub(crate) struct Template {
    uri: Uri,
    wire_key: (HeaderName, WireKeyForm),
    headers: Vec<(HeaderName, HeaderValue)>,
    possible_duplicate: Option<(HeaderName, HeaderValue)>,
    /// Before and behind the wire key.
    inquiry: Option<(String, String)>,
}

/// A request that can be sent, short of its secret headers.
pub(crate) struct Prepared {
    method: Method,
    /// The whole URL, an inquiry's key included.
    pub(crate) uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    /// SHA-256 over, in this order: `outbox-rail/request/1`, the method, the URL, the number of
    /// non-secret headers as 8 bytes, each header's lower-case name and its value (sorted by name), the
    /// body. Every field is preceded by its length in 8 bytes, big-endian.
    pub(crate) sha256: [u8; 32],
}

/// Checks the names of all headers, secret ones included, against HTTP and each other.
pub(crate) fn header_names(settings: &HttpRailSettings) -> Result<Vec<HeaderName>, RailError> {
    let given = std::iter::once(&settings.wire_key.name)
        .chain(settings.headers.iter().map(|(name, _)| name))
        .chain(settings.possible_duplicate.iter().map(|(name, _)| name))
        .chain(settings.secret_headers.iter().map(|header| &header.name));
    let mut names: Vec<HeaderName> = Vec::new();
    for name in given {
        let bad = |reason| RailError::Header { name: name.clone(), reason };
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("is not a header's name"))?;
        if RESERVED.contains(&parsed.as_str()) {
            return Err(bad("is set by the rail itself"));
        }
        if names.contains(&parsed) {
            return Err(bad("is set twice"));
        }
        names.push(parsed);
    }
    Ok(names)
}

impl Template {
    /// `names` are those of [`header_names`].
    pub(crate) fn new(uri: Uri, settings: &HttpRailSettings, names: &[HeaderName]) -> Result<Self, RailError> {
        let mut headers = Vec::new();
        let plain = settings.headers.iter().chain(&settings.possible_duplicate);
        for ((name, value), parsed) in plain.zip(names.iter().skip(1)) {
            let value = HeaderValue::from_str(value).map_err(|_| RailError::Header {
                name: name.clone(),
                reason: "has a value that no header can carry",
            })?;
            headers.push((parsed.clone(), value));
        }
        let possible_duplicate = settings.possible_duplicate.as_ref().and_then(|_| headers.pop());
        let key = names.first().cloned().ok_or(RailError::Setting { setting: "wire_key", reason: "has no name" })?;
        let inquiry = settings.inquiry.as_ref().map(|inquiry| around_key(&inquiry.path)).transpose()?;
        Ok(Self { uri, wire_key: (key, settings.wire_key.form), headers, possible_duplicate, inquiry })
    }

    /// Whether the rail can be asked what became of a payment.
    pub(crate) const fn can_inquire(&self) -> bool {
        self.inquiry.is_some()
    }

    /// The request for `submission`.
    pub(crate) fn prepare(&self, submission: &Submission) -> Result<Prepared, BadContentType> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type(&submission.content_type)?);
        // An answer that we would have to unpack could grow without bound; a rail that packs it all
        // the same is not understood.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(self.wire_key.0.clone(), wire_key(submission, self.wire_key.1));
        // A broken trace context is left out: it must not stop a payment (W3C Trace Context 3.2.2).
        if let Some(traceparent) = submission.traceparent.as_deref().and_then(traceparent) {
            headers.insert(HeaderName::from_static("traceparent"), traceparent);
        }
        headers.extend(self.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        if submission.is_resend {
            headers.extend(self.possible_duplicate.clone());
        }
        let sha256 = request_sha256(&Method::POST, &self.uri, &headers, &submission.payload);
        let body = submission.payload.clone();
        Ok(Prepared { method: Method::POST, uri: self.uri.clone(), headers, body, sha256 })
    }

    /// The request for `inquiry`; none if the rail cannot be asked.
    pub(crate) fn prepare_inquiry(&self, inquiry: &Inquiry) -> Option<Prepared> {
        let (before, behind) = self.inquiry.as_ref()?;
        let mut parts = self.uri.clone().into_parts();
        parts.path_and_query = Some(format!("{before}{}{behind}", inquiry.outbox_id).parse().ok()?);
        let uri = Uri::from_parts(parts).ok()?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        // A "not found" of before the payment arrived, kept by a cache on the way, must not be the last word (RFC 9111, 5.2.1).
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store"));
        if let Some(traceparent) = inquiry.traceparent.as_deref().and_then(traceparent) {
            headers.insert(HeaderName::from_static("traceparent"), traceparent);
        }
        headers.extend(self.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        let sha256 = request_sha256(&Method::GET, &uri, &headers, &[]);
        Some(Prepared { method: Method::GET, uri, headers, body: Bytes::new(), sha256 })
    }

    /// `prepared` with its secret headers, written for `version`.
    pub(crate) fn request(
        prepared: Prepared,
        secrets: Vec<(HeaderName, HeaderValue)>,
        version: Version,
    ) -> Request<Full<Bytes>> {
        // Written even where it is zero, so that an empty payload is told from one that was cut off.
        let length = (prepared.method == Method::POST).then(|| HeaderValue::from(prepared.body.len()));
        let mut request = Request::new(Full::new(prepared.body));
        *request.method_mut() = prepared.method;
        *request.headers_mut() = prepared.headers;
        request.headers_mut().extend(length.map(|length| (CONTENT_LENGTH, length)));
        request.headers_mut().extend(secrets);
        if version == Version::HTTP_2 {
            *request.uri_mut() = prepared.uri;
            return request;
        }
        let host = prepared.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
        if let Some(host) = host {
            request.headers_mut().insert(HOST, host);
        }
        // Origin form (RFC 9112, 3.2.1): path and query only.
        let path = prepared.uri.path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        request
    }
}

/// Whether `path` can be that of an inquiry.
///
/// # Errors
/// [`RailError::Setting`] for a path without `{key}`, with two of them, or that is none.
pub fn check_inquiry_path(path: &str) -> Result<(), RailError> {
    around_key(path).map(drop)
}

/// What stands before and behind `{key}` in the path of an inquiry.
///
/// # Errors
/// [`RailError::Setting`] for a path without it, with two of them, or that is none.
fn around_key(path: &str) -> Result<(String, String), RailError> {
    let bad = |reason| RailError::Setting { setting: "inquiry.path", reason };
    let (before, behind) = path.split_once("{key}").ok_or_else(|| bad("has no `{key}`, the place of the wire key"))?;
    if behind.contains("{key}") {
        return Err(bad("has `{key}` twice"));
    }
    let is_path = path.starts_with('/') && !path.contains('#');
    if !is_path || format!("{before}0{behind}").parse::<http::uri::PathAndQuery>().is_err() {
        return Err(bad("is no path and query on the rail's host, such as `/payments/{key}`"));
    }
    Ok((before.to_owned(), behind.to_owned()))
}

fn wire_key(submission: &Submission, form: WireKeyForm) -> HeaderValue {
    let key = match form {
        WireKeyForm::Quoted => format!("\"{}\"", submission.outbox_id),
        WireKeyForm::Bare => submission.outbox_id.to_string(),
    };
    HeaderValue::try_from(key).expect("a uuid, quoted or not, is visible ascii")
}

fn content_type(given: &str) -> Result<HeaderValue, BadContentType> {
    if !outbox_core::is_media_type(given) {
        return Err(BadContentType);
    }
    HeaderValue::from_str(given).map_err(|_| BadContentType)
}

/// `given` as a header, if it is a version 00 `traceparent` (W3C Trace Context 3.2).
fn traceparent(given: &str) -> Option<HeaderValue> {
    let lower_hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let zero = |part: &str| part.bytes().all(|b| b == b'0');
    let parts: Vec<&str> = given.split('-').collect();
    let [version, trace, parent, flags] = parts[..] else { return None };
    let lengths = (version.len(), trace.len(), parent.len(), flags.len());
    let valid = lengths == (2, 32, 16, 2) && version != "ff" && parts.iter().all(|part| lower_hex(part));
    if !valid || zero(trace) || zero(parent) {
        return None;
    }
    HeaderValue::from_str(given).ok()
}

fn request_sha256(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> [u8; 32] {
    let mut sorted: Vec<(&str, &[u8])> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    sorted.sort_unstable();
    let mut hash = Sha256::new();
    let mut field = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    field(REQUEST_HASH);
    field(method.as_str().as_bytes());
    field(uri.to_string().as_bytes());
    field(&(sorted.len() as u64).to_be_bytes());
    for (name, value) in sorted {
        field(name.as_bytes());
        field(value);
    }
    field(body);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_passes_only_if_it_is_one() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(traceparent(good).expect("valid").as_bytes(), good.as_bytes());
        for bad in [
            "",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nx: y",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        ] {
            assert_eq!(traceparent(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_content_type_that_could_break_out_of_its_header_is_refused() {
        for good in ["application/json", "application/xml; charset=\"utf-8\"", "application/octet-stream"] {
            assert!(content_type(good).is_ok(), "{good:?}");
        }
        for bad in ["", "json", " a/b", "a/b\r\nx: y", "a/b\n", "a/\u{0}b", "a/\u{e9}"] {
            assert_eq!(content_type(bad), Err(BadContentType), "{bad:?}");
        }
    }

    #[test]
    fn the_request_hash_is_the_documented_encoding() {
        let uri = Uri::from_static("https://rail.example/pay?a=1");
        let mut headers = HeaderMap::new();
        headers.insert("x-b", HeaderValue::from_static("2"));
        headers.insert("X-A", HeaderValue::from_static("1"));
        let fields: [&[u8]; 9] = [
            b"outbox-rail/request/1",
            b"POST",
            b"https://rail.example/pay?a=1",
            &[0, 0, 0, 0, 0, 0, 0, 2],
            b"x-a",
            b"1",
            b"x-b",
            b"2",
            b"\x00body",
        ];
        let mut encoded = Vec::new();
        for field in fields {
            encoded.extend_from_slice(&u64::try_from(field.len()).expect("short").to_be_bytes());
            encoded.extend_from_slice(field);
        }
        let expected: [u8; 32] = Sha256::digest(&encoded).into();
        assert_eq!(request_sha256(&Method::POST, &uri, &headers, b"\x00body"), expected);
    }
}
