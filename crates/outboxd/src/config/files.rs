//! The files that a configuration names: whether each can be read, by whom else, and whether certificates and
//! keys are some. A connection that no certificate can make possible would be tried for ever.

use std::path::Path;

use outbox_rail::{PemFault, check_authorities, check_certificates, check_identity};

use super::check::{Checked, Holds, NamedFile};
use super::fault::{Fault, Origins};
use super::model::Credentials;
use crate::secrets::{self, Content};

/// What is wrong with the files of a configuration.
pub(super) fn faults(checked: &Checked, origins: &Origins) -> Vec<Fault> {
    let fault_of = |file: &NamedFile| {
        let message = examine(file, checked.config.credentials).err()?;
        Some(Fault { place: origins.place(&file.key), key: Some(file.key.clone()), message, excerpt: None })
    };
    checked.files.iter().filter_map(fault_of).collect()
}

fn examine(file: &NamedFile, access: Credentials) -> Result<(), String> {
    let read = |path: &Path, content| secrets::read_bytes(path, content, access);
    let content = match file.holds {
        Holds::Authorities | Holds::Certificate => Content::Public,
        Holds::Key { .. } => Content::SecretKey,
        Holds::SecretLine => Content::SecretLine,
    };
    let bytes = read(&file.path, content).map_err(|error| error.to_string())?;
    let held = match &file.holds {
        Holds::Authorities => check_authorities(&bytes),
        Holds::Certificate => check_certificates(&bytes),
        Holds::Key { of } => {
            let certificate = of.as_deref().and_then(|path| read(path, Content::Public).ok()).unwrap_or_default();
            match check_identity(&certificate, &bytes) {
                // Said of the certificate already.
                Err(PemFault::NoCertificate | PemFault::Broken | PemFault::NotACertificate) => Ok(()),
                judged => judged,
            }
        }
        Holds::SecretLine => Ok(()),
    };
    held.map_err(|fault| format!("{}: {fault}", file.path.display()))
}
