//! Whether a transaction that pins an old snapshot, so that nothing dead can be cleaned up, makes a drain slower as it goes.

use std::time::Instant;

use serde::Serialize;
use sqlx::{Connection as _, Executor as _};

use super::{Dispatchers, WARM};
use crate::error::{BenchError, sql};
use crate::logs::Logs;
use crate::meter::real;
use crate::report::quantile;
use crate::world::World;

/// Some of the payments.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Part {
    /// How many.
    pub(crate) payments: u64,
    /// How many of them a second.
    pub(crate) per_s: f64,
    /// Of a hundred claims among them 99 took no longer, in milliseconds, as the dispatcher saw them.
    pub(crate) claim_p99_ms: f64,
}

/// The first and the last payments, each a tenth of `count`, or 10,000 of more than 100,000.
///
/// # Errors
/// When the daemon fails, or a payment is left.
pub(crate) async fn parts(
    world: &World,
    logs: &Logs,
    count: u64,
    settings: &[String],
) -> Result<[Part; 2], BenchError> {
    let db = world.outbox().await?;
    let dispatchers = Dispatchers::start(&db, 1, settings)?;
    dispatchers.wait_for(world, &db, count).await?;
    let mut pin = db.connect_as("postgres").await?;
    pin.execute("begin isolation level repeatable read").await.map_err(sql("begin"))?;
    pin.execute("select count(*) from outbox.payment_rails").await.map_err(sql("a snapshot"))?;
    let size = (count / 10).min(10_000);
    world.pause(&db, false).await?;
    // The first batch is on its way when the first part begins.
    dispatchers.settled(WARM + 1).await?;
    logs.claims_ms();
    let first = part(&dispatchers, logs, dispatchers.settled_now() + size).await?;
    dispatchers.settled(WARM + count - size).await?;
    logs.claims_ms();
    let last = part(&dispatchers, logs, WARM + count).await?;
    pin.execute("commit").await.map_err(sql("commit"))?;
    pin.close().await.map_err(sql("the end of a session"))?;
    dispatchers.finish(&db, WARM + count).await?;
    Ok([first, last])
}

/// From now on until `until` payments are settled.
async fn part(dispatchers: &Dispatchers, logs: &Logs, until: u64) -> Result<Part, BenchError> {
    let (began, before) = (Instant::now(), dispatchers.settled_now());
    dispatchers.settled(until).await?;
    // More than were waited for may have come with the last of them.
    let (ended, after) = (Instant::now(), dispatchers.settled_now());
    let mut claims: Vec<f64> = logs.claims_ms().into_iter().map(real).collect();
    claims.sort_by(f64::total_cmp);
    let payments = after - before;
    Ok(Part { payments, per_s: real(payments) / (ended - began).as_secs_f64(), claim_p99_ms: quantile(&claims, 0.99) })
}
