//! Waiting for something that gives no signal, with an end. Used as
//! `while !it_is_so().await { if !patience.again().await { /* never */ } }`: tasks that are spawned cannot hand a borrowing
//! async closure to the test kit's `wait_until`.

use std::time::Duration;

use tokio::time::Instant;

/// Between two looks: short against every lease and timeout of a run.
const LOOK: Duration = Duration::from_millis(10);

/// A wait with an end.
#[derive(Debug)]
pub(crate) struct Patience {
    until: Instant,
}

impl Patience {
    /// Waits for `limit` from now.
    pub(crate) fn of(limit: Duration) -> Self {
        Self { until: Instant::now() + limit }
    }

    /// Waits a moment; false when the time is over.
    pub(crate) async fn again(&self) -> bool {
        tokio::time::sleep(LOOK).await;
        Instant::now() < self.until
    }
}
