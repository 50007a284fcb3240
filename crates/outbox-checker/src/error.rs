//! Why the checker cannot check just now, or at all. What it finds is no error.

use std::path::PathBuf;

/// What keeps the checker from judging.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The database does not answer, or ended the conversation. It is tried again.
    #[error("the database is away: {0}")]
    Away(#[source] sqlx::Error),
    /// The database answers, and will go on refusing: a login without rights, another schema.
    #[error("the database refuses: {0}")]
    Refused(#[source] sqlx::Error),
    /// The database said something that cannot be read.
    #[error("the database's answer cannot be read: {0}")]
    Unreadable(String),
    /// A promoted standby whose fault the harness has not written down yet. It is tried again.
    #[error("another timeline than before, and no failover is on record yet")]
    FailoverUntold,
    /// A file cannot be read.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was to be done with it.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A whole line of a file is damaged.
    #[error("{} at byte {offset}: {reason}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Where the line begins.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
}

impl CheckError {
    /// Whether waiting may help.
    #[must_use]
    pub const fn passes(&self) -> bool {
        matches!(self, Self::Away(_) | Self::FailoverUntold)
    }

    /// What an error of the driver means. Of the server's errors only those that no wait mends are refusals.
    pub(crate) fn of_driver(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|e| e.code()).map(|code| code.into_owned());
        match code.as_deref().and_then(|code| code.get(..2)) {
            Some("42" | "22" | "28" | "3D") => Self::Refused(error),
            _ => Self::Away(error),
        }
    }
}
