//! What this dispatcher remembers of the database: a disk snapshot that is put back has forgotten what was sent since,
//! and has the same identifier and timeline. Every claim brings the memory along, and the claim function refuses to
//! lease anything on a database that lacks what was seen. How it is kept over restarts is in `state_file`.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use outbox_store::{EpochFault, HeartbeatReply, LogMark, Memory, StoreError, check_epoch};
use tokio::sync::Notify;
use uuid::Uuid;

use super::connection::Connection;
use super::state_file::StateFile;
use crate::exit::Failure;

/// The furthest that was seen.
#[derive(Debug)]
pub(crate) struct HighWater {
    id: Uuid,
    mark: Mutex<LogMark>,
    refused: Notify,
}

impl HighWater {
    pub(super) fn new(id: Uuid, mark: LogMark) -> Self {
        Self { id, mark: Mutex::new(mark), refused: Notify::new() }
    }

    /// What a claim and a heartbeat bring along.
    pub(crate) fn memory(&self) -> Memory {
        Memory { id: Some(self.id), mark: *self.mark.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Notes what a claim said.
    pub(crate) fn raise(&self, to: LogMark) {
        let mut mark = self.mark.lock().unwrap_or_else(PoisonError::into_inner);
        *mark = to.merge(*mark);
    }

    /// Notes what the heartbeat that brought `seen` along was told.
    pub(crate) fn beaten(&self, seen: Memory, reply: &HeartbeatReply) {
        match reply.fault {
            None => self.raise(reply.mark),
            Some(EpochFault::Log) => self.latch(seen.mark),
            // It stays true as long as nobody acknowledges it, and nothing of that database is to be remembered.
            Some(EpochFault::Environment | EpochFault::Cluster | EpochFault::Epoch | EpochFault::Beats) => {}
        }
    }

    /// Notes that a claim that brought `seen` along was refused for an older database. If nothing but its log tells,
    /// which grows, what is remembered is raised beyond what it can reach: then only a newer epoch is let in. If more
    /// tells, that stays; raised as well, a look at a copy would close the original to this dispatcher.
    pub(crate) async fn refused(&self, connection: &mut Connection, environment: Option<&str>, seen: Memory) {
        let with_any_log = Memory { mark: LogMark { log_position: 0, ..seen.mark }, ..seen };
        let asked = match connection.session().await {
            Ok(session) => check_epoch(session, environment, with_any_log).await.err(),
            Err(_) => None,
        };
        // What could not be asked may have been the log alone.
        if !matches!(asked, Some(StoreError::Refused { .. })) {
            self.latch(seen.mark);
        }
        self.refused.notify_one();
    }

    fn latch(&self, seen: LogMark) {
        self.raise(seen.latched());
        self.refused.notify_one();
    }

    /// Returns when what is remembered must not wait to be written down.
    pub(super) async fn must_be_written(&self) {
        self.refused.notified().await;
    }
}

/// What is remembered, and the file that it is kept in; none: this daemon forgets it when it ends.
pub(crate) type State = (Arc<HighWater>, Option<StateFile>);

/// What a daemon with this state directory remembers.
///
/// # Errors
/// Those of [`StateFile::open`].
pub(crate) fn begin(directory: Option<&Path>, name: &str) -> Result<State, Failure> {
    let Some(directory) = directory else {
        return Ok((Arc::new(HighWater::new(Uuid::new_v4(), LogMark::default())), None));
    };
    let (file, mark) = StateFile::open(directory, name)?;
    Ok((Arc::new(HighWater::new(file.memory_id(), mark)), Some(file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_newer_epoch_is_further_than_what_was_refused_for_its_log_alone() {
        let mark = |epoch_us, log_position, beat| LogMark { epoch_us, log_position, beat };
        let reply = |fault, mark| HeartbeatReply { silent: Vec::new(), mark, fault };
        let high_water = HighWater::new(Uuid::nil(), mark(5, 10, 3));
        for (fault, told, expected) in [
            (None, mark(5, 11, 4), mark(5, 11, 4)),
            (Some(EpochFault::Beats), mark(5, 99, 2), mark(5, 11, 4)),
            (Some(EpochFault::Cluster), mark(7, 99, 9), mark(5, 11, 4)),
            (Some(EpochFault::Log), mark(5, 9, 4), mark(5, 11, i64::MAX)),
            (None, mark(5, 12, 5), mark(5, 12, i64::MAX)),
            (None, mark(6, 2, 1), mark(6, 2, 1)),
        ] {
            high_water.beaten(high_water.memory(), &reply(fault, told));
            assert_eq!(high_water.memory().mark, expected, "{fault:?} {told:?}");
        }
        // What was refused before the newer epoch was acknowledged says nothing of it.
        let before = Memory { id: None, mark: mark(5, 11, 4) };
        high_water.beaten(before, &reply(Some(EpochFault::Log), mark(5, 9, 4)));
        assert_eq!(high_water.memory().mark, mark(6, 2, 1));
    }
}
