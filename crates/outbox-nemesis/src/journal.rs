//! What the harness did and when, one JSON line each: the checker reads it, and so may a person. Times are the
//! host's, in microseconds since 1970.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::error::NemesisError;
use crate::kind::Kind;

/// The journal of one run.
#[derive(Debug)]
pub(crate) struct Journal {
    file: Mutex<File>,
}

/// Now, in microseconds since 1970.
#[must_use]
pub(crate) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

impl Journal {
    /// A new journal.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub(crate) fn create(path: &Path) -> Result<Self, NemesisError> {
        let file = File::options().create_new(true).append(true).open(path);
        Ok(Self { file: Mutex::new(file.map_err(NemesisError::io("make the journal"))?) })
    }

    fn write(&self, line: &Value) {
        let text = format!("{line}\n");
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // Without its journal the checker would call faults what they explain: better no run at all.
        file.write_all(text.as_bytes()).expect("the journal's disk has room, or the run is void");
    }

    /// A fault that took effect.
    pub(crate) fn fault(&self, no: u64, kind: Kind, target: &str, from_us: i64) {
        self.write(&json!({
            "at_us": from_us, "until_us": now_us(), "no": no, "kind": kind.name(), "target": target,
        }));
    }

    /// A fault that begins: written before it does, as what it causes may be read before it ends.
    pub(crate) fn begins(&self, kind: Kind, target: &str) {
        self.write(&json!({ "event": "begins", "at_us": now_us(), "kind": kind.name(), "target": target }));
    }

    /// Payments that the database has confirmed.
    pub(crate) fn enqueued(&self, rail: &str, ids: &[String]) {
        self.write(&json!({ "event": "enqueued", "at_us": now_us(), "rail": rail, "ids": ids }));
    }

    /// A daemon that was killed.
    pub(crate) fn killed(&self, worker: &str, lease_ms: u64) {
        self.write(&json!({ "event": "killed", "at_us": now_us(), "worker": worker, "lease_ms": lease_ms }));
    }

    /// A daemon that stood still.
    pub(crate) fn stopped(&self, target: &str, from_us: i64) {
        self.write(&json!({ "event": "stopped", "target": target, "from_us": from_us, "until_us": now_us() }));
    }

    /// A time in which nobody could work, or nothing was to be sent.
    pub(crate) fn outage(&self, why: &str, from_us: i64) {
        self.outage_until(why, from_us, now_us());
    }

    /// The same, with an end that is still to come.
    pub(crate) fn outage_until(&self, why: &str, from_us: i64, until_us: i64) {
        self.write(&json!({ "event": "outage", "why": why, "from_us": from_us, "until_us": until_us }));
    }

    /// A standby that was promoted.
    pub(crate) fn failover(&self, lost_from: &str) {
        self.write(&json!({ "event": "failover", "at_us": now_us(), "lost_from": lost_from }));
    }

    /// The database's clock was moved.
    pub(crate) fn clock(&self, offset_s: i64) {
        self.write(&json!({ "event": "clock", "at_us": now_us(), "offset_s": offset_s }));
    }

    /// What a person did to a payment.
    pub(crate) fn operator(&self, action: &str, id: &str) {
        self.write(&json!({ "event": "operator", "at_us": now_us(), "action": action, "id": id }));
    }
}
