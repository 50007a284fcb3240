//! Counts the frames that servers have sent to clients and says at which of them a connection is to be
//! closed. It closes nothing itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::TestkitError;

/// A connection's end after a frame that is counted off. Dropping the handle disarms it.
#[derive(Debug)]
pub struct Cut {
    reached: watch::Sender<bool>,
    count: Arc<FrameCount>,
}

impl Cut {
    /// Waits until the frame has passed and its connection is closed.
    ///
    /// # Errors
    /// [`TestkitError::Deadline`] when that did not happen within `limit`.
    pub async fn reached(&self, limit: Duration) -> Result<(), TestkitError> {
        let mut reached = self.reached.subscribe();
        match tokio::time::timeout(limit, reached.wait_for(|reached| *reached)).await {
            Ok(_) => Ok(()),
            Err(_) => {
                let what = "the frame after which a connection is cut".to_owned();
                Err(TestkitError::Deadline { what, waited_ms: limit.as_millis() })
            }
        }
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.count.counted().cuts.retain(|cut| !cut.reached.same_channel(&self.reached));
    }
}

/// The count of all connections together.
#[derive(Debug, Default)]
pub(crate) struct FrameCount {
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    passed: u64,
    cuts: Vec<ArmedCut>,
}

#[derive(Debug)]
struct ArmedCut {
    /// The count at which it strikes.
    at: u64,
    reached: watch::Sender<bool>,
}

/// How many of the frames that are there may pass.
#[derive(Debug)]
pub(crate) struct Admission {
    /// The first of them.
    pub(crate) frames: u64,
    /// Whom to tell that the connection has been closed after them; nobody if it goes on.
    pub(crate) cut: Vec<watch::Sender<bool>>,
}

impl FrameCount {
    /// How many frames have passed.
    pub(crate) fn passed(&self) -> u64 {
        self.counted().passed
    }

    /// Cuts after the `frames`-th frame from now on.
    pub(crate) fn cut_after(self: &Arc<Self>, frames: u64) -> Cut {
        let reached = watch::Sender::new(false);
        let mut counted = self.counted();
        let at = counted.passed + frames.max(1);
        counted.cuts.push(ArmedCut { at, reached: reached.clone() });
        Cut { reached, count: Arc::clone(self) }
    }

    /// Counts `frames` of one connection that are about to pass, up to the next cut.
    pub(crate) fn admit(&self, frames: u64) -> Admission {
        let mut counted = self.counted();
        let next_cut = counted.cuts.iter().map(|cut| cut.at).min();
        let end = next_cut.unwrap_or(u64::MAX).min(counted.passed + frames);
        let admitted = end - counted.passed;
        counted.passed = end;
        let cut = counted.cuts.extract_if(.., |cut| cut.at == end).map(|cut| cut.reached).collect();
        Admission { frames: admitted, cut }
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_strikes_at_its_frame_of_all_connections_together() {
        let count = Arc::new(FrameCount::default());
        assert_eq!(count.admit(3).frames, 3);
        let _cut = count.cut_after(5);
        let (before, at, after) = (count.admit(4), count.admit(4), count.admit(4));
        assert_eq!((before.frames, before.cut.len()), (4, 0));
        assert_eq!((at.frames, at.cut.len()), (1, 1));
        assert_eq!((after.frames, after.cut.len()), (4, 0));
        assert_eq!(count.passed(), 12);
    }

    #[test]
    fn dropped_cut_is_disarmed() {
        let count = Arc::new(FrameCount::default());
        drop(count.cut_after(1));
        let admission = count.admit(2);
        assert_eq!((admission.frames, admission.cut.len()), (2, 0));
    }
}
