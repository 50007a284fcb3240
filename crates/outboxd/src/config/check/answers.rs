//! Checks of how the answers of a rail are read: where they carry its reference and its code, and what it means by them. The
//! same for a rail of the file and for one of a policy.

use std::collections::BTreeSet;

use outbox_core::{AttemptKind, CodeRule, Meaning};

use super::super::fault::KeyPath;
use super::super::model::{AnswerField, Inquiry};
use super::super::raw::{RawCode, RawInquiry, RawRail};
use super::findings::Findings;

/// `reference` and `code`: where answers to a send carry them.
pub(super) fn check_inquiry(
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

pub(super) fn check_reference(raw: &RawRail, path: &KeyPath, findings: &mut Findings<'_>) -> AnswerField {
    let (pointer, header) = (raw.reference_json_pointer.as_ref(), raw.reference_header.as_ref());
    if pointer.is_none() && header.is_none() {
        let message = "is missing: where an answer carries the rail's reference, without which no success counts; \
                       set this or reference_header";
        findings.add(&path.join("reference_json_pointer"), message);
    }
    check_field(pointer, header, "reference", path, findings)
}

pub(super) fn check_field(
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
pub(super) fn check_codes(
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
