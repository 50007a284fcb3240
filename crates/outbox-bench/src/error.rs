//! Why a measurement could not be made.

use outbox_testkit::TestkitError;

/// A measurement that could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// The server.
    #[error(transparent)]
    Testkit(#[from] TestkitError),
    /// A statement.
    #[error("{what}: {source}")]
    Sql {
        /// What was asked.
        what: String,
        /// What was answered.
        source: sqlx::Error,
    },
    /// A file or a process.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The daemon ended, or did not get through.
    #[error("the daemon: {0}")]
    Daemon(String),
    /// What was measured is not what should have been.
    #[error("{0}")]
    Wrong(String),
}

/// For `map_err` of statements.
pub(crate) fn sql(what: &str) -> impl FnOnce(sqlx::Error) -> BenchError {
    move |source| BenchError::Sql { what: what.to_owned(), source }
}

/// For `map_err` of files and processes.
pub(crate) fn io(what: &str) -> impl FnOnce(std::io::Error) -> BenchError {
    move |source| BenchError::Io { what: what.to_owned(), source }
}
