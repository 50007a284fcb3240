//! The way to a payment rail: the trait [`Rail`] and the HTTP rail. It reads the wire and reports what
//! was seen; what that means for the payment is decided in `outbox-core`. No database, no retries.

mod answer;
mod connect;
mod credential;
mod deadline;
mod endpoint;
mod error;
mod fault;
mod gate;
mod http_rail;
mod one_reading;
mod pem;
mod pool;
mod probe;
mod rail;
mod report;
mod request;
mod settings;
mod tls;

pub use answer::retry_after;
pub use endpoint::{UrlFault, origin, parse_url};
pub use error::RailError;
pub use http_rail::HttpRail;
pub use one_reading::has_one_reading;
pub use pem::{PemFault, check_authorities, check_certificates, check_identity, fingerprint, is_server_name};
pub use probe::{Probe, ProbeFault};
pub use rail::{Exchanging, Inquiry, MaySend, Rail, Submission};
pub use report::WireReport;
pub use request::check_inquiry_path;
pub use settings::{
    AnswerField, ClientCertificate, HttpRailSettings, InquirySettings, PlainHttp, SecretHeader, TlsSettings,
    WireKeyForm, WireKeyHeader, WorldReadable,
};
