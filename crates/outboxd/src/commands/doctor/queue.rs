//! How many payments of each rail wait, for the daemon or for a person. Nothing here reads a payment.

use outbox_core::RailName;
use outbox_store::{Figure, Session};

use super::database::unasked;
use super::finding::Finding;
use crate::config::Config;

pub(super) const QUEUE: &str = "queue";

/// A payment that has been due for longer, in seconds, is looked at; the alert `OutboxdOldestDue` has the same bound.
const DUE_AGE_MAX: f64 = 300.0;

/// A payment that has been tried for longer, in seconds, backs off without end; the alert `OutboxdRetriesForLong` has the same bound.
const RETRYING_AGE_MAX: f64 = 3_600.0;

/// A payment whose outcome has been unknown for longer, in seconds, is looked at; the alert `OutboxdInDoubt` has the same bound.
const IN_DOUBT_AGE_MAX: f64 = 900.0;

/// The queue of each configured rail.
pub(super) async fn queue(session: &mut Session, config: &Config) -> Vec<Finding> {
    match outbox_store::read_metrics(session, &[]).await {
        Ok(figures) => config.rails.keys().map(|rail| judge(rail, &figures).of(rail)).collect(),
        Err(error) => vec![unasked(QUEUE, error)],
    }
}

fn judge(rail: &RailName, figures: &[Figure]) -> Finding {
    let of_rail = |name: &str| -> Option<f64> {
        let of_it =
            |figure: &&Figure| figure.name == name && figure.labels.first().is_some_and(|of| of == rail.as_str());
        figures.iter().filter(of_it).map(|figure| figure.value).reduce(|sum, value| sum + value)
    };
    let Some(due) = of_rail("payments_due") else { return Finding::skipped(QUEUE, "the rail has no contract") };
    let count = |name| of_rail(name).unwrap_or_default();
    let (held, in_doubt, age) = (count("payments_held"), count("payments_in_doubt"), count("oldest_due_age_seconds"));
    let parked = count("payments_parked");
    let seen = format!("due {due}, in doubt {in_doubt}, parked {parked}, held {held}");
    let doubted = count("oldest_in_doubt_age_seconds");
    if doubted > IN_DOUBT_AGE_MAX {
        let seen = format!("{seen}; the oldest has been in doubt for {doubted:.0} s");
        let to_do = "inquiries are not answered, or no daemon settles lost leases; outboxd list --state in-doubt";
        return Finding::warning(QUEUE, seen, to_do);
    }
    if age > DUE_AGE_MAX {
        let seen = format!("{seen}; the oldest has been due for {age:.0} s");
        return Finding::warning(
            QUEUE,
            seen,
            "if all else is well, the rail is slower than what comes in: outboxd status",
        );
    }
    let retrying = count("oldest_retrying_age_seconds");
    if retrying > RETRYING_AGE_MAX {
        let seen = format!("{seen}; the oldest that was tried has waited for {retrying:.0} s");
        return Finding::warning(
            QUEUE,
            seen,
            "it backs off between its attempts: throttled, refused a connection, or bound to an endpoint that is gone; outboxd inspect says which",
        );
    }
    if held > 0.0 {
        return Finding::warning(QUEUE, seen, "held ones wait for a person; as an operator: outboxd list --state held");
    }
    Finding::ok(QUEUE, seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payments_that_wait_long_or_for_a_person_are_a_warning() {
        let figure = |name: &str, of: &[&str], value| Figure {
            name: name.to_owned(),
            labels: of.iter().map(|&of| of.to_owned()).collect(),
            value,
        };
        let judged = |age, held| {
            let all = [
                figure("payments_due", &["a"], 7.0),
                figure("oldest_due_age_seconds", &["a"], age),
                figure("payments_held", &["a", "UNKNOWN"], held),
                figure("payments_held", &["a", "EXHAUSTED"], 1.0),
                figure("payments_held", &["b", "EXHAUSTED"], 40.0),
            ];
            format!("{:?}", judge(&RailName::new("a").unwrap(), &all))
        };
        assert!(judged(300.0, -1.0).contains("verdict: Ok"));
        assert!(
            judged(0.0, 2.0).contains("verdict: Warning")
                && judged(0.0, 2.0).contains("due 7, in doubt 0, parked 0, held 3")
        );
        let doubted = [figure("payments_due", &["a"], 0.0), figure("oldest_in_doubt_age_seconds", &["a"], 901.0)];
        let doubted = format!("{:?}", judge(&RailName::new("a").unwrap(), &doubted));
        assert!(doubted.contains("verdict: Warning") && doubted.contains("in doubt for 901 s"), "{doubted}");
        let tried = [figure("payments_due", &["a"], 0.0), figure("oldest_retrying_age_seconds", &["a"], 3_601.0)];
        let tried = format!("{:?}", judge(&RailName::new("a").unwrap(), &tried));
        assert!(tried.contains("verdict: Warning") && tried.contains("waited for 3601 s"), "{tried}");
        assert!(judged(301.0, -1.0).contains("verdict: Warning") && judged(301.0, -1.0).contains("due for 301 s"));
        assert!(format!("{:?}", judge(&RailName::new("c").unwrap(), &[])).contains("verdict: Skipped"));
    }
}
