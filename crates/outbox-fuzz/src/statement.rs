//! A rail's statement in CSV for `outboxd reconcile`: each line is one record of the file, the sums are those of its lines,
//! and the same lines written otherwise are the same statement.

use std::collections::BTreeMap;

use outbox_store::StatementLine;
use outboxd::parsers::{Statement, statement};
use sha2::{Digest as _, Sha256};
use time::format_description::well_known::Rfc3339;
use time::macros::datetime;

use crate::csv;

const COLUMNS: [&str; 6] = ["wire_key", "rail_reference", "amount_minor", "currency", "booked_at", "status"];
const PAID: [&str; 2] = ["BOOKED", "paid"];

/// Panics unless it holds of `data`.
pub(crate) fn target(data: &[u8]) {
    let without = read(data, false);
    let with = read(data, true);
    assert!(without.is_err() || with.is_err(), "accepted with a column status and without one");
    for (read, has_status) in [(without, false), (with, true)] {
        match read {
            Ok(statement) => accepted(&statement, data, has_status),
            Err(fault) => {
                assert!(!fault.chars().any(char::is_control), "a message with control characters: {fault:?}");
                let line = fault.strip_prefix("input:").and_then(|rest| rest.split_once(": "));
                let line = line.and_then(|(line, _)| line.parse::<usize>().ok());
                let lines = data.split(|byte| *byte == b'\n').count();
                assert!(line.is_some_and(|line| (1..=lines).contains(&line)), "{lines} lines: {fault}");
            }
        }
    }
}

fn read(data: &[u8], has_status: bool) -> Result<Statement, String> {
    let paid: Vec<String> = if has_status { PAID.map(str::to_owned).to_vec() } else { Vec::new() };
    statement(data, &paid, datetime!(2026-01-31 00:00 UTC)..datetime!(2026-02-01 00:00 UTC))
}

fn accepted(statement: &Statement, data: &[u8], has_status: bool) {
    let text = std::str::from_utf8(data).expect("accepted, and is no UTF-8");
    let records = csv::records(text);
    let (_, header) = records.first().expect("accepted without a header");
    let place = |name: &str| header.iter().position(|given| given.eq_ignore_ascii_case(name));
    assert_eq!(statement.lines.len(), records.len() - 1, "not as many lines as records");
    for (line, (begins, record)) in statement.lines.iter().zip(&records[1..]) {
        assert_eq!(record.len(), header.len());
        assert_eq!(usize::try_from(line.line_no), Ok(*begins));
        let field = |name: &str| place(name).map(|place| record[place].trim()).filter(|text| !text.is_empty());
        assert_eq!(line.wire_key.as_deref(), field("wire_key"));
        assert_eq!(line.rail_reference.as_deref(), field("rail_reference"));
        assert_eq!(Some(line.currency.as_str()), field("currency"));
        assert_eq!(line.status.as_deref(), field("status"));
        let amount = field("amount_minor").map(|digits| digits.trim_start_matches('0'));
        assert!(line.amount_minor > 0 && Some(line.amount_minor.to_string().as_str()) == amount);
        assert!(line.currency.len() == 3 && line.currency.bytes().all(|byte| byte.is_ascii_uppercase()));
        assert_eq!(line.booked_at.is_some(), field("booked_at").is_some());
        let is_paid = !has_status || field("status").is_some_and(|status| PAID.contains(&status));
        assert_eq!(line.is_paid, is_paid);
        assert!(line.wire_key.is_some() || line.rail_reference.is_some());
    }
    check_sums(statement);
    assert_eq!(statement.sha256, Sha256::digest(data).to_vec());
    let again = read(written_out(&statement.lines, has_status).as_bytes(), has_status).expect("what was accepted");
    let without_places = |lines: &[StatementLine]| -> Vec<StatementLine> {
        lines.iter().map(|line| StatementLine { line_no: 0, ..line.clone() }).collect()
    };
    assert_eq!(without_places(&again.lines), without_places(&statement.lines), "written out and read again");
    assert_eq!((again.sums, again.paid_lines), (statement.sums.clone(), statement.paid_lines));
}

fn check_sums(statement: &Statement) {
    let mut sums: BTreeMap<&str, i128> = BTreeMap::new();
    let paid = || statement.lines.iter().filter(|line| line.is_paid);
    for line in paid() {
        *sums.entry(&line.currency).or_default() += i128::from(line.amount_minor);
    }
    let given: Vec<(&str, i128)> = statement.sums.iter().map(|(currency, sum)| (currency.as_str(), *sum)).collect();
    assert_eq!(given, sums.into_iter().collect::<Vec<_>>());
    assert_eq!(usize::try_from(statement.paid_lines), Ok(paid().count()));
}

fn written_out(lines: &[StatementLine], has_status: bool) -> String {
    let columns = if has_status { &COLUMNS[..] } else { &COLUMNS[..5] };
    let mut text = csv::written(columns);
    for line in lines {
        let optional = |value: &Option<String>| value.clone().unwrap_or_default();
        let booked_at = line.booked_at.map(|at| at.format(&Rfc3339).expect("it was read in this form"));
        let fields = [
            optional(&line.wire_key),
            optional(&line.rail_reference),
            line.amount_minor.to_string(),
            line.currency.clone(),
            booked_at.unwrap_or_default(),
            optional(&line.status),
        ];
        let fields: Vec<&str> = fields.iter().take(columns.len()).map(String::as_str).collect();
        text.push_str(&csv::written(&fields));
    }
    text
}
