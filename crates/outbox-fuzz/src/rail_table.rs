//! The two rails whose answers are tried, and, apart from the product's tables, what their answers can mean.

use outbox_core::{AttemptKind, CodeRule, CodeTable, Meaning, Millis};
use outbox_rail::{AnswerField, HttpRail, HttpRailSettings, InquirySettings};

/// Whether the rail has a table of codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// None: statuses alone.
    Plain,
    /// Some codes mean what no status says.
    Codes,
}

/// The largest answer that the rails here read, in bytes.
pub(crate) const BODY_BYTES_MAX: usize = 1_024;

/// A rail at `url`.
pub(crate) fn rail(url: &str, table: Table) -> HttpRail {
    let field = |name: &str| AnswerField { json_pointer: Some(format!("/{name}")), header: Some(format!("x-{name}")) };
    let rule = |status, code: Option<&str>, means| CodeRule { status, code: code.map(str::to_owned), means };
    let (submit, inquire) = match table {
        Table::Plain => (Vec::new(), Vec::new()),
        Table::Codes => (
            vec![
                rule(200, Some("SETTLED"), Meaning::Accepted),
                rule(200, Some("PENDING"), Meaning::Interim),
                rule(200, Some("REJECTED"), Meaning::Refused),
                rule(409, Some("DECLINED"), Meaning::Refused),
                rule(422, Some("KEY_REUSED"), Meaning::KeyReused),
                rule(503, None, Meaning::NotExecuted),
                rule(503, Some("LOST"), Meaning::Unknown),
            ],
            vec![
                rule(200, Some("SETTLED"), Meaning::Accepted),
                rule(200, Some("REJECTED"), Meaning::Refused),
                rule(404, Some("UNKNOWN_KEY"), Meaning::NotFound),
            ],
        ),
    };
    let (reference, code) = (field("id"), field("code"));
    let inquiry = InquirySettings {
        path: "/payments/{key}".to_owned(),
        reference: reference.clone(),
        code: code.clone(),
        codes: CodeTable::new(inquire),
    };
    let settings = HttpRailSettings {
        timeout: Millis(10_000),
        pool_idle_timeout: Millis::ZERO,
        response_body_max: BODY_BYTES_MAX,
        reference,
        code,
        codes: CodeTable::new(submit),
        inquiry: Some(inquiry),
        ..HttpRailSettings::new(url)
    };
    HttpRail::new(settings).expect("settings of a rail")
}

/// What a payment status of ISO 20022 in a success means: it was taken, it was refused, or neither.
fn iso(status: u16, code: Option<&str>) -> Option<Meaning> {
    let code = code.filter(|_| (200..300).contains(&status))?.to_ascii_uppercase();
    let interim = ["RCVD", "ACTC", "ACCP", "ACFC", "ACSP", "ACWC", "ACWP", "ACPD", "PART", "PATC", "PDNG", "PRES"];
    match code.as_str() {
        "ACSC" | "ACCC" => Some(Meaning::Accepted),
        "RJCT" => Some(Meaning::Refused),
        "CANC" | "BLCK" => Some(Meaning::Unknown),
        code if interim.contains(&code) => Some(Meaning::Interim),
        _ => None,
    }
}

/// What a whole answer with this status and code means at most; the rest of it may make it unknown.
pub(crate) fn means(table: Table, kind: AttemptKind, status: u16, code: Option<&str>) -> Meaning {
    let named = match (table, kind, status, code) {
        (Table::Codes, _, 200, Some("SETTLED")) => Some(Meaning::Accepted),
        (Table::Codes, _, 200, Some("REJECTED")) => Some(Meaning::Refused),
        (Table::Codes, AttemptKind::Submit, 200, Some("PENDING")) => Some(Meaning::Interim),
        (Table::Codes, AttemptKind::Submit, 409, Some("DECLINED")) => Some(Meaning::Refused),
        (Table::Codes, AttemptKind::Submit, 422, Some("KEY_REUSED")) => Some(Meaning::KeyReused),
        (Table::Codes, AttemptKind::Submit, 503, Some("LOST")) => Some(Meaning::Unknown),
        (Table::Codes, AttemptKind::Submit, 503, _) => Some(Meaning::NotExecuted),
        _ => iso(status, code),
    };
    named.unwrap_or_else(|| unnamed(table, kind, status))
}

fn unnamed(table: Table, kind: AttemptKind, status: u16) -> Meaning {
    match (kind, status) {
        (AttemptKind::Submit, 200) if table == Table::Codes => Meaning::Unknown,
        (AttemptKind::Submit, 200 | 201) => Meaning::Accepted,
        (AttemptKind::Submit, 409) | (_, 202) => Meaning::Interim,
        (_, 401 | 403) => Meaning::RailRefusedUs,
        (_, 429) => Meaning::Throttled,
        (AttemptKind::Submit, 400..=407 | 410..=499) => Meaning::Refused,
        (AttemptKind::Inquire, 404) => Meaning::NotFound,
        _ => Meaning::Unknown,
    }
}
