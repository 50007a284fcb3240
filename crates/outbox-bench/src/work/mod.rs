//! The kinds of work that are measured. Each leaves its figures in a report.

pub(crate) mod burst;
pub(crate) mod depth;
pub(crate) mod drain;
pub(crate) mod enqueue;
pub(crate) mod http;
pub(crate) mod locks;
pub(crate) mod mixed;
pub(crate) mod partitions;
pub(crate) mod pinned;
pub(crate) mod profile;
pub(crate) mod wakeup;

use std::sync::Arc;
use std::time::Instant;

use outbox_core::OutboxId;
use outbox_rail::Rail;
use outbox_testkit::TestDb;
use tokio::sync::mpsc;

use crate::daemon::{Daemon, settled};
use crate::error::BenchError;
use crate::noop_rail::NoopRail;
use crate::world::{World, value};

/// What daemons dispatch before they are measured: what one does once in its life, and each of its sessions, is not what a payment
/// costs. The sessions of the floor are open before, too.
pub(crate) const WARM: u64 = 2_000;

/// Daemons at work on a rail that accepts at once.
pub(crate) struct Dispatchers {
    rail: Arc<NoopRail>,
    daemons: Vec<Daemon>,
}

/// When the first byte of a payment could leave.
pub(crate) type Arrivals = mpsc::UnboundedReceiver<(OutboxId, Instant)>;

impl Dispatchers {
    /// Starts `count` of them.
    ///
    /// # Errors
    /// When the settings are refused.
    pub(crate) fn start(db: &TestDb, count: usize, settings: &[String]) -> Result<Self, BenchError> {
        Self::on(db, count, settings, NoopRail::new(None))
    }

    /// Starts one, and tells when payments leave.
    ///
    /// # Errors
    /// When the settings are refused.
    pub(crate) fn start_watched(db: &TestDb, settings: &[String]) -> Result<(Self, Arrivals), BenchError> {
        let (sender, arrivals) = mpsc::unbounded_channel();
        Ok((Self::on(db, 1, settings, NoopRail::new(Some(sender)))?, arrivals))
    }

    /// Starts `count` of them on `rail`.
    ///
    /// # Errors
    /// When the settings are refused.
    pub(crate) fn on(db: &TestDb, count: usize, settings: &[String], rail: NoopRail) -> Result<Self, BenchError> {
        let rail = Arc::new(rail);
        let client: Arc<dyn Rail> = Arc::<NoopRail>::clone(&rail);
        let daemons = (0..count).map(|number| Daemon::start(db, &format!("bench{number}"), &client, settings));
        Ok(Self { rail, daemons: daemons.collect::<Result<_, _>>()? })
    }

    /// Waits until `count` payments are settled; returns when.
    ///
    /// # Errors
    /// When a daemon ends, or they do not get there.
    pub(crate) async fn settled(&self, count: u64) -> Result<Instant, BenchError> {
        settled(&self.daemons, count).await
    }

    /// Has them dispatch the first payments of `db`, and has `count` more wait.
    ///
    /// # Errors
    /// When the server refuses, or a daemon ends.
    pub(crate) async fn wait_for(&self, world: &World, db: &TestDb, count: u64) -> Result<(), BenchError> {
        warm(world, db, &self.daemons, count).await
    }

    /// How many are settled.
    pub(crate) fn settled_now(&self) -> u64 {
        self.daemons.iter().map(Daemon::settled).sum()
    }

    /// How many were sent.
    pub(crate) fn submissions(&self) -> u64 {
        self.rail.submissions()
    }

    /// Ends them in order, and refuses a run after which payments of `db` are left, or in which not each of `count` was sent once.
    ///
    /// # Errors
    /// Then, or when one ends otherwise.
    pub(crate) async fn finish(self, db: &TestDb, count: u64) -> Result<(), BenchError> {
        let sent = self.submissions();
        self.stop().await?;
        all_gone(db, sent, count).await
    }

    /// Ends them in order.
    ///
    /// # Errors
    /// When one ends otherwise.
    pub(crate) async fn stop(self) -> Result<(), BenchError> {
        for daemon in self.daemons {
            daemon.stop().await?;
        }
        Ok(())
    }
}

/// Has `daemons` dispatch the first payments of `db`, and has `count` more wait until their rail is no longer paused.
///
/// # Errors
/// When the server refuses, or a daemon ends.
pub(crate) async fn warm(world: &World, db: &TestDb, daemons: &[Daemon], count: u64) -> Result<(), BenchError> {
    world.enqueue(db, 0, WARM).await?;
    settled(daemons, WARM).await?;
    world.pause(db, true).await?;
    world.enqueue(db, WARM, count).await?;
    world.settle(db).await
}

/// Refuses a run after which payments are left, or in which not each was sent once.
///
/// # Errors
/// Then.
pub(crate) async fn all_gone(db: &TestDb, sent: u64, count: u64) -> Result<(), BenchError> {
    let left: i64 = value(db, "select count(*) from outbox.payment_outbox_pending").await?;
    if left == 0 && sent == count {
        return Ok(());
    }
    Err(BenchError::Wrong(format!("of {count} payments {left} are left, and {sent} were sent")))
}
