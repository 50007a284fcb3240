//! A configuration as lines of key and value, without secrets, and its fingerprint. The lines show
//! what is in force, defaults included; for a secret, they show where it is read from.

use std::collections::BTreeMap;
use std::fmt::Write;

use http::HeaderName;
use outbox_core::{CodeRule, Millis, RailName};
use sha2::{Digest, Sha256};

use super::check::human;
use super::model::{
    AnswerField, ClientIdentity, Config, Database, DatabaseAddress, DatabaseTls, Decisions, Dispatcher, KeyFormat,
    LogFormat, Rail,
};

type Lines = BTreeMap<String, String>;

/// What is in force, by key.
#[must_use]
pub fn describe(config: &Config) -> Lines {
    let mut lines = Lines::new();
    describe_dispatcher(&config.dispatcher, &mut lines);
    describe_database(&config.database, &mut lines);
    let listen = config.health.listen.map_or_else(|| "off".to_owned(), |address| address.to_string());
    put(&mut lines, "health", "listen", listen);
    let format = match config.log.format {
        LogFormat::Auto => "auto",
        LogFormat::Json => "json",
        LogFormat::Text => "text",
    };
    put(&mut lines, "log", "format", format);
    put(&mut lines, "log", "filter", &config.log.filter);
    put(&mut lines, "credentials", "allow_world_readable", config.credentials.allow_world_readable);
    for (name, rail) in &config.rails {
        describe_rail(name, rail, &config.dispatcher, &mut lines);
    }
    lines
}

/// The SHA-256 of [`describe`], in hexadecimal: equal if and only if the same values are in force.
#[must_use]
pub fn sha256(config: &Config) -> String {
    let mut hash = Sha256::new();
    for (key, value) in describe(config) {
        // Lengths, so that no two sets of lines are one text.
        hash.update(format!("{}:{key}={}:{value}\n", key.len(), value.len()));
    }
    hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn put(lines: &mut Lines, section: &str, key: &str, value: impl ToString) {
    lines.insert(format!("{section}.{key}"), value.to_string());
}

fn put_some(lines: &mut Lines, section: &str, key: &str, value: Option<impl ToString>) {
    if let Some(value) = value {
        put(lines, section, key, value);
    }
}

fn describe_dispatcher(dispatcher: &Dispatcher, lines: &mut Lines) {
    let section = "dispatcher";
    put(lines, section, "name", &dispatcher.name);
    put_some(lines, section, "environment", dispatcher.environment.as_ref());
    put_some(lines, section, "state_directory", dispatcher.state_directory.as_ref().map(|path| path.display()));
    let times = [
        ("drain_timeout", dispatcher.drain_timeout),
        ("poll_min", dispatcher.poll_min),
        ("poll_max", dispatcher.poll_max),
        ("completion_flush_interval", dispatcher.completion_flush_interval),
        ("completion_budget", dispatcher.completion_budget),
        ("lease_margin", dispatcher.lease_margin),
        ("heartbeat_interval", dispatcher.heartbeat_interval),
        ("listener_probe_interval", dispatcher.listener_probe_interval),
        ("maintenance_interval", dispatcher.maintenance_interval),
        ("metrics_interval", dispatcher.metrics_interval),
    ];
    put_times(lines, section, &times);
    put(lines, section, "claim_batch_max", dispatcher.claim_batch_max);
    put(lines, section, "completion_batch_size", dispatcher.completion_batch_size);
    put(lines, section, "completion_queue_max", dispatcher.completion_queue_max);
}

fn put_times(lines: &mut Lines, section: &str, times: &[(&str, Millis)]) {
    for (key, value) in times {
        put(lines, section, key, human(*value));
    }
}

fn put_client(lines: &mut Lines, section: &str, client: Option<&ClientIdentity>) {
    put_some(lines, section, "client_cert_file", client.map(|client| client.cert_file.display()));
    put_some(lines, section, "client_key_file", client.map(|client| client.key.path.display()));
}

fn describe_database(database: &Database, lines: &mut Lines) {
    let section = "database";
    let (host, port) = match &database.address {
        DatabaseAddress::Tcp { host, port } => (host.clone(), port),
        DatabaseAddress::Socket { directory, port } => (directory.display().to_string(), port),
    };
    put(lines, section, "host", host);
    put(lines, section, "port", port);
    put(lines, section, "name", &database.name);
    put(lines, section, "user", &database.user);
    put_some(lines, section, "password_file", database.password.as_ref().map(|source| source.path.display()));
    match &database.tls {
        DatabaseTls::Disable => put(lines, section, "tls", "disable"),
        DatabaseTls::VerifyFull { ca_file, client } => {
            put(lines, section, "tls", "verify-full");
            put_some(lines, section, "ca_file", ca_file.as_ref().map(|path| path.display()));
            put_client(lines, section, client.as_ref());
        }
    }
    let times = [
        ("connect_timeout", database.connect_timeout),
        ("call_timeout", database.call_timeout),
        ("statement_timeout", database.statement_timeout),
        ("lock_timeout", database.lock_timeout),
        ("idle_in_transaction_timeout", database.idle_in_transaction_timeout),
    ];
    put_times(lines, section, &times);
    put(lines, section, "allow_unsafe_durability", database.allow_unsafe_durability);
}

fn describe_rail(name: &RailName, rail: &Rail, dispatcher: &Dispatcher, lines: &mut Lines) {
    let section = &format!("rails.{name}");
    put(lines, section, "decisions", rail.decisions.name());
    put(lines, section, "url", &rail.url);
    for (position, url) in rail.fallback_urls.iter().enumerate() {
        put(lines, section, &format!("fallback_urls.{position}"), url);
    }
    put(lines, section, "concurrency", rail.concurrency);
    put(lines, section, "breaker.failures", rail.breaker.failures);
    let times = [
        ("connect_timeout", rail.connect_timeout),
        ("pool_idle_timeout", rail.pool_idle_timeout),
        ("breaker.open_min", rail.breaker.open_min),
        ("breaker.open_max", rail.breaker.open_max),
    ];
    put_times(lines, section, &times);
    for (name, value) in &rail.headers {
        put(lines, section, &format!("headers.{name}"), String::from_utf8_lossy(value.as_bytes()));
    }
    for header in &rail.secret_headers {
        put(lines, section, &format!("secret_headers.{}.file", header.name), header.source.path.display());
        put(lines, section, &format!("secret_headers.{}.prefix", header.name), &header.prefix);
    }
    put_some(lines, section, "ca_file", rail.tls.ca_file.as_ref().map(|path| path.display()));
    put_client(lines, section, rail.tls.client.as_ref());
    put_some(lines, section, "server_name", rail.tls.server_name.as_ref());
    put(lines, section, "allow_plain_http", rail.allow_plain_http);
    put(lines, section, "response_body_max_bytes", rail.response_body_max_bytes);
    if rail.decisions == Decisions::File {
        describe_decisions(rail, section, dispatcher, lines);
    }
}

fn describe_decisions(rail: &Rail, section: &str, dispatcher: &Dispatcher, lines: &mut Lines) {
    put(lines, section, "key_header", &rail.key_header);
    let format = match rail.key_format {
        KeyFormat::Quoted => "quoted",
        KeyFormat::Bare => "bare",
    };
    put(lines, section, "key_format", format);
    put_times(lines, section, &[("timeout", rail.timeout), ("(lease at least)", dispatcher.min_lease(rail))]);
    put_field(lines, section, "reference", &rail.reference);
    put_field(lines, section, "code", &rail.code);
    put_codes(lines, section, &rail.codes);
    if let Some((name, value)) = &rail.possible_duplicate {
        put(lines, section, "possible_duplicate.header", name);
        put(lines, section, "possible_duplicate.value", String::from_utf8_lossy(value.as_bytes()));
    }
    if let Some(inquiry) = &rail.inquiry {
        let section = &format!("{section}.inquiry");
        put(lines, section, "path", &inquiry.path);
        put_field(lines, section, "reference", &inquiry.reference);
        put_field(lines, section, "code", &inquiry.code);
        put_codes(lines, section, &inquiry.codes);
    }
}

fn put_codes(lines: &mut Lines, section: &str, codes: &[CodeRule]) {
    for rule in codes {
        let code = rule.code.as_deref().map(|code| format!(".{code:?}")).unwrap_or_default();
        put(lines, section, &format!("codes.{}{code}", rule.status), rule.means.name());
    }
}

fn put_field(lines: &mut Lines, section: &str, what: &str, field: &AnswerField) {
    put_some(lines, section, &format!("{what}_json_pointer"), field.json_pointer.as_ref());
    put_some(lines, section, &format!("{what}_header"), field.header.as_ref().map(HeaderName::as_str));
}
