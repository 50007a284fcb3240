//! The seam between the dispatcher and a rail: one submission in, one report out. When to submit, and
//! what to do with the report, is not decided here.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use outbox_core::OutboxId;

use crate::report::WireReport;

/// One payment as it is handed to its rail.
#[derive(Clone)]
pub struct Submission {
    /// The payment, and the wire key that its rail sees on every attempt.
    pub outbox_id: OutboxId,
    /// The bytes to send, verbatim.
    pub payload: Bytes,
    /// What the bytes are.
    pub content_type: String,
    /// The W3C trace context to pass on.
    pub traceparent: Option<String>,
    /// Whether an earlier attempt was not certainly unsent: rails that have a marker for that get it, and a refusal counts only
    /// if the rail itself said it.
    pub is_resend: bool,
}

/// A question to a rail: what became of a payment.
#[derive(Clone, Debug)]
pub struct Inquiry {
    /// The payment, by the wire key that its rail saw on every attempt.
    pub outbox_id: OutboxId,
    /// The W3C trace context to pass on.
    pub traceparent: Option<String>,
}

impl fmt::Debug for Submission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submission")
            .field("outbox_id", &self.outbox_id)
            .field("payload", &format_args!("<{} bytes>", self.payload.len()))
            .finish_non_exhaustive()
    }
}

/// Whether the first byte may leave now. It is asked on the sending thread right before that byte,
/// so it must be quick and must not block; after `false` nothing is sent.
pub type MaySend = Arc<dyn Fn() -> bool + Send + Sync>;

/// An exchange under way.
pub type Exchanging<'a> = Pin<Box<dyn Future<Output = WireReport> + Send + 'a>>;

/// One external payment system, at one endpoint.
pub trait Rail: Send + Sync + 'static {
    /// By what this endpoint is known. A payment in doubt is bound to it.
    fn endpoint(&self) -> &str;

    /// Sends `submission` at most once and reports what the wire showed; every failure is an outcome.
    ///
    /// `may_send` is asked right before the first byte could leave. Dropping the future closes the
    /// exchange: no byte leaves afterwards, but what had left by then is unknown to the caller.
    fn submit(&self, submission: Submission, may_send: MaySend) -> Exchanging<'_>;

    /// Whether the rail can be asked what became of a payment.
    fn can_inquire(&self) -> bool;

    /// Asks at most once what became of a payment. Every failure is an outcome; `Unknown` means that
    /// nothing was learned. `may_send` and dropping the future are as for [`Rail::submit`].
    fn inquire(&self, inquiry: Inquiry, may_send: MaySend) -> Exchanging<'_>;
}
