//! A file of lines that only grows. One thread owns the file; lines that wait together go out in one
//! `write` on `O_APPEND` and, where wanted, share one `fdatasync`. A line counts only when its
//! receipt says so. What the lines mean is not known here.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
    sync::{Mutex, PoisonError, mpsc},
    thread,
};

use tokio::sync::oneshot;

use crate::{config::Durability, error::SimError};

/// Bounds one `write`: above this a batch only takes longer, as `fdatasync` then pays by the byte.
const BATCH_MAX_BYTES: usize = 1 << 20;

/// Says whether the line is written (and synced, where wanted).
pub(crate) type Receipt = oneshot::Receiver<io::Result<()>>;

struct Entry {
    line: Vec<u8>,
    receipt: oneshot::Sender<io::Result<()>>,
}

#[derive(Debug)]
pub(crate) struct Appender {
    entries: Mutex<Option<mpsc::Sender<Entry>>>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").finish_non_exhaustive()
    }
}

impl Appender {
    /// Opens or creates the file, for this process alone, and cuts off a torn last line: it never had
    /// a receipt, and the next line must not be glued to it.
    ///
    /// # Errors
    /// If the file cannot be opened or is held by another process.
    pub(crate) fn open(path: &Path, durability: Durability) -> Result<Self, SimError> {
        let failed = |action| move |source| SimError::File { action, path: path.to_owned(), source };
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed("open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(SimError::FileInUse { path: path.to_owned() }),
            Err(std::fs::TryLockError::Error(source)) => return Err(failed("lock")(source)),
        }
        cut_torn_line(&mut file).map_err(failed("repair"))?;
        if durability == Durability::Synced {
            sync_directory(path).map_err(failed("sync the directory of"))?;
        }
        let (sender, entries) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("append".to_owned())
            .spawn(move || run(file, durability, &entries))
            .map_err(failed("start the writer of"))?;
        Ok(Self { entries: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)) })
    }

    /// Hands a line (with its line feed) to the writer; lines are written in the order of these calls.
    pub(crate) fn append(&self, line: Vec<u8>) -> Receipt {
        let (receipt, written) = oneshot::channel();
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = entries.as_ref() {
            // A writer that is gone drops the receipt, which tells the caller the same.
            let _ = sender.send(Entry { line, receipt });
        }
        written
    }

    /// Writes what was handed over, and ends the writer. Later lines are not written.
    pub(crate) fn close(&self) {
        drop(self.entries.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

/// Waits for the receipt of a line.
///
/// # Errors
/// If the line may not be in the file.
pub(crate) async fn written(receipt: Receipt) -> io::Result<()> {
    receipt.await.unwrap_or_else(|_| Err(io::Error::other("the writer has ended")))
}

fn run(mut file: File, durability: Durability, entries: &mpsc::Receiver<Entry>) {
    let mut buffer = Vec::new();
    let mut receipts = Vec::new();
    let mut broken: Option<io::ErrorKind> = None;
    while let Ok(first) = entries.recv() {
        let mut next = Some(first);
        while let Some(entry) = next {
            buffer.extend_from_slice(&entry.line);
            receipts.push(entry.receipt);
            next = if buffer.len() < BATCH_MAX_BYTES { entries.try_recv().ok() } else { None };
        }
        // After one failure nothing is written any more: a line after a torn one could not be read.
        if broken.is_none() {
            let result = file.write_all(&buffer).and_then(|()| match durability {
                Durability::Synced => file.sync_data(),
                Durability::Written => Ok(()),
            });
            broken = result.err().map(|error| error.kind());
        }
        buffer.clear();
        for receipt in receipts.drain(..) {
            let _ = receipt.send(broken.map_or(Ok(()), |kind| Err(kind.into())));
        }
    }
}

fn cut_torn_line(file: &mut File) -> io::Result<()> {
    // A device has no past.
    if !file.metadata()?.is_file() {
        return Ok(());
    }
    let mut end = file.seek(SeekFrom::End(0))?;
    let whole = end;
    let mut byte = [0];
    while end > 0 {
        file.seek(SeekFrom::Start(end - 1))?;
        file.read_exact(&mut byte)?;
        if byte[0] == b'\n' {
            break;
        }
        end -= 1;
    }
    if end < whole { file.set_len(end) } else { Ok(()) }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_torn_last_line_is_cut_off_before_the_next_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        std::fs::write(&path, b"one\ntw").unwrap();
        let appender = Appender::open(&path, Durability::Synced).unwrap();
        written(appender.append(b"three\n".to_vec())).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\nthree\n");
    }

    #[tokio::test]
    async fn lines_stand_in_the_order_in_which_they_were_handed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        let appender = Appender::open(&path, Durability::Written).unwrap();
        let receipts: Vec<_> = (0..2000).map(|n| appender.append(format!("{n}\n").into_bytes())).collect();
        for receipt in receipts {
            written(receipt).await.unwrap();
        }
        let expected: String = (0..2000).map(|n| format!("{n}\n")).collect();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
    }

    #[tokio::test]
    async fn a_line_that_is_not_written_has_no_good_receipt() {
        let appender = Appender::open(Path::new("/dev/full"), Durability::Written).unwrap();
        assert!(written(appender.append(b"one\n".to_vec())).await.is_err());
        assert!(written(appender.append(b"two\n".to_vec())).await.is_err());
        appender.close();
        assert!(written(appender.append(b"three\n".to_vec())).await.is_err());
    }

    #[test]
    fn a_file_has_one_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        let _first = Appender::open(&path, Durability::Written).unwrap();
        assert!(matches!(Appender::open(&path, Durability::Written), Err(SimError::FileInUse { .. })));
    }
}
