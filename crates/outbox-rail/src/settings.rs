//! What an HTTP rail is told about its counterpart. Nothing is checked here; [`crate::HttpRail::new`]
//! checks it all. Secrets are not among the settings, only the files that hold them.

use std::path::PathBuf;

use outbox_core::{CodeTable, Millis};

/// The settings of one HTTP rail.
#[derive(Clone, Debug)]
pub struct HttpRailSettings {
    /// Where payments are posted to: `https`, or `http` as far as `plain_http` lets.
    pub url: String,
    /// The header that carries the wire key.
    pub wire_key: WireKeyHeader,
    /// More headers, none of them secret: name and value.
    pub headers: Vec<(String, String)>,
    /// Headers whose values are secret.
    pub secret_headers: Vec<SecretHeader>,
    /// Who is trusted, and as whom we present ourselves.
    pub tls: TlsSettings,
    /// Whether credential files that everybody may read are taken.
    pub world_readable: WorldReadable,
    /// How far plain HTTP is allowed.
    pub plain_http: PlainHttp,
    /// How long connecting and the exchange may take together.
    pub timeout: Millis,
    /// How long connecting may take: name resolution, TCP, TLS.
    pub connect_timeout: Millis,
    /// How long a connection may lie unused and still be used again. A connection that died unnoticed
    /// makes its next payment unknown, so this should be well below the rail's own limit; zero means
    /// a new connection for every payment.
    pub pool_idle_timeout: Millis,
    /// The largest answer that is read, in bytes.
    pub response_body_max: usize,
    /// Where an answer carries the rail's reference.
    pub reference: AnswerField,
    /// Where an answer carries the rail's own code.
    pub code: AnswerField,
    /// What the rail means by its statuses and codes.
    pub codes: CodeTable,
    /// The header that tells the rail that it may have seen the payment before: name and value. Sent with every
    /// submission after one that was not certainly unsent.
    pub possible_duplicate: Option<(String, String)>,
    /// How the rail is asked what became of a payment, if it can be.
    pub inquiry: Option<InquirySettings>,
}

/// How a rail is asked what became of a payment: `GET`, on the same host, with the same headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InquirySettings {
    /// Path and query, in which `{key}` stands once for the wire key.
    pub path: String,
    /// Where its answers carry the rail's reference.
    pub reference: AnswerField,
    /// Where they carry the rail's own code.
    pub code: AnswerField,
    /// What the rail means by the statuses and codes of its answers to that.
    pub codes: CodeTable,
}

impl HttpRailSettings {
    /// Settings for `url` with every other value at its default.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            wire_key: WireKeyHeader::default(),
            headers: Vec::new(),
            secret_headers: Vec::new(),
            tls: TlsSettings::default(),
            world_readable: WorldReadable::default(),
            plain_http: PlainHttp::default(),
            timeout: Millis(30_000),
            connect_timeout: Millis(5_000),
            // Shorter than the idle limits in common use (5 s Node, 60 s and more elsewhere), so that
            // it is this side that closes.
            pool_idle_timeout: Millis(4_000),
            // An acknowledgement has a few kilobytes; ten times over is still no burden at full concurrency.
            response_body_max: 64 * 1024,
            reference: AnswerField { json_pointer: Some("/id".to_owned()), header: None },
            code: AnswerField { json_pointer: Some("/code".to_owned()), header: None },
            codes: CodeTable::default(),
            possible_duplicate: None,
            inquiry: None,
        }
    }
}

/// The header that carries the wire key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireKeyHeader {
    /// The header's name.
    pub name: String,
    /// How the key is written in it.
    pub form: WireKeyForm,
}

impl Default for WireKeyHeader {
    fn default() -> Self {
        Self { name: "idempotency-key".to_owned(), form: WireKeyForm::Quoted }
    }
}

/// How the wire key is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WireKeyForm {
    /// In double quotes, a structured-field string (draft-ietf-httpapi-idempotency-key-header).
    #[default]
    Quoted,
    /// As it is; most rails that predate the draft want this.
    Bare,
}

/// A header whose value is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretHeader {
    /// The header's name.
    pub name: String,
    /// What stands before the secret in the header, such as `Bearer `. Not secret.
    pub prefix: String,
    /// The file that holds the secret; newlines at its end are left out.
    pub file: PathBuf,
}

/// Who is trusted, and as whom we present ourselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// Authorities in PEM; if given, no other is trusted. Without it, the operating system's are.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, for rails that ask for one.
    pub client_certificate: Option<ClientCertificate>,
    /// The name that the rail's certificate must carry, where it is not the URL's host.
    pub server_name: Option<String>,
}

/// Our certificate and its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate and its chain, ours first.
    pub certificate_file: PathBuf,
    /// The private key.
    pub key_file: PathBuf,
}

/// Whether credential files that everybody on the machine may read are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WorldReadable {
    /// They are refused.
    #[default]
    Refuse,
    /// They are taken: Kubernetes mounts secrets with mode 0644.
    Allow,
}

/// How far plain HTTP is allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlainHttp {
    /// To this machine only.
    #[default]
    LoopbackOnly,
    /// To anywhere.
    Anywhere,
}

/// Where an answer carries a value. The JSON pointer goes before the header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerField {
    /// A JSON pointer (RFC 6901) into the body.
    pub json_pointer: Option<String>,
    /// A header's name.
    pub header: Option<String>,
}
