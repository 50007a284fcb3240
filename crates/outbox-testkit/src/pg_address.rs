//! Where a test server listens and how to connect to it. Whoever holds an address does not own the
//! server: it neither starts nor stops anything.

use std::path::{Path, PathBuf};

use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::TestkitError;
use crate::error::sql_context;

/// Names a server that is already running: a socket directory, or a host name without a slash. Set by
/// `testkit-pg` for a whole test run, or by hand for a server that trusts its superuser `postgres`.
pub const HOST_VARIABLE: &str = "OUTBOXD_TEST_PG_HOST";

/// Names the port of that server where it is not 5432.
pub const PORT_VARIABLE: &str = "OUTBOXD_TEST_PG_PORT";

/// The superuser of every test server.
const SUPERUSER: &str = "postgres";

/// The port in the name of the socket file; the directory is private, so it can be the same everywhere.
pub(crate) const SOCKET_PORT: u16 = 5432;

/// A unix socket directory or a host name, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgAddress {
    host: String,
    port: u16,
}

impl PgAddress {
    /// A server on the unix socket `.s.PGSQL.PORT` in `socket_dir`.
    #[must_use]
    pub fn on_socket(socket_dir: &Path, port: u16) -> Self {
        Self { host: socket_dir.to_string_lossy().into_owned(), port }
    }

    /// A server on a TCP port.
    #[must_use]
    pub fn on_tcp(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port }
    }

    /// The server that the surrounding test run shares, if there is one.
    #[must_use]
    pub fn from_environment() -> Option<Self> {
        let port = std::env::var(PORT_VARIABLE).ok().and_then(|port| port.parse().ok()).unwrap_or(SOCKET_PORT);
        std::env::var(HOST_VARIABLE).ok().map(|host| Self { host, port })
    }

    /// The socket directory, which begins with a slash, or the host name.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; on a socket, the one in its file's name.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The socket's file; `None` over TCP.
    pub(crate) fn socket_file(&self) -> Option<PathBuf> {
        self.is_socket().then(|| Path::new(&self.host).join(format!(".s.PGSQL.{}", self.port)))
    }

    fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    /// Options for `database` as login `user`, reading no password file.
    ///
    /// The superuser, who only asks a test's own questions, goes without compiled expressions: over the
    /// month partitions, of which the planner has no statistics, compiling cost a second of a core for a
    /// question of milliseconds. Every other login has the server's default, as in production.
    #[must_use]
    pub fn connect_options(&self, database: &str, user: &str) -> PgConnectOptions {
        let options = PgConnectOptions::new_without_pgpass();
        let options = if self.is_socket() { options.socket(&self.host) } else { options.host(&self.host) };
        let options = if user == SUPERUSER { options.options([("jit", "off")]) } else { options };
        options
            .port(self.port)
            .database(database)
            .username(user)
            .ssl_mode(PgSslMode::Disable)
            .disable_statement_logging()
    }

    /// A URL that sqlx, sqlx-cli and libpq all understand.
    #[must_use]
    pub fn url(&self, database: &str, user: &str) -> String {
        let host = self.host.replace('%', "%25").replace('/', "%2F");
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
        let address = PgAddress::on_socket(Path::new("/srv/a b/c%d"), 5433);
        let parsed: PgConnectOptions = address.url("db", "someone").replace(' ', "%20").parse().unwrap();
        assert_eq!(parsed.get_socket(), Some(&PathBuf::from("/srv/a b/c%d")));
        assert_eq!((parsed.get_port(), parsed.get_username()), (5433, "someone"));
    }

    #[test]
    fn only_the_superuser_departs_from_the_servers_settings() {
        let address = PgAddress::on_socket(Path::new("/srv/a"), SOCKET_PORT);
        assert_eq!(address.connect_options("db", "postgres").get_options(), Some("-c jit=off"));
        assert_eq!(address.connect_options("db", "t_dispatcher").get_options(), None);
    }

    #[test]
    fn host_name_is_not_taken_for_a_socket() {
        let address = PgAddress::on_tcp("127.0.0.1", 5433);
        assert_eq!(address.socket_file(), None);
        let parsed: PgConnectOptions = address.url("db", "someone").parse().unwrap();
        assert_eq!((parsed.get_host(), parsed.get_socket()), ("127.0.0.1", None));
    }
}
