//! Waiting for a condition with a deadline. This is the only place where a test waits for something it
//! gets no signal from; a plain sleep is refused by `tidy`.

use std::time::{Duration, Instant};

use crate::TestkitError;

/// Between two looks: short against every lease and timeout in the tests, long enough not to take a core.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Looks at `condition` until it holds, at most for `limit`.
///
/// # Errors
/// [`TestkitError::Deadline`] when it never held.
pub async fn wait_until(
    what: &str,
    limit: Duration,
    mut condition: impl AsyncFnMut() -> bool,
) -> Result<(), TestkitError> {
    let started = Instant::now();
    while !condition().await {
        if started.elapsed() > limit {
            return Err(deadline(what, limit));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

/// The same from code that is not async.
///
/// # Errors
/// [`TestkitError::Deadline`] when it never held.
pub fn wait_until_blocking(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> bool,
) -> Result<(), TestkitError> {
    let started = Instant::now();
    while !condition() {
        if started.elapsed() > limit {
            return Err(deadline(what, limit));
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
    Ok(())
}

fn deadline(what: &str, limit: Duration) -> TestkitError {
    TestkitError::Deadline { what: what.to_owned(), waited_ms: limit.as_millis() }
}
