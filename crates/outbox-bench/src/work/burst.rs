//! An idle daemon on an emptied queue gets many payments at once: statistics that say "empty" must not make it slow.

use std::time::{Duration, Instant};

use sqlx::{Connection as _, Executor as _};

use super::{Dispatchers, all_gone};
use crate::error::{BenchError, sql};
use crate::meter::{Cost, Meter};
use crate::world::{BATCH, World, enqueue_batch};

/// What `count` payments cost that are committed at once after `idle`, their commit included.
///
/// # Errors
/// When the daemon fails, or a payment is left.
pub(crate) async fn burst(world: &World, count: u64, idle: Duration, settings: &[String]) -> Result<Cost, BenchError> {
    let db = world.outbox().await?;
    world.enqueue(&db, 0, count).await?;
    let dispatchers = Dispatchers::start(&db, 1, settings)?;
    dispatchers.settled(count).await?;
    // Everything is dead, and the statistics are of an empty table.
    world.settle(&db).await?;
    tokio::time::sleep(idle).await;
    let mut producer = db.connect_as("t_ingest").await?;
    producer.execute("begin").await.map_err(sql("begin"))?;
    for batch in 0..count / BATCH {
        enqueue_batch(&mut producer, count + batch * BATCH, BATCH).await?;
    }
    let meter = Meter::begin(&world.server, &db).await?;
    let began = Instant::now();
    producer.execute("commit").await.map_err(sql("commit"))?;
    let ended = dispatchers.settled(2 * count).await?;
    producer.close().await.map_err(sql("the end of a session"))?;
    let sent = dispatchers.submissions();
    dispatchers.stop().await?;
    let cost = meter.end(count, (ended - began).as_secs_f64()).await?;
    all_gone(&db, sent, 2 * count).await?;
    Ok(cost)
}
