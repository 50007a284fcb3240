//! One answer of the server that the proxy keeps back, and the test's handle on it: wait until the
//! server has given the answer (so what it did is done), then let it pass, lose it, or say nothing.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::TestkitError;

/// How far an interception is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No statement matched yet.
    Armed,
    /// A statement matched and was forwarded.
    Sent,
    /// The server's whole answer is here, and nobody has got it.
    Withheld,
    /// The answer passes.
    Released,
    /// The connection is closed with the answer in it.
    Cut,
}

/// The answer to one statement, in the test's hands. Dropping the handle leaves the answer withheld.
#[derive(Debug)]
pub struct Interception {
    stage: watch::Sender<Stage>,
}

impl Interception {
    /// Waits until the server has answered the statement in full, its commit included.
    ///
    /// # Errors
    /// [`TestkitError::Deadline`] when that did not happen within `limit`.
    pub async fn reached(&self, limit: Duration) -> Result<(), TestkitError> {
        let mut stage = self.stage.subscribe();
        let reached = stage.wait_for(|stage| !matches!(stage, Stage::Armed | Stage::Sent));
        match tokio::time::timeout(limit, reached).await {
            Ok(_) => Ok(()),
            Err(_) => Err(TestkitError::Deadline {
                what: format!("the intercepted answer (still {:?})", *self.stage.borrow()),
                waited_ms: limit.as_millis(),
            }),
        }
    }

    /// Lets the answer pass.
    pub fn release(&self) {
        self.stage.send_replace(Stage::Released);
    }

    /// Loses the answer and closes the connection, both sides.
    pub fn cut(&self) {
        self.stage.send_replace(Stage::Cut);
    }
}

/// What waits for its statement.
#[derive(Debug, Default)]
pub(crate) struct Interceptions {
    armed: Mutex<Vec<(String, watch::Sender<Stage>)>>,
}

impl Interceptions {
    pub(crate) fn add(&self, text: &str) -> Interception {
        let stage = watch::Sender::new(Stage::Armed);
        self.armed.lock().unwrap_or_else(PoisonError::into_inner).push((text.to_owned(), stage.clone()));
        Interception { stage }
    }

    /// The oldest interception that `statement` matches, each at most once.
    pub(crate) fn take(&self, statement: &str) -> Option<watch::Sender<Stage>> {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let index = armed.iter().position(|(text, _)| statement.contains(text.as_str()))?;
        let (_, stage) = armed.remove(index);
        stage.send_if_modified(|stage| std::mem::replace(stage, Stage::Sent) != Stage::Sent);
        Some(stage)
    }
}
