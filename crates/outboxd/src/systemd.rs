//! What systemd is told: ready, stopping, a line of status, and that the daemon's own loops tick.
//! Outside systemd (no NOTIFY_SOCKET) all of it does nothing. A manager that does not read what it is
//! told holds up one thread that does nothing else, never the dispatcher.

use std::convert::Infallible;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::clock::boot_now;
use crate::events;
use crate::health::HealthState;

/// Tells systemd that the preflight is passed.
pub fn ready() {
    notify(Notice::Ready);
}

/// Tells systemd that a stop has begun, and waits a moment for it to be said: the process may end at once.
pub fn stopping() {
    let (said, heard) = sync_channel(1);
    notify(Notice::Stopping(said));
    let _ = heard.recv_timeout(SAY_LIMIT);
}

/// Sets the line that `systemctl status` shows.
pub fn status(text: &str) {
    notify(Notice::Status(text.to_owned()));
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
            notify(Notice::Watchdog);
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

/// What is said to systemd.
#[derive(Debug)]
enum Notice {
    Ready,
    Stopping(SyncSender<()>),
    Status(String),
    Watchdog,
}

/// Notices that wait for a manager that does not read. More are dropped: a watchdog that is not fed, or an
/// old status line, is what such a manager has earned.
const WAITING_MAX: usize = 16;

/// Many times what a manager that reads takes; one that does not costs the end of the daemon this much.
const SAY_LIMIT: Duration = Duration::from_millis(200);

fn notify(notice: Notice) {
    static NOTIFIER: OnceLock<SyncSender<Notice>> = OnceLock::new();
    let notifier = NOTIFIER.get_or_init(|| {
        let (sender, notices) = sync_channel(WAITING_MAX);
        // A thread of its own, since the socket blocks when its queue is full: net.unix.max_dgram_qlen, 10 by default.
        let started =
            std::thread::Builder::new().name("notify".to_owned()).spawn(move || notices.iter().for_each(tell));
        if let Err(error) = started {
            tracing::warn!(event = events::NOTIFY_FAILED, %error);
        }
        sender
    });
    let _ = notifier.try_send(notice);
}

#[expect(clippy::needless_pass_by_value, reason = "it is the end of the notice's way")]
fn tell(notice: Notice) {
    let state = match &notice {
        Notice::Ready => NotifyState::Ready,
        Notice::Stopping(_) => NotifyState::Stopping,
        Notice::Status(text) => NotifyState::Status(text),
        Notice::Watchdog => NotifyState::Watchdog,
    };
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(event = events::NOTIFY_FAILED, %error);
    }
    if let Notice::Stopping(said) = &notice {
        let _ = said.try_send(());
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
