//! A checked policy, and its document. Reading one is not done here.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use outbox_core::{CodeRule, Millis, OnUnknown, RailName};
use serde_json::{Map, Value, json};

use super::canonical;
use crate::config::model::{AnswerField, Inquiry, KeyFormat, Rail};

/// The number of the document's form; another is another program's.
pub(in crate::config) const FORMAT: u64 = 1;

/// The decisions about money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// By rail; a rail that is not here is not dispatched.
    pub rails: BTreeMap<RailName, PolicyRail>,
}

/// The decisions about one rail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRail {
    /// What may be done after an unknown outcome, and how often: the row of `payment_rails`.
    pub contract: Contract,
    /// Where payments may be sent; at least one.
    pub endpoints: Vec<PolicyEndpoint>,
    /// The header that carries the wire key.
    pub key_header: HeaderName,
    /// How the wire key is written.
    pub key_format: KeyFormat,
    /// The header that says that the rail may have seen the payment before.
    pub possible_duplicate: Option<(HeaderName, HeaderValue)>,
    /// Where in the answer the rail's reference stands.
    pub reference: AnswerField,
    /// Where in the answer the rail's own code stands.
    pub code: AnswerField,
    /// What the rail means by its statuses and codes.
    pub codes: Vec<CodeRule>,
    /// How the rail is asked what became of a payment.
    pub inquiry: Option<Inquiry>,
}

/// A rail's contract: the columns of `payment_rails`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the columns of a table, read by name")]
#[allow(missing_docs, reason = "the columns of payment_rails, documented in docs/PROTOCOL.md")]
pub struct Contract {
    pub on_unknown: OnUnknown,
    pub idempotency_window_ms: Option<u64>,
    pub not_found_is_final: bool,
    pub rail_timeout_ms: u64,
    pub processing_bound_ms: u64,
    pub amount_required: bool,
    pub max_sends: u64,
    pub max_inquiries: u64,
    pub max_crashes: u64,
    pub backoff_base_ms: u64,
    pub backoff_cap_ms: u64,
    pub lease_duration_ms: u64,
    pub max_sends_per_s: Option<u64>,
    pub fallback: bool,
    pub paused: bool,
    pub require_attestation: bool,
}

/// Where payments may be sent, and who must answer there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyEndpoint {
    /// Scheme, host and port, as RFC 6454 writes an origin.
    pub origin: String,
    /// The name that the certificate must carry; the origin's host where it is not given.
    pub san: Option<String>,
}

impl Policy {
    /// The document, in canonical form.
    #[must_use]
    pub fn document(&self) -> String {
        let rails: Map<String, Value> =
            self.rails.iter().map(|(name, rail)| (name.as_str().to_owned(), rail.value())).collect();
        canonical(&json!({"format": FORMAT, "rails": rails}))
    }
}

impl Contract {
    /// The contract as the document has it: a member for each column.
    #[must_use]
    pub fn value(&self) -> Value {
        json!({
            "on_unknown": self.on_unknown.name(),
            "idempotency_window_ms": self.idempotency_window_ms,
            "not_found_is_final": self.not_found_is_final,
            "rail_timeout_ms": self.rail_timeout_ms,
            "processing_bound_ms": self.processing_bound_ms,
            "amount_required": self.amount_required,
            "max_sends": self.max_sends,
            "max_inquiries": self.max_inquiries,
            "max_crashes": self.max_crashes,
            "backoff_base_ms": self.backoff_base_ms,
            "backoff_cap_ms": self.backoff_cap_ms,
            "lease_duration_ms": self.lease_duration_ms,
            "max_sends_per_s": self.max_sends_per_s,
            "fallback": self.fallback,
            "paused": self.paused,
            "require_attestation": self.require_attestation,
        })
    }

    /// Where a row of `payment_rails`, a JSON object, is not this contract. A column that the contract has not is a later
    /// schema's, and at its default: an upgrade must not stop what it does not change.
    #[must_use]
    pub fn differs_from(&self, row: &Value) -> Vec<String> {
        let (own, row) = (self.value(), row.as_object().cloned().unwrap_or_default());
        let own = own.as_object().cloned().unwrap_or_default();
        let differs = |(name, value): &(&String, &Value)| row.get(*name) != Some(*value);
        own.iter().filter(differs).map(|(name, _)| name.clone()).collect()
    }
}

impl PolicyRail {
    /// How long one exchange may take.
    #[must_use]
    pub const fn timeout(&self) -> Millis {
        Millis(self.contract.rail_timeout_ms)
    }

    /// The endpoint that `origin` is, if payments may be sent there.
    #[must_use]
    pub fn endpoint(&self, origin: &str) -> Option<&PolicyEndpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.origin == origin)
    }

    /// The rail of a configuration that leaves the decisions to the policy, with these.
    #[must_use]
    pub fn over(&self, configured: &Rail) -> Rail {
        Rail {
            timeout: self.timeout(),
            connect_timeout: configured.connect_timeout.min(self.timeout()),
            key_header: self.key_header.clone(),
            key_format: self.key_format,
            possible_duplicate: self.possible_duplicate.clone(),
            reference: self.reference.clone(),
            code: self.code.clone(),
            codes: self.codes.clone(),
            inquiry: self.inquiry.clone(),
            ..configured.clone()
        }
    }

    fn value(&self) -> Value {
        let header = |(name, value): &(HeaderName, HeaderValue)| json!({"header": name.as_str(), "value": String::from_utf8_lossy(value.as_bytes())});
        let endpoints: Vec<Value> =
            self.endpoints.iter().map(|one| json!({"origin": one.origin, "san": one.san})).collect();
        let format = match self.key_format {
            KeyFormat::Quoted => "quoted",
            KeyFormat::Bare => "bare",
        };
        let mut value = json!({
            "contract": self.contract.value(),
            "endpoints": endpoints,
            "key_header": self.key_header.as_str(),
            "key_format": format,
            "possible_duplicate": self.possible_duplicate.as_ref().map(header),
            "inquiry": self.inquiry.as_ref().map(|inquiry| {
                let mut value = json!({"path": inquiry.path});
                put_answers(&mut value, (&inquiry.reference, &inquiry.code), &inquiry.codes);
                value
            }),
        });
        put_answers(&mut value, (&self.reference, &self.code), &self.codes);
        value
    }
}

fn put_answers(value: &mut Value, (reference, code): (&AnswerField, &AnswerField), codes: &[CodeRule]) {
    for (what, field) in [("reference", reference), ("code", code)] {
        value[format!("{what}_json_pointer")] = json!(field.json_pointer);
        value[format!("{what}_header")] = json!(field.header.as_ref().map(HeaderName::as_str));
    }
    let line = |rule: &CodeRule| json!({"status": rule.status, "code": rule.code, "means": rule.means.name()});
    value["codes"] = codes.iter().map(line).collect();
}
