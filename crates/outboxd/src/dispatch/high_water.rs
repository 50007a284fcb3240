//! How far the database's log was ever seen, kept over restarts: a disk snapshot that is put back has forgotten what
//! was sent since, and has the same identifier and timeline. Every claim brings the mark along, and the claim
//! function refuses to lease anything on a database that is not as far.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use outbox_store::LogMark;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::event::{Handle, Phase};
use crate::events;
use crate::exit::{Exit, Failure};
use crate::health::Ticker;

/// The file is at most so old while the daemon runs: a snapshot taken in its last second of life is not noticed
/// by its next life.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// The highest mark that was seen.
#[derive(Debug, Default)]
pub(crate) struct HighWater(Mutex<LogMark>);

impl HighWater {
    /// What a claim brings along.
    pub(crate) fn mark(&self) -> LogMark {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a claim said.
    pub(crate) fn raise(&self, to: LogMark) {
        let mut mark = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *mark = to.max(*mark);
    }
}

/// The state file.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Record {
    epoch_us: i64,
    log_position: i64,
}

/// Writes the mark down.
pub(crate) struct HighWaterKeeper {
    file: PathBuf,
    written: LogMark,
    handle: Handle,
    ticker: Ticker,
}

/// Reads the mark of the dispatcher `name` out of `directory` and writes it again, so that what cannot be written is
/// found at the start.
///
/// # Errors
/// [`Exit::BadConfiguration`] if the file is not what this program writes, or cannot be read or written.
pub(crate) fn load(directory: &Path, name: &str) -> Result<(PathBuf, LogMark), Failure> {
    let mark = read(directory, name)?.unwrap_or_default();
    let file = file_of(directory, name);
    write(&file, mark).map_err(|error| failure("cannot write", &file, &error))?;
    Ok((file, mark))
}

/// The mark of the dispatcher `name` as it stands in `directory`, if there is one.
///
/// # Errors
/// [`Exit::BadConfiguration`] if the file is not what this program writes, or cannot be read.
pub(crate) fn read(directory: &Path, name: &str) -> Result<Option<LogMark>, Failure> {
    let file = file_of(directory, name);
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failure("cannot read", &file, &error)),
    };
    let record: Record = serde_json::from_slice(&text).map_err(|error| {
        let advice = "how far the database was cannot be told; find out whether it was put back, then remove the file";
        failure("cannot understand", &file, &format!("{error}; {advice}"))
    })?;
    Ok(Some(LogMark { epoch_us: record.epoch_us, log_position: record.log_position }))
}

fn file_of(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.high-water.json"))
}

fn failure(what: &str, file: &Path, error: &dyn std::fmt::Display) -> Failure {
    let file = file.display();
    Failure::new(Exit::BadConfiguration, format!("dispatcher.state_directory: {what} {file}: {error}"))
}

/// Whole or not at all, and on disk when this returns. Dispatchers of one name may share the file, so what each writes
/// first has a name of its own.
fn write(file: &Path, mark: LogMark) -> io::Result<()> {
    let record = Record { epoch_us: mark.epoch_us, log_position: mark.log_position };
    let mut text = serde_json::to_vec(&record)?;
    text.push(b'\n');
    let new = file.with_extension(format!("json.{}.new", Uuid::new_v4()));
    let put = || {
        let mut opened = File::create(&new)?;
        opened.write_all(&text)?;
        opened.sync_all()?;
        fs::rename(&new, file)
    };
    if let Err(error) = put() {
        // A full disk must not fill with attempts.
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    File::open(file.parent().unwrap_or_else(|| Path::new("/")))?.sync_all()
}

impl HighWaterKeeper {
    pub(crate) const fn new(file: PathBuf, written: LogMark, handle: Handle, ticker: Ticker) -> Self {
        Self { file, written, handle, ticker }
    }

    /// Keeps the file up to date until the daemon's end is over.
    pub(crate) async fn run(mut self) {
        while self.handle.phase() < Phase::Over {
            let mut end = self.handle.clone();
            tokio::select! {
                () = tokio::time::sleep(WRITE_EVERY) => {}
                () = end.reached(Phase::Over) => {}
            }
            self.ticker.tick();
            self.run_once().await;
        }
    }

    /// Writes the mark if it has risen.
    async fn run_once(&mut self) {
        let mark = self.handle.high_water.mark();
        if mark == self.written {
            return;
        }
        let file = self.file.clone();
        // A disk that is slow must not hold up a thread of the runtime.
        let wrote = tokio::task::spawn_blocking(move || write(&file, mark)).await;
        match wrote.map_err(io::Error::other).flatten() {
            Ok(()) => self.written = mark,
            Err(error) => {
                let file = self.file.display();
                tracing::error!(event = events::STATE_NOT_WRITTEN, %file, %error);
            }
        }
    }
}

/// The mark, and the file that it is kept in, with what stands there; none: this daemon forgets it when it ends.
pub(crate) type State = (Arc<HighWater>, Option<(PathBuf, LogMark)>);

/// The mark of a daemon with this state directory.
pub(crate) fn begin(directory: Option<&Path>, name: &str) -> Result<State, Failure> {
    let high_water = Arc::new(HighWater::default());
    let Some(directory) = directory else { return Ok((high_water, None)) };
    let (file, mark) = load(directory, name)?;
    high_water.raise(mark);
    Ok((high_water, Some((file, mark))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_epoch_is_further_and_within_one_the_log_decides() {
        let mark = |epoch_us, log_position| LogMark { epoch_us, log_position };
        let high_water = HighWater::default();
        for (to, expected) in [
            (mark(0, 10), mark(0, 10)),
            (mark(0, 9), mark(0, 10)),
            (mark(5, 1), mark(5, 1)),
            (mark(4, 99), mark(5, 1)),
            (mark(5, 2), mark(5, 2)),
        ] {
            high_water.raise(to);
            assert_eq!(high_water.mark(), expected, "after {to:?}");
        }
    }

    #[test]
    fn dispatchers_of_one_name_share_the_file_and_leave_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50).for_each(|_| drop(load(dir.path(), "same").unwrap())));
            }
        });
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["same.high-water.json"]);
    }

    #[test]
    fn the_file_is_read_back_and_a_broken_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mark = LogMark { epoch_us: 1_700_000_000_000_000, log_position: 42 };
        let (file, first) = load(dir.path(), "pay-1").unwrap();
        assert_eq!(first, LogMark::default());
        write(&file, mark).unwrap();
        assert_eq!(load(dir.path(), "pay-1").unwrap(), (file.clone(), mark));
        assert_eq!(load(dir.path(), "pay-2").unwrap().1, LogMark::default());
        for broken in ["", "{}", "{\"epoch_us\":1,\"log_position\":2,\"x\":3}", "not json"] {
            fs::write(&file, broken).unwrap();
            let refused = load(dir.path(), "pay-1").unwrap_err();
            assert_eq!(refused.exit, Exit::BadConfiguration);
            assert!(refused.message.contains("high-water.json"), "{refused}");
            assert_eq!(fs::read_to_string(&file).unwrap(), broken, "evidence was overwritten");
        }
        let missing = load(&dir.path().join("no"), "pay-1").unwrap_err();
        assert!(missing.message.contains("cannot write"), "{missing}");
    }
}
