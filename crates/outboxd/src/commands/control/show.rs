//! How actions and payments look: tables for people, JSON and CSV for programs.

use std::collections::BTreeMap;
use std::io::Write;

use outbox_store::ActionResult;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::commands::output::{Output, printable, render, table};
use crate::exit::Failure;

/// Sums in minor units, such as `: 1250 EUR, 300 USD (minor units)`.
pub(crate) fn money(amounts: &BTreeMap<String, i128>) -> String {
    let sums: Vec<String> = amounts.iter().map(|(currency, sum)| format!("{sum} {currency}")).collect();
    if sums.is_empty() { String::new() } else { format!(", {} (minor units)", sums.join(", ")) }
}

/// What became of payments.
pub(super) fn results(
    action_id: Uuid,
    all: &[ActionResult],
    remaining: i64,
    output: Output,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let applied = all.iter().filter(|result| result.applied).count();
    match output {
        Output::Json => {
            let list: Vec<Value> = all
                .iter()
                .map(|one| {
                    json!({"outbox_id": one.outbox_id.to_string(), "applied": one.applied, "detail": one.detail,
                           "new_outbox_id": one.new_outbox_id.map(|id| id.to_string())})
                })
                .collect();
            writeln!(
                out,
                "{}",
                json!({"action_id": action_id.to_string(), "applied": applied, "remaining": remaining, "results": list})
            )?;
        }
        Output::Table => {
            let mut rows = table(&["outbox_id", "done", "detail"], 9);
            for one in all.iter().filter(|one| !one.applied || one.detail.is_some() || one.new_outbox_id.is_some()) {
                let new = one.new_outbox_id.map(|id| format!("now {id}"));
                let detail: Vec<String> = one.detail.iter().cloned().chain(new).collect();
                rows.add_row([
                    one.outbox_id.to_string(),
                    if one.applied { "yes" } else { "no" }.to_owned(),
                    printable(&detail.join("; ")),
                ]);
            }
            if rows.row_count() > 0 {
                out.write_all(render(&rows).as_bytes())?;
            }
            writeln!(out, "action {action_id}: done for {applied} of {} payments", all.len())?;
        }
    }
    Ok(())
}

/// One value of a document as text: nothing for null.
pub(crate) fn field(document: &Value, name: &str) -> String {
    match &document[name] {
        Value::Null => String::new(),
        Value::String(text) => printable(text),
        other => other.to_string(),
    }
}

/// Documents as a table of `columns`.
pub(crate) fn documents(all: &[Value], columns: &[&str], out: &mut dyn Write) -> Result<(), Failure> {
    let mut rows = table(columns, columns.len());
    for document in all {
        rows.add_row(columns.iter().map(|name| field(document, name)));
    }
    out.write_all(render(&rows).as_bytes())?;
    Ok(())
}

/// Documents as CSV (RFC 4180), with a header.
pub(crate) fn csv(all: &[Value], columns: &[&str], out: &mut dyn Write) -> Result<(), Failure> {
    csv_header(columns, out)?;
    csv_lines(all, columns, out)
}

/// The names of the columns, as the first line of CSV.
pub(super) fn csv_header(columns: &[&str], out: &mut dyn Write) -> Result<(), Failure> {
    Ok(write!(out, "{}\r\n", columns.join(","))?)
}

/// Documents as lines of CSV, without a header.
pub(super) fn csv_lines(all: &[Value], columns: &[&str], out: &mut dyn Write) -> Result<(), Failure> {
    let quoted = |text: String| {
        // A cell that begins so is a formula to spreadsheets.
        let text = if text.starts_with(['=', '+', '-', '@']) { format!("'{text}") } else { text };
        if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
    };
    for document in all {
        let cells: Vec<String> = columns.iter().map(|name| quoted(field(document, name))).collect();
        write!(out, "{}\r\n", cells.join(","))?;
    }
    Ok(())
}
