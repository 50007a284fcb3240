//! Why secrets were not pulled. An error names paths, fields and files, and the server's status; never a text of the server
//! nor a parser's words, either of which may hold a secret.

use std::path::PathBuf;
use std::time::Duration;

/// What the caller does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It passes: wait and try again.
    Transient,
    /// The server refuses the role, or what it may read: whoever keeps the server must act.
    Refused,
    /// The path or the field is not there.
    Missing,
    /// What the server has is not what belongs there.
    Unfit,
    /// What we were told of the server is wrong.
    Misconfigured,
    /// A directory or a file of ours.
    Local,
}

/// Why secrets were not pulled.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// No connection, or no answer in time.
    #[error("{address} cannot be reached: {reason}")]
    Unreachable {
        /// The server.
        address: String,
        /// Why.
        reason: String,
    },
    /// No answer in time.
    #[error("{address}: no answer within {} ms", after.as_millis())]
    TimedOut {
        /// The server.
        address: String,
        /// The limit.
        after: Duration,
    },
    /// The server is sealed: it has its data and cannot read them.
    #[error("{address} is sealed")]
    Sealed {
        /// The server.
        address: String,
    },
    /// The server has trouble of its own, or too much to do.
    #[error("{address} does not serve now: HTTP {status}")]
    Unwell {
        /// The server.
        address: String,
        /// What it answered.
        status: u16,
    },
    /// Whoever answers has no certificate that we trust for the name.
    #[error("{address}: its certificate is not trusted: {reason}")]
    Untrusted {
        /// The server.
        address: String,
        /// Why.
        reason: String,
    },
    /// It sends us elsewhere. The token would go there as well.
    #[error(
        "{address} answers {what} with a redirect (HTTP {status}), which is not followed; name the server it leads to"
    )]
    Redirected {
        /// The server.
        address: String,
        /// The request.
        what: String,
        /// What it answered.
        status: u16,
    },
    /// The role or its secret id is not taken.
    #[error(
        "the login at auth/{mount} is refused: HTTP {status}; look at role id, secret id, its end and its number of uses"
    )]
    LoginRefused {
        /// The mount of the AppRole method.
        mount: String,
        /// What it answered.
        status: u16,
    },
    /// The role's policy does not allow it.
    #[error("{what} is refused: HTTP {status}; the role's policy must allow it")]
    Refused {
        /// The request.
        what: String,
        /// What it answered.
        status: u16,
    },
    /// Nothing is there, or it was deleted.
    #[error(
        "{path}: nothing is there (HTTP 404); look at the path, at the mount, and whether the mount is KV version {version}"
    )]
    NoSecret {
        /// The path, with its mount.
        path: String,
        /// As which version it was read.
        version: u8,
    },
    /// The secret has no such field.
    #[error("{path}: has no field {field}")]
    NoField {
        /// The path, with its mount.
        path: String,
        /// The field.
        field: String,
    },
    /// The field holds no text.
    #[error("{path}: field {field} is no text")]
    NotText {
        /// The path, with its mount.
        path: String,
        /// The field.
        field: String,
    },
    /// The answer is none that Vault's API gives.
    #[error("{what}: the answer is none of Vault's API: {reason}")]
    NotUnderstood {
        /// The request.
        what: String,
        /// What of it; no part of it.
        reason: &'static str,
    },
    /// What we were told cannot be used.
    #[error("{setting}: {reason}")]
    Setting {
        /// Which setting.
        setting: &'static str,
        /// Why.
        reason: String,
    },
    /// The directory for the files is none to write secrets to.
    #[error("{path}: {reason}")]
    Directory {
        /// The directory, or the file in it.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// A file or directory cannot be read or written.
    #[error("{path}: cannot be {done}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried, as a participle.
        done: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl SecretsError {
    /// What the caller does about it.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Sealed { .. } | Self::Unwell { .. } => {
                Class::Transient
            }
            Self::LoginRefused { .. } | Self::Refused { .. } => Class::Refused,
            Self::NoSecret { .. } | Self::NoField { .. } => Class::Missing,
            Self::NotText { .. } | Self::NotUnderstood { .. } => Class::Unfit,
            Self::Untrusted { .. } | Self::Redirected { .. } | Self::Setting { .. } => Class::Misconfigured,
            Self::Directory { .. } | Self::File { .. } => Class::Local,
        }
    }
}
