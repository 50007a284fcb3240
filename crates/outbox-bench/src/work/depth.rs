//! Whether what waits makes what is dispatched slower: the first 20,000 of a queue of some depth.

use std::time::SystemTime;

use super::drain::since_first_claim;
use super::{Dispatchers, WARM};
use crate::error::BenchError;
use crate::meter::{Cost, Meter};
use crate::world::World;

/// How many are dispatched.
const FIRST: u64 = 20_000;

/// What the first payments cost with `due` waiting; all of them if there are fewer.
///
/// # Errors
/// When the daemon fails.
pub(crate) async fn first(world: &World, due: u64, settings: &[String]) -> Result<Cost, BenchError> {
    let db = world.outbox().await?;
    let dispatchers = Dispatchers::start(&db, 1, settings)?;
    dispatchers.wait_for(world, &db, due).await?;
    let meter = Meter::begin(&world.server, &db).await?;
    world.pause(&db, false).await?;
    dispatchers.settled(WARM + FIRST.min(due)).await?;
    let settled = dispatchers.settled_now() - WARM;
    let ended = SystemTime::now();
    dispatchers.stop().await?;
    let cost = meter.end(settled, 0.0).await?;
    Ok(Cost { seconds: since_first_claim(&db, ended).await?, ..cost })
}
