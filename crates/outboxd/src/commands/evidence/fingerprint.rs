//! SHA-256 of bytes, of files, and of folders. That of a folder is of its list: for each file in it, in order of
//! path, the hash, two blanks, the path, a line feed; as `find DIR -type f | LC_ALL=C sort | xargs sha256sum | sha256sum` prints it.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::hex;

/// The hash in hexadecimal.
pub(super) fn sha256_of(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes))
}

/// The hash of `path` below `tree`, a file or a folder.
///
/// # Errors
/// It is not there, cannot be read, or is a folder without files.
pub(super) fn sha256_at(tree: &Path, path: &str) -> io::Result<String> {
    let found = tree.join(path);
    if !found.is_dir() {
        return Ok(sha256_of(&fs::read(found)?));
    }
    let mut files = Vec::new();
    list(tree, path, &mut files)?;
    if files.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "a folder without files"));
    }
    files.sort();
    let mut lines = String::new();
    for file in &files {
        let _ = writeln!(lines, "{}  {file}", sha256_of(&fs::read(tree.join(file))?));
    }
    Ok(sha256_of(lines.as_bytes()))
}

fn list(tree: &Path, folder: &str, files: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(tree.join(folder))? {
        let entry = entry?;
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            list(tree, &path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_changes_with_each_byte_and_each_name_below_it() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        assert!(sha256_at(dir.path(), "a").is_err());
        put("a/b/one", "1");
        put("a/two", "2");
        let before = sha256_at(dir.path(), "a").unwrap();
        let line = |text: &[u8], path: &str| format!("{}  {path}\n", sha256_of(text));
        assert_eq!(before, sha256_of((line(b"1", "a/b/one") + &line(b"2", "a/two")).as_bytes()));
        put("a/two", "3");
        let changed = sha256_at(dir.path(), "a").unwrap();
        fs::rename(dir.path().join("a/two"), dir.path().join("a/three")).unwrap();
        let renamed = sha256_at(dir.path(), "a").unwrap();
        assert!(before != changed && changed != renamed);
        assert_eq!(sha256_at(dir.path(), "a/b/one").unwrap(), sha256_of(b"1"));
        assert!(sha256_at(dir.path(), "nothing").is_err());
    }
}
