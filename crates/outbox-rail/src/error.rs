//! Why an HTTP rail could not be made. Faults of an exchange are not errors but outcomes.

use std::path::PathBuf;

use thiserror::Error;

use crate::endpoint::UrlFault;
use crate::pem::PemFault;

/// A setting or a credential with which no rail can be reached.
#[derive(Debug, Error)]
pub enum RailError {
    /// The URL cannot be posted to.
    #[error("`url` {0}")]
    Url(#[from] UrlFault),
    /// A header cannot be sent.
    #[error("the header `{name}` {reason}", name = .name.escape_debug())]
    Header {
        /// The header's name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A setting is out of its range.
    #[error("`{setting}` {reason}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A credential file cannot be used.
    #[error("the credential file {} {reason}", path.display())]
    Credential {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
        /// What the operating system said.
        source: Option<std::io::Error>,
    },
    /// A credential file does not hold what it should.
    #[error("the credential file {} {fault}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: PemFault,
    },
    /// The operating system has no authorities, or TLS cannot be set up at all.
    #[error("tls cannot be set up: {reason}")]
    Tls {
        /// What is wrong.
        reason: String,
    },
}
