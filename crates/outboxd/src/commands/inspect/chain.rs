//! What stands before and beside a payment's attempts: the attestation that let it in, and what people did to it. Put
//! into words like the attempts; nothing is concluded from it.

use serde::Deserialize;
use time::OffsetDateTime;

use super::timeline::{Event, named};
use crate::commands::output::{printable, utc};

/// Who asked, by which proof, and what the entrance decided.
#[derive(Debug, Deserialize)]
pub(super) struct Attestation {
    request_id: String,
    tenant_id: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    received_at: OffsetDateTime,
    auth_method: String,
    client_cert_fingerprint: Option<String>,
    key_id: Option<String>,
    jwt_iss: Option<String>,
    jti: Option<String>,
    signature_alg: Option<String>,
    decision: String,
    reason_code: Option<String>,
    policy_version: Option<String>,
    recorded_by: String,
    #[serde(with = "time::serde::rfc3339")]
    recorded_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    credential_revoked_at: Option<OffsetDateTime>,
}

impl Attestation {
    /// When it was recorded, by the database's clock, and what it says.
    pub(super) fn events(&self) -> (OffsetDateTime, Vec<Event>) {
        let (received, revoked) = (utc(self.received_at), self.credential_revoked_at.map(utc));
        let details = named(&[
            ("by", Some(self.auth_method.as_str())),
            ("certificate", self.client_cert_fingerprint.as_deref()),
            ("key", self.key_id.as_deref()),
            ("issuer", self.jwt_iss.as_deref()),
            ("token", self.jti.as_deref()),
            ("algorithm", self.signature_alg.as_deref()),
            ("request", Some(self.request_id.as_str())),
            ("tenant", self.tenant_id.as_deref()),
            ("reason", self.reason_code.as_deref()),
            ("policy", self.policy_version.as_deref()),
            ("received", Some(received.as_str())),
            ("recorded by", Some(self.recorded_by.as_str())),
            ("credential revoked since", revoked.as_deref()),
        ]);
        let what = format!("attested: {}", printable(&self.decision));
        (self.recorded_at, vec![Event { at: self.recorded_at, what, details }])
    }
}

/// What a person wanted, what another said, and what came of it.
#[derive(Debug, Deserialize)]
pub(super) struct Action {
    action_id: String,
    kind: String,
    reason: String,
    evidence: Option<String>,
    proposed_by: String,
    #[serde(with = "time::serde::rfc3339")]
    proposed_at: OffsetDateTime,
    decision: Option<String>,
    decision_reason: Option<String>,
    decided_by: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    decided_at: Option<OffsetDateTime>,
    result: Option<String>,
    detail: Option<String>,
    new_outbox_id: Option<String>,
    applied_by: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    applied_at: Option<OffsetDateTime>,
}

impl Action {
    /// Each step at its own time: attempts may lie between them.
    pub(super) fn events(&self) -> Vec<(OffsetDateTime, Vec<Event>)> {
        let kind = printable(&self.kind);
        let proposed = named(&[
            ("by", Some(self.proposed_by.as_str())),
            ("reason", Some(self.reason.as_str())),
            ("evidence", self.evidence.as_deref()),
            ("action", Some(self.action_id.as_str())),
        ]);
        let decided = named(&[("by", self.decided_by.as_deref()), ("reason", self.decision_reason.as_deref())]);
        let applied = named(&[
            ("by", self.applied_by.as_deref()),
            ("detail", self.detail.as_deref()),
            ("new payment", self.new_outbox_id.as_deref()),
        ]);
        let word = |text: &Option<String>| text.as_deref().map(printable).unwrap_or_default();
        let steps = [
            (Some(self.proposed_at), "proposed".to_owned(), proposed),
            (self.decided_at, word(&self.decision), decided),
            (self.applied_at, word(&self.result), applied),
        ];
        let event = |(at, step, details): (Option<OffsetDateTime>, String, String)| {
            let at = at?;
            Some((at, vec![Event { at, what: format!("{kind}: {step}"), details }]))
        };
        steps.into_iter().filter_map(event).collect()
    }
}
