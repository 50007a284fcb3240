//! What the tests need and production never links: private Postgres servers, a fresh migrated database
//! for each test, certificates, a proxy that loses and delays answers, and guards that kill what a test
//! started. It contains no assertion about payments: those belong to the tests.

mod error;
mod logins;
mod pg_address;
mod pg_guard;
mod pg_server;
mod pg_version;
mod template;
mod test_db;
mod wait;

pub use error::TestkitError;
pub use logins::LOGINS;
pub use pg_address::{PgAddress, SOCKET_VARIABLE};
pub use pg_server::{PgServer, ServerSettings, ServerTls, shared_server};
pub use pg_version::PgVersion;
pub use template::workspace_root;
pub use test_db::TestDb;
pub use wait::{wait_until, wait_until_blocking};
