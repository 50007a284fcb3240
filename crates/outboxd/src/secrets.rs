//! Secrets, read from their files each time they are needed, so that a rotation needs no restart.
//! A secret never leaves [`SecretString`] here, and no error carries any part of one.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use thiserror::Error;

use crate::config::model::{Credentials, SecretSource};

/// More than any key or token has; a larger file is another file.
const SECRET_BYTES_MAX: u64 = 65_536;
/// Room for every authority of an operating system or of a cloud, several times over.
const PUBLIC_BYTES_MAX: u64 = 1_048_576;
/// The permission of everybody to read.
const READABLE_BY_ALL: u32 = 0o004;

/// What a file must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Certificates and the like: no secret.
    Public,
    /// One line of text: a password, a token.
    SecretLine,
    /// A private key in PEM.
    SecretKey,
}

/// Why a file of secrets, or of certificates, was not taken.
#[derive(Debug, Error)]
#[error("{path}: {reason}")]
pub struct SecretError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub reason: SecretFault,
}

/// What is wrong with a file.
#[derive(Debug, Error)]
pub enum SecretFault {
    /// The system refuses to read it, or it is not there.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It is a directory, a pipe or a device.
    #[error("is not a regular file")]
    NotAFile,
    /// Everybody on the host can read it.
    #[error("can be read by everybody (mode {mode:04o}); chmod o-r it, or set credentials.allow_world_readable")]
    WorldReadable {
        /// Its permissions.
        mode: u32,
    },
    /// It is empty.
    #[error("is empty")]
    Empty,
    /// It is too large.
    #[error("is larger than {bytes_max} bytes")]
    TooLarge {
        /// What it may have.
        bytes_max: u64,
    },
    /// It has more than one line, or bytes that are no text.
    #[error("must hold one line of text")]
    NotOneLine,
}

/// The secret at `source`, without the end of its line.
///
/// # Errors
/// [`SecretError`], which names the file and nothing of what it holds.
pub fn read(source: &SecretSource, access: Credentials) -> Result<SecretString, SecretError> {
    let bytes = read_bytes(&source.path, Content::SecretLine, access)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| SecretError { path: source.path.clone(), reason: SecretFault::NotOneLine })?;
    Ok(SecretString::from(text.trim_end_matches(['\r', '\n'])))
}

/// The content of the file at `path`, if it is one that may be used.
///
/// # Errors
/// [`SecretError`], which names the file and nothing of what it holds.
pub fn read_bytes(path: &Path, content: Content, access: Credentials) -> Result<Vec<u8>, SecretError> {
    examine(path, content, access).map_err(|reason| SecretError { path: path.to_owned(), reason })
}

fn examine(path: &Path, content: Content, access: Credentials) -> Result<Vec<u8>, SecretFault> {
    // A pipe would block the open, so its kind is asked first; the open file is asked again, since
    // the name may have changed hands in between.
    if !std::fs::metadata(path)?.is_file() {
        return Err(SecretFault::NotAFile);
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(SecretFault::NotAFile);
    }
    let mode = metadata.mode() & 0o7777;
    if content != Content::Public && mode & READABLE_BY_ALL != 0 && !access.allow_world_readable {
        return Err(SecretFault::WorldReadable { mode });
    }
    let mut bytes = Vec::new();
    file.take(bytes_max(content) + 1).read_to_end(&mut bytes)?;
    judge(&bytes, content)?;
    Ok(bytes)
}

const fn bytes_max(content: Content) -> u64 {
    match content {
        Content::Public => PUBLIC_BYTES_MAX,
        Content::SecretLine | Content::SecretKey => SECRET_BYTES_MAX,
    }
}

/// Whether a file with these bytes would be taken.
///
/// # Errors
/// [`SecretFault`], which tells nothing of them.
pub fn judge(bytes: &[u8], content: Content) -> Result<(), SecretFault> {
    let bytes_max = bytes_max(content);
    if bytes.len() as u64 > bytes_max {
        return Err(SecretFault::TooLarge { bytes_max });
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(SecretFault::Empty);
    }
    if content == Content::SecretLine && !is_one_line(bytes) {
        return Err(SecretFault::NotOneLine);
    }
    Ok(())
}

/// One line of UTF-8, with or without its end.
fn is_one_line(bytes: &[u8]) -> bool {
    let text = std::str::from_utf8(bytes).unwrap_or("\0");
    !text.trim_end_matches(['\r', '\n']).chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;

    use super::*;

    const STRICT: Credentials = Credentials { allow_world_readable: false };

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, SecretSource) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, SecretSource { path })
    }

    fn check(content: &[u8], mode: u32, access: Credentials) -> Result<String, String> {
        let (_dir, source) = file(content, mode);
        let secret = read(&source, access).map_err(|error| error.reason.to_string())?;
        assert!(!format!("{secret:?}").contains("s3cret"), "a secret shows in Debug");
        Ok(secret.expose_secret().to_owned())
    }

    #[test]
    fn the_end_of_the_line_is_no_part_of_a_secret() {
        for content in ["s3cret", "s3cret\n", "s3cret\r\n"] {
            assert_eq!(check(content.as_bytes(), 0o600, STRICT).as_deref(), Ok("s3cret"));
        }
        assert_eq!(check(b" s3cret ", 0o600, STRICT).as_deref(), Ok(" s3cret "));
    }

    #[test]
    fn a_world_readable_secret_is_refused_unless_allowed() {
        let refused = check(b"s3cret", 0o644, STRICT);
        assert!(refused.is_err_and(|message| message.contains("mode 0644")));
        let lenient = Credentials { allow_world_readable: true };
        assert_eq!(check(b"s3cret", 0o644, lenient).as_deref(), Ok("s3cret"));
        assert_eq!(check(b"s3cret", 0o640, STRICT).as_deref(), Ok("s3cret"));
    }

    #[test]
    fn certificates_may_be_world_readable_and_as_many_as_an_operating_system_trusts() {
        let (_dir, source) = file(&b"PEM\n".repeat(60_000), 0o644);
        assert!(read_bytes(&source.path, Content::Public, STRICT).is_ok());
        assert!(read_bytes(&source.path, Content::SecretKey, STRICT).is_err());
    }

    #[test]
    fn what_could_break_out_of_a_header_is_refused_without_being_shown() {
        for content in [&b"s3cret\nX-Evil: 1"[..], b"s3\0cret", b"s3cret\xff", b"\n", b""] {
            let refused = check(content, 0o600, STRICT);
            assert!(refused.is_err_and(|message| !message.contains("s3")), "{content:?}");
        }
        assert!(check(&[b'x'; 70_000], 0o600, STRICT).is_err_and(|message| message.contains("larger")));
    }

    #[test]
    fn a_missing_file_and_a_directory_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = read(&SecretSource { path: dir.path().join("nothing") }, STRICT).unwrap_err();
        assert!(matches!(missing.reason, SecretFault::Unreadable(_)) && missing.path.ends_with("nothing"));
        let directory = read(&SecretSource { path: dir.path().to_owned() }, STRICT).unwrap_err();
        assert!(matches!(directory.reason, SecretFault::NotAFile));
    }

    #[test]
    fn a_rotated_secret_is_seen_at_the_next_read() {
        let (_dir, source) = file(b"before", 0o600);
        assert_eq!(read(&source, STRICT).unwrap().expose_secret(), "before");
        fs::write(&source.path, b"after").unwrap();
        assert_eq!(read(&source, STRICT).unwrap().expose_secret(), "after");
    }
}
