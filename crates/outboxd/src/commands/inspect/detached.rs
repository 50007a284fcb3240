//! What is left of a payment whose month was detached, put into words: who it was, and the receipts that say where the
//! rest is.

use serde::Deserialize;
use time::OffsetDateTime;

use crate::commands::output::{printable, render, table, utc};

/// The document that `read_payment_timelines` has for such a payment.
#[derive(Debug, Deserialize)]
pub(super) struct Remains {
    outbox_id: String,
    participant_id: String,
    instruction_id: String,
    generation: i32,
    idempotency_key: String,
    detached: Vec<TableReceipt>,
    late_outcomes: Vec<LateOutcome>,
}

#[derive(Debug, Deserialize)]
struct TableReceipt {
    table_name: String,
    row_count: i64,
    rows_sha256: String,
    recorded_by: String,
    #[serde(with = "time::serde::rfc3339")]
    recorded_at: OffsetDateTime,
}

#[derive(Debug, Deserialize)]
struct LateOutcome {
    attempt_no: i32,
    outcome: String,
    #[serde(with = "time::serde::rfc3339")]
    recorded_at: OffsetDateTime,
    rail_reference: Option<String>,
}

impl Remains {
    /// The whole, as lines.
    pub(super) fn describe(&self) -> String {
        let head = [
            ("payment", self.outbox_id.clone()),
            ("participant", self.participant_id.clone()),
            ("instruction", format!("{}, generation {}", self.instruction_id, self.generation)),
            ("key", self.idempotency_key.clone()),
        ];
        let mut text: String = head.iter().map(|(name, value)| format!("{name:<16}{}\n", printable(value))).collect();
        let mut receipts = table(&["table", "rows", "sha256", "recorded by", "recorded at"], 5);
        for one in &self.detached {
            receipts.add_row([
                printable(&one.table_name),
                one.row_count.to_string(),
                printable(&one.rows_sha256),
                printable(&one.recorded_by),
                utc(one.recorded_at),
            ]);
        }
        text.push_str(&format!("\n{}", render(&receipts)));
        for late in &self.late_outcomes {
            let reference = late.rail_reference.as_deref().map(|text| format!(", reference {}", printable(text)));
            text.push_str(&format!(
                "\n{}  late outcome of attempt {}: {}{}\n",
                utc(late.recorded_at),
                late.attempt_no,
                printable(&late.outcome),
                reference.unwrap_or_default()
            ));
        }
        text.push_str("\nnow             ended, and detached with its month: what was sent is in the tables above, or in the archive\n");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_it_was_and_where_the_rest_is_are_shown() {
        let document = r#"{"outbox_id": "0198", "participant_id": "p", "instruction_id": "i\u001b[2J", "generation": 1, "idempotency_key": "k",
            "detached": [{"table_name": "payment_outbox_attempts_y2026m01", "row_count": 3, "rows_sha256": "ab", "recorded_by": "m",
                          "recorded_at": "2027-03-01T08:00:00+00:00"}],
            "late_outcomes": [{"attempt_no": 2, "outcome": "ACCEPTED", "recorded_at": "2027-03-02T08:00:00+00:00", "rail_reference": "R", "worker_id": "w"}]}"#;
        let remains: Remains = serde_json::from_str(document).unwrap();
        let text = remains.describe();
        for shown in [
            "payment_outbox_attempts_y2026m01",
            "2027-03-01T08:00:00.000Z",
            "attempt 2: ACCEPTED, reference R",
            "generation 1",
        ] {
            assert!(text.contains(shown), "{shown}: {text}");
        }
        assert!(text.contains("detached with its month") && !text.contains('\u{1b}'), "{text}");
    }
}
