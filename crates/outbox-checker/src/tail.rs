//! A file of lines that others append to, read on from where the last reading ended. A last line without its line
//! feed is left for the next reading; a file that became shorter is said to be, and begun anew.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use crate::error::CheckError;

/// How much is read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// The place in a file up to which its lines are known.
#[derive(Debug)]
pub(crate) struct Tail {
    path: PathBuf,
    offset: u64,
}

impl Tail {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), offset: 0 }
    }

    /// Begins anew with the next reading.
    pub(crate) const fn rewind(&mut self) {
        self.offset = 0;
    }

    /// Gives each new whole line, without its line feed. A file that is not there has none. `false`: the file was
    /// shorter than what was read before.
    pub(crate) fn read(&mut self, mut each: impl FnMut(&[u8]) -> Result<(), String>) -> Result<bool, CheckError> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(self.offset == 0),
            Err(source) => return Err(self.failed("open", source)),
        };
        let length = file.metadata().map_err(|source| self.failed("look at", source))?.len();
        if length < self.offset {
            self.offset = 0;
            return Ok(false);
        }
        file.seek(SeekFrom::Start(self.offset)).map_err(|source| self.failed("read", source))?;
        let (mut held, mut chunk) =
            (Vec::new(), vec![0; CHUNK_BYTES.min(usize::try_from(length - self.offset).unwrap_or(CHUNK_BYTES)).max(1)]);
        loop {
            let count = file.read(&mut chunk).map_err(|source| self.failed("read", source))?;
            if count == 0 {
                return Ok(true);
            }
            held.extend_from_slice(&chunk[..count]);
            let Some(end) = held.iter().rposition(|byte| *byte == b'\n') else { continue };
            for line in held[..end].split(|byte| *byte == b'\n') {
                each(line).map_err(|reason| CheckError::Line {
                    path: self.path.clone(),
                    offset: self.offset,
                    reason,
                })?;
                self.offset += line.len() as u64 + 1;
            }
            held.drain(..=end);
        }
    }

    fn failed(&self, action: &'static str, source: io::Error) -> CheckError {
        CheckError::File { action, path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn lines(tail: &mut Tail) -> (Vec<String>, bool) {
        let mut found = Vec::new();
        let is_longer = tail.read(|line| {
            found.push(String::from_utf8_lossy(line).into_owned());
            Ok(())
        });
        (found, is_longer.unwrap())
    }

    #[test]
    fn a_torn_last_line_is_left_for_the_next_reading() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        let mut tail = Tail::new(&path);
        assert_eq!(lines(&mut tail), (vec![], true));
        let mut file = File::create(&path).unwrap();
        file.write_all(b"one\ntw").unwrap();
        assert_eq!(lines(&mut tail), (vec!["one".to_owned()], true));
        assert_eq!(lines(&mut tail), (vec![], true));
        file.write_all(b"o\nthree\n").unwrap();
        assert_eq!(lines(&mut tail), (vec!["two".to_owned(), "three".to_owned()], true));
    }

    #[test]
    fn a_file_that_became_shorter_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        std::fs::write(&path, "one\ntwo\n").unwrap();
        let mut tail = Tail::new(&path);
        assert!(lines(&mut tail).1);
        std::fs::write(&path, "one\n").unwrap();
        assert_eq!(lines(&mut tail), (vec![], false));
        assert_eq!(lines(&mut tail), (vec!["one".to_owned()], true));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(lines(&mut tail), (vec![], false));
    }
}
