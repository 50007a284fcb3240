//! Why a run could not go on. That a promise was broken is not among it: that is the checker's to say.

use outbox_testkit::TestkitError;
use rail_sim::SimError;

/// A run that could not go on.
#[derive(Debug, thiserror::Error)]
pub enum NemesisError {
    /// Server, proxy or child.
    #[error(transparent)]
    Testkit(#[from] TestkitError),
    /// A rail.
    #[error("a rail: {0}")]
    Rail(#[from] SimError),
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
    /// One of the programs under test did what it never should.
    #[error("{what}: {output}")]
    Program {
        /// Which, and what.
        what: String,
        /// Its last words.
        output: String,
    },
    /// The checker found something before the end.
    #[error("{0}")]
    Found(String),
    /// The run is not what was asked for.
    #[error("{0}")]
    Wrong(String),
}

impl NemesisError {
    /// For `map_err` on a statement.
    pub(crate) fn sql(what: &str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Sql { what: what.to_owned(), source }
    }

    /// For `map_err` on a file or a process.
    pub(crate) fn io(what: &str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what: what.to_owned(), source }
    }
}
