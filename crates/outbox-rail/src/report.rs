//! What one exchange with a rail showed: everything an attempt row records of it. Payloads and
//! credentials are not part of it, and `Debug` leaves out what the rail wrote.

use std::fmt;
use std::time::SystemTime;

use outbox_core::{Millis, Outcome};

/// What an attempt row records of one exchange.
#[derive(Clone, PartialEq, Eq)]
pub struct WireReport {
    /// What is known of the payment.
    pub outcome: Outcome,
    /// The wait the rail asked for.
    pub retry_after: Option<Millis>,
    /// Where it was sent or asked: scheme, authority and path.
    pub endpoint: String,
    /// When the first byte of the request was given to the network; `None` if none was.
    pub first_byte_at: Option<SystemTime>,
    /// When the last byte of the exchange passed, in either direction.
    pub last_byte_at: Option<SystemTime>,
    /// The hash of the request, as `request::Prepared` defines it; `None` if none could be made.
    pub request_sha256: Option<[u8; 32]>,
    /// The hash of status and body, as `answer::response_sha256` defines it; `None` without an answer.
    pub response_sha256: Option<[u8; 32]>,
    /// The rail's reference of the payment.
    pub rail_reference: Option<String>,
    /// The rail's own code.
    pub rail_code: Option<String>,
    /// What kind of fault there was. Before a byte left: `content_type_invalid`, `credential`, `dns`,
    /// `connect`, `connect_timeout`, `tls`, `tls_refused` (by the rail), `connection_stale`,
    /// `not_permitted`. Without an answer: `timeout`, `interrupted`, `http2` (GOAWAY, reset stream),
    /// `answer_invalid`, `unsolicited_answer`. With an answer whose body is not to be relied on:
    /// `body_too_large`, `body_truncated`, `body_timeout`, `body_encoded`, `body_unparsable`,
    /// `body_unframed`, `body_cached`.
    pub error_class: Option<&'static str>,
    /// More about that fault: at most 200 characters, without payment details.
    pub error_detail: Option<String>,
}

impl fmt::Debug for WireReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireReport")
            .field("outcome", &self.outcome)
            .field("retry_after", &self.retry_after)
            .field("endpoint", &self.endpoint)
            .field("first_byte_at", &self.first_byte_at)
            .field("last_byte_at", &self.last_byte_at)
            .field("has_rail_reference", &self.rail_reference.is_some())
            .field("has_rail_code", &self.rail_code.is_some())
            .field("error_class", &self.error_class)
            .field("error_detail", &self.error_detail)
            .finish_non_exhaustive()
    }
}
