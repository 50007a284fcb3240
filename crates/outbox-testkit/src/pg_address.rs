//! Where a test server listens and how to connect to it. Whoever holds an address does not own the
//! server: it neither starts nor stops anything.

use std::path::{Path, PathBuf};

use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::TestkitError;
use crate::error::sql_context;

/// Names the socket directory of a server that is already running, set by `testkit-pg` for the whole test run.
pub const SOCKET_VARIABLE: &str = "OUTBOXD_TEST_PG_SOCKET";

/// The port in the name of the socket file; the directory is private, so it can be the same everywhere.
pub(crate) const SOCKET_PORT: u16 = 5432;

/// A unix socket directory and the port number in the socket's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgAddress {
    socket_dir: PathBuf,
    port: u16,
}

impl PgAddress {
    /// An address made of its two parts.
    #[must_use]
    pub fn new(socket_dir: impl Into<PathBuf>, port: u16) -> Self {
        Self { socket_dir: socket_dir.into(), port }
    }

    /// The server that the surrounding test run shares, if there is one.
    #[must_use]
    pub fn from_environment() -> Option<Self> {
        std::env::var_os(SOCKET_VARIABLE).map(|dir| Self::new(dir, SOCKET_PORT))
    }

    /// The directory of the socket.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// The port; also the TCP port when the server was asked to listen on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Options for `database` as login `user`, over the socket, reading no password file.
    #[must_use]
    pub fn connect_options(&self, database: &str, user: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.socket_dir)
            .port(self.port)
            .database(database)
            .username(user)
            .ssl_mode(PgSslMode::Disable)
            .disable_statement_logging()
    }

    /// A URL that sqlx, sqlx-cli and libpq all understand.
    #[must_use]
    pub fn url(&self, database: &str, user: &str) -> String {
        let host = self.socket_dir.to_string_lossy().replace('%', "%25").replace('/', "%2F");
        format!("postgres://{user}@{host}:{}/{database}", self.port)
    }

    /// Connects to `database` as login `user`.
    ///
    /// # Errors
    /// [`TestkitError::Sql`] when the server refuses or cannot be reached.
    pub async fn connect(&self, database: &str, user: &str) -> Result<PgConnection, TestkitError> {
        PgConnection::connect_with(&self.connect_options(database, user))
            .await
            .map_err(sql_context(format!("connect to {database} as {user}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_survives_parsing_with_its_socket_directory() {
        let address = PgAddress::new("/srv/a b/c%d", 5433);
        let parsed: PgConnectOptions = address.url("db", "someone").replace(' ', "%20").parse().unwrap();
        assert_eq!(parsed.get_socket(), Some(&PathBuf::from("/srv/a b/c%d")));
        assert_eq!((parsed.get_port(), parsed.get_username()), (5433, "someone"));
    }
}
