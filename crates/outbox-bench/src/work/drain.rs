//! Payments that wait are dispatched, through the real daemon, to a rail that accepts at once.

use std::time::SystemTime;

use outbox_testkit::TestDb;

use super::{Dispatchers, WARM, all_gone};
use crate::error::BenchError;
use crate::meter::{Cost, Meter};
use crate::world::{World, value};

/// Drains `count` payments that were recorded before, by so many `daemons`.
///
/// # Errors
/// When a daemon fails, a payment is left, or one was sent twice.
pub(crate) async fn drain(world: &World, count: u64, daemons: usize, settings: &[String]) -> Result<Cost, BenchError> {
    within(world, &world.outbox().await?, count, daemons, settings).await
}

/// The same within `db`, which is empty.
///
/// # Errors
/// The same.
pub(crate) async fn within(
    world: &World,
    db: &TestDb,
    count: u64,
    daemons: usize,
    settings: &[String],
) -> Result<Cost, BenchError> {
    let dispatchers = Dispatchers::start(db, daemons, settings)?;
    dispatchers.wait_for(world, db, count).await?;
    let meter = Meter::begin(&world.server, db).await?;
    world.pause(db, false).await?;
    dispatchers.settled(WARM + count).await?;
    let ended = SystemTime::now();
    let sent = dispatchers.submissions();
    // Counters of its sessions are whole when these have ended.
    dispatchers.stop().await?;
    let cost = meter.end(count, 0.0).await?;
    // Sorting the ledger is not what a payment costs.
    let cost = Cost { seconds: since_first_claim(db, ended).await?, ..cost };
    all_gone(db, sent, WARM + count).await?;
    Ok(cost)
}

/// How long the claims have gone on that came after the daemons were warm.
///
/// # Errors
/// When the server refuses.
pub(crate) async fn since_first_claim(db: &TestDb, ended: SystemTime) -> Result<f64, BenchError> {
    let began = format!(
        "select extract(epoch from claimed_at)::float8 from outbox.payment_outbox_attempts order by claimed_at offset {WARM} limit 1"
    );
    let began: f64 = value(db, &began).await?;
    Ok(ended.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()) - began)
}
