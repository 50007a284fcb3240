//! A clock for a test server that a test can move, forwards and back, while the server runs. It is
//! libfaketime, preloaded into the server alone; timeouts inside the server keep their real length.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;

use crate::TestkitError;
use crate::error::io_context;

/// A movable clock; copies of it move the same clock.
#[derive(Debug, Clone)]
pub struct ServerClock {
    library: PathBuf,
    dir: Arc<TempDir>,
}

impl ServerClock {
    /// A clock that shows the real time until it is moved.
    ///
    /// # Errors
    /// When libfaketime is not installed.
    pub fn new() -> Result<Self, TestkitError> {
        let folders = fs::read_dir("/usr/lib").map_err(io_context("look for libfaketime"))?;
        let library =
            folders.flatten().map(|folder| folder.path().join("faketime/libfaketime.so.1")).find(|f| f.exists());
        let library = library.ok_or_else(|| TestkitError::Command {
            what: "start of a server with a movable clock".to_owned(),
            output: "libfaketime is missing: run scripts/test.sh once".to_owned(),
        })?;
        let dir = tempfile::Builder::new().prefix("obx-clock-").tempdir().map_err(io_context("make a clock"))?;
        // The server's account is not ours and must read the file.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).map_err(io_context("open up a clock"))?;
        let clock = Self { library, dir: Arc::new(dir) };
        clock.move_to(0)?;
        Ok(clock)
    }

    /// Moves the clock to `offset_s` seconds after the real time, before it if negative.
    ///
    /// # Errors
    /// When the file that holds the offset cannot be written.
    pub fn move_to(&self, offset_s: i64) -> Result<(), TestkitError> {
        // Renamed into place, so that the server never reads half of it.
        let new = self.dir.path().join("new");
        fs::write(&new, format!("{offset_s:+}")).map_err(io_context("move a clock"))?;
        fs::rename(&new, self.file()).map_err(io_context("move a clock"))
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("offset")
    }

    pub(crate) fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }
}
