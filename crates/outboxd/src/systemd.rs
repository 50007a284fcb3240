//! What systemd is told: ready, stopping, a line of status, and that the daemon's own loops tick.
//! Outside systemd (no NOTIFY_SOCKET) all of it does nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::clock::boot_now;
use crate::events;
use crate::health::HealthState;

/// Tells systemd that the preflight is passed.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Tells systemd that a stop has begun.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Sets the line that `systemctl status` shows.
pub fn status(text: &str) {
    notify(&[NotifyState::Status(text)]);
}

/// Feeds the watchdog at half its time while all loops of `state` tick, until the future is dropped.
/// Without a watchdog it only waits.
pub async fn feed_watchdog(state: Arc<HealthState>) -> Infallible {
    let Some(period) = sd_notify::watchdog_enabled().and_then(feeding_period) else {
        return std::future::pending().await;
    };
    let mut withheld = false;
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let stale = state.stale_loops(boot_now());
        if stale.is_empty() {
            notify(&[NotifyState::Watchdog]);
        }
        for stale in stale.iter().filter(|_| !withheld) {
            tracing::error!(event = events::WATCHDOG_WITHHELD, stale_loop = stale.name, age_ms = stale.age.0);
        }
        if withheld && stale.is_empty() {
            tracing::info!(event = events::WATCHDOG_RESUMED);
        }
        withheld = !stale.is_empty();
    }
}

/// Half of the time systemd waits, as sd_watchdog_enabled(3) recommends; none if that is nothing.
fn feeding_period(watchdog: Duration) -> Option<Duration> {
    let half = watchdog / 2;
    (half > Duration::ZERO).then_some(half)
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(event = events::NOTIFY_FAILED, %error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_fed_at_half_its_time() {
        assert_eq!(feeding_period(Duration::from_secs(30)), Some(Duration::from_secs(15)));
        assert_eq!(feeding_period(Duration::ZERO), None);
    }
}
