//! What the tests need and production never links: private Postgres servers, a fresh migrated database
//! for each test, certificates, a proxy that loses and delays answers, and guards that kill what a test
//! started. It contains no assertion about payments: those belong to the tests.

mod certs;
mod child_guard;
mod error;
mod fault_proxy;
mod frame_count;
mod interception;
mod logins;
mod passage;
mod pg_account;
mod pg_address;
mod pg_clock;
mod pg_frames;
mod pg_guard;
mod pg_server;
mod pg_statements;
mod pg_version;
mod proxy_connection;
mod proxy_control;
mod server_dir;
mod template;
mod test_db;
mod transport;
mod wait;

pub use certs::{CertFiles, Certs};
pub use child_guard::ChildGuard;
pub use error::TestkitError;
pub use fault_proxy::FaultProxy;
pub use frame_count::Cut;
pub use interception::Interception;
pub use logins::LOGINS;
pub use pg_address::{HOST_VARIABLE, PORT_VARIABLE, PgAddress};
pub use pg_clock::ServerClock;
pub use pg_server::{PgServer, ServerSettings, ServerTls, shared_server};
pub use pg_version::PgVersion;
pub use rustix::process::Signal;
pub use template::workspace_root;
pub use test_db::TestDb;
pub use wait::{wait_until, wait_until_blocking};
