//! The file that says which secrets `outboxd secrets pull` puts where: the server, as whom, and a table for each file. It is
//! not the daemon's configuration, which names the files and knows nothing of where they come from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use outbox_rail::PemFault;
use outbox_secrets::Wanted;
use thiserror::Error;

use super::check::{self, Holds, Host, NamedFile};
use super::fault::{Fault, Faults, Origins, Place};
use super::model::Credentials;
use super::{files, layer, load};
use crate::secrets::{self, SecretFault};

/// Where it is, unless told otherwise.
pub const PULLED_FILE: &str = "/etc/outboxd/secrets.toml";
/// More than a server takes that is well, and little enough for a start to fail soon.
pub(super) const TIMEOUT: outbox_core::Millis = outbox_core::Millis(10_000);
/// Where AppRole is mounted, unless told otherwise.
pub(super) const APPROLE_MOUNT: &str = "approle";

/// How the files that log in, and those that are trusted, may be open to others: not at all.
pub(crate) const ACCESS: Credentials = Credentials { allow_world_readable: false };

/// What is pulled, from where.
#[derive(Clone, Debug)]
pub struct PulledConfig {
    /// Scheme, host and port of the server.
    pub address: String,
    /// The authorities to trust; without it, the operating system's.
    pub ca_file: Option<PathBuf>,
    /// The namespace, of servers that have some.
    pub namespace: Option<String>,
    /// For each request.
    pub timeout: Duration,
    /// Where AppRole is mounted.
    pub approle_mount: String,
    /// The file of the role id.
    pub role_id: PathBuf,
    /// The file of the secret id.
    pub secret_id: PathBuf,
    /// The files to be written, in the order of their names.
    pub files: Vec<PulledFile>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PulledFile {
    /// Its name in the directory.
    pub name: String,
    /// What it comes from.
    pub wanted: Wanted,
    /// What it must hold, so that the daemon takes it.
    pub(super) holds: Holds,
    /// The file of the certificate that a key belongs to.
    pub key_of: Option<String>,
}

/// Why the daemon would not take a text as a file.
#[derive(Debug, Error)]
pub enum Unfit {
    /// Its form.
    #[error(transparent)]
    Form(#[from] SecretFault),
    /// As a certificate or a key.
    #[error("{0}")]
    Pem(PemFault),
}

impl PulledFile {
    /// Whether the daemon would take `text` as this file; `certificate` is the text of the file `key_of`.
    ///
    /// # Errors
    /// Why not. It shows nothing of the text.
    pub fn judge(&self, text: &str, certificate: Option<&str>) -> Result<(), Unfit> {
        secrets::judge(text.as_bytes(), files::content(&self.holds))?;
        files::judge(text.as_bytes(), &self.holds, certificate.map(str::as_bytes)).map_err(Unfit::Pem)
    }
}

/// Reads and checks the file at `path`. `address` is the server's where the file names none.
///
/// # Errors
/// Every fault found, with its place.
pub fn read(path: &Path, host: &Host, address: Option<String>) -> Result<PulledConfig, Faults> {
    let text = load::read(path).map_err(|fault| Faults::new(vec![fault]))?;
    let mut origins = Origins::new(path.to_owned());
    let (config, mut faults, named) = understand(&text, &mut origins, host, address)?;
    faults.extend(files::faults(&named, ACCESS, &origins));
    sound(config, faults)
}

/// The same of `text` in the place of the file. The files that it names are not looked at.
///
/// # Errors
/// Every fault found, with its place.
pub fn parse(path: &Path, text: &str, host: &Host, address: Option<String>) -> Result<PulledConfig, Faults> {
    let (config, faults, _) = understand(text, &mut Origins::new(path.to_owned()), host, address)?;
    sound(config, faults)
}

fn sound(config: Option<PulledConfig>, faults: Vec<Fault>) -> Result<PulledConfig, Faults> {
    match config {
        Some(config) if faults.is_empty() => Ok(config),
        _ => Err(Faults::new(faults)),
    }
}

/// What a text says, what is wrong with it, and the files that it names.
type Understood = (Option<PulledConfig>, Vec<Fault>, Vec<NamedFile>);

/// What `text` comes to; or why it is no TOML.
fn understand(text: &str, origins: &mut Origins, host: &Host, address: Option<String>) -> Result<Understood, Faults> {
    let (path, mut faults) = (origins.file().to_owned(), Vec::new());
    layer::note_places(&path, text, origins, &mut faults);
    if !faults.is_empty() {
        return Err(Faults::new(faults));
    }
    let value = toml::from_str::<toml::Table>(text).ok().and_then(layer::as_json);
    let Some(value) = value else {
        let place = Place::File { path, line: 0 };
        let message = layer::NO_JSON.to_owned();
        return Err(Faults::new(vec![Fault { place, key: None, message, excerpt: None }]));
    };
    Ok(check::pulled(&value, origins, host, address))
}
