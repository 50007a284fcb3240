//! The one error type of the crate. It names the step that failed, so that a test's panic tells a
//! person what to install or where to look; nothing here is retried.

use std::path::PathBuf;

/// Why a test fixture could not be set up or used.
#[derive(Debug, thiserror::Error)]
pub enum TestkitError {
    /// No server binaries of that version were found.
    #[error("no Postgres {version} binaries in {searched:?}: run scripts/test.sh once, or set {variable}")]
    BinariesMissing {
        /// Major version asked for.
        version: u16,
        /// Variable that would have named them.
        variable: String,
        /// Directories looked into.
        searched: Vec<PathBuf>,
    },
    /// A variable holds something that is not a version this crate knows.
    #[error("{variable} is {value:?}, not a Postgres major version from 15 to 18")]
    BadVersion {
        /// The variable.
        variable: String,
        /// What it held.
        value: String,
    },
    /// The process is root and no unprivileged account can run the server.
    #[error("running as root, and there is no account postgres or nobody to run the server")]
    NoAccount,
    /// A child process failed.
    #[error("{what} failed: {output}")]
    Command {
        /// Which command.
        what: String,
        /// What it printed.
        output: String,
    },
    /// A condition did not come true before its deadline.
    #[error("{what} did not happen within {waited_ms} ms")]
    Deadline {
        /// The condition.
        what: String,
        /// How long it was waited for, in milliseconds.
        waited_ms: u128,
    },
    /// The file system, a process or a socket failed.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: String,
        /// The cause.
        source: std::io::Error,
    },
    /// A statement of the fixture failed.
    #[error("{what}")]
    Sql {
        /// What was being done.
        what: String,
        /// The cause.
        source: sqlx::Error,
    },
    /// The migrations did not apply to the template database.
    #[error("the migrations did not apply to the template database")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A certificate could not be made.
    #[error("a test certificate could not be made")]
    Certificate(#[from] rcgen::Error),
}

/// Adds what was being done to an error of the operating system.
pub(crate) fn io_context(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> TestkitError {
    let what = what.into();
    move |source| TestkitError::Io { what, source }
}

/// Adds what was being done to an error of the database.
pub(crate) fn sql_context(what: impl Into<String>) -> impl FnOnce(sqlx::Error) -> TestkitError {
    let what = what.into();
    move |source| TestkitError::Sql { what, source }
}
