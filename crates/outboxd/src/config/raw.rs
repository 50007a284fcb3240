//! The configuration as it is typed: optional everywhere, unknown keys refused, no coercion. What
//! the values mean and whether they go together is `check`'s part.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// The whole configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawConfig {
    /// `[dispatcher]`.
    pub(super) dispatcher: RawDispatcher,
    /// `[database]`.
    pub(super) database: RawDatabase,
    /// `[health]`.
    pub(super) health: RawHealth,
    /// `[log]`.
    pub(super) log: RawLog,
    /// `[credentials]`.
    pub(super) credentials: RawCredentials,
    /// `[rails.NAME]`.
    pub(super) rails: BTreeMap<String, RawRail>,
}

/// `[dispatcher]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the fields are those of model::Dispatcher, documented there")]
pub(super) struct RawDispatcher {
    pub(super) name: Option<String>,
    pub(super) environment: Option<String>,
    pub(super) state_directory: Option<PathBuf>,
    #[serde(with = "humantime_serde")]
    pub(super) drain_timeout: Option<Duration>,
    pub(super) claim_batch_max: Option<u32>,
    #[serde(with = "humantime_serde")]
    pub(super) poll_min: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub(super) poll_max: Option<Duration>,
    pub(super) completion_batch_size: Option<u32>,
    #[serde(with = "humantime_serde")]
    pub(super) completion_flush_interval: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub(super) completion_budget: Option<Duration>,
    pub(super) completion_queue_max: Option<u32>,
    #[serde(with = "humantime_serde")]
    pub(super) lease_margin: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub(super) heartbeat_interval: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub(super) listener_probe_interval: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub(super) maintenance_interval: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub(super) metrics_interval: Option<Duration>,
}

/// `[database]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the fields are those of model::Database, documented there")]
pub(super) struct RawDatabase {
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) name: Option<String>,
    pub(super) user: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) password_credential: Option<String>,
    pub(super) tls: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) client_cert_file: Option<PathBuf>,
    pub(super) client_key_file: Option<PathBuf>,
    pub(super) client_key_credential: Option<String>,
    #[serde(with = "humantime_serde")]
    pub(super) connect_timeout: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub(super) call_timeout: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub(super) statement_timeout: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub(super) lock_timeout: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub(super) idle_in_transaction_timeout: Option<Duration>,
    pub(super) allow_unsafe_durability: Option<bool>,
}

/// `[health]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the fields are those of model::Health, documented there")]
pub(super) struct RawHealth {
    pub(super) listen: Option<String>,
}

/// `[log]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the fields are those of model::Log, documented there")]
pub(super) struct RawLog {
    pub(super) format: Option<String>,
    pub(super) filter: Option<String>,
}

/// `[credentials]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the fields are those of model::Credentials, documented there")]
pub(super) struct RawCredentials {
    pub(super) allow_world_readable: Option<bool>,
}

/// `[rails.NAME]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the fields are those of model::Rail, documented there")]
pub(super) struct RawRail {
    pub(super) decisions: Option<String>,
    pub(super) url: Option<String>,
    pub(super) fallback_urls: Vec<String>,
    pub(super) concurrency: Option<u32>,
    #[serde(with = "humantime_serde")]
    pub(super) timeout: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub(super) connect_timeout: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub(super) pool_idle_timeout: Option<Duration>,
    pub(super) allow_plain_http: Option<bool>,
    pub(super) key_header: Option<String>,
    pub(super) key_format: Option<String>,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) secret_headers: BTreeMap<String, RawSecretHeader>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) client_cert_file: Option<PathBuf>,
    pub(super) client_key_file: Option<PathBuf>,
    pub(super) client_key_credential: Option<String>,
    pub(super) server_name: Option<String>,
    pub(super) response_body_max_bytes: Option<u32>,
    pub(super) reference_json_pointer: Option<String>,
    pub(super) reference_header: Option<String>,
    pub(super) code_json_pointer: Option<String>,
    pub(super) code_header: Option<String>,
    pub(super) codes: Vec<RawCode>,
    pub(super) possible_duplicate: Option<RawPossibleDuplicate>,
    pub(super) inquiry: Option<RawInquiry>,
    pub(super) breaker: RawBreaker,
}

/// `[rails.NAME.possible_duplicate]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the fields are those of model::Rail, documented there")]
pub(super) struct RawPossibleDuplicate {
    pub(super) header: Option<String>,
    pub(super) value: Option<String>,
}

/// `[rails.NAME.inquiry]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the fields are those of model::Inquiry, documented there")]
pub(super) struct RawInquiry {
    pub(super) path: Option<String>,
    pub(super) reference_json_pointer: Option<String>,
    pub(super) reference_header: Option<String>,
    pub(super) code_json_pointer: Option<String>,
    pub(super) code_header: Option<String>,
    pub(super) codes: Vec<RawCode>,
}

/// `[rails.NAME.breaker]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the fields are those of model::Breaker, documented there")]
pub(super) struct RawBreaker {
    pub(super) failures: Option<u32>,
    #[serde(with = "humantime_serde")]
    pub(super) open_min: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub(super) open_max: Option<Duration>,
}

/// One entry of `[rails.NAME.secret_headers]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the fields are those of model::SecretHeader, documented there")]
pub(super) struct RawSecretHeader {
    pub(super) file: Option<PathBuf>,
    pub(super) credential: Option<String>,
    pub(super) prefix: Option<String>,
}

/// One `[[rails.NAME.codes]]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the fields are those of outbox_core::CodeRule, documented there")]
pub(super) struct RawCode {
    pub(super) status: Option<u16>,
    pub(super) code: Option<String>,
    pub(super) means: Option<String>,
}
