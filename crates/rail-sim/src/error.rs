//! What can go wrong with the rail itself. The faults it plays are not errors: they are its work.

use std::{io, path::PathBuf};

/// An error of the simulated rail.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// A file of the rail cannot be opened, read or written.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process holds the file: two rails on one ledger would tell two truths.
    #[error("{path} is in use by another rail")]
    FileInUse {
        /// The file.
        path: PathBuf,
    },
    /// A complete line cannot be understood; a torn last line is not this.
    #[error("{path}, line {line}: not a record of this rail")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why it cannot be understood.
        source: serde_json::Error,
    },
    /// The numbers of the ledger are not 1, 2, 3, …
    #[error("{path}: effect {found} stands where {expected} belongs")]
    Sequence {
        /// The file.
        path: PathBuf,
        /// The number that was found.
        found: u64,
        /// The number that should be there.
        expected: u64,
    },
    /// A socket cannot be bound.
    #[error("cannot listen")]
    Listen(#[from] io::Error),
    /// The TLS files do not fit together.
    #[error("cannot use the certificates: {0}")]
    Tls(String),
    /// A setting makes no sense.
    #[error("{0}")]
    Config(String),
}
