//! Checks of `[database]`.

use std::net::IpAddr;
use std::path::PathBuf;

use outbox_core::Millis;

use super::super::defaults;
use super::super::fault::KeyPath;
use super::super::model::{ClientIdentity, Database, DatabaseAddress, DatabaseTls};
use super::super::raw::RawDatabase;
use super::findings::{Findings, human};
use super::{Holds, SecretKeys};

fn key(name: &str) -> KeyPath {
    KeyPath::of(&["database", name])
}

/// Whether `host` can be nothing but this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

pub(super) fn check(raw: &RawDatabase, findings: &mut Findings<'_>) -> Database {
    let address = check_address(raw, findings);
    let tls = check_tls(raw, &address, findings);
    let password = SecretKeys {
        file_key: key("password_file"),
        file: raw.password_file.as_ref(),
        credential_key: key("password_credential"),
        credential: raw.password_credential.as_deref(),
        holds: Holds::SecretLine,
    }
    .source(findings);
    let mut time = |name: &str, given, default| findings.time(&key(name), given, default, Millis(10)..=Millis(300_000));
    let database = Database {
        connect_timeout: time("connect_timeout", raw.connect_timeout, defaults::DATABASE_CONNECT_TIMEOUT),
        call_timeout: time("call_timeout", raw.call_timeout, defaults::CALL_TIMEOUT),
        statement_timeout: time("statement_timeout", raw.statement_timeout, defaults::STATEMENT_TIMEOUT),
        lock_timeout: time("lock_timeout", raw.lock_timeout, defaults::LOCK_TIMEOUT),
        idle_in_transaction_timeout: time(
            "idle_in_transaction_timeout",
            raw.idle_in_transaction_timeout,
            defaults::IDLE_IN_TRANSACTION_TIMEOUT,
        ),
        name: findings.required(&key("name"), raw.name.as_ref(), "the database's name"),
        user: findings.required(&key("user"), raw.user.as_ref(), "the dispatcher's own login"),
        address,
        password,
        tls,
        allow_unsafe_durability: raw.allow_unsafe_durability.unwrap_or_default(),
    };
    check_timeouts(&database, findings);
    database
}

fn check_timeouts(database: &Database, findings: &mut Findings<'_>) {
    if database.statement_timeout >= database.call_timeout {
        let message = format!(
            "is {}, and must be shorter than call_timeout ({}), so that the server gives up first and the result of \
             the call is known",
            human(database.statement_timeout),
            human(database.call_timeout)
        );
        findings.relation(&key("statement_timeout"), &key("call_timeout"), message);
    }
    if database.lock_timeout > database.statement_timeout {
        let message = format!(
            "is {}, longer than statement_timeout ({}), which would come first",
            human(database.lock_timeout),
            human(database.statement_timeout)
        );
        findings.relation(&key("lock_timeout"), &key("statement_timeout"), message);
    }
}

fn check_address(raw: &RawDatabase, findings: &mut Findings<'_>) -> DatabaseAddress {
    let what = "the server's name or address, or the absolute directory of its socket";
    let host = findings.required(&key("host"), raw.host.as_ref(), what);
    let port = raw.port.unwrap_or(defaults::DATABASE_PORT);
    if port == 0 {
        findings.add(&key("port"), "is 0, and must be from 1 to 65535");
    }
    if host.starts_with('/') {
        return DatabaseAddress::Socket { directory: PathBuf::from(host), port };
    }
    if host.contains(['/', '@', '?', ' ']) {
        findings.add(&key("host"), format!("must be {what}, and no URL: it may hold no user, path or parameters"));
    }
    DatabaseAddress::Tcp { host, port }
}

fn check_tls(raw: &RawDatabase, address: &DatabaseAddress, findings: &mut Findings<'_>) -> DatabaseTls {
    let (on_socket, local) = match address {
        DatabaseAddress::Socket { .. } => (true, true),
        DatabaseAddress::Tcp { host, .. } => (false, is_loopback(host)),
    };
    let default = if on_socket { "disable" } else { "verify-full" };
    match raw.tls.as_deref().unwrap_or(default) {
        "verify-full" if on_socket => {
            findings.add(&key("tls"), "a unix socket has no TLS; remove this key or set \"disable\"");
        }
        "verify-full" => {
            check_name(address, findings);
            return check_verify_full(raw, findings);
        }
        "disable" if local => refuse_tls_files(raw, findings),
        "disable" => {
            let message = "the database is not on this host, so its connection must be encrypted and the server's \
                           name checked; set \"verify-full\"";
            findings.relation(&key("tls"), &key("host"), message);
        }
        "allow" | "prefer" | "require" | "verify-ca" => {
            let message = "protects from nobody who can redirect the connection; set \"verify-full\"";
            findings.add(&key("tls"), message);
        }
        _ => findings.add(&key("tls"), "must be \"verify-full\", or \"disable\" on this host"),
    }
    DatabaseTls::Disable
}

fn refuse_tls_files(raw: &RawDatabase, findings: &mut Findings<'_>) {
    let given = [
        ("ca_file", raw.ca_file.is_some()),
        ("client_cert_file", raw.client_cert_file.is_some()),
        ("client_key_file", raw.client_key_file.is_some()),
        ("client_key_credential", raw.client_key_credential.is_some()),
    ];
    for (name, _) in given.into_iter().filter(|(_, given)| *given) {
        findings.add(&key(name), "has no effect without TLS; remove it, or set tls to \"verify-full\"");
    }
}

/// Whether the server's certificate can carry its name: a connect would fail for it each time.
fn check_name(address: &DatabaseAddress, findings: &mut Findings<'_>) {
    if let DatabaseAddress::Tcp { host, .. } = address
        && !host.is_empty()
        && !outbox_rail::is_server_name(host)
    {
        let message = "is neither a name nor an address that a certificate can carry, such as db.example or 10.0.0.1";
        findings.relation(&key("host"), &key("tls"), message);
    }
}

fn check_verify_full(raw: &RawDatabase, findings: &mut Findings<'_>) -> DatabaseTls {
    let ca_file = raw.ca_file.as_ref().and_then(|path| findings.file(&key("ca_file"), path, Holds::Authorities));
    let keys = ClientKeys {
        cert_key: key("client_cert_file"),
        cert_file: raw.client_cert_file.as_ref(),
        file_key: key("client_key_file"),
        file: raw.client_key_file.as_ref(),
        credential_key: key("client_key_credential"),
        credential: raw.client_key_credential.as_deref(),
    };
    DatabaseTls::VerifyFull { ca_file, client: keys.identity(findings) }
}

/// The keys that name a client certificate; all or none.
pub(super) struct ClientKeys<'a> {
    pub(super) cert_key: KeyPath,
    pub(super) cert_file: Option<&'a PathBuf>,
    pub(super) file_key: KeyPath,
    pub(super) file: Option<&'a PathBuf>,
    pub(super) credential_key: KeyPath,
    pub(super) credential: Option<&'a str>,
}

impl ClientKeys<'_> {
    /// The client's identity, if one is given.
    pub(super) fn identity(self, findings: &mut Findings<'_>) -> Option<ClientIdentity> {
        let Self { cert_key, cert_file, file_key, file, credential_key, credential } = self;
        let cert = cert_file.and_then(|path| findings.file(&cert_key, path, Holds::Certificate));
        let key_given = file.is_some() || credential.is_some();
        let missing = match (cert_file, key_given) {
            (Some(_), false) => Some((&cert_key, "a client certificate needs its key: add client_key_file")),
            (None, true) => {
                let key = if file.is_some() { &file_key } else { &credential_key };
                Some((key, "a client key needs its certificate: add client_cert_file"))
            }
            _ => None,
        };
        if let Some((key, message)) = missing {
            findings.add(key, message);
        }
        let holds = Holds::Key { of: cert.clone() };
        let key = SecretKeys { file_key, file, credential_key, credential, holds }.source(findings);
        Some(ClientIdentity { cert_file: cert?, key: key? })
    }
}
