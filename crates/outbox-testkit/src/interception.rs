//! One answer of the server that the proxy keeps back, loses or cuts short, and the test's handle on it:
//! wait until the server has given the answer (so what it did is done), then say what becomes of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::TestkitError;

/// What becomes of an answer without a further word of the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// It waits for the test.
    Withhold,
    /// It is lost with its connection.
    Lose,
    /// Its rows pass, its completion does not, nor does anything after it.
    SwallowCompletion,
}

/// How far an interception is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No statement matched yet.
    Armed,
    /// A statement matched and was forwarded.
    Sent,
    /// The server's whole answer is here, and nobody has got it.
    Withheld,
    /// The server's whole answer is here, and its rows have passed.
    Swallowed,
    /// The answer passes.
    Released,
    /// The connection is closed with the answer in it.
    Cut,
}

/// The answer to one statement, in the test's hands. Dropping the handle before a statement has matched
/// disarms it; after that, a withheld answer stays withheld.
#[derive(Debug)]
pub struct Interception {
    stage: watch::Sender<Stage>,
    interceptions: Arc<Interceptions>,
}

impl Interception {
    /// Waits until the server has answered the statement in full, its commit included. It never does if the
    /// connection ended before that, or if completion was to be swallowed and the statement failed.
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

impl Drop for Interception {
    fn drop(&mut self) {
        self.interceptions.armed().retain(|armed| !armed.intercepted.stage.same_channel(&self.stage));
    }
}

/// What the connection that carries the statement does with the answer.
#[derive(Debug, Clone)]
pub(crate) struct Intercepted {
    pub(crate) plan: Plan,
    stage: watch::Sender<Stage>,
}

impl Intercepted {
    /// Notes that the whole answer is here, unless the test has decided before.
    pub(crate) fn arrived(&self) {
        let arrived = match self.plan {
            Plan::Withhold => Stage::Withheld,
            Plan::Lose => Stage::Cut,
            Plan::SwallowCompletion => Stage::Swallowed,
        };
        self.advance(Stage::Sent, arrived);
    }

    fn advance(&self, from: Stage, to: Stage) {
        self.stage.send_if_modified(|now| {
            let due = *now == from;
            if due {
                *now = to;
            }
            due
        });
    }

    /// Waits for the decision over a withheld answer: whether it passes.
    pub(crate) async fn passes(&self) -> bool {
        let mut stage = self.stage.subscribe();
        let decided = stage.wait_for(|now| *now != Stage::Withheld).await.map(|now| *now);
        matches!(decided, Ok(Stage::Released))
    }

    /// Waits until the test cuts the connection.
    pub(crate) async fn is_cut(&self) {
        // The sender is this one, so that the wait has no other end.
        let _ = self.stage.subscribe().wait_for(|now| *now == Stage::Cut).await;
    }
}

/// What waits for its statement.
#[derive(Debug, Default)]
pub(crate) struct Interceptions {
    waiting: Mutex<Vec<Armed>>,
}

#[derive(Debug)]
struct Armed {
    text: String,
    intercepted: Intercepted,
}

impl Interceptions {
    pub(crate) fn add(self: &Arc<Self>, text: &str, plan: Plan) -> Interception {
        let stage = watch::Sender::new(Stage::Armed);
        let intercepted = Intercepted { plan, stage: stage.clone() };
        self.armed().push(Armed { text: text.to_owned(), intercepted });
        Interception { stage, interceptions: Arc::clone(self) }
    }

    /// The oldest interception that `statement` matches, each at most once.
    pub(crate) fn take(&self, statement: &str) -> Option<Intercepted> {
        let mut armed = self.armed();
        let index = armed.iter().position(|armed| statement.contains(armed.text.as_str()))?;
        let intercepted = armed.remove(index).intercepted;
        intercepted.advance(Stage::Armed, Stage::Sent);
        Some(intercepted)
    }

    fn armed(&self) -> std::sync::MutexGuard<'_, Vec<Armed>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
