//! Checks of `[rails.NAME]`.

use std::collections::BTreeSet;

use http::header;
use http::{HeaderName, HeaderValue, Uri};
use outbox_core::{AttemptKind, Millis};
use outbox_rail::PlainHttp;

use super::super::defaults;
use super::super::fault::KeyPath;
use super::super::model::{AnswerField, Breaker, Decisions, KeyFormat, Rail, RailTls, SecretHeader};
use super::super::raw::{RawBreaker, RawRail};
use super::answers::{check_codes, check_field, check_inquiry, check_reference};
use super::database::ClientKeys;
use super::findings::{Findings, human};
use super::{Holds, SecretKeys};

/// Headers that the client itself sets, and that change how a request is framed or routed.
const OWN_HEADERS: [HeaderName; 15] = [
    header::CONTENT_ENCODING,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::EXPECT,
    header::ACCEPT_ENCODING,
    HeaderName::from_static("traceparent"),
];

/// Headers whose values are secrets wherever they are used.
const SECRET_HEADERS: [HeaderName; 3] = [header::AUTHORIZATION, header::COOKIE, HeaderName::from_static("x-api-key")];

pub(super) fn check(raw: &RawRail, path: &KeyPath, findings: &mut Findings<'_>) -> Rail {
    let (url, fallback_urls) = check_urls(raw, path, findings);
    let all_plain = fallback_urls.iter().chain([&url]).all(|url| url.scheme_str() == Some("http"));
    let (timeout, connect_timeout) = check_times(raw, path, findings);
    let pool_idle_timeout = findings.time(
        &path.join("pool_idle_timeout"),
        raw.pool_idle_timeout,
        defaults::RAIL_POOL_IDLE_TIMEOUT,
        Millis::ZERO..=Millis(3_600_000),
    );
    let key_header = raw.key_header.as_deref().unwrap_or(defaults::RAIL_KEY_HEADER);
    let key_header = findings
        .header_name(&path.join("key_header"), key_header)
        .unwrap_or(HeaderName::from_static("idempotency-key"));
    let mut headers = Headers { path, taken: BTreeSet::new(), findings };
    headers.take(key_header.clone(), &path.join("key_header"));
    let plain_headers = headers.plain(raw);
    let possible_duplicate = headers.possible_duplicate(raw);
    let secret_headers = headers.secret(raw);
    let decision_keys = decision_keys(raw);
    let decisions = check_decisions(raw, &decision_keys, path, findings);
    let reference = match decisions {
        Decisions::File => check_reference(raw, path, findings),
        // Nowhere: no client can be made of it before the policy says where.
        Decisions::Policy => AnswerField::default(),
    };
    let code = check_field(raw.code_json_pointer.as_ref(), raw.code_header.as_ref(), "code", path, findings);
    let asked = raw.inquiry.as_ref().map(|inquiry| check_inquiry(inquiry, (&reference, &code), path, findings));
    Rail {
        tls: check_tls(raw, all_plain, path, findings),
        url,
        fallback_urls,
        concurrency: findings.number(
            &path.join("concurrency"),
            raw.concurrency,
            defaults::RAIL_CONCURRENCY,
            1..=10_000,
        ),
        breaker: check_breaker(&raw.breaker, &path.join("breaker"), findings),
        timeout,
        connect_timeout,
        key_header,
        key_format: check_key_format(raw, path, findings),
        headers: plain_headers,
        secret_headers,
        allow_plain_http: raw.allow_plain_http.unwrap_or_default(),
        response_body_max_bytes: findings.number(
            &path.join("response_body_max_bytes"),
            raw.response_body_max_bytes,
            defaults::RAIL_RESPONSE_BODY_MAX_BYTES,
            1_024..=16_777_216,
        ),
        pool_idle_timeout,
        reference,
        code,
        codes: check_codes(
            &raw.codes,
            AttemptKind::Submit,
            raw.code_json_pointer.is_some() || raw.code_header.is_some(),
            path,
            findings,
        ),
        possible_duplicate,
        inquiry: asked,
        decisions,
        decision_keys,
    }
}

/// How long an exchange, and its connect, may take.
fn check_times(raw: &RawRail, path: &KeyPath, findings: &mut Findings<'_>) -> (Millis, Millis) {
    let bounds = Millis(10)..=Millis(3_600_000);
    let mut time = |name: &str, given, default| findings.time(&path.join(name), given, default, bounds.clone());
    let timeout = time("timeout", raw.timeout, defaults::RAIL_TIMEOUT);
    let connect_timeout = time("connect_timeout", raw.connect_timeout, defaults::RAIL_CONNECT_TIMEOUT.min(timeout));
    // The policy's time is not known here; a longer connect is cut off by it.
    if connect_timeout > timeout && raw.decisions.as_deref() != Some("policy") {
        let message = format!("is {}, longer than timeout ({})", human(connect_timeout), human(timeout));
        findings.relation(&path.join("connect_timeout"), &path.join("timeout"), message);
    }
    (timeout, connect_timeout)
}

/// The keys given that a policy decides where there is one: what an answer means, whom it is asked of, and how long one may take.
fn decision_keys(raw: &RawRail) -> Vec<&'static str> {
    let given = [
        ("timeout", raw.timeout.is_some()),
        ("key_header", raw.key_header.is_some()),
        ("key_format", raw.key_format.is_some()),
        ("possible_duplicate", raw.possible_duplicate.is_some()),
        ("server_name", raw.server_name.is_some()),
        ("reference_json_pointer", raw.reference_json_pointer.is_some()),
        ("reference_header", raw.reference_header.is_some()),
        ("code_json_pointer", raw.code_json_pointer.is_some()),
        ("code_header", raw.code_header.is_some()),
        ("codes", !raw.codes.is_empty()),
        ("inquiry", raw.inquiry.is_some()),
    ];
    given.into_iter().filter(|(_, is_given)| *is_given).map(|(key, _)| key).collect()
}

fn check_decisions(
    raw: &RawRail,
    decision_keys: &[&'static str],
    path: &KeyPath,
    findings: &mut Findings<'_>,
) -> Decisions {
    match raw.decisions.as_deref().unwrap_or(defaults::RAIL_DECISIONS) {
        "file" => Decisions::File,
        "policy" => {
            for key in decision_keys {
                findings.add(&path.join(key), "is decided by the policy (decisions = \"policy\"); remove it");
            }
            Decisions::Policy
        }
        _ => {
            findings.add(&path.join("decisions"), "must be \"file\" or \"policy\"");
            Decisions::File
        }
    }
}

fn check_breaker(raw: &RawBreaker, path: &KeyPath, findings: &mut Findings<'_>) -> Breaker {
    let failures = findings.number(&path.join("failures"), raw.failures, defaults::RAIL_BREAKER_FAILURES, 1..=u32::MAX);
    let bounds = Millis(10)..=Millis(3_600_000);
    let mut time = |name: &str, given, default| findings.time(&path.join(name), given, default, bounds.clone());
    let open_min = time("open_min", raw.open_min, defaults::RAIL_BREAKER_OPEN_MIN);
    let open_max = time("open_max", raw.open_max, defaults::RAIL_BREAKER_OPEN_MAX.max(open_min));
    if open_min > open_max {
        let message = format!("is {}, longer than open_max ({})", human(open_min), human(open_max));
        findings.relation(&path.join("open_min"), &path.join("open_max"), message);
    }
    Breaker { failures, open_min, open_max }
}

/// The endpoints: `url`, and those that payments go to that it has certainly not executed.
fn check_urls(raw: &RawRail, path: &KeyPath, findings: &mut Findings<'_>) -> (Uri, Vec<Uri>) {
    let plain_http = match raw.allow_plain_http.unwrap_or_default() {
        true => PlainHttp::Anywhere,
        false => PlainHttp::LoopbackOnly,
    };
    let key = path.join("url");
    let text = findings.required(&key, raw.url.as_ref(), "where payments are POSTed");
    let url = if text.is_empty() { Uri::default() } else { check_url(&text, plain_http, &key, findings) };
    let mut origins = BTreeSet::from([outbox_rail::origin(&url)]);
    let mut others = Vec::new();
    for (position, text) in raw.fallback_urls.iter().enumerate() {
        let key = path.join("fallback_urls").join(&position.to_string());
        let other = check_url(text, plain_http, &key, findings);
        // A payment in doubt is bound to its endpoint, and an endpoint is known by its origin.
        if !origins.insert(outbox_rail::origin(&other)) {
            findings.add(&key, "has the scheme, host and port of an endpoint before it, and cannot be told from it");
        }
        others.push(other);
    }
    (url, others)
}

fn check_url(text: &str, plain_http: PlainHttp, key: &KeyPath, findings: &mut Findings<'_>) -> Uri {
    outbox_rail::parse_url(text, plain_http).unwrap_or_else(|fault| {
        findings.add(key, fault.to_string());
        // What depends on the scheme is judged all the same.
        text.parse().unwrap_or_default()
    })
}

fn check_tls(raw: &RawRail, plain: bool, path: &KeyPath, findings: &mut Findings<'_>) -> RailTls {
    if plain {
        let given = [
            ("ca_file", raw.ca_file.is_some()),
            ("client_cert_file", raw.client_cert_file.is_some()),
            ("client_key_file", raw.client_key_file.is_some()),
            ("client_key_credential", raw.client_key_credential.is_some()),
            ("server_name", raw.server_name.is_some()),
        ];
        for (name, _) in given.into_iter().filter(|(_, given)| *given) {
            findings.add(&path.join(name), "has no effect with plain http; remove it, or use https");
        }
        return RailTls::default();
    }
    let ca_file = raw.ca_file.as_ref().and_then(|file| findings.file(&path.join("ca_file"), file, Holds::Authorities));
    let keys = ClientKeys {
        cert_key: path.join("client_cert_file"),
        cert_file: raw.client_cert_file.as_ref(),
        file_key: path.join("client_key_file"),
        file: raw.client_key_file.as_ref(),
        credential_key: path.join("client_key_credential"),
        credential: raw.client_key_credential.as_deref(),
    };
    let server_name = raw.server_name.as_ref().map(|name| {
        let key = path.join("server_name");
        let name = findings.required(&key, Some(name), "the name in the rail's certificate");
        if !name.is_empty() && !outbox_rail::is_server_name(&name) {
            findings.add(&key, "is neither a name nor an address that a certificate can carry, such as rail.example");
        }
        name
    });
    RailTls { ca_file, client: keys.identity(findings), server_name }
}

/// `text` as a header's value, if each reader of it sees the same text: what is beyond ASCII has no agreed meaning there.
fn visible(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok().filter(|value| value.to_str().is_ok())
}

/// The headers of one rail, each name used once.
pub(super) struct Headers<'a, 'f> {
    pub(super) path: &'a KeyPath,
    pub(super) taken: BTreeSet<String>,
    pub(super) findings: &'a mut Findings<'f>,
}

impl Headers<'_, '_> {
    pub(super) fn take(&mut self, name: HeaderName, key: &KeyPath) {
        if OWN_HEADERS.contains(&name) {
            self.findings.add(key, "is set by the dispatcher itself and cannot be configured");
        } else if !self.taken.insert(name.as_str().to_owned()) {
            self.findings.add(key, "is given twice (key_header, headers and secret_headers share their names)");
        }
    }

    fn plain(&mut self, raw: &RawRail) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = Vec::new();
        for (name, value) in &raw.headers {
            let key = self.path.join("headers").join(name);
            let Some(name) = self.findings.header_name(&key, name) else { continue };
            if SECRET_HEADERS.contains(&name) {
                self.findings.add(&key, "is a secret, which has no place in this file; use secret_headers");
                continue;
            }
            self.take(name.clone(), &key);
            match visible(value) {
                Some(value) => headers.push((name, value)),
                None => self.findings.add(&key, "must be visible ASCII, spaces and tabs only"),
            }
        }
        headers
    }

    pub(super) fn possible_duplicate(&mut self, raw: &RawRail) -> Option<(HeaderName, HeaderValue)> {
        let given = raw.possible_duplicate.as_ref()?;
        let section = self.path.join("possible_duplicate");
        let what = "the header that tells the rail of a possible duplicate";
        let text = self.findings.required(&section.join("header"), given.header.as_ref(), what);
        if text.is_empty() {
            return None;
        }
        let name = self.findings.header_name(&section.join("header"), &text)?;
        self.take(name.clone(), &section.join("header"));
        match visible(given.value.as_deref().unwrap_or(defaults::RAIL_POSSIBLE_DUPLICATE)) {
            Some(value) => Some((name, value)),
            None => {
                self.findings.add(&section.join("value"), "must be visible ASCII, spaces and tabs only");
                None
            }
        }
    }

    fn secret(&mut self, raw: &RawRail) -> Vec<SecretHeader> {
        let mut headers = Vec::new();
        for (name, given) in &raw.secret_headers {
            let key = self.path.join("secret_headers").join(name);
            let Some(name) = self.findings.header_name(&key, name) else { continue };
            self.take(name.clone(), &key);
            let prefix = given.prefix.clone().unwrap_or_default();
            if visible(&prefix).is_none() {
                self.findings.add(&key.join("prefix"), "must be visible ASCII, spaces and tabs only");
            }
            let keys = SecretKeys {
                file_key: key.join("file"),
                file: given.file.as_ref(),
                credential_key: key.join("credential"),
                credential: given.credential.as_deref(),
                holds: Holds::SecretLine,
            };
            let source = keys.source(self.findings);
            if given.file.is_none() && given.credential.is_none() {
                self.findings.add(&key, "needs the file or the credential that holds its value");
            }
            headers.extend(source.map(|source| SecretHeader { name, prefix, source }));
        }
        headers
    }
}

pub(super) fn check_key_format(raw: &RawRail, path: &KeyPath, findings: &mut Findings<'_>) -> KeyFormat {
    match raw.key_format.as_deref().unwrap_or(defaults::RAIL_KEY_FORMAT) {
        "bare" => KeyFormat::Bare,
        "quoted" => KeyFormat::Quoted,
        _ => {
            findings.add(&path.join("key_format"), "must be \"quoted\" or \"bare\"");
            KeyFormat::Quoted
        }
    }
}
