//! Deadlines of a process that may be stopped, or get no turn, while its rail answers. Which deadlines
//! there are is decided elsewhere.

use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

/// A timer that fires so much too late says that this process was not running. Well above the delays
/// of a busy machine, so that an ordinary timeout stays one.
const ABSENCE: Duration = Duration::from_millis(100);

/// For what lies in the socket already to be read. An answer that took the rail longer than the
/// deadline comes through only if it arrives just then.
const GRACE: Duration = Duration::from_millis(200);

/// The end of `work`, or `None` if there is none by `until`. After a stop, timers fire before sockets
/// are looked at: an answer that came in time would be thrown away, with the proof in it.
pub(crate) async fn by<T>(until: Instant, work: impl Future<Output = T>) -> Option<T> {
    tokio::pin!(work);
    match timeout_at(until, &mut work).await {
        Ok(done) => Some(done),
        Err(_) if until.elapsed() < ABSENCE => None,
        Err(_) => timeout(GRACE, work).await.ok(),
    }
}
