//! Whether a transaction that pins an old snapshot, so that nothing dead can be cleaned up, makes a drain slower as it goes.

use sqlx::{Connection as _, Executor as _};

use super::{Dispatchers, WARM};
use crate::error::{BenchError, sql};
use crate::meter::real;
use crate::world::World;

/// The last payments per second against the first ones, each a tenth of `count`, or 10,000 of more than 100,000.
///
/// # Errors
/// When the daemon fails, or a payment is left.
pub(crate) async fn ratio(world: &World, count: u64, settings: &[String]) -> Result<[f64; 2], BenchError> {
    let db = world.outbox().await?;
    let dispatchers = Dispatchers::start(&db, 1, settings)?;
    dispatchers.wait_for(world, &db, count).await?;
    let mut pin = db.connect_as("postgres").await?;
    pin.execute("begin isolation level repeatable read").await.map_err(sql("begin"))?;
    pin.execute("select count(*) from outbox.payment_rails").await.map_err(sql("a snapshot"))?;
    let part = (count / 10).min(10_000);
    world.pause(&db, false).await?;
    // The first batch is on its way when the first part begins.
    let began = dispatchers.settled(WARM + 1).await?;
    let base = dispatchers.settled_now();
    let first = dispatchers.settled(base + part).await?;
    let before = dispatchers.settled(WARM + count - part).await?;
    let last_base = dispatchers.settled_now();
    let last = dispatchers.settled(WARM + count).await?;
    pin.execute("commit").await.map_err(sql("commit"))?;
    pin.close().await.map_err(sql("the end of a session"))?;
    dispatchers.finish(&db, WARM + count).await?;
    let rate = |payments: u64, seconds: f64| real(payments) / seconds;
    Ok([rate(part, (first - began).as_secs_f64()), rate(WARM + count - last_base, (last - before).as_secs_f64())])
}
