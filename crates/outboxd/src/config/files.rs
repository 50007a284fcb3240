//! The files that a configuration names: whether each can be read, by whom else, and whether certificates and
//! keys are some. A connection that no certificate can make possible would be tried for ever.

use std::path::Path;

use outbox_rail::{PemFault, check_authorities, check_certificates, check_identity};

use super::check::{Holds, NamedFile};
use super::fault::{Fault, Origins};
use super::model::Credentials;
use crate::secrets::{self, Content};

/// What is wrong with the files that a configuration names.
pub(super) fn faults(files: &[NamedFile], access: Credentials, origins: &Origins) -> Vec<Fault> {
    let fault_of = |file: &NamedFile| {
        let message = examine(file, access).err()?;
        Some(Fault { place: origins.place(&file.key), key: Some(file.key.clone()), message, excerpt: None })
    };
    files.iter().filter_map(fault_of).collect()
}

fn examine(file: &NamedFile, access: Credentials) -> Result<(), String> {
    let read = |path: &Path, content| secrets::read_bytes(path, content, access);
    let bytes = read(&file.path, content(&file.holds)).map_err(|error| error.to_string())?;
    let certificate = match &file.holds {
        Holds::Key { of: Some(path) } => read(path, Content::Public).ok(),
        _ => None,
    };
    judge(&bytes, &file.holds, certificate.as_deref()).map_err(|fault| format!("{}: {fault}", file.path.display()))
}

/// As what a file is read.
pub(super) fn content(holds: &Holds) -> Content {
    match holds {
        Holds::Authorities | Holds::Certificate => Content::Public,
        Holds::Key { .. } => Content::SecretKey,
        Holds::SecretLine => Content::SecretLine,
    }
}

/// Whether `bytes` are what they should be; `certificate` is what a key belongs to, if that is known.
pub(super) fn judge(bytes: &[u8], holds: &Holds, certificate: Option<&[u8]>) -> Result<(), PemFault> {
    match holds {
        Holds::Authorities => check_authorities(bytes),
        Holds::Certificate => check_certificates(bytes),
        Holds::Key { .. } => match check_identity(certificate.unwrap_or_default(), bytes) {
            // Said of the certificate already.
            Err(PemFault::NoCertificate | PemFault::Broken | PemFault::NotACertificate) => Ok(()),
            judged => judged,
        },
        Holds::SecretLine => Ok(()),
    }
}
