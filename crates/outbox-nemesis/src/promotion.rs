//! A standby takes over and has lost the last commits: docs/RUNBOOK.md, day 5, dealt out as a fault.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use outbox_testkit::{PgServer, ServerSettings};
use sqlx::Row as _;

use crate::daemon_faults::{Effect, some_ms};
use crate::error::NemesisError;
use crate::journal::now_us;
use crate::operators;
use crate::patience::Patience;
use crate::world::World;

/// Copying, starting and catching up, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Everything, from the copy to the acknowledgement by two people.
///
/// # Errors
/// When a server does not come up, or the acknowledgement is refused.
pub(crate) async fn deal(world: &Arc<World>, rng: &mut Rng) -> Result<Effect, NemesisError> {
    // What is recorded in the lost seconds would be lost with its business transaction: see docs/RELIABILITY.md.
    let _nobody_records = world.recording.write().await;
    let from_us = now_us();
    let mut slot = world.server.lock().await;
    let mut primary = slot.take().expect("a promotion is a fault of this track");
    let standby = standby_of(world, &mut primary)?;
    world.back("a standby is made", from_us).await?;
    let Ok((lost_from, sender)) = cut_off(world).await else {
        // Another fault was quicker. The primary goes on, and the standby ends unused.
        *slot = Some(primary);
        return Ok(Effect::Missed);
    };
    tokio::time::sleep(some_ms(rng, 500, 3_000)).await;
    let from_us = now_us();
    // Frozen it would obey nobody, and going on it would send what is to be lost.
    signal("KILL", sender)?;
    tokio::task::block_in_place(|| primary.stop_immediate())?;
    drop(primary);
    world.point_to(&standby)?;
    *slot = Some(standby);
    drop(slot);
    for proxy in &world.proxies {
        proxy.cut_all();
    }
    world.journal.failover(&lost_from);
    let patience = Patience::of(LIMIT);
    while world.run("select pg_promote(true, 30)").await.is_err() {
        if !patience.again().await {
            return Err(NemesisError::Wrong("a standby could not be promoted".to_owned()));
        }
    }
    operators::acknowledge(world, &lost_from).await?;
    world.back("a promotion", from_us).await?;
    Ok(Effect::Took)
}

/// Stops what sends the log, once the standby has everything of a certain time; returns that time and who sends. From
/// here on nothing reaches the standby, and the primary knows nothing of it.
async fn cut_off(world: &World) -> Result<(String, i32), NemesisError> {
    level(world).await?;
    let lost_from = now_of(world).await?;
    level(world).await?;
    let senders = world.rows("select pid from pg_stat_replication").await?;
    let sender = senders.first().ok_or_else(|| NemesisError::Wrong("nobody sends the log".to_owned()))?.get(0);
    signal("STOP", sender)?;
    Ok((lost_from, sender))
}

fn standby_of(world: &World, primary: &mut PgServer) -> Result<PgServer, NemesisError> {
    let (host, port) = (primary.socket_dir().display().to_string(), primary.port());
    let mut settings = world.server_settings();
    settings.configuration.push(format!("primary_conninfo = 'host={host} port={port} user=postgres'"));
    let settings = ServerSettings { signal_file: Some("standby.signal"), ..settings };
    Ok(tokio::task::block_in_place(|| primary.copy(world.postgres(), &settings))?)
}

/// Waits until the standby has replayed everything of now.
async fn level(world: &World) -> Result<(), NemesisError> {
    let flushed: i64 = world.rows("select (pg_current_wal_flush_lsn() - '0/0')::bigint").await?[0].get(0);
    let sql = format!("select 1 from pg_stat_replication where (replay_lsn - '0/0')::bigint >= {flushed}");
    let patience = Patience::of(LIMIT);
    while !world.rows(&sql).await.is_ok_and(|rows| !rows.is_empty()) {
        if !patience.again().await {
            return Err(NemesisError::Wrong("a standby did not catch up".to_owned()));
        }
    }
    Ok(())
}

async fn now_of(world: &World) -> Result<String, NemesisError> {
    let sql = "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
    Ok(world.texts(sql).await?.remove(0))
}

fn signal(name: &str, pid: i32) -> Result<(), NemesisError> {
    let done = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status();
    match done.map_err(NemesisError::io("signal a WAL sender"))?.success() {
        true => Ok(()),
        false => Err(NemesisError::Wrong(format!("the WAL sender {pid} could not be sent {name}"))),
    }
}
