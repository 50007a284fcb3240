//! Payments that wait are dispatched, through the real daemon, to a rail that accepts at once.

use std::time::SystemTime;

use outbox_testkit::TestDb;

use super::{Dispatchers, all_gone};
use crate::error::BenchError;
use crate::meter::{Cost, Meter};
use crate::world::{World, value};

/// Drains `count` payments that were recorded before, by so many `daemons`.
///
/// # Errors
/// When the daemon fails, or a payment is left.
pub(crate) async fn drain(world: &World, count: u64, daemons: usize, settings: &[String]) -> Result<Cost, BenchError> {
    let db = world.outbox().await?;
    world.enqueue(&db, 0, count).await?;
    world.settle(&db).await?;
    of(world, &db, count, daemons, settings).await
}

/// Drains the `count` payments that are in `db` by so many `daemons`.
///
/// # Errors
/// When a daemon fails, a payment is left, or one was sent twice.
pub(crate) async fn of(
    world: &World,
    db: &TestDb,
    count: u64,
    daemons: usize,
    settings: &[String],
) -> Result<Cost, BenchError> {
    let meter = Meter::begin(&world.server, db).await?;
    let dispatchers = Dispatchers::start(db, daemons, settings)?;
    dispatchers.settled(count).await?;
    let ended = SystemTime::now();
    let sent = dispatchers.submissions();
    // Counters of its sessions are whole when these have ended.
    dispatchers.stop().await?;
    let seconds = since_first_claim(db, ended).await?;
    let cost = meter.end(count, seconds).await?;
    all_gone(db, sent, count).await?;
    Ok(cost)
}

/// What the daemon does before its first claim, once in its life, is not counted.
///
/// # Errors
/// When the server refuses.
pub(crate) async fn since_first_claim(db: &TestDb, ended: SystemTime) -> Result<f64, BenchError> {
    const BEGAN: &str = "select extract(epoch from min(claimed_at))::float8 from outbox.payment_outbox_attempts";
    let began: f64 = value(db, BEGAN).await?;
    Ok(ended.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()) - began)
}
