//! When to stop: at SIGTERM (systemd) or SIGINT (Ctrl-C). How a stop goes is not decided here.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{Exit, Failure};

/// Waits for SIGTERM or SIGINT, from the moment this is called. After the first, a second one no
/// longer ends the process by itself: only a stop that goes its way, or SIGKILL, does.
///
/// # Errors
/// The system refuses to tell of signals.
pub fn requested() -> Result<impl Future<Output = &'static str>, Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::new(Exit::Unavailable, format!("signals: {error}")));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}
