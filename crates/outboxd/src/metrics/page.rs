//! The page of metrics: everything that is counted, and what the database said if that is not too old.

use std::sync::atomic::{AtomicU64, Ordering};

use outbox_core::forecast::Drain;
use outbox_core::{AttemptKind, AttemptState, BootTime, Millis, Outcome};

use super::catalogue as metric;
use super::counters::{ClaimResult, Metrics, RailMetrics, VERDICTS};
use super::text::{Text, float};
use crate::health::{HealthState, NotReady};
use crate::log_queue;

/// The media type of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The page at `now`.
#[must_use]
pub fn render(metrics: &Metrics, health: &HealthState, now: BootTime) -> String {
    let mut text = Text::default();
    text.add(&metric::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
    text.add(&metric::READY, &[], truth(health.reasons().is_empty()));
    let (off, open) = (health.lanes_off(), health.breakers_open());
    for (rail, counted) in &metrics.rails {
        let subject = format!("rail {rail}");
        text.add(&metric::LANE_OFF, &[rail.as_str()], truth(off.iter().any(|lane| lane.subject == subject)));
        let one_of_several = format!("{subject} at ");
        let left_alone = |open: &&NotReady| open.subject == subject || open.subject.starts_with(&one_of_several);
        text.add(&metric::ENDPOINTS, &[rail.as_str()], float(counted.endpoints as u64));
        text.add(&metric::BREAKER_OPEN, &[rail.as_str()], open.iter().filter(left_alone).count() as f64);
        add_rail(&mut text, rail.as_str(), counted);
    }
    text.add(&metric::UNRECORDED, &[], read(&metrics.unrecorded));
    let oldest = metrics.oldest_unrecorded_ms.load(Ordering::Relaxed);
    let oldest = if oldest == 0 { Millis::ZERO } else { now.since(BootTime(oldest)) };
    text.add(&metric::OLDEST_UNRECORDED, &[], seconds(oldest));
    text.add(&metric::LISTENER_CONNECTED, &[], truth(metrics.listener_connected.load(Ordering::Relaxed)));
    text.add(&metric::LOG_LINES_DROPPED, &[], read(&log_queue::LINES_DROPPED));
    add_sample(&mut text, metrics, now);
    text.finish()
}

fn add_rail(text: &mut Text, rail: &str, counted: &RailMetrics) {
    for (result, count) in ClaimResult::ALL.iter().zip(&counted.claims) {
        text.add(&metric::CLAIMS, &[rail, result.name()], read(count));
    }
    text.add(&metric::LEASES, &[rail], read(&counted.leases));
    text.add(&metric::SENDS_IN_FLIGHT, &[rail], read(&counted.in_flight));
    for (kind, sends) in AttemptKind::ALL.iter().zip(&counted.sends) {
        for (outcome, count) in Outcome::ALL.iter().zip(sends).filter(|(outcome, _)| outcome.is_of(*kind)) {
            text.add(&metric::SENDS, &[rail, kind.name(), outcome.name()], read(count));
        }
    }
    text.add_histogram(&metric::COMMIT_TO_FIRST_BYTE, &[rail], &counted.commit_to_first_byte);
    text.add_histogram(&metric::RAIL_LATENCY, &[rail], &counted.rail_latency);
    for (verdict, count) in VERDICTS.iter().zip(&counted.completions) {
        text.add(&metric::COMPLETIONS, &[rail, verdict], read(count));
    }
    for (state, count) in AttemptState::ALL.iter().zip(&counted.attempts) {
        text.add(&metric::ATTEMPTS, &[rail, state.name()], read(count));
    }
    text.add(&metric::BREAKER_OPENINGS, &[rail], read(&counted.breaker_openings));
}

fn add_sample(text: &mut Text, metrics: &Metrics, now: BootTime) {
    text.add(&metric::SAMPLE_AGE, &[], seconds(metrics.samples.age(now)));
    text.add(&metric::SAMPLES_FAILED, &[], float(metrics.samples.failures()));
    let Some((sample, forecasts)) = metrics.samples.fresh(now) else { return };
    text.add(&metric::SAMPLE_DURATION, &[], seconds(sample.took));
    for figure in &sample.figures {
        // A figure that this version does not know is one of a newer schema, or only counted with.
        let known = metric::by_short_name(&figure.name).filter(|metric| metric.labels.len() == figure.labels.len());
        if let Some(known) = known {
            let labels: Vec<&str> = figure.labels.iter().map(String::as_str).collect();
            text.add(known, &labels, figure.value);
        }
    }
    for (rail, drain) in forecasts {
        let time = match drain {
            Drain::In(time) => seconds(time),
            Drain::Never => f64::INFINITY,
        };
        text.add(&metric::DRAIN_FORECAST, &[&rail], time);
    }
}

fn read(count: &AtomicU64) -> f64 {
    float(count.load(Ordering::Relaxed))
}

fn truth(is_true: bool) -> f64 {
    if is_true { 1.0 } else { 0.0 }
}

fn seconds(time: Millis) -> f64 {
    float(time.0) / 1e3
}
