//! The Prometheus text format 0.0.4: each metric once, with its HELP and TYPE, labels escaped.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::catalogue::{ALL, Metric};
use super::histogram::{BOUNDS_MS, Histogram};

/// A page in the making.
#[derive(Debug, Default)]
pub(super) struct Text {
    samples: BTreeMap<&'static str, String>,
}

impl Text {
    /// Adds a value of `metric`; `labels` are the values of its labels, in order.
    pub(super) fn add(&mut self, metric: &Metric, labels: &[&str], value: f64) {
        self.sample(metric, "", &pairs(metric, labels), value);
    }

    /// Adds what `histogram` has counted.
    pub(super) fn add_histogram(&mut self, metric: &Metric, labels: &[&str], histogram: &Histogram) {
        let pairs = pairs(metric, labels);
        let (cumulative, sum_us) = histogram.read();
        let bounds = BOUNDS_MS.iter().map(|bound| number(float(*bound) / 1e3)).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(cumulative) {
            let mut pairs = pairs.clone();
            pairs.push(("le", bound));
            self.sample(metric, "_bucket", &pairs, float(count));
        }
        self.sample(metric, "_sum", &pairs, float(sum_us) / 1e6);
        self.sample(metric, "_count", &pairs, float(cumulative[BOUNDS_MS.len()]));
    }

    fn sample(&mut self, metric: &Metric, suffix: &str, pairs: &[(&str, String)], value: f64) {
        let lines = self.samples.entry(metric.name).or_default();
        let _ = write!(lines, "{}{suffix}", metric.name);
        for (place, (name, value)) in pairs.iter().enumerate() {
            let _ = write!(lines, "{}{name}=\"{}\"", if place == 0 { '{' } else { ',' }, escaped(value));
        }
        let _ = writeln!(lines, "{} {}", if pairs.is_empty() { "" } else { "}" }, number(value));
    }

    /// The page: every metric, also those that have no value now.
    pub(super) fn finish(self) -> String {
        let mut page = String::new();
        for metric in ALL {
            let help = metric.help.trim().replace(".  ", ". ");
            let _ = writeln!(page, "# HELP {} {help}\n# TYPE {} {}", metric.name, metric.name, metric.kind.name());
            page.push_str(self.samples.get(metric.name).map_or("", String::as_str));
        }
        page
    }
}

fn pairs(metric: &Metric, labels: &[&str]) -> Vec<(&'static str, String)> {
    assert_eq!(metric.labels.len(), labels.len(), "{} has other labels", metric.name);
    metric.labels.iter().copied().zip(labels.iter().map(|label| (*label).to_owned())).collect()
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn number(value: f64) -> String {
    if value == f64::INFINITY { "+Inf".to_owned() } else { value.to_string() }
}

/// Counts are shown as floating point, exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "what is lost is less than a part in 10^15")]
pub(super) const fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::catalogue::{DRAIN_FORECAST, DUE, RAIL_LATENCY};
    use super::*;

    #[test]
    fn labels_are_escaped_and_numbers_are_those_of_the_format() {
        let mut text = Text::default();
        text.add(&DUE, &["a\"b\\c\nd"], 12.0);
        text.add(&DRAIN_FORECAST, &["x"], f64::INFINITY);
        let page = text.finish();
        assert!(page.contains("\noutboxd_payments_due{rail=\"a\\\"b\\\\c\\nd\"} 12\n"), "{page}");
        assert!(page.contains("\noutboxd_drain_forecast_seconds{rail=\"x\"} +Inf\n"), "{page}");
    }

    #[test]
    fn a_histogram_shows_seconds() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_millis(7));
        let mut text = Text::default();
        text.add_histogram(&RAIL_LATENCY, &["x"], &histogram);
        let page = text.finish();
        let name = RAIL_LATENCY.name;
        for line in [
            "_bucket{rail=\"x\",le=\"0.005\"} 0",
            "_bucket{rail=\"x\",le=\"0.01\"} 1",
            "_bucket{rail=\"x\",le=\"+Inf\"} 1",
        ]
        .into_iter()
        .chain(["_sum{rail=\"x\"} 0.007", "_count{rail=\"x\"} 1"])
        {
            assert!(page.contains(&format!("\n{name}{line}\n")), "{line} in\n{page}");
        }
    }
}
