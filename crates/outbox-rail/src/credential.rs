//! Credential files: read, checked, and read again when they change. What is in them is never shown.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use http::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretSlice};

use crate::error::RailError;
use crate::settings::{SecretHeader, WorldReadable};

/// No token, key or bundle of authorities comes near this; a path to something else does.
const CREDENTIAL_BYTES_MAX: u64 = 1024 * 1024;

/// Read permission for everybody on the machine.
const MODE_WORLD_READABLE: u32 = 0o004;

/// By what a changed file is told from an unchanged one. A rename over it changes the inode, a write
/// into it the time or the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    modified_at: Option<SystemTime>,
    bytes: u64,
    device: u64,
    inode: u64,
}

fn fault(path: &Path, reason: &'static str, source: Option<std::io::Error>) -> RailError {
    RailError::Credential { path: path.to_owned(), reason, source }
}

fn stamp_of(metadata: &fs::Metadata) -> Stamp {
    Stamp {
        modified_at: metadata.modified().ok(),
        bytes: metadata.len(),
        device: metadata.dev(),
        inode: metadata.ino(),
    }
}

/// The stamp of the file at `path`, symbolic links followed.
pub(crate) fn stamp(path: &Path) -> Result<Stamp, RailError> {
    fs::metadata(path).map(|metadata| stamp_of(&metadata)).map_err(|error| fault(path, "cannot be read", Some(error)))
}

/// The content of the file at `path`, which is not empty.
pub(crate) fn read(path: &Path, world_readable: WorldReadable) -> Result<(SecretSlice<u8>, Stamp), RailError> {
    let unreadable = |error| fault(path, "cannot be read", Some(error));
    let file = fs::File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(fault(path, "is not a file", None));
    }
    if world_readable == WorldReadable::Refuse && metadata.mode() & MODE_WORLD_READABLE != 0 {
        return Err(fault(path, "may be read by everybody", None));
    }
    let mut content = Vec::new();
    file.take(CREDENTIAL_BYTES_MAX.saturating_add(1)).read_to_end(&mut content).map_err(unreadable)?;
    let length = u64::try_from(content.len()).unwrap_or(u64::MAX);
    let content = SecretSlice::from(content);
    if length > CREDENTIAL_BYTES_MAX {
        return Err(fault(path, "is larger than 1 MiB", None));
    }
    if content.expose_secret().iter().all(u8::is_ascii_whitespace) {
        return Err(fault(path, "is empty", None));
    }
    Ok((content, stamp_of(&metadata)))
}

struct Secret {
    name: HeaderName,
    prefix: String,
    path: PathBuf,
    loaded: Mutex<(SecretSlice<u8>, Stamp)>,
}

/// The headers whose values come from files. Each attempt compares the files' stamps (one `stat`
/// each) and reads those that changed, so a rotated token is in use from the next payment on.
pub(crate) struct SecretHeaders {
    secrets: Vec<Secret>,
    world_readable: WorldReadable,
}

impl SecretHeaders {
    /// Reads every file once, so that a missing one is known at the start.
    pub(crate) fn load(
        headers: Vec<(HeaderName, SecretHeader)>,
        world_readable: WorldReadable,
    ) -> Result<Self, RailError> {
        let mut secrets = Vec::new();
        for (name, header) in headers {
            let loaded = Mutex::new(read(&header.file, world_readable)?);
            secrets.push(Secret { name, prefix: header.prefix, path: header.file, loaded });
        }
        let headers = Self { secrets, world_readable };
        headers.current()?;
        Ok(headers)
    }

    /// The headers as they are now, marked sensitive.
    pub(crate) fn current(&self) -> Result<Vec<(HeaderName, HeaderValue)>, RailError> {
        let mut headers = Vec::with_capacity(self.secrets.len());
        for secret in &self.secrets {
            headers.push((secret.name.clone(), secret.value(self.world_readable)?));
        }
        Ok(headers)
    }
}

impl Secret {
    fn value(&self, world_readable: WorldReadable) -> Result<HeaderValue, RailError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if stamp(&self.path)? != loaded.1 {
            *loaded = read(&self.path, world_readable)?;
        }
        let content = loaded.0.expose_secret();
        let end = content.iter().rposition(|b| !matches!(b, b'\n' | b'\r')).map_or(0, |last| last + 1);
        let joined = SecretSlice::from([self.prefix.as_bytes(), &content[..end]].concat());
        let mut value = HeaderValue::from_bytes(joined.expose_secret())
            .map_err(|_| fault(&self.path, "holds a line break or another byte that no header can carry", None))?;
        value.set_sensitive(true);
        Ok(value)
    }
}
