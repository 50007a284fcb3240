//! How a connection is opened: address, TLS, credentials, and the limits that the server keeps for
//! us. Nothing is sent here that belongs to a payment.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use outbox_core::Millis;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};

use crate::error::StoreError;

/// Where the password comes from.
#[derive(Clone)]
pub enum Password {
    /// There is none, or libpq's own means give it (`PGPASSWORD`, `.pgpass`): people's ways.
    Ambient,
    /// Asked for before each connect, so that a rotation needs no restart; `Ok("")` where there is none.
    /// Who is asked also looks after the files that hold credentials. libpq's own means are shut out.
    Asked(Arc<dyn Fn() -> Result<String, Box<dyn Error + Send + Sync>> + Send + Sync>),
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ambient => "Ambient",
            Self::Asked(_) => "Asked",
        })
    }
}

/// A client certificate and its key, both PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate.
    pub cert_file: PathBuf,
    /// The key.
    pub key_file: PathBuf,
}

/// How the connection is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Not at all: a socket, or loopback.
    Disabled,
    /// The server's certificate and name are checked.
    VerifyFull {
        /// Authorities that are trusted, PEM, **besides** those of the public web that are compiled in: sqlx
        /// adds to them and has no way to leave them out. So the check is that of the name: whoever gets a
        /// certificate for it from a public authority passes as well.
        ca_file: Option<PathBuf>,
        /// Our own certificate.
        client: Option<ClientIdentity>,
    },
}

/// Everything a connection needs.
#[derive(Clone, Debug)]
pub struct ConnectSettings {
    base: PgConnectOptions,
    password: Password,
    /// How long opening a connection may take.
    pub connect_timeout: Millis,
    /// How long a call may take on our side, after which the connection is dropped.
    pub call_timeout: Millis,
    /// How long a statement may take on the server.
    pub statement_timeout: Millis,
    /// How long a statement may wait for a lock on the server.
    pub lock_timeout: Millis,
    /// How long a transaction may be idle on the server.
    pub idle_in_transaction_timeout: Millis,
}

impl ConnectSettings {
    /// Settings for `user` in `database` at `host`, a name or an absolute socket directory.
    #[must_use]
    pub fn new(host: &str, port: u16, database: &str, user: &str, password: Password, tls: &Tls) -> Self {
        let mut base = match &password {
            Password::Ambient => PgConnectOptions::new(),
            // It still takes PGPASSWORD, which the answer replaces in `options`.
            Password::Asked(_) => PgConnectOptions::new_without_pgpass(),
        };
        base = if host.starts_with('/') { base.socket(host) } else { base.host(host) };
        base = base.port(port).database(database).username(user);
        base = match tls {
            Tls::Disabled => base.ssl_mode(PgSslMode::Disable),
            Tls::VerifyFull { ca_file, client } => {
                let mut secure = base.ssl_mode(PgSslMode::VerifyFull);
                if let Some(ca_file) = ca_file {
                    secure = secure.ssl_root_cert(ca_file);
                }
                if let Some(client) = client {
                    secure = secure.ssl_client_cert(&client.cert_file).ssl_client_key(&client.key_file);
                }
                secure
            }
        };
        Self::with_limits(base, password)
    }

    /// Settings from a URL (`postgres://user@host/database`), for people's commands. What it does not
    /// say comes from libpq's environment variables and `.pgpass`.
    ///
    /// # Errors
    /// [`StoreError::Url`] if it is no such URL.
    pub fn from_url(url: &str) -> Result<Self, StoreError> {
        let base = PgConnectOptions::from_str(url).map_err(StoreError::Url)?;
        Ok(Self::with_limits(base, Password::Ambient))
    }

    /// Settings from libpq's environment variables alone.
    #[must_use]
    pub fn from_environment() -> Self {
        Self::with_limits(PgConnectOptions::new(), Password::Ambient)
    }

    fn with_limits(base: PgConnectOptions, password: Password) -> Self {
        Self {
            base: base.application_name("outboxd").disable_statement_logging(),
            password,
            connect_timeout: Millis(5_000),
            call_timeout: Millis(4_000),
            statement_timeout: Millis(3_000),
            lock_timeout: Millis(1_000),
            idle_in_transaction_timeout: Millis(5_000),
        }
    }

    /// The same settings without limits on statements, for migrations and reports.
    #[must_use]
    pub fn for_people(mut self) -> Self {
        self.call_timeout = Millis(86_400_000);
        self.statement_timeout = Millis::ZERO;
        self.lock_timeout = Millis::ZERO;
        self
    }

    /// Connection options with the password of this moment.
    ///
    /// # Errors
    /// [`StoreError::Credential`] if the password is not to be had.
    pub fn options(&self) -> Result<PgConnectOptions, StoreError> {
        let options = match &self.password {
            Password::Ambient => self.base.clone(),
            Password::Asked(ask) => self.base.clone().password(&ask().map_err(StoreError::Credential)?),
        };
        // The server gives up on a dead or stuck peer by itself, so that its locks do not outlive us
        // for long: 5 s idle, then three probes 2 s apart.
        Ok(options.options([
            ("statement_timeout", self.statement_timeout.0.to_string()),
            ("lock_timeout", self.lock_timeout.0.to_string()),
            ("idle_in_transaction_session_timeout", self.idle_in_transaction_timeout.0.to_string()),
            ("tcp_keepalives_idle", "5".to_owned()),
            ("tcp_keepalives_interval", "2".to_owned()),
            ("tcp_keepalives_count", "3".to_owned()),
            ("tcp_user_timeout", "11000".to_owned()),
        ]))
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// [`StoreError`] for a server that does not answer in time, refuses the login, or a credential
    /// that is not to be had.
    pub async fn connect(&self) -> Result<PgConnection, StoreError> {
        let options = self.options()?;
        let limit = Duration::from(self.connect_timeout);
        match tokio::time::timeout(limit, PgConnection::connect_with(&options)).await {
            Ok(connected) => connected.map_err(|source| StoreError::of("connect", source)),
            Err(_) => Err(StoreError::TimedOut { call: "connect", after: self.connect_timeout }),
        }
    }
}
