//! The figures of a run: as lines while it goes on, as JSON for `evidence/`, and as one last line.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use comfy_table::{Table, presets};
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{BenchError, io};
use crate::meter::real;

/// The figures of the last line, in its order.
const LINE: [&str; 13] = [
    "drain_vs_floor",
    "drain_per_s",
    "wal_drain",
    "wal_enqueue",
    "enqueue_vs_plain",
    "enqueue_hint_ratio",
    "wakeup_p50_ms",
    "wakeup_p99_ms",
    "depth_ratio",
    "pinned_ratio",
    "burst_ratio",
    "http_vs_limit",
    "statements_per_payment",
];

/// What was measured so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    raw: Vec<Value>,
    figures: BTreeMap<&'static str, Vec<f64>>,
    line: BTreeMap<&'static str, f64>,
}

impl Report {
    /// Keeps raw figures of one measurement, as they are.
    pub(crate) fn raw(&mut self, work: &str, variant: &str, figures: &impl Serialize) {
        self.raw.push(json!({ "work": work, "variant": variant, "figures": figures }));
    }

    /// Keeps one figure, of which the median and the range are told at the end.
    pub(crate) fn figure(&mut self, name: &'static str, value: f64) {
        let _ = writeln!(std::io::stderr().lock(), "{name} {value:.4}");
        self.figures.entry(name).or_default().push(value);
    }

    /// The median of what was kept under `name`.
    pub(crate) fn median(&self, name: &str) -> f64 {
        let mut values = self.figures.get(name).cloned().unwrap_or_default();
        values.sort_by(f64::total_cmp);
        quantile(&values, 0.5)
    }

    /// Puts a figure into the last line.
    pub(crate) fn line(&mut self, name: &'static str, value: f64) {
        debug_assert!(LINE.contains(&name), "{name}");
        self.line.insert(name, value);
    }

    /// The table of all figures: how often each was measured, its median, least and greatest.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_header(["figure", "runs", "median", "least", "greatest"]);
        for (name, values) in &self.figures {
            let bound = |pick: fn(f64, f64) -> f64| values.iter().copied().reduce(pick).unwrap_or(f64::NAN);
            let shown = [self.median(name), bound(f64::min), bound(f64::max)].map(|value| format!("{value:.4}"));
            let mut row = vec![(*name).to_owned(), values.len().to_string()];
            row.extend(shown);
            table.add_row(row);
        }
        table.to_string()
    }

    /// The last line: what was not measured in this run is not in it.
    pub(crate) fn last_line(&self) -> String {
        let figures = LINE.iter().filter_map(|name| Some(format!(" {name}={:.4}", self.line.get(name)?)));
        figures.fold("BENCH".to_owned(), |line, figure| line + &figure)
    }

    /// Writes everything as JSON, under the lines of `head`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write(&self, file: &Path, head: &str) -> Result<(), BenchError> {
        let load = fs::read_to_string("/proc/loadavg").map_err(io("/proc/loadavg"))?;
        let load = format!("load at the end: {}", load.split_whitespace().take(3).collect::<Vec<_>>().join(" "));
        let head: Vec<&str> = head.lines().filter(|line| !line.is_empty()).chain([load.as_str()]).collect();
        let whole = json!({ "head": head, "line": self.line, "figures": self.figures, "raw": self.raw });
        let text = serde_json::to_string_pretty(&whole).map_err(|error| BenchError::Wrong(error.to_string()))?;
        fs::write(file, text + "\n").map_err(io("the report"))
    }
}

/// A figure of `sorted` below which `share` of them lie; the greatest for 1.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the list")]
    let place = (real(last) * share).round() as usize;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_has_what_was_measured_in_its_order() {
        let mut report = Report::default();
        report.line("wal_drain", 950.0);
        report.line("drain_vs_floor", 1.25);
        assert_eq!(report.last_line(), "BENCH drain_vs_floor=1.2500 wal_drain=950.0000");
    }

    #[test]
    fn the_table_has_median_and_range() {
        let mut report = Report::default();
        for value in [3.0, 1.0, 2.0] {
            report.figure("depth_ratio", value);
        }
        assert!((report.median("depth_ratio") - 2.0).abs() < f64::EPSILON);
        let table = report.table();
        let row = table.lines().last().unwrap_or_default();
        let cells: Vec<&str> = row.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!(cells, ["depth_ratio", "3", "2.0000", "1.0000", "3.0000"]);
    }

    #[test]
    fn a_quantile_is_one_of_the_figures() {
        let figures: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|share| quantile(&figures, share)), [0.0, 50.0, 99.0, 100.0]);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
