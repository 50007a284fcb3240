//! The directory of secrets: a file is replaced whole or not at all, and a set of files only when each of them can be. One
//! pull at a time. What is in the files, and whether it is fit, is the caller's business.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretSlice, SecretString};

use crate::error::SecretsError;

/// For its owner to read, and for nobody to write: a change is a rename.
const FILE_MODE: u32 = 0o400;
/// The permission of others than the owner to put another file in a file's place.
const WRITABLE_BY_OTHERS: u32 = 0o022;
const NAME_BYTES_MAX: usize = 128;

/// Whether `name` is one that a file of secrets may have: it leads nowhere else, and is hidden from no one.
#[must_use]
pub fn is_file_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// What becomes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was not there.
    Created,
    /// It held something else, or could be read or written by others.
    Replaced,
    /// It stays as it is.
    Unchanged,
}

/// A directory that files of secrets are put into.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    handle: File,
}

impl Directory {
    /// Opens the directory at `path`.
    ///
    /// # Errors
    /// It is none, or others than its owner may replace files in it.
    pub fn open(path: &Path) -> Result<Self, SecretsError> {
        let handle = File::open(path).map_err(failed(path, "opened"))?;
        let metadata = handle.metadata().map_err(failed(path, "read"))?;
        let refuse = |reason| Err(SecretsError::Directory { path: path.to_owned(), reason });
        if !metadata.is_dir() {
            return refuse("is not a directory");
        }
        if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
            return refuse("can be written by others than its owner; chmod go-w it");
        }
        Ok(Self { path: path.to_owned(), handle })
    }

    /// Waits until no other pull is at work on it, and keeps others from beginning for as long as this is there: one that
    /// has read older values must not write over newer ones.
    ///
    /// # Errors
    /// The file system has no locks.
    pub fn lock(&self) -> Result<(), SecretsError> {
        self.handle.lock().map_err(failed(&self.path, "locked"))
    }

    /// What putting `text` into the file `name` would change.
    ///
    /// # Errors
    /// The file cannot be read, or is no regular file.
    pub fn compare(&self, name: &str, text: &SecretString) -> Result<Change, SecretsError> {
        assert!(is_file_name(name), "names are checked before they get here");
        let path = self.path.join(name);
        // Of the name itself: a link would be replaced, not followed.
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Change::Created),
            Err(error) => return Err(failed(&path, "read")(error)),
        };
        if !metadata.is_file() {
            return Err(SecretsError::Directory { path, reason: "is in the way: it is not a regular file" });
        }
        if metadata.mode() & 0o7777 != FILE_MODE || metadata.len() != text.expose_secret().len() as u64 {
            return Ok(Change::Replaced);
        }
        let mut held = Vec::new();
        File::open(&path).and_then(|mut file| file.read_to_end(&mut held)).map_err(failed(&path, "read"))?;
        let same = SecretSlice::from(held).expose_secret() == text.expose_secret().as_bytes();
        Ok(if same { Change::Unchanged } else { Change::Replaced })
    }

    /// Puts each text into the file of its name, and says what that changed. Everything is written beside the files before
    /// the first of them is replaced.
    ///
    /// # Errors
    /// Nothing was replaced, unless a rename itself failed, which leaves the files before it replaced.
    pub fn put(&self, files: &[(&str, &SecretString)]) -> Result<Vec<Change>, SecretsError> {
        let compared = files.iter().map(|(name, text)| self.compare(name, text));
        let changes = compared.collect::<Result<Vec<_>, _>>()?;
        let mut written = Vec::new();
        for ((name, text), _) in files.iter().zip(&changes).filter(|(_, change)| **change != Change::Unchanged) {
            written.push(self.write_beside(name, text)?);
        }
        // Close together: in between, a certificate may stand beside another's key.
        for beside in &mut written {
            let (from, to) = (&beside.beside, &beside.target);
            fs::rename(from, to).map_err(failed(to, "replaced"))?;
            beside.is_done = true;
        }
        if !written.is_empty() {
            self.handle.sync_all().map_err(failed(&self.path, "synced"))?;
        }
        Ok(changes)
    }

    fn write_beside(&self, name: &str, text: &SecretString) -> Result<Beside, SecretsError> {
        // A name that no file of secrets has. One that is there is what a pull that was killed has left.
        let beside = self.path.join(format!(".{name}.new"));
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(&beside, "removed")(error));
            }
            _ => {}
        }
        let opened = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&beside);
        let mut file = opened.map_err(failed(&beside, "created"))?;
        let written = Beside { target: self.path.join(name), beside, is_done: false };
        let failed = failed(&written.beside, "written");
        // Whatever the umask says.
        file.set_permissions(fs::Permissions::from_mode(FILE_MODE))
            .and_then(|()| file.write_all(text.expose_secret().as_bytes()))
            .and_then(|()| file.sync_all())
            .map_err(failed)?;
        Ok(written)
    }
}

/// A file that waits to take its place; removed where it does not come to that.
struct Beside {
    beside: PathBuf,
    target: PathBuf,
    is_done: bool,
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.is_done {
            let _ = fs::remove_file(&self.beside);
        }
    }
}

fn failed(path: &Path, done: &'static str) -> impl FnOnce(std::io::Error) -> SecretsError {
    let path = path.to_owned();
    move |source| SecretsError::File { path, done, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().expect("directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).expect("mode");
        let directory = Directory::open(dir.path()).expect("open");
        (dir, directory)
    }

    fn put(directory: &Directory, files: &[(&str, &str)]) -> Result<Vec<Change>, SecretsError> {
        let texts: Vec<(&str, SecretString)> =
            files.iter().map(|(name, text)| (*name, SecretString::from(*text))).collect();
        directory.put(&texts.iter().map(|(name, text)| (*name, text)).collect::<Vec<_>>())
    }

    fn listed(dir: &tempfile::TempDir) -> Vec<(String, String, u32)> {
        let mut all: Vec<_> = fs::read_dir(dir.path())
            .expect("list")
            .flatten()
            .map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                let text = fs::read_to_string(entry.path()).unwrap_or_default();
                (name, text, entry.metadata().expect("metadata").mode() & 0o7777)
            })
            .collect();
        all.sort();
        all
    }

    #[test]
    fn a_file_name_leads_nowhere_else() {
        for name in ["a", "rail.pem", "database-password", "A_1"] {
            assert!(is_file_name(name), "{name}");
        }
        for name in ["", ".", "..", ".a", "../a", "a/b", "/a", "-a", "a\0", "a b", "a\n", "ä", &"a".repeat(129)] {
            assert!(!is_file_name(name), "{name}");
        }
    }

    #[test]
    fn files_are_replaced_by_a_rename_and_left_alone_where_nothing_changed() {
        let (dir, directory) = open();
        assert_eq!(put(&directory, &[("a", "1"), ("b", "2")]).expect("put"), [Change::Created, Change::Created]);
        let inode = |name: &str| fs::metadata(dir.path().join(name)).expect("metadata").ino();
        let mut reader = File::open(dir.path().join("b")).expect("open");
        let before = (inode("a"), inode("b"));
        assert_eq!(put(&directory, &[("a", "1"), ("b", "3")]).expect("put"), [Change::Unchanged, Change::Replaced]);
        assert!(inode("a") == before.0 && inode("b") != before.1);
        // Whoever has the old file open reads the whole of it.
        let mut read = String::new();
        reader.read_to_string(&mut read).expect("read");
        assert_eq!(read, "2");
        let all = [("a".to_owned(), "1".to_owned(), 0o400), ("b".to_owned(), "3".to_owned(), 0o400)];
        assert_eq!(listed(&dir), all);
    }

    #[test]
    fn a_file_that_others_can_read_is_replaced_by_one_that_they_cannot() {
        let (dir, directory) = open();
        fs::write(dir.path().join("a"), "1").expect("write");
        fs::set_permissions(dir.path().join("a"), fs::Permissions::from_mode(0o644)).expect("mode");
        assert_eq!(put(&directory, &[("a", "1")]).expect("put"), [Change::Replaced]);
        assert_eq!(listed(&dir), [("a".to_owned(), "1".to_owned(), 0o400)]);
    }

    #[test]
    fn nothing_is_replaced_where_one_of_the_files_cannot_be() {
        let (dir, directory) = open();
        put(&directory, &[("a", "old")]).expect("put");
        fs::create_dir(dir.path().join("b")).expect("directory");
        let refused = put(&directory, &[("a", "new"), ("b", "new")]);
        assert!(refused.is_err_and(|error| error.to_string().contains("in the way")));
        // Where the last of them cannot even be written beside its name.
        fs::create_dir(dir.path().join(".c.new")).expect("directory");
        assert!(put(&directory, &[("a", "new"), ("c", "new")]).is_err());
        assert_eq!(listed(&dir).into_iter().filter(|(_, text, _)| !text.is_empty()).count(), 1);
        assert_eq!(fs::read_to_string(dir.path().join("a")).expect("read"), "old");
        assert!(!dir.path().join(".a.new").exists(), "what was written beside is removed");
    }

    #[test]
    fn what_a_pull_that_was_killed_has_left_is_no_obstacle() {
        let (dir, directory) = open();
        fs::write(dir.path().join(".a.new"), "half").expect("write");
        put(&directory, &[("a", "1")]).expect("put");
        assert_eq!(listed(&dir), [("a".to_owned(), "1".to_owned(), 0o400)]);
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let (dir, _) = open();
        for mode in [0o777, 0o720, 0o1777] {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).expect("mode");
            assert!(Directory::open(dir.path()).is_err(), "{mode:o}");
        }
        fs::write(dir.path().join("file"), "").expect("write");
        assert!(Directory::open(&dir.path().join("file")).is_err());
        assert!(Directory::open(&dir.path().join("nothing")).is_err());
    }

    #[test]
    fn a_second_pull_waits_until_the_first_has_ended() {
        let (dir, first) = open();
        first.lock().expect("lock");
        let second = Directory::open(dir.path()).expect("open");
        assert!(second.handle.try_lock().is_err());
        drop(first);
        second.lock().expect("lock");
    }
}
