//! Whether what waits makes what is dispatched slower: the first 20,000 of a queue of some depth.

use std::time::SystemTime;

use super::drain::since_first_claim;
use super::{Dispatchers, WARM};
use crate::error::BenchError;
use crate::meter::real;
use crate::world::World;

/// How many are dispatched.
const FIRST: u64 = 20_000;

/// The first payments per second with `due` waiting; all of them if there are fewer.
///
/// # Errors
/// When the daemon fails.
pub(crate) async fn rate(world: &World, due: u64, settings: &[String]) -> Result<f64, BenchError> {
    let db = world.outbox().await?;
    let dispatchers = Dispatchers::start(&db, 1, settings)?;
    dispatchers.wait_for(world, &db, due).await?;
    world.pause(&db, false).await?;
    dispatchers.settled(WARM + FIRST.min(due)).await?;
    let settled = dispatchers.settled_now() - WARM;
    let ended = SystemTime::now();
    dispatchers.stop().await?;
    Ok(real(settled) / since_first_claim(&db, ended).await?)
}
