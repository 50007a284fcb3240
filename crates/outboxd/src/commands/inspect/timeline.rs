//! A payment's document put into words: what it is, what happened in order, what is pending now. It reads what the
//! database says and concludes nothing from it. Who let it in and what people did to it is in `chain`.

use outbox_core::{AttemptState, Millis};
use serde::Deserialize;
use time::OffsetDateTime;

use super::chain::{Action, Attestation};
use crate::commands::output::{age, printable, render, table, utc};

/// The document of `read_payment_timelines`.
#[derive(Debug, Deserialize)]
pub(super) struct Timeline {
    outbox_id: String,
    participant_id: String,
    instruction_id: String,
    generation: i32,
    idempotency_key: String,
    rail: String,
    content_type: String,
    payload_bytes: i64,
    payload_sha256: String,
    amount_minor: Option<i64>,
    currency: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    not_before: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    not_after: Option<OffsetDateTime>,
    traceparent: Option<String>,
    enqueued_by: String,
    #[serde(with = "time::serde::rfc3339")]
    enqueued_at: OffsetDateTime,
    attestation_id: Option<String>,
    attestation: Option<Attestation>,
    actions: Vec<Action>,
    policy_version: Option<i32>,
    pending: Option<Pending>,
    attempts: Vec<Attempt>,
    late_outcomes: Vec<LateOutcome>,
}

#[derive(Debug, Deserialize)]
struct Pending {
    disposition: String,
    hold_reason: Option<String>,
    attempt_count: i32,
    send_count: i32,
    crash_count: i32,
    #[serde(with = "time::serde::rfc3339::option")]
    in_doubt_since: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    quarantine_until: Option<OffsetDateTime>,
    late_success: bool,
    #[serde(with = "time::serde::rfc3339")]
    next_attempt_at: OffsetDateTime,
    claimed_by: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    claimed_at: Option<OffsetDateTime>,
    policy_version: Option<i32>,
    #[serde(with = "time::serde::rfc3339::option")]
    lease_expires_at: Option<OffsetDateTime>,
}

#[derive(Debug, Deserialize)]
struct Attempt {
    attempt_no: i32,
    kind: String,
    state: String,
    outcome: Option<String>,
    worker_id: String,
    #[serde(with = "time::serde::rfc3339")]
    claimed_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    completed_at: OffsetDateTime,
    policy_version: Option<i32>,
    #[serde(flatten)]
    evidence: Evidence,
}

#[derive(Debug, Deserialize)]
struct LateOutcome {
    attempt_no: i32,
    worker_id: String,
    outcome: String,
    #[serde(with = "time::serde::rfc3339")]
    recorded_at: OffsetDateTime,
    #[serde(flatten)]
    evidence: Evidence,
}

#[derive(Debug, Deserialize)]
struct Evidence {
    #[serde(with = "time::serde::rfc3339::option")]
    first_byte_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    last_byte_at: Option<OffsetDateTime>,
    endpoint: Option<String>,
    rail_reference: Option<String>,
    rail_code: Option<String>,
    error_class: Option<String>,
    error_detail: Option<String>,
}

/// A line of the table.
pub(super) struct Event {
    pub(super) at: OffsetDateTime,
    pub(super) what: String,
    pub(super) details: String,
}

impl Evidence {
    fn details(&self, first: &[(&str, Option<&str>)]) -> String {
        let own = [
            ("code", self.rail_code.as_deref()),
            ("reference", self.rail_reference.as_deref()),
            ("error", self.error_class.as_deref()),
            ("detail", self.error_detail.as_deref()),
        ];
        named(first.iter().chain(&own))
    }

    /// The exchange with the rail, on the worker's clock.
    fn exchange(&self, whose: &str) -> Vec<Event> {
        let endpoint = named(&[("endpoint", self.endpoint.as_deref())]);
        let first = self.first_byte_at.map(|at| Event { at, what: format!("{whose}: first byte"), details: endpoint });
        let last =
            self.last_byte_at.map(|at| Event { at, what: format!("{whose}: last byte"), details: String::new() });
        first.into_iter().chain(last).collect()
    }
}

/// Those of the pairs that have a value, each with its name.
pub(super) fn named<'a>(pairs: impl IntoIterator<Item = &'a (&'a str, Option<&'a str>)>) -> String {
    let shown = pairs.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", printable((*value)?))));
    shown.collect::<Vec<_>>().join(", ")
}

impl Attempt {
    fn events(&self) -> Vec<Event> {
        let whose = format!("attempt {}", self.attempt_no);
        let policy = self.policy_version.map(|version| version.to_string());
        let by = named(&[
            ("kind", Some(self.kind.as_str())),
            ("worker", Some(self.worker_id.as_str())),
            ("policy version", policy.as_deref()),
        ]);
        let mut events = vec![Event { at: self.claimed_at, what: format!("{whose}: claimed"), details: by }];
        events.extend(self.evidence.exchange(&whose));
        let details = self.evidence.details(&[("outcome", self.outcome.as_deref())]);
        events.push(Event { at: self.completed_at, what: format!("{whose}: {}", printable(&self.state)), details });
        events
    }
}

impl LateOutcome {
    fn events(&self) -> Vec<Event> {
        let whose = format!("late outcome of attempt {}", self.attempt_no);
        let mut events = self.evidence.exchange(&whose);
        let first = [("outcome", Some(self.outcome.as_str())), ("worker", Some(self.worker_id.as_str()))];
        events.push(Event { at: self.recorded_at, what: whose, details: self.evidence.details(&first) });
        events
    }
}

impl Pending {
    fn lease(&self) -> Option<Event> {
        let at = self.claimed_at?;
        let until = self.lease_expires_at.map(utc);
        let policy = self.policy_version.map(|version| version.to_string());
        let details = named(&[
            ("worker", self.claimed_by.as_deref()),
            ("lease until", until.as_deref()),
            ("policy version", policy.as_deref()),
        ]);
        Some(Event { at, what: format!("attempt {}: claimed", self.attempt_count), details })
    }

    fn describe(&self) -> String {
        let mut parts = Vec::new();
        match (&self.hold_reason, self.lease_expires_at) {
            (Some(reason), _) => parts.push(format!("HELD, {}: waits for a person", printable(reason))),
            (None, Some(until)) => {
                let by = self.claimed_by.as_deref().map(printable).unwrap_or_default();
                parts.push(format!("claimed by {by}, lease until {}", utc(until)));
            }
            (None, None) => {
                let disposition = printable(&self.disposition);
                parts.push(format!("{disposition}, next attempt not before {}", utc(self.next_attempt_at)));
            }
        }
        if let Some(since) = self.in_doubt_since {
            parts.push(format!("may have been executed, in doubt since {}", utc(since)));
        }
        if let Some(until) = self.quarantine_until {
            parts.push(format!("what was sent may be under way until {}", utc(until)));
        }
        if self.late_success {
            parts.push("a late success is known".to_owned());
        }
        parts.push(format!("{} sends, {} lost leases", self.send_count, self.crash_count));
        parts.join("; ")
    }
}

impl Timeline {
    /// The whole, as lines.
    pub(super) fn describe(&self) -> String {
        let mut text = String::new();
        for (name, value) in self.head() {
            text.push_str(&format!("{name:<16}{}\n", printable(&value)));
        }
        let mut rows = table(&["at", "after", "event", "details"], 4);
        let mut before = None;
        for event in self.events() {
            let after = before.map_or_else(|| "-".to_owned(), |before| difference(event.at - before));
            before = Some(event.at);
            rows.add_row([utc(event.at), after, event.what, event.details]);
        }
        text.push('\n');
        text.push_str(&render(&rows));
        text.push_str(&format!("\nnow             {}\n", self.now()));
        text
    }

    fn head(&self) -> Vec<(&'static str, String)> {
        let amount = self.amount_minor.zip(self.currency.as_ref());
        let optional = [
            ("amount", amount.map(|(minor, currency)| format!("{minor} minor units {currency}"))),
            ("not before", self.not_before.map(utc)),
            ("not after", self.not_after.map(utc)),
            ("traceparent", self.traceparent.clone()),
            ("attestation", self.attestation_id.clone()),
        ];
        let always = [
            ("payment", self.outbox_id.clone()),
            ("participant", self.participant_id.clone()),
            ("instruction", format!("{}, generation {}", self.instruction_id, self.generation)),
            ("key", self.idempotency_key.clone()),
            ("rail", self.rail.clone()),
            ("content", format!("{} bytes of {}", self.payload_bytes, self.content_type)),
            ("content sha256", self.payload_sha256.clone()),
        ];
        let optional = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
        always.into_iter().chain(optional).collect()
    }

    /// In the order of the database's clock; what a worker's clock says stays with its attempt.
    fn events(&self) -> Vec<Event> {
        let policy = self.policy_version.map(|version| version.to_string());
        let by = named(&[("by", Some(self.enqueued_by.as_str())), ("policy version", policy.as_deref())]);
        let enqueued = vec![Event { at: self.enqueued_at, what: "enqueued".to_owned(), details: by }];
        let mut groups = vec![(self.enqueued_at, enqueued)];
        groups.extend(self.attestation.iter().map(Attestation::events));
        groups.extend(self.actions.iter().flat_map(Action::events));
        groups.extend(self.attempts.iter().map(|attempt| (attempt.claimed_at, attempt.events())));
        groups.extend(self.late_outcomes.iter().map(|late| (late.recorded_at, late.events())));
        groups.extend(self.pending.iter().filter_map(Pending::lease).map(|event| (event.at, vec![event])));
        groups.sort_by_key(|(at, _)| *at);
        groups.into_iter().flat_map(|(_, events)| events).collect()
    }

    fn now(&self) -> String {
        let end = AttemptState::ALL.into_iter().filter(|state| state.is_terminal()).map(AttemptState::name);
        let end = end.into_iter().find(|name| self.attempts.iter().any(|attempt| attempt.state == *name));
        match (&self.pending, end) {
            (Some(pending), _) => pending.describe(),
            (None, Some(state)) => format!("finished: {state}"),
            (None, None) => "neither pending nor finished: this must not be, call a person".to_owned(),
        }
    }
}

/// A wait, with a minus where two clocks disagree.
fn difference(length: time::Duration) -> String {
    let millis = Millis(u64::try_from(length.whole_milliseconds().unsigned_abs()).unwrap_or(u64::MAX));
    let sign = if length.is_negative() { "-" } else { "" };
    format!("{sign}{}", age(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"{
        "outbox_id": "0198", "participant_id": "p", "instruction_id": "i", "generation": 0, "idempotency_key": "k",
        "rail": "sepa", "content_type": "application/xml", "payload_bytes": 3, "payload_sha256": "00", "amount_minor": 5,
        "currency": "EUR", "not_before": null, "not_after": null, "traceparent": null, "attestation_id": null,
        "attestation": null, "actions": [],
        "enqueued_by": "t", "enqueued_at": "2026-01-31T08:00:00+00:00",
        "pending": {"disposition": "HELD", "hold_reason": "UNKNOWN", "attempt_count": 2, "send_count": 2,
            "crash_count": 0, "in_doubt_since": "2026-01-31T08:00:12+00:00",
            "quarantine_until": "2026-01-31T08:01:42+00:00", "late_success": false,
            "next_attempt_at": "2026-01-31T08:00:12+00:00", "claimed_by": null, "claimed_at": null,
            "lease_expires_at": null, "a_later_column": 1},
        "attempts": [
            {"attempt_no": 1, "kind": "SUBMIT", "state": "RETRYABLE", "outcome": "NOT_SENT", "worker_id": "w/1",
             "claimed_at": "2026-01-31T08:00:01.5+00:00", "first_byte_at": null, "last_byte_at": null,
             "completed_at": "2026-01-31T08:00:02+00:00", "endpoint": null, "rail_reference": null,
             "rail_code": null, "error_class": "connect", "error_detail": "refused\u001b[2J"},
            {"attempt_no": 2, "kind": "SUBMIT", "state": "IN_DOUBT", "outcome": "UNKNOWN", "worker_id": "w/1",
             "claimed_at": "2026-01-31T08:00:07+00:00", "first_byte_at": "2026-01-31T08:00:06.9+00:00",
             "last_byte_at": null, "completed_at": "2026-01-31T08:00:12+00:00", "endpoint": "https://r/",
             "rail_reference": null, "rail_code": null, "error_class": "reset", "error_detail": null}],
        "late_outcomes": []}"#;

    #[test]
    fn the_waits_between_attempts_and_what_is_pending_are_shown() {
        let timeline: Timeline = serde_json::from_str(DOCUMENT).unwrap();
        let text = timeline.describe();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let event = |at: &str| lines.iter().find(|line| line.first() == Some(&at)).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(event("2026-01-31T08:00:07.000Z")[1..5], ["5s", "attempt", "2:", "claimed"]);
        assert_eq!(event("2026-01-31T08:00:06.900Z")[1..6], ["-100ms", "attempt", "2:", "first", "byte"]);
        assert_eq!(event("2026-01-31T08:00:02.000Z")[1..5], ["500ms", "attempt", "1:", "RETRYABLE"]);
        assert!(text.contains("HELD, UNKNOWN: waits for a person; may have been executed"), "{text}");
        assert!(text.contains("what was sent may be under way until 2026-01-31T08:01:42.000Z"), "{text}");
        assert!(text.contains("refused\\u{1b}[2J") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_payment_that_is_neither_pending_nor_finished_is_pointed_out() {
        let mut timeline: Timeline = serde_json::from_str(DOCUMENT).unwrap();
        timeline.pending = None;
        assert!(timeline.now().contains("must not be"));
        timeline.attempts[1].state = "FAILED".to_owned();
        assert_eq!(timeline.now(), "finished: FAILED");
    }
}
