//! The configuration as it is typed: optional everywhere, unknown keys refused, no coercion. What
//! the values mean and whether they go together is `check`'s part.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// The whole configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    /// `[dispatcher]`.
    pub dispatcher: RawDispatcher,
    /// `[database]`.
    pub database: RawDatabase,
    /// `[health]`.
    pub health: RawHealth,
    /// `[log]`.
    pub log: RawLog,
    /// `[credentials]`.
    pub credentials: RawCredentials,
    /// `[rails.NAME]`.
    pub rails: BTreeMap<String, RawRail>,
}

/// `[dispatcher]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the fields are those of model::Dispatcher, documented there")]
pub struct RawDispatcher {
    pub name: Option<String>,
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Option<Duration>,
    pub claim_batch_max: Option<u32>,
    #[serde(with = "humantime_serde")]
    pub poll_min: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub poll_max: Option<Duration>,
    pub completion_batch_size: Option<u32>,
    #[serde(with = "humantime_serde")]
    pub completion_flush_interval: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub completion_budget: Option<Duration>,
    pub completion_queue_max: Option<u32>,
    #[serde(with = "humantime_serde")]
    pub lease_margin: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub heartbeat_interval: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub listener_probe_interval: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub maintenance_interval: Option<Duration>,
}

/// `[database]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the fields are those of model::Database, documented there")]
pub struct RawDatabase {
    pub host: Option<String>,
    pub port: Option<u16>,
    pub name: Option<String>,
    pub user: Option<String>,
    pub password_file: Option<PathBuf>,
    pub password_credential: Option<String>,
    pub tls: Option<String>,
    pub ca_file: Option<PathBuf>,
    pub client_cert_file: Option<PathBuf>,
    pub client_key_file: Option<PathBuf>,
    pub client_key_credential: Option<String>,
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub call_timeout: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub statement_timeout: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub lock_timeout: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub idle_in_transaction_timeout: Option<Duration>,
    pub allow_unsafe_durability: Option<bool>,
}

/// `[health]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the fields are those of model::Health, documented there")]
pub struct RawHealth {
    pub listen: Option<String>,
}

/// `[log]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the fields are those of model::Log, documented there")]
pub struct RawLog {
    pub format: Option<String>,
    pub filter: Option<String>,
}

/// `[credentials]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the fields are those of model::Credentials, documented there")]
pub struct RawCredentials {
    pub allow_world_readable: Option<bool>,
}

/// `[rails.NAME]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the fields are those of model::Rail, documented there")]
pub struct RawRail {
    pub url: Option<String>,
    pub concurrency: Option<u32>,
    #[serde(with = "humantime_serde")]
    pub timeout: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub pool_idle_timeout: Option<Duration>,
    pub allow_plain_http: Option<bool>,
    pub key_header: Option<String>,
    pub key_format: Option<String>,
    pub headers: BTreeMap<String, String>,
    pub secret_headers: BTreeMap<String, RawSecretHeader>,
    pub ca_file: Option<PathBuf>,
    pub client_cert_file: Option<PathBuf>,
    pub client_key_file: Option<PathBuf>,
    pub client_key_credential: Option<String>,
    pub server_name: Option<String>,
    pub response_body_max_bytes: Option<u32>,
    pub reference_json_pointer: Option<String>,
    pub reference_header: Option<String>,
    pub code_json_pointer: Option<String>,
    pub code_header: Option<String>,
    pub codes: Vec<RawCode>,
}

/// One entry of `[rails.NAME.secret_headers]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the fields are those of model::SecretHeader, documented there")]
pub struct RawSecretHeader {
    pub file: Option<PathBuf>,
    pub credential: Option<String>,
    pub prefix: Option<String>,
}

/// One `[[rails.NAME.codes]]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the fields are those of outbox_core::CodeRule, documented there")]
pub struct RawCode {
    pub status: Option<u16>,
    pub code: Option<String>,
    pub means: Option<String>,
}
