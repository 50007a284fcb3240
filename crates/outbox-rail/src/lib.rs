//! The way to a payment rail: the trait [`Rail`] and the HTTP rail. It reads the wire and reports what
//! was seen; what that means for the payment is decided in `outbox-core`. No database, no retries.

mod error;
mod http_rail;
mod rail;
mod report;
mod settings;

pub use error::RailError;
pub use http_rail::HttpRail;
pub use rail::{MaySend, Rail, Submission, Submitting};
pub use report::WireReport;
pub use settings::{
    AnswerField, ClientCertificate, HttpRailSettings, PlainHttp, SecretHeader, TlsSettings, WireKeyForm, WireKeyHeader,
    WorldReadable,
};
