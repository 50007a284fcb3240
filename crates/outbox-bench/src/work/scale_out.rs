//! Whether more daemons on one Postgres lose anything, or send anything twice.

use crate::error::BenchError;
use crate::meter::Cost;
use crate::work::drain;
use crate::world::World;

/// A drain of `count` payments by so many daemons.
///
/// # Errors
/// When one fails, a payment is left, or one was sent twice.
pub(crate) async fn drain(world: &World, count: u64, daemons: usize, settings: &[String]) -> Result<Cost, BenchError> {
    let db = world.outbox().await?;
    world.enqueue(&db, 0, count).await?;
    world.settle(&db).await?;
    drain::of(world, &db, count, daemons, settings).await
}
