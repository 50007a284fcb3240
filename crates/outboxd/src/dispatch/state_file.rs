//! The state file: what a dispatcher remembers, kept over restarts. Dispatchers of one name on one host share it, and
//! so are one memory: what one of them has seen, the others learn within a second.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use outbox_store::{LogMark, Memory};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::event::Handle;
use crate::events;
use crate::exit::{Exit, Failure};
use crate::health::Ticker;

/// The file is at most so old while the daemon runs.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// A lock is held for as long as a small file takes to get to disk.
const LOCK_POLL: Duration = Duration::from_millis(2);
/// A dispatcher that is frozen while it writes must hold up neither another's start nor its end.
const LOCK_POLLS: u32 = 5_000;

/// What stands in the file.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
struct Record {
    #[serde(serialize_with = "write_id", deserialize_with = "read_id")]
    memory_id: Uuid,
    epoch_us: i64,
    log_position: i64,
    beat: i64,
}

impl Record {
    const fn of(memory_id: Uuid, mark: LogMark) -> Self {
        Self { memory_id, epoch_us: mark.epoch_us, log_position: mark.log_position, beat: mark.beat }
    }

    const fn mark(self) -> LogMark {
        LogMark { epoch_us: self.epoch_us, log_position: self.log_position, beat: self.beat }
    }
}

fn write_id<S: Serializer>(id: &Uuid, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(id)
}

fn read_id<'de, D: Deserializer<'de>>(from: D) -> Result<Uuid, D::Error> {
    String::deserialize(from)?.parse().map_err(D::Error::custom)
}

/// Where it is, and whose memory it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StateFile {
    path: PathBuf,
    memory_id: Uuid,
}

impl StateFile {
    /// Reads the file of the dispatcher `name` in `directory`, or makes it with a new memory, and writes it again, so
    /// that what cannot be written is found at the start.
    ///
    /// # Errors
    /// [`Exit::BadConfiguration`] if the file is not what this program writes, or cannot be read or written.
    pub(super) fn open(directory: &Path, name: &str) -> Result<(Self, LogMark), Failure> {
        let path = path_of(directory, name);
        let cannot_write = |error| failure("cannot write", &path, &error);
        let _lock = lock(&path, LOCK_POLLS).map_err(cannot_write)?;
        let record = read_record(&path)?.unwrap_or_else(|| Record::of(Uuid::new_v4(), LogMark::default()));
        write(&path, record).map_err(cannot_write)?;
        Ok((Self { memory_id: record.memory_id, path }, record.mark()))
    }

    pub(super) const fn memory_id(&self) -> Uuid {
        self.memory_id
    }

    /// Raises the file to `mark`; returns the furthest of both, on disk.
    fn merge(&self, mark: LogMark) -> io::Result<LogMark> {
        let _lock = lock(&self.path, LOCK_POLLS)?;
        let found = read_record(&self.path).map_err(|failure| io::Error::other(failure.message))?;
        if found.is_some_and(|found| found.memory_id != self.memory_id) {
            return Err(io::Error::other("it was removed, and is another memory's by now: restart this dispatcher"));
        }
        let merged = found.map_or(mark, |found| found.mark().merge(mark));
        let record = Record::of(self.memory_id, merged);
        if found != Some(record) {
            write(&self.path, record)?;
        }
        Ok(merged)
    }
}

/// What the dispatcher `name` remembers by its file in `directory`, if there is one.
///
/// # Errors
/// [`Exit::BadConfiguration`] if the file is not what this program writes, or cannot be read.
pub(crate) fn read(directory: &Path, name: &str) -> Result<Option<Memory>, Failure> {
    let record = read_record(&path_of(directory, name))?;
    Ok(record.map(|record| Memory { id: Some(record.memory_id), mark: record.mark() }))
}

fn path_of(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.high-water.json"))
}

fn read_record(path: &Path) -> Result<Option<Record>, Failure> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failure("cannot read", path, &error)),
    };
    let record = understand(&text).map_err(|error| {
        let advice = "how far the database was cannot be told; find out whether it was put back, then remove the file";
        failure("cannot understand", path, &format!("{error}; {advice}"))
    })?;
    Ok(Some(record))
}

fn understand(text: &[u8]) -> serde_json::Result<Record> {
    // A list of the four values would be taken for them as well.
    let fields: &RawValue = serde_json::from_slice(text)?;
    if fields.get().starts_with('{') {
        serde_json::from_str(fields.get())
    } else {
        Err(serde_json::Error::custom("it is no JSON object"))
    }
}

/// What the bytes of a state file say, and the bytes that would be written for it.
///
/// # Errors
/// Why this program did not write them.
pub(crate) fn reread(text: &[u8]) -> serde_json::Result<(Memory, Vec<u8>)> {
    let record = understand(text)?;
    Ok((Memory { id: Some(record.memory_id), mark: record.mark() }, bytes_of(record)?))
}

fn bytes_of(record: Record) -> serde_json::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(&record)?;
    text.push(b'\n');
    Ok(text)
}

fn failure(what: &str, path: &Path, error: &dyn std::fmt::Display) -> Failure {
    let path = path.display();
    Failure::new(Exit::BadConfiguration, format!("dispatcher.state_directory: {what} {path}: {error}"))
}

/// Held until it is dropped. On a file of its own, since the state file is replaced whenever it is written. It is
/// waited for so many times [`LOCK_POLL`].
fn lock(path: &Path, polls: u32) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path.with_extension("lock"))?;
    for _ in 0..polls {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_POLL),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "another dispatcher of this name stands still with its lock"))
}

/// Whole or not at all, and on disk when this returns.
fn write(path: &Path, record: Record) -> io::Result<()> {
    let text = bytes_of(record)?;
    let new = path.with_extension("json.new");
    let put = || {
        let mut opened = File::create(&new)?;
        opened.write_all(&text)?;
        opened.sync_all()?;
        fs::rename(&new, path)
    };
    if let Err(error) = put() {
        // A full disk must not fill with attempts.
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    File::open(path.parent().unwrap_or_else(|| Path::new("/")))?.sync_all()
}

/// Keeps the file up to date.
pub(crate) struct StateKeeper {
    file: StateFile,
    handle: Handle,
    ticker: Ticker,
}

impl StateKeeper {
    pub(crate) const fn new(file: StateFile, handle: Handle, ticker: Ticker) -> Self {
        Self { file, handle, ticker }
    }

    /// Keeps it until `last_heartbeat`, and what that one brought as well.
    pub(crate) async fn run(mut self, last_heartbeat: impl Future<Output = ()>) {
        tokio::pin!(last_heartbeat);
        loop {
            let over = tokio::select! {
                () = tokio::time::sleep(WRITE_EVERY) => false,
                () = self.handle.high_water.must_be_written() => false,
                () = &mut last_heartbeat => true,
            };
            self.ticker.tick();
            self.run_once().await;
            if over {
                break;
            }
        }
    }

    /// Brings file and memory level.
    async fn run_once(&mut self) {
        let (file, mark) = (self.file.clone(), self.handle.high_water.memory().mark);
        // A disk that is slow must not hold up a thread of the runtime.
        let merged = tokio::task::spawn_blocking(move || file.merge(mark)).await;
        match merged.map_err(io::Error::other).flatten() {
            Ok(merged) => self.handle.high_water.raise(merged),
            Err(error) => {
                let file = self.file.path.display();
                tracing::error!(event = events::STATE_NOT_WRITTEN, %file, %error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(epoch_us: i64, log_position: i64, beat: i64) -> LogMark {
        LogMark { epoch_us, log_position, beat }
    }

    fn opened(directory: &Path) -> (StateFile, LogMark) {
        StateFile::open(directory, "pay-1").unwrap()
    }

    #[test]
    fn the_file_is_never_written_backwards() {
        let dir = tempfile::tempdir().unwrap();
        let (file, first) = opened(dir.path());
        assert_eq!(first, LogMark::default());
        for (seen, kept) in [
            (mark(5, 100, 1), mark(5, 100, 1)),
            (mark(5, 91, 2), mark(5, 100, 2)),
            (mark(5, 101, 1), mark(5, 101, 2)),
            (mark(4, 999, 9), mark(5, 101, 2)),
            (mark(5, 90, i64::MAX), mark(5, 101, i64::MAX)),
            (mark(5, 102, 3), mark(5, 102, i64::MAX)),
            (mark(6, 3, 1), mark(6, 3, 1)),
        ] {
            assert_eq!(file.merge(seen).unwrap(), kept, "{seen:?}");
            assert_eq!(opened(dir.path()), (file.clone(), kept), "{seen:?}");
        }
    }

    #[test]
    fn dispatchers_of_one_name_are_one_memory_and_lose_nothing_of_what_any_of_them_saw() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path();
        let files: Vec<StateFile> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4_i64)
                .map(|thread| {
                    scope.spawn(move || {
                        let (file, _) = opened(directory);
                        (0..20).for_each(|n| assert!(file.merge(mark(5, n * 4 + thread, n)).unwrap().beat >= n));
                        file
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(files.iter().all(|file| *file == files[0]), "{files:?}");
        assert_eq!(opened(directory).1, mark(5, 79, 19));
        let mut left: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["pay-1.high-water.json", "pay-1.high-water.lock"]);
    }

    #[test]
    fn a_dispatcher_that_stands_still_with_the_lock_is_not_waited_for_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let (file, _) = opened(dir.path());
        let held = lock(&file.path, 1).unwrap();
        assert_eq!(lock(&file.path, 3).unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(held);
        lock(&file.path, 1).unwrap();
    }

    #[test]
    fn a_file_that_was_removed_is_written_again_but_not_over_another_memory() {
        let dir = tempfile::tempdir().unwrap();
        let (file, _) = opened(dir.path());
        fs::remove_file(&file.path).unwrap();
        assert_eq!(file.merge(mark(5, 10, 2)).unwrap(), mark(5, 10, 2));
        assert_eq!(opened(dir.path()).1, mark(5, 10, 2));
        fs::remove_file(&file.path).unwrap();
        let (other, none) = opened(dir.path());
        assert!(other.memory_id != file.memory_id && none == LogMark::default());
        assert!(file.merge(mark(5, 11, 3)).unwrap_err().to_string().contains("restart this dispatcher"));
        assert_eq!(opened(dir.path()), (other, none));
    }

    #[test]
    fn a_broken_file_is_refused_and_left_as_evidence() {
        let dir = tempfile::tempdir().unwrap();
        let (file, _) = opened(dir.path());
        assert_eq!(read(dir.path(), "pay-1").unwrap().unwrap().id, Some(file.memory_id));
        assert_eq!(read(dir.path(), "pay-2").unwrap(), None);
        let as_list = format!("[\"{}\",1,2,3]", file.memory_id);
        for broken in ["", "{}", "{\"epoch_us\":1,\"log_position\":2}", "not json", &as_list] {
            fs::write(&file.path, broken).unwrap();
            let refused = StateFile::open(dir.path(), "pay-1").unwrap_err();
            assert_eq!(refused.exit, Exit::BadConfiguration);
            assert!(refused.message.contains("high-water.json"), "{refused}");
            assert!(file.merge(mark(5, 1, 1)).is_err());
            assert_eq!(fs::read_to_string(&file.path).unwrap(), broken, "evidence was overwritten");
        }
        let missing = StateFile::open(&dir.path().join("no"), "pay-1").unwrap_err();
        assert!(missing.message.contains("cannot write"), "{missing}");
    }
}
