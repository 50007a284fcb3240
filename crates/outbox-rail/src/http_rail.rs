//! The HTTP rail: one POST a submission.

use outbox_core::Outcome;

use crate::error::RailError;
use crate::rail::{MaySend, Rail, Submission, Submitting};
use crate::report::WireReport;
use crate::settings::HttpRailSettings;

/// A payment rail that is reached by HTTP.
#[derive(Debug)]
pub struct HttpRail {
    settings: HttpRailSettings,
}

impl HttpRail {
    /// A rail with these settings. Needs a tokio runtime when used, not here.
    ///
    /// # Errors
    /// [`RailError`] if a setting or a credential file cannot be used.
    pub fn new(settings: HttpRailSettings) -> Result<Self, RailError> {
        Ok(Self { settings })
    }
}

impl Rail for HttpRail {
    fn submit(&self, _submission: Submission, _may_send: MaySend) -> Submitting<'_> {
        let report = WireReport {
            outcome: Outcome::NotSent,
            retry_after: None,
            endpoint: self.settings.url.clone(),
            first_byte_at: None,
            last_byte_at: None,
            request_sha256: None,
            response_sha256: None,
            rail_reference: None,
            rail_code: None,
            error_class: Some("not_built"),
            error_detail: None,
        };
        Box::pin(async move { report })
    }
}
