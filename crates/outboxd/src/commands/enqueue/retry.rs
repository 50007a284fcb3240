//! Patience with the database: a call that failed for a passing reason is made again, a few times.
//! Only for calls that are safe to repeat, whatever became of the first.

use std::io::{Write, stderr};
use std::time::Duration;

use outbox_store::{Session, StoreError};

/// With waits that double from the first to the longest: 7.75 s in all, enough for a failover that goes
/// well; for a longer outage the person repeats the command.
const TRIES: u32 = 6;
const WAIT_FIRST: Duration = Duration::from_millis(250);
const WAIT_MAX: Duration = Duration::from_secs(4);

/// Makes `call` until it succeeds, fails for a lasting reason, or was tried often enough; returns its
/// result and how often it was repeated.
pub(super) async fn patiently<T>(
    session: &mut Session,
    mut call: impl AsyncFnMut(&mut Session) -> Result<T, StoreError>,
) -> Result<(T, u32), StoreError> {
    let mut wait = WAIT_FIRST;
    for repeated in 0..TRIES {
        match call(session).await {
            Ok(result) => return Ok((result, repeated)),
            Err(error) if passes(&error) && repeated + 1 < TRIES => {
                // Nothing can be done for a reader who has closed the stream of warnings.
                let _ = writeln!(stderr().lock(), "warning: {error}; trying again in {} ms", wait.as_millis());
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(WAIT_MAX);
            }
            Err(error) => return Err(error),
        }
    }
    unreachable!("the last try returns")
}

/// Whether the same call may succeed in a moment: the server is away, or the call lost against another
/// transaction (serialization, deadlock, lock timeout).
fn passes(error: &StoreError) -> bool {
    let lost = |code: String| matches!(code.as_str(), "40001" | "40P01" | "55P03");
    error.is_unavailable() || error.sqlstate().is_some_and(lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_by_itself_is_tried_again() {
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert!(passes(&StoreError::Connection { call: "c", source: broken.into() }));
        assert!(passes(&StoreError::TimedOut { call: "c", after: outbox_core::Millis(1) }));
        let refused = StoreError::Refused { call: "c", code: "OB003".into(), message: "m".into(), hint: None };
        assert!(!passes(&refused));
        assert!(!passes(&StoreError::Migration("m".to_owned())));
    }
}
