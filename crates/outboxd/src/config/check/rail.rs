//! Checks of `[rails.NAME]`.

use std::collections::BTreeSet;

use http::header;
use http::{HeaderName, HeaderValue, Uri};
use outbox_core::{AttemptKind, CodeRule, Meaning, Millis};
use outbox_rail::PlainHttp;

use super::super::defaults;
use super::super::fault::KeyPath;
use super::super::model::{AnswerField, Breaker, Inquiry, KeyFormat, Rail, RailTls, SecretHeader};
use super::super::raw::{RawBreaker, RawCode, RawInquiry, RawRail};
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
    let bounds = Millis(10)..=Millis(3_600_000);
    let mut time = |name: &str, given, default| findings.time(&path.join(name), given, default, bounds.clone());
    let timeout = time("timeout", raw.timeout, defaults::RAIL_TIMEOUT);
    let connect_timeout = time("connect_timeout", raw.connect_timeout, defaults::RAIL_CONNECT_TIMEOUT.min(timeout));
    let pool_idle_timeout = findings.time(
        &path.join("pool_idle_timeout"),
        raw.pool_idle_timeout,
        defaults::RAIL_POOL_IDLE_TIMEOUT,
        Millis::ZERO..=Millis(3_600_000),
    );
    if connect_timeout > timeout {
        let message = format!("is {}, longer than timeout ({})", human(connect_timeout), human(timeout));
        findings.relation(&path.join("connect_timeout"), &path.join("timeout"), message);
    }
    let key_header = raw.key_header.as_deref().unwrap_or(defaults::RAIL_KEY_HEADER);
    let key_header = findings
        .header_name(&path.join("key_header"), key_header)
        .unwrap_or(HeaderName::from_static("idempotency-key"));
    let mut headers = Headers { path, taken: BTreeSet::new(), findings };
    headers.take(key_header.clone(), &path.join("key_header"));
    let plain_headers = headers.plain(raw);
    let possible_duplicate = headers.possible_duplicate(raw);
    let secret_headers = headers.secret(raw);
    let reference = check_reference(raw, path, findings);
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
    }
}

/// `reference` and `code`: where answers to a send carry them.
fn check_inquiry(
    inquiry: &RawInquiry,
    (reference, code): (&AnswerField, &AnswerField),
    path: &KeyPath,
    findings: &mut Findings<'_>,
) -> Inquiry {
    let section = path.join("inquiry");
    let key = section.join("path");
    let text = findings.required(&key, inquiry.path.as_ref(), "where the rail is asked, such as \"/payments/{key}\"");
    if !text.is_empty()
        && let Err(error) = outbox_rail::check_inquiry_path(&text)
    {
        findings.add(&key, error.to_string());
    }
    let mut own = |pointer: &Option<String>, header: &Option<String>, what| {
        check_field(pointer.as_ref(), header.as_ref(), what, &section, findings)
    };
    let own_reference = own(&inquiry.reference_json_pointer, &inquiry.reference_header, "reference");
    let own_code = own(&inquiry.code_json_pointer, &inquiry.code_header, "code");
    // Where answers to a question are read as those to a send, nothing need be said twice.
    let reference = if own_reference.is_anywhere() { &own_reference } else { reference };
    let code = if own_code.is_anywhere() { &own_code } else { code };
    let has_code = code.is_anywhere();
    let codes = check_codes(&inquiry.codes, AttemptKind::Inquire, has_code, &section, findings);
    // ISO 20022 statuses are understood without a line of the table, where the code field carries them.
    if !has_code && !codes.iter().any(|rule| rule.means == Meaning::Accepted) {
        let message = "says of no answer that it means accepted: 200 only says that the question was answered; add an \
                       entry to codes, or set code_json_pointer or code_header";
        findings.add(&section, message);
    }
    Inquiry { path: text, reference: reference.clone(), code: code.clone(), codes }
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

fn check_key_format(raw: &RawRail, path: &KeyPath, findings: &mut Findings<'_>) -> KeyFormat {
    match raw.key_format.as_deref().unwrap_or(defaults::RAIL_KEY_FORMAT) {
        "bare" => KeyFormat::Bare,
        "quoted" => KeyFormat::Quoted,
        _ => {
            findings.add(&path.join("key_format"), "must be \"quoted\" or \"bare\"");
            KeyFormat::Quoted
        }
    }
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

/// The headers of one rail, each name used once.
struct Headers<'a, 'f> {
    path: &'a KeyPath,
    taken: BTreeSet<String>,
    findings: &'a mut Findings<'f>,
}

impl Headers<'_, '_> {
    fn take(&mut self, name: HeaderName, key: &KeyPath) {
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
            match HeaderValue::from_str(value) {
                Ok(value) => headers.push((name, value)),
                Err(_) => self.findings.add(&key, "must be visible ASCII, spaces and tabs only"),
            }
        }
        headers
    }

    fn possible_duplicate(&mut self, raw: &RawRail) -> Option<(HeaderName, HeaderValue)> {
        let given = raw.possible_duplicate.as_ref()?;
        let section = self.path.join("possible_duplicate");
        let what = "the header that tells the rail of a possible duplicate";
        let text = self.findings.required(&section.join("header"), given.header.as_ref(), what);
        if text.is_empty() {
            return None;
        }
        let name = self.findings.header_name(&section.join("header"), &text)?;
        self.take(name.clone(), &section.join("header"));
        let value = HeaderValue::from_str(given.value.as_deref().unwrap_or(defaults::RAIL_POSSIBLE_DUPLICATE));
        match value {
            Ok(value) => Some((name, value)),
            Err(_) => {
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
            if HeaderValue::from_str(&prefix).is_err() {
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

fn check_reference(raw: &RawRail, path: &KeyPath, findings: &mut Findings<'_>) -> AnswerField {
    let (pointer, header) = (raw.reference_json_pointer.as_ref(), raw.reference_header.as_ref());
    if pointer.is_none() && header.is_none() {
        let message = "is missing: where an answer carries the rail's reference, without which no success counts; \
                       set this or reference_header";
        findings.add(&path.join("reference_json_pointer"), message);
    }
    check_field(pointer, header, "reference", path, findings)
}

fn check_field(
    pointer: Option<&String>,
    header: Option<&String>,
    what: &str,
    path: &KeyPath,
    findings: &mut Findings<'_>,
) -> AnswerField {
    if pointer.is_some_and(|pointer| !is_json_pointer(pointer)) {
        let message = "is no JSON pointer (RFC 6901), such as \"/payment/id\"";
        findings.add(&path.join(&format!("{what}_json_pointer")), message);
    }
    let header = header.and_then(|name| findings.header_name(&path.join(&format!("{what}_header")), name));
    AnswerField { json_pointer: pointer.cloned(), header }
}

/// RFC 6901, section 3, without the empty pointer: the whole answer is no reference and no code.
fn is_json_pointer(text: &str) -> bool {
    text.starts_with('/') && text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']))
}

/// The table of codes in `section`; `has_code`: whether it is said where answers carry a code.
fn check_codes(
    given: &[RawCode],
    kind: AttemptKind,
    has_code: bool,
    section: &KeyPath,
    findings: &mut Findings<'_>,
) -> Vec<CodeRule> {
    let mut seen = BTreeSet::new();
    let mut rules = Vec::new();
    for (position, code) in given.iter().enumerate() {
        let path = section.join("codes").join(&position.to_string());
        let Some(rule) = check_code(code, &path, findings) else { continue };
        if !seen.insert((rule.status, rule.code.clone())) {
            findings.add(&path, "the same status and code stand in an entry before");
        }
        if let Some(why) = misplaced(rule.means, kind) {
            findings.add(&path.join("means"), why);
        }
        rules.push(rule);
    }
    let by_code = rules.iter().any(|rule| rule.code.is_some());
    if by_code && !has_code {
        let message = "an entry names a code, so set this or code_header: where an answer carries it";
        findings.add(&section.join("code_json_pointer"), message);
    }
    rules
}

/// Why an answer to an attempt of `kind` cannot mean that.
fn misplaced(means: Meaning, kind: AttemptKind) -> Option<&'static str> {
    match (kind, means) {
        (AttemptKind::Submit, Meaning::NotFound) => {
            Some("not_found is an answer to an inquiry; see [rails.NAME.inquiry]")
        }
        (AttemptKind::Inquire, Meaning::NotExecuted) => {
            Some("not_executed is said of a send; a rail that has no payment under the key answers not_found")
        }
        (AttemptKind::Inquire, Meaning::KeyReused) => Some("key_reused is said of a send, not of a question"),
        _ => None,
    }
}

fn check_code(raw: &RawCode, path: &KeyPath, findings: &mut Findings<'_>) -> Option<CodeRule> {
    let status = match raw.status {
        Some(status @ 200..=599) => Some(status),
        Some(status) => {
            findings.add(&path.join("status"), format!("is {status}, and must be from 200 to 599"));
            None
        }
        None => {
            findings.add(path, "has no status");
            None
        }
    };
    let means = raw.means.as_deref().and_then(Meaning::from_name);
    if means.is_none() {
        let names: Vec<&str> = Meaning::ALL.iter().map(|meaning| meaning.name()).collect();
        let (key, fault) =
            if raw.means.is_none() { (path.clone(), "has no means") } else { (path.join("means"), "is no meaning") };
        findings.add(&key, format!("{fault}; it is one of {}", names.join(", ")));
    }
    let (status, means) = (status?, means?);
    if means == Meaning::Accepted && !(200..=299).contains(&status) {
        findings.add(&path.join("means"), format!("{status} is no success (RFC 9110), and cannot mean accepted"));
        return None;
    }
    if raw.code.as_deref() == Some("") {
        findings.add(&path.join("code"), "is empty; leave it out to match an answer with any code or none");
        return None;
    }
    Some(CodeRule { status, code: raw.code.clone(), means })
}
