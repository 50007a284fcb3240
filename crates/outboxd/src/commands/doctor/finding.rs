//! What a check found, and how a list of findings looks. Nothing is checked here.

use std::io::Write;

use serde_json::{Value, json};

use crate::commands::output::{printable, render, table};
use crate::exit::Failure;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// Payments go out; look at it all the same.
    Warning,
    /// Payments are kept from going out, or from being enqueued.
    Fault,
    /// Not looked at.
    Skipped,
}

impl Verdict {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fault => "fault",
            Self::Skipped => "skipped",
        }
    }
}

/// What one check found.
#[derive(Debug)]
pub(super) struct Finding {
    check: &'static str,
    rail: Option<String>,
    verdict: Verdict,
    seen: String,
    to_do: Option<String>,
}

impl Finding {
    const fn new(check: &'static str, verdict: Verdict, seen: String, to_do: Option<String>) -> Self {
        Self { check, rail: None, verdict, seen, to_do }
    }

    pub(super) fn ok(check: &'static str, seen: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, seen.into(), None)
    }

    pub(super) fn warning(check: &'static str, seen: impl Into<String>, to_do: impl Into<String>) -> Self {
        Self::new(check, Verdict::Warning, seen.into(), Some(to_do.into()))
    }

    pub(super) fn fault(check: &'static str, seen: impl Into<String>, to_do: impl Into<String>) -> Self {
        Self::new(check, Verdict::Fault, seen.into(), Some(to_do.into()))
    }

    pub(super) fn skipped(check: &'static str, why: impl Into<String>) -> Self {
        Self::new(check, Verdict::Skipped, why.into(), None)
    }

    /// The same, about one rail.
    pub(super) fn of(self, rail: impl ToString) -> Self {
        Self { rail: Some(rail.to_string()), ..self }
    }

    fn json(&self) -> Value {
        let Self { check, rail, verdict, seen, to_do } = self;
        json!({"check": check, "rail": rail, "verdict": verdict.name(), "seen": seen, "to_do": to_do})
    }
}

/// How many findings have that verdict.
pub(super) fn count(findings: &[Finding], verdict: Verdict) -> usize {
    findings.iter().filter(|finding| finding.verdict == verdict).count()
}

/// A JSON array.
pub(super) fn show_json(findings: &[Finding], out: &mut dyn Write) -> Result<(), Failure> {
    let all: Vec<Value> = findings.iter().map(Finding::json).collect();
    Ok(writeln!(out, "{}", Value::from(all))?)
}

/// A line a finding, and how many are wrong.
pub(super) fn show_table(findings: &[Finding], out: &mut dyn Write) -> Result<(), Failure> {
    let mut rows = table(&["check", "rail", "verdict", "seen", "what to do"], 5);
    for Finding { check, rail, verdict, seen, to_do } in findings {
        let cell = |text: &Option<String>| text.as_deref().map(printable).unwrap_or_default();
        rows.add_row([(*check).to_owned(), cell(rail), verdict.name().to_owned(), printable(seen), cell(to_do)]);
    }
    out.write_all(render(&rows).as_bytes())?;
    Ok(writeln!(out, "{}", summary(findings))?)
}

/// `2 faults, 1 warning`.
pub(super) fn summary(findings: &[Finding]) -> String {
    let counted = |verdict, noun| match count(findings, verdict) {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    };
    format!("{}, {}", counted(Verdict::Fault, "fault"), counted(Verdict::Warning, "warning"))
}
