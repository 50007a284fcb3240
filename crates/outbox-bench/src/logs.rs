//! The daemon's log lines, as many as `outboxd run` writes by default, to a reader that keeps what is said of claims and lets the
//! rest go. Formatting them is part of what a payment costs.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use outboxd::config::model::{Log, LogFormat};
use outboxd::logging::{self, Logging};
use serde::Deserialize;

use crate::error::{BenchError, io};

/// The default, and how long each claim took.
const FILTER: &str = "warn,outboxd=info,outboxd::dispatch::lane=debug";

/// What the lines that are kept have near their beginning; no other event of a lane has that level.
const KEPT: &[u8] = b"\"level\":\"DEBUG\"";
const BEGINNING: usize = 64;

#[derive(Deserialize)]
struct Line {
    latency_ms: u64,
}

/// Logging that has begun.
pub(crate) struct Logs {
    claims: Arc<Mutex<Vec<u64>>>,
    _logging: Logging,
}

impl Logs {
    /// Begins.
    ///
    /// # Errors
    /// Without room for a pipe or a thread.
    pub(crate) fn begin() -> Result<Self, BenchError> {
        let (reader, writer) = std::io::pipe().map_err(io("a pipe for log lines"))?;
        let log = Log { format: LogFormat::Json, filter: FILTER.to_owned() };
        let logging = logging::begin_on(&log, File::from(OwnedFd::from(writer)));
        let logging = logging.map_err(|failure| BenchError::Wrong(failure.to_string()))?;
        let claims = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&claims);
        std::thread::spawn(move || {
            let mut lines = BufReader::with_capacity(1 << 16, reader);
            let mut line = Vec::new();
            while matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
                if line[..line.len().min(BEGINNING)].windows(KEPT.len()).any(|part| part == KEPT)
                    && let Ok(claim) = serde_json::from_slice::<Line>(&line)
                {
                    kept.lock().unwrap_or_else(PoisonError::into_inner).push(claim.latency_ms);
                }
                line.clear();
            }
        });
        Ok(Self { claims, _logging: logging })
    }

    /// How long the claims took that were logged since this was asked last, in milliseconds.
    pub(crate) fn claims_ms(&self) -> Vec<u64> {
        std::mem::take(&mut self.claims.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
