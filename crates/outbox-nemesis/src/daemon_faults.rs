//! Faults of one daemon and of its way to the database. A fault that met nothing (no claim came, no request) took no
//! effect and is not counted.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use outbox_testkit::Interception;
use rail_sim::Point;

use crate::error::NemesisError;
use crate::journal::now_us;
use crate::kind::Kind;
use crate::patience::Patience;
use crate::rails::LEASE_MS;
use crate::world::World;

/// As long as a fault waits for something to hit.
const REACH_LIMIT: Duration = Duration::from_secs(3);

/// Whether a fault met anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It did.
    Took,
    /// It did not: it is not counted.
    Missed,
}

impl Effect {
    pub(crate) fn of(took: bool) -> Self {
        if took { Self::Took } else { Self::Missed }
    }
}

/// Milliseconds between two bounds.
pub(crate) fn some_ms(rng: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.u64(from..=to))
}

/// Deals `kind` out to daemon `number`, from 0.
///
/// # Errors
/// When the daemon does what it never should, or the harness cannot go on.
pub(crate) async fn deal(world: &Arc<World>, number: usize, kind: Kind, rng: &mut Rng) -> Result<Effect, NemesisError> {
    match kind {
        Kind::Kill | Kind::StopShort | Kind::StopPastLease | Kind::Restart | Kind::OtherVersion => {
            signal(world, number, kind, rng).await
        }
        Kind::KillClaimed => kill_before_answer(world, number, "claim_outbox_batch", rng).await,
        Kind::KillCompleting => kill_before_answer(world, number, "complete_outbox_batch", rng).await,
        Kind::StopClaimed => stop_before_answer(world, number, rng).await,
        Kind::KillExecuted | Kind::StopSending => at_the_rail(world, number, kind, rng).await,
        _ => on_the_way(world, number, kind, rng).await,
    }
}

/// A daemon that ends is of use only once it has begun.
async fn is_ready(world: &World, number: usize) -> bool {
    let patience = Patience::of(REACH_LIMIT);
    while world.daemons[number].lock().await.worker_id().is_none() {
        if !patience.again().await {
            return false;
        }
    }
    true
}

async fn signal(world: &World, number: usize, kind: Kind, rng: &mut Rng) -> Result<Effect, NemesisError> {
    if !is_ready(world, number).await {
        return Ok(Effect::Missed);
    }
    let mut daemon = world.daemons[number].lock().await;
    match kind {
        Kind::Kill => daemon.kill(&world.journal, some_ms(rng, 0, 500)).await?,
        Kind::StopShort => daemon.stand_still(&world.journal, some_ms(rng, 50, LEASE_MS / 2)).await?,
        Kind::StopPastLease => {
            daemon.stand_still(&world.journal, some_ms(rng, LEASE_MS + 100, LEASE_MS + 2_000)).await?
        }
        Kind::OtherVersion => {
            let other = world.settings.other_bin.as_ref().map(|bin| bin.join("outboxd"));
            let Some(other) = other else { return Ok(Effect::Missed) };
            let program = if daemon.runs(&other) { world.settings.program("outboxd") } else { other };
            daemon.restart(Some(&program)).await?;
        }
        _ => daemon.restart(None).await?,
    }
    Ok(Effect::Took)
}

/// Waits until the database has answered a call that nobody has the answer of.
async fn answer_withheld(world: &World, number: usize, call: &str) -> Option<Interception> {
    let withheld = world.proxies[number].intercept(call);
    withheld.reached(REACH_LIMIT).await.ok().map(|()| withheld)
}

async fn kill_before_answer(world: &World, number: usize, call: &str, rng: &mut Rng) -> Result<Effect, NemesisError> {
    let Some(withheld) = answer_withheld(world, number, call).await else { return Ok(Effect::Missed) };
    let killed = world.daemons[number].lock().await.kill(&world.journal, some_ms(rng, 0, 500)).await;
    withheld.cut();
    killed.map(|()| Effect::Took)
}

async fn stop_before_answer(world: &World, number: usize, rng: &mut Rng) -> Result<Effect, NemesisError> {
    let Some(withheld) = answer_withheld(world, number, "claim_outbox_batch").await else { return Ok(Effect::Missed) };
    let mut daemon = world.daemons[number].lock().await;
    let from_us = now_us();
    daemon.freeze()?;
    withheld.release();
    tokio::time::sleep(some_ms(rng, LEASE_MS + 100, LEASE_MS + 2_000)).await;
    daemon.thaw(&world.journal, from_us)?;
    Ok(Effect::Took)
}

/// Kills or stops it while requests wait at a rail: after their execution, or before it.
async fn at_the_rail(world: &World, number: usize, kind: Kind, rng: &mut Rng) -> Result<Effect, NemesisError> {
    let mut rails = world.rails.clone();
    rng.shuffle(&mut rails);
    // A rail that is being spoiled already is another's.
    let free = rails.iter().find_map(|rail| Some((rail, rail.try_turn()?)));
    let Some((rail, _turn)) = free else { return Ok(Effect::Missed) };
    let point = if kind == Kind::KillExecuted { Point::AfterExecution } else { Point::BeforeExecution };
    rail.with(|sim| sim.park(point)).await;
    let patience = Patience::of(REACH_LIMIT);
    let mut here = false;
    while !here {
        here = rail.stats().await.parked(point) >= 3 && has_leases(world, number, rail.kind.name).await;
        if !here && !patience.again().await {
            break;
        }
    }
    let dealt = if here { strike(world, number, kind, rng).await } else { Ok(Effect::Missed) };
    rail.with(rail_sim::Sim::release).await;
    dealt
}

async fn has_leases(world: &World, number: usize, rail: &str) -> bool {
    let sql = format!(
        "select 1 from outbox.payment_outbox_pending where rail = '{rail}' and claimed_by like 'd{}/%' limit 1",
        number + 1
    );
    world.rows(&sql).await.is_ok_and(|rows| !rows.is_empty())
}

async fn strike(world: &World, number: usize, kind: Kind, rng: &mut Rng) -> Result<Effect, NemesisError> {
    let mut daemon = world.daemons[number].lock().await;
    if kind == Kind::KillExecuted {
        daemon.kill(&world.journal, some_ms(rng, 0, 500)).await?;
    } else {
        daemon.stand_still(&world.journal, some_ms(rng, LEASE_MS + 100, LEASE_MS + 2_000)).await?;
    }
    Ok(Effect::Took)
}

async fn on_the_way(world: &World, number: usize, kind: Kind, rng: &mut Rng) -> Result<Effect, NemesisError> {
    let proxy = &world.proxies[number];
    let before = proxy.frames();
    match kind {
        Kind::CutAfter => {
            let cut = proxy.cut_after(rng.u64(1..=60));
            return Ok(Effect::of(cut.reached(REACH_LIMIT).await.is_ok()));
        }
        Kind::LoseClaim => return Ok(lost(proxy.lose_answer("claim_outbox_batch")).await),
        Kind::LoseCompletion => return Ok(lost(proxy.lose_answer("complete_outbox_batch")).await),
        Kind::SwallowCompletion => return Ok(lost(proxy.swallow_completion("complete_outbox_batch")).await),
        Kind::Reset => {
            let connected = proxy.connections() > 0;
            proxy.reset_all();
            return Ok(Effect::of(connected));
        }
        Kind::Delay => proxy.delay(some_ms(rng, 20, 400)),
        // Some answers fit the daemon's patience and some do not.
        Kind::Trickle => proxy.trickle(rng.u32(2_000..=50_000)),
        Kind::HalfOpen => proxy.black_hole(),
        _ => {
            if proxy.black_hole_matching("LISTEN") == 0 {
                return Ok(Effect::Missed);
            }
        }
    }
    tokio::time::sleep(some_ms(rng, 300, 2_500)).await;
    proxy.forward();
    let half_open = matches!(kind, Kind::HalfOpen | Kind::DeafListener);
    Ok(Effect::of(half_open || proxy.frames() > before))
}

async fn lost(answer: Interception) -> Effect {
    Effect::of(answer.reached(REACH_LIMIT).await.is_ok())
}
