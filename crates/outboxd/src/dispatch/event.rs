//! What the services tell the event loop, and what it tells the lanes. Both lists are closed.

use std::collections::BTreeMap;
use std::sync::Arc;

use outbox_core::{BootTime, RailContract, RailName};
use outbox_store::{RailRow, SilentDispatcher};
use tokio::sync::{mpsc, watch};

use super::high_water::HighWater;
use super::pauses::Pauses;
use super::policy_watch::{PolicyNow, RailPolicy};
use crate::exit::Failure;

/// What a service tells the event loop.
#[derive(Debug)]
pub(crate) enum Event {
    /// Enqueue woke a lane.
    Hinted(RailName),
    /// The answer to a lane that wants to sleep: whether its wake-up lock was taken.
    WakeupLock(RailName, LockAnswer),
    /// There is a new listener: locks and notifications before it are lost.
    ListenerRenewed,
    /// The contracts and the policy as the database has them now, and why rails are to be left alone whatever those say.
    Contracts(Vec<RailRow>, PolicyNow, BTreeMap<RailName, String>),
    /// Other dispatchers that fell silent.
    Silent(Vec<SilentDispatcher>),
    /// The database is not one to work on any more, though connections to it are open.
    DatabaseRefused,
    /// Nothing must go on.
    Broken(Failure),
}

/// Whether a wake-up lock was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockAnswer {
    /// Enqueue sends hints from now on.
    Taken,
    /// Somebody is enqueueing, or another lane sleeps.
    NotTaken,
}

/// What the event loop tells a lane.
#[derive(Clone, Debug)]
pub(crate) enum LaneCommand {
    /// Sweep now.
    Sweep,
    /// Sweep at that time as well: the leases of a dispatcher that fell silent have run out by then.
    SweepAt(BootTime),
    /// The answer to a wish to sleep.
    WakeupLock(LockAnswer),
    /// Locks are lost.
    ListenerRenewed,
    /// Claim on a new connection only: what the open one was at its beginning has changed.
    Reconnect,
    /// The rail's contract, and what the policy is to it; `None`: there is none that this version can serve. And why the
    /// rail is to be left alone whatever they say.
    Contract(Option<RailContract>, RailPolicy, Option<String>),
}

/// What a lane tells the listener.
#[derive(Clone, Debug)]
pub(crate) enum Sleep {
    /// It wants to sleep: try its wake-up lock.
    Wanted(RailName),
    /// It is awake: let go of its wake-up lock.
    Over(RailName),
}

/// How far the daemon's end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It claims and sends.
    Running,
    /// It claims and sends no more, and waits for what it sent.
    Draining,
    /// What is still on its way is recorded as unknown.
    Over,
}

/// The services' end of the event loop.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) pauses: Arc<Pauses>,
    pub(crate) high_water: Arc<HighWater>,
}

impl Handle {
    /// Tells the event loop; if it has ended, nobody needs to know.
    pub(crate) async fn tell(&self, event: Event) {
        let _ = self.events.send(event).await;
    }

    /// How far the end has come.
    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Waits until the end has come as far as `phase`.
    pub(crate) async fn reached(&mut self, phase: Phase) {
        // The event loop outlives its services; if it is gone, this is the end.
        let _ = self.phase.wait_for(|now| *now >= phase).await;
    }
}
