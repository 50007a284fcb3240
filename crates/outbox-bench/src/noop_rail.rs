//! A rail inside the process that accepts everything at once, and reports as much of each exchange as the HTTP rail does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use outbox_core::{OutboxId, Outcome};
use outbox_rail::{Exchanging, Inquiry, MaySend, Rail, Submission, WireReport};
use tokio::sync::mpsc;

/// As long as an HTTP rail's would be.
const ENDPOINT: &str = "https://rail.example/payments";

/// The rail.
pub(crate) struct NoopRail {
    submissions: AtomicU64,
    doubt_every: Option<u64>,
    arrivals: Option<mpsc::UnboundedSender<(OutboxId, Instant)>>,
}

impl NoopRail {
    /// One that tells `arrivals` when the first byte of each payment could leave.
    pub(crate) const fn new(arrivals: Option<mpsc::UnboundedSender<(OutboxId, Instant)>>) -> Self {
        Self { submissions: AtomicU64::new(0), doubt_every: None, arrivals }
    }

    /// The same, but each `every`-th exchange ends without an answer.
    pub(crate) fn with_doubt_every(self, every: u64) -> Self {
        Self { doubt_every: Some(every), ..self }
    }

    /// How many payments it was given.
    pub(crate) fn submissions(&self) -> u64 {
        self.submissions.load(Ordering::Relaxed)
    }

    fn report(outcome: Outcome, reference: Option<String>) -> WireReport {
        let sent = outcome == Outcome::Accepted;
        let at = sent.then(SystemTime::now);
        WireReport {
            outcome,
            retry_after: None,
            endpoint: ENDPOINT.to_owned(),
            first_byte_at: at,
            last_byte_at: at,
            request_sha256: sent.then_some([7; 32]),
            response_sha256: sent.then_some([9; 32]),
            rail_reference: reference,
            rail_code: None,
            error_class: None,
            error_detail: None,
        }
    }
}

impl Rail for NoopRail {
    fn endpoint(&self) -> &str {
        ENDPOINT
    }

    fn submit(&self, submission: Submission, may_send: MaySend) -> Exchanging<'_> {
        Box::pin(async move {
            if !may_send() {
                return Self::report(Outcome::NotSent, None);
            }
            if let Some(arrivals) = &self.arrivals {
                let _ = arrivals.send((submission.outbox_id, Instant::now()));
            }
            let number = self.submissions.fetch_add(1, Ordering::Relaxed);
            if self.doubt_every.is_some_and(|every| number % every == every - 1) {
                return WireReport { error_class: Some("timeout"), ..Self::report(Outcome::Unknown, None) };
            }
            Self::report(Outcome::Accepted, Some(format!("R{number:015}")))
        })
    }

    fn can_inquire(&self) -> bool {
        false
    }

    fn inquire(&self, _: Inquiry, _: MaySend) -> Exchanging<'_> {
        Box::pin(async { Self::report(Outcome::Unknown, None) })
    }
}
