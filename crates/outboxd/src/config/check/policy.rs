//! Checks of a policy. What of it also stands in the file of a development rail is checked by the same functions.

use std::collections::BTreeSet;
use std::path::Path;

use http::HeaderName;
use outbox_core::{AttemptKind, OnUnknown, RailName};
use outbox_rail::PlainHttp;
use serde_json::Value;

use super::super::defaults;
use super::super::fault::{Faults, KeyPath, Origins};
use super::super::policy::{Contract, Policy, PolicyEndpoint, PolicyRail, Reader};
use super::super::raw::RawRail;
use super::Host;
use super::answers::{check_codes, check_field, check_inquiry, check_reference};
use super::findings::Findings;
use super::rail::{Headers, check_key_format};

const FORMAT: u64 = 1;
const COUNT_MAX: u64 = 2_147_483_647;
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 86_400_000;
const WEEK_MS: u64 = 604_800_000;

/// Checks `value`, which `file` holds.
///
/// # Errors
/// Every fault found.
pub(in crate::config) fn check(file: &Path, value: &Value) -> Result<Policy, Faults> {
    let origins = Origins::new(file.to_owned());
    // Nothing of the host matters to a policy: it is the same on all.
    let host = Host { name: String::new(), credentials_directory: None, state_directory: None };
    let mut findings = Findings::new(&origins, &host);
    let mut rails = Vec::new();
    let mut reader = Reader::new(KeyPath::default(), value, &mut findings);
    match reader.value("format") {
        Some(format) if format == FORMAT => {}
        _ => reader
            .findings
            .add(&KeyPath::of(&["format"]), format!("must be {FORMAT}, the form that this version knows")),
    }
    let section = KeyPath::of(&["rails"]);
    let given = reader.value("rails").and_then(|value| value.as_object().cloned()).unwrap_or_default();
    if given.is_empty() {
        reader.findings.add(&section, "no rail is decided on; add a table [rails.NAME]");
    }
    for (name, value) in &given {
        let path = section.join(name);
        let rail = check_rail(Reader::new(path.clone(), value, reader.findings));
        match RailName::new(name.as_str()) {
            Ok(valid) => rails.push((valid, rail)),
            Err(error) => reader.findings.add(&path, error.to_string()),
        }
    }
    reader.finish();
    let (faults, _) = findings.into_parts();
    if !faults.is_empty() {
        return Err(Faults::new(faults));
    }
    Ok(Policy { rails: rails.into_iter().filter_map(|(name, rail)| Some((name, rail?))).collect() })
}

/// The rail, unless something of it has a fault that leaves nothing to take its place.
fn check_rail(mut reader: Reader<'_, '_>) -> Option<PolicyRail> {
    let contract = check_contract(&mut reader);
    let endpoints = check_endpoints(&mut reader);
    let raw = RawRail {
        key_header: reader.text("key_header"),
        key_format: reader.text("key_format"),
        possible_duplicate: reader.possible_duplicate(),
        reference_json_pointer: reader.text("reference_json_pointer"),
        reference_header: reader.text("reference_header"),
        code_json_pointer: reader.text("code_json_pointer"),
        code_header: reader.text("code_header"),
        codes: reader.codes(),
        inquiry: reader.inquiry(),
        ..RawRail::default()
    };
    let path = reader.path.clone();
    let findings = &mut *reader.findings;
    let key_header = raw.key_header.as_deref().unwrap_or(defaults::RAIL_KEY_HEADER);
    let key_header = findings.header_name(&path.join("key_header"), key_header);
    let mut headers = Headers { path: &path, taken: BTreeSet::new(), findings };
    if let Some(name) = &key_header {
        headers.take(HeaderName::clone(name), &path.join("key_header"));
    }
    let possible_duplicate = headers.possible_duplicate(&raw);
    let reference = check_reference(&raw, &path, findings);
    let code = check_field(raw.code_json_pointer.as_ref(), raw.code_header.as_ref(), "code", &path, findings);
    let inquiry = raw.inquiry.as_ref().map(|asked| check_inquiry(asked, (&reference, &code), &path, findings));
    let codes = check_codes(&raw.codes, AttemptKind::Submit, code.is_anywhere(), &path, findings);
    let key_format = check_key_format(&raw, &path, findings);
    if contract.as_ref().is_some_and(|contract| contract.on_unknown == OnUnknown::Inquire) && inquiry.is_none() {
        findings.add(&path.join("inquiry"), "is missing, and the contract says on_unknown = inquire");
    }
    reader.finish();
    Some(PolicyRail {
        contract: contract?,
        endpoints,
        key_header: key_header?,
        key_format,
        possible_duplicate,
        reference,
        code,
        codes,
        inquiry,
    })
}

/// The contract, with the defaults of `payment_rails`; what may follow an unknown outcome has none.
fn check_contract(rail: &mut Reader<'_, '_>) -> Option<Contract> {
    let path = rail.path.join("contract");
    let Some(value) = rail.value("contract") else {
        rail.findings.add(&path, "is missing: what may be done after an unknown outcome, and how often");
        return None;
    };
    let mut reader = Reader::new(path.clone(), &value, rail.findings);
    let text = reader.text("on_unknown");
    let on_unknown = text.as_deref().and_then(OnUnknown::from_name);
    if on_unknown.is_none() {
        reader.findings.add(&path.join("on_unknown"), "must be \"resend\", \"inquire\" or \"hold\"");
    }
    let contract = Contract {
        on_unknown: on_unknown.unwrap_or(OnUnknown::Hold),
        idempotency_window_ms: reader.number("idempotency_window_ms", (1, u64::try_from(i64::MAX).unwrap_or(u64::MAX))),
        not_found_is_final: reader.flag("not_found_is_final", false),
        rail_timeout_ms: reader.number("rail_timeout_ms", (10, HOUR_MS)).unwrap_or(30_000),
        processing_bound_ms: reader.number("processing_bound_ms", (0, WEEK_MS)).unwrap_or(60_000),
        amount_required: reader.flag("amount_required", true),
        max_sends: reader.number("max_sends", (1, COUNT_MAX)).unwrap_or(10),
        max_inquiries: reader.number("max_inquiries", (1, COUNT_MAX)).unwrap_or(100),
        max_crashes: reader.number("max_crashes", (1, COUNT_MAX)).unwrap_or(3),
        backoff_base_ms: reader.number("backoff_base_ms", (1, DAY_MS)).unwrap_or(500),
        backoff_cap_ms: reader.number("backoff_cap_ms", (1, DAY_MS)).unwrap_or(300_000),
        lease_duration_ms: reader.number("lease_duration_ms", (1, HOUR_MS)).unwrap_or(60_000),
        max_sends_per_s: reader.number("max_sends_per_s", (1, 100_000)),
        fallback: reader.flag("fallback", false),
        paused: reader.flag("paused", false),
        require_attestation: reader.flag("require_attestation", false),
    };
    let findings = &mut *reader.findings;
    let key = |name| path.join(name);
    if contract.lease_duration_ms <= contract.rail_timeout_ms {
        let message = format!("must be longer than rail_timeout_ms ({})", contract.rail_timeout_ms);
        findings.relation(&key("lease_duration_ms"), &key("rail_timeout_ms"), message);
    }
    if contract.backoff_cap_ms < contract.backoff_base_ms {
        let message = format!("must not be below backoff_base_ms ({})", contract.backoff_base_ms);
        findings.relation(&key("backoff_cap_ms"), &key("backoff_base_ms"), message);
    }
    if contract.on_unknown == OnUnknown::Resend && contract.idempotency_window_ms.is_none() {
        let message = "is missing: on_unknown = resend is safe only while the rail knows the key";
        findings.relation(&key("idempotency_window_ms"), &key("on_unknown"), message);
    }
    reader.finish();
    on_unknown.map(|_| contract)
}

fn check_endpoints(rail: &mut Reader<'_, '_>) -> Vec<PolicyEndpoint> {
    let mut endpoints: Vec<PolicyEndpoint> = Vec::new();
    for (path, value) in rail.tables("endpoints") {
        let mut reader = Reader::new(path.clone(), &value, rail.findings);
        let (origin, san) = (reader.text("origin"), reader.text("san"));
        let key = path.join("origin");
        let origin = reader.findings.required(
            &key,
            origin.as_ref(),
            "scheme and host of an endpoint, such as \"https://rail.example\"",
        );
        // Whether plain http may leave a host is for its configuration to allow as well.
        match outbox_rail::parse_url(&origin, PlainHttp::Anywhere) {
            _ if origin.is_empty() => {}
            Err(fault) => reader.findings.add(&key, fault.to_string()),
            Ok(url) if outbox_rail::origin(&url) != origin => {
                reader.findings.add(&key, format!("is no origin; write it \"{}\"", outbox_rail::origin(&url)));
            }
            Ok(url) if url.scheme_str() == Some("http") && san.is_some() => {
                reader.findings.add(&path.join("san"), "has no effect with plain http; remove it");
            }
            Ok(_) if endpoints.iter().any(|before| before.origin == origin) => {
                reader.findings.add(&key, "is given twice");
            }
            Ok(_) => {}
        }
        if san.as_deref().is_some_and(|san| !outbox_rail::is_server_name(san)) {
            reader.findings.add(
                &path.join("san"),
                "is neither a name nor an address that a certificate can carry, such as rail.example",
            );
        }
        reader.finish();
        endpoints.push(PolicyEndpoint { origin, san });
    }
    if endpoints.is_empty() {
        rail.findings.add(&rail.path.join("endpoints"), "is missing: where payments may be sent");
    }
    endpoints
}
