//! The settings of one simulated rail, and whether they make sense together. Reading them from flags
//! is the binary's part.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::{
    error::SimError,
    fault::{Profile, Script},
};

/// What a rail does with a key it has seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyMode {
    /// The first result is replayed, until the window has passed since it; then the key is forgotten.
    Idempotent {
        /// How long a key is remembered; `None` is for ever.
        window_ms: Option<u64>,
    },
    /// Every request makes an effect of its own.
    NonIdempotent,
}

/// When a line of the ledger counts as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After `fdatasync`; lines that wait at the same time share one call.
    Synced,
    /// After `write`: survives the death of the process, not that of the machine.
    Written,
}

/// Where the certificates are (PEM).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain of the rail.
    pub certificate: PathBuf,
    /// Its private key.
    pub private_key: PathBuf,
    /// Who signs client certificates; if given, a client without one is turned away.
    pub client_ca: Option<PathBuf>,
}

/// The settings of one simulated rail.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Where payments come in; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the control and query paths are served, without TLS; `None` serves no control.
    pub admin: Option<SocketAddr>,
    /// The ledger of effects.
    pub ledger: PathBuf,
    /// The log of answers given or withheld.
    pub answers: Option<PathBuf>,
    /// The log of requests whose body arrived whole.
    pub received: Option<PathBuf>,
    /// When an effect counts as written.
    pub durability: Durability,
    /// TLS, if wanted.
    pub tls: Option<TlsFiles>,
    /// The header that carries the wire key.
    pub key_header: String,
    /// What happens to a key seen before.
    pub keys: KeyMode,
    /// The seed of everything drawn.
    pub seed: u64,
    /// How often each fault is drawn.
    pub profile: Profile,
    /// Faults by request order or key, played before anything is drawn.
    pub script: Script,
    /// The shortest delay before any answer.
    pub latency_min_ms: u64,
    /// The longest delay before any answer.
    pub latency_max_ms: u64,
    /// What the fault `slow` adds to the delay.
    pub slow_ms: u64,
    /// `Retry-After` of a 429.
    pub retry_after_s: u64,
    /// The size of an oversize body.
    pub oversize_bytes: usize,
    /// The largest request body taken; more is answered 413.
    pub body_max_bytes: usize,
    /// The status of a refusal.
    pub refuse_status: u16,
    /// The code of a refusal.
    pub refuse_code: String,
    /// Answers of 3xx or 5xx from which the dispatcher does know what happened, as `503` or
    /// `503:NOT_EXECUTED`: those of its table of codes. They do not count as unknown.
    pub telling: Vec<String>,
}

impl SimConfig {
    /// A well-behaved idempotent rail on a free loopback port, with its three files in `dir`.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Self {
        Self {
            answers: Some(dir.join("answers.jsonl")),
            received: Some(dir.join("received.jsonl")),
            ..Self::with_ledger(dir.join("ledger.jsonl"))
        }
    }

    /// A well-behaved idempotent rail on a free loopback port, with only a ledger.
    #[must_use]
    pub fn with_ledger(ledger: PathBuf) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin: None,
            ledger,
            answers: None,
            received: None,
            durability: Durability::Synced,
            tls: None,
            key_header: "Idempotency-Key".to_owned(),
            keys: KeyMode::Idempotent { window_ms: None },
            seed: 0,
            profile: Profile::default(),
            script: Script::default(),
            latency_min_ms: 0,
            latency_max_ms: 0,
            slow_ms: 250,
            retry_after_s: 1,
            oversize_bytes: 4 << 20,
            body_max_bytes: 16 << 20,
            refuse_status: 422,
            // ISO 20022: closed account number.
            refuse_code: "AC04".to_owned(),
            telling: Vec::new(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), SimError> {
        let fault = |text: &str| Err(SimError::Config(text.to_owned()));
        if hyper::header::HeaderName::from_bytes(self.key_header.as_bytes()).is_err() {
            return fault("the key header is not a header name");
        }
        if self.latency_min_ms > self.latency_max_ms {
            return fault("the shortest latency is above the longest");
        }
        if !(400..500).contains(&self.refuse_status) {
            return fault("a refusal has a status from 400 to 499");
        }
        self.profile.check()
    }
}
