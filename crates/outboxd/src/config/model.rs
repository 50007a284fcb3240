//! The checked configuration: every value in range, every relation held, names of secrets but no
//! secret. Reading it from files and the environment is not done here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use http::{HeaderName, HeaderValue, Uri};
use outbox_core::breaker::BreakerLimits;
use outbox_core::{CodeRule, Millis, RailName};

/// Everything a dispatcher is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The dispatcher's own limits and intervals.
    pub dispatcher: Dispatcher,
    /// How the database is reached.
    pub database: Database,
    /// Where health is served.
    pub health: Health,
    /// What is logged, and how.
    pub log: Log,
    /// What is asked of the files that hold secrets.
    pub credentials: Credentials,
    /// The rails, by name; at least one.
    pub rails: BTreeMap<RailName, Rail>,
}

/// The dispatcher's own limits and intervals.
#[derive(Clone, Debug)]
pub struct Dispatcher {
    /// The name operators know this dispatcher by; the first half of its worker id.
    pub name: String,
    /// What it is configured for; the database's claims are refused to another.
    pub environment: Option<String>,
    /// Where it keeps how far it has seen the database's log; none: it forgets it when it ends.
    pub state_directory: Option<PathBuf>,
    /// How long sends in flight are waited for after a stop was asked for.
    pub drain_timeout: Millis,
    /// The most payments one claim asks for.
    pub claim_batch_max: u32,
    /// The shortest wait between two polls of an idle lane.
    pub poll_min: Millis,
    /// The longest wait between two polls of an idle lane.
    pub poll_max: Millis,
    /// Completions are flushed when this many have gathered.
    pub completion_batch_size: u32,
    /// Completions are flushed when the oldest has waited this long.
    pub completion_flush_interval: Millis,
    /// What a lease keeps free after a send for recording its result.
    pub completion_budget: Millis,
    /// The most results that wait to be completed; when it is reached, claiming stops.
    pub completion_queue_max: u32,
    /// What a lease has beyond a send and its completion.
    pub lease_margin: Millis,
    /// The time between two heartbeats.
    pub heartbeat_interval: Millis,
    /// The time between two probes of the listener's connection.
    pub listener_probe_interval: Millis,
    /// The time between two maintenance passes of a lane.
    pub maintenance_interval: Millis,
    /// The time between two samples of the database for the page of metrics.
    pub metrics_interval: Millis,
}

impl Dispatcher {
    /// What must be left of a lease for a send on `rail` to begin: the exchange and its completion.
    #[must_use]
    pub const fn send_need(&self, rail: &Rail) -> Millis {
        rail.timeout.plus(self.completion_budget)
    }

    /// The shortest lease that is any use on `rail` (`p_min_lease` of a claim).
    #[must_use]
    pub const fn min_lease(&self, rail: &Rail) -> Millis {
        self.send_need(rail).plus(self.lease_margin)
    }
}

/// How the database is reached.
#[derive(Clone, Debug)]
pub struct Database {
    /// Where its server listens.
    pub address: DatabaseAddress,
    /// The database's name.
    pub name: String,
    /// The login.
    pub user: String,
    /// The login's password; none for peer or certificate authentication.
    pub password: Option<SecretSource>,
    /// Whether and how the connection is encrypted.
    pub tls: DatabaseTls,
    /// How long one connect may take, login included.
    pub connect_timeout: Millis,
    /// How long one call may take before its connection is dropped.
    pub call_timeout: Millis,
    /// The server's own limit on a statement; shorter than `call_timeout`, so that the server gives
    /// up first and the result is known.
    pub statement_timeout: Millis,
    /// The server's limit on waiting for a lock.
    pub lock_timeout: Millis,
    /// The server's limit on a transaction in which nothing happens.
    pub idle_in_transaction_timeout: Millis,
    /// Whether a database that may forget a commit is accepted. For throw-away databases only.
    pub allow_unsafe_durability: bool,
}

/// Where the database's server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseAddress {
    /// A host name or address, and a port.
    Tcp {
        /// The name or address; with TLS, the name in the server's certificate.
        host: String,
        /// The port.
        port: u16,
    },
    /// The directory of a unix socket, and the port in the socket's name.
    Socket {
        /// The directory, absolute.
        directory: PathBuf,
        /// The port.
        port: u16,
    },
}

/// Whether and how a database connection is encrypted. Nothing between the two exists: encryption
/// without a check of the name protects from nobody who can redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseTls {
    /// Plain; on loopback and unix sockets only.
    Disable,
    /// The server's certificate must lead to a trusted authority and carry the host's name.
    VerifyFull {
        /// The authorities trusted, PEM; without it, the public web's.
        ca_file: Option<PathBuf>,
        /// The certificate this client shows.
        client: Option<ClientIdentity>,
    },
}

/// A client certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate chain, PEM.
    pub cert_file: PathBuf,
    /// The private key, PEM.
    pub key: SecretSource,
}

/// Where a secret is read from, each time it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretSource {
    /// The file that holds it; for a credential of systemd, its path in `$CREDENTIALS_DIRECTORY`.
    pub path: PathBuf,
}

/// Where health is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The address of `/livez`, `/readyz` and `/metrics`; none: not served.
    pub listen: Option<SocketAddr>,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The form of a line.
    pub format: LogFormat,
    /// Which events are logged, in the syntax of `tracing_subscriber::EnvFilter`.
    pub filter: String,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// What is asked of the files that hold secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Whether a secret may be in a file that everybody on the host can read.
    pub allow_world_readable: bool,
}

/// One HTTP rail.
#[derive(Clone, Debug)]
pub struct Rail {
    /// Where payments are POSTed.
    pub url: Uri,
    /// Further endpoints, in order, for what the ones before have certainly not executed.
    pub fallback_urls: Vec<Uri>,
    /// The most sends in flight at once.
    pub concurrency: u32,
    /// When the rail is left alone.
    pub breaker: Breaker,
    /// How long one exchange may take, connect included.
    pub timeout: Millis,
    /// How long connect and TLS handshake may take.
    pub connect_timeout: Millis,
    /// The header that carries the wire key.
    pub key_header: HeaderName,
    /// How the wire key is written.
    pub key_format: KeyFormat,
    /// Headers sent with every payment that are no secret.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Headers sent with every payment whose values are secrets.
    pub secret_headers: Vec<SecretHeader>,
    /// What is trusted and shown in TLS.
    pub tls: RailTls,
    /// Whether plain http may leave this host. For test networks only.
    pub allow_plain_http: bool,
    /// Answers longer than this are cut off, and prove nothing.
    pub response_body_max_bytes: u32,
    /// How long an unused connection is kept.
    pub pool_idle_timeout: Millis,
    /// Where in the answer the rail's reference stands.
    pub reference: AnswerField,
    /// Where in the answer the rail's own code stands.
    pub code: AnswerField,
    /// What the rail means by its statuses and codes, where it differs from the default.
    pub codes: Vec<CodeRule>,
    /// The header that says that the rail may have seen the payment before.
    pub possible_duplicate: Option<(HeaderName, HeaderValue)>,
    /// How the rail is asked what became of a payment.
    pub inquiry: Option<Inquiry>,
    /// Where the decisions about money are.
    pub decisions: Decisions,
    /// The keys given that decide about money.
    pub decision_keys: Vec<&'static str>,
}

/// Where the decisions about money on a rail are. One truth: never in both places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decisions {
    /// In this configuration, and contracts are set by one person: for development.
    File,
    /// In the active policy.
    Policy,
}

impl Decisions {
    /// The name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Policy => "policy",
        }
    }
}

/// How a rail is asked what became of a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// Path and query on the rail's host, with `{key}` in the place of the wire key.
    pub path: String,
    /// Where its answers carry the rail's reference.
    pub reference: AnswerField,
    /// Where they carry the rail's own code.
    pub code: AnswerField,
    /// What the rail means by its answers, where it differs from the default.
    pub codes: Vec<CodeRule>,
}

impl Rail {
    /// The limits of this rail's breaker.
    #[must_use]
    pub const fn breaker_limits(&self) -> BreakerLimits {
        BreakerLimits {
            failures: self.breaker.failures,
            open_base: self.breaker.open_min,
            open_cap: self.breaker.open_max,
            concurrency: self.concurrency,
        }
    }
}

/// When a rail is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// After so many failures of the rail in a row.
    pub failures: u32,
    /// For so long the first time; each further time in a row twice as long.
    pub open_min: Millis,
    /// Never for longer.
    pub open_max: Millis,
}

/// How a wire key is written into its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFormat {
    /// As a structured-field string, in double quotes (draft-ietf-httpapi-idempotency-key-header).
    Quoted,
    /// As it is.
    Bare,
}

/// A header whose value is a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretHeader {
    /// The header.
    pub name: HeaderName,
    /// What stands before the secret in the header's value, such as `Bearer `.
    pub prefix: String,
    /// The secret.
    pub source: SecretSource,
}

/// What is trusted and shown in TLS to a rail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RailTls {
    /// The authorities trusted, PEM; without it, the operating system's.
    pub ca_file: Option<PathBuf>,
    /// The certificate this client shows.
    pub client: Option<ClientIdentity>,
    /// The name the rail's certificate must carry, where it is not the URL's host.
    pub server_name: Option<String>,
}

/// Where in an answer a field stands; the JSON pointer goes before the header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerField {
    /// At this JSON pointer (RFC 6901) of the body.
    pub json_pointer: Option<String>,
    /// In this header.
    pub header: Option<HeaderName>,
}

impl AnswerField {
    /// Whether it is looked for at all.
    #[must_use]
    pub const fn is_anywhere(&self) -> bool {
        self.json_pointer.is_some() || self.header.is_some()
    }
}
