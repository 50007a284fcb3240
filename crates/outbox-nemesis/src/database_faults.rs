//! Faults of the database that every daemon meets at once. A promotion is in `promotion`.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use sqlx::postgres::PgConnection;

use crate::daemon_faults::{Effect, some_ms};
use crate::error::NemesisError;
use crate::journal::now_us;
use crate::kind::Kind;
use crate::producer::{Batch, record};
use crate::promotion;
use crate::world::{World, execute};

/// Sessions that see to it that none is left: more than there can be.
const SESSIONS_MAX: usize = 120;

/// Sessions that listen: between two looks their last statement is one of these.
const LISTENERS: &str = "usename = 't_dispatcher' and (query ilike 'listen%' or query ilike '%wakeup_lock%')";

/// Deals `kind` out to the database.
///
/// # Errors
/// When the database does not come back.
pub(crate) async fn deal(world: &Arc<World>, kind: Kind, rng: &mut Rng) -> Result<Effect, NemesisError> {
    match kind {
        Kind::ImmediateRestart => immediate_restart(world).await,
        Kind::Terminations => terminations(world, rng).await,
        Kind::ListenersTerminated => terminated(world, LISTENERS).await,
        Kind::Promotion => promotion::deal(world, rng).await,
        Kind::DiskFull => disk_full(world, rng).await,
        Kind::NoConnections => no_connections(world, rng).await,
        Kind::TableLock => table_lock(world, rng).await,
        Kind::PartitionAttached => partition_attached(world).await,
        Kind::Migration => migration(world, rng).await,
        // Nothing is claimed until the old time is reached again, so a jump ahead costs as long as it is far.
        Kind::ClockAhead => clock(world, rng.i64(2..=8), rng).await,
        Kind::ClockBack => clock(world, -rng.i64(2..=8), rng).await,
        Kind::ClockWrong => {
            let offset_s = rng.i64(12..=18);
            clock(world, if rng.bool() { offset_s } else { -offset_s }, rng).await
        }
        Kind::NotificationsFill => notifications_fill(world, rng).await,
        Kind::Frozen => frozen(world, rng).await,
        Kind::Poison => poison(world, rng).await,
        _ => pinned_snapshot(world, rng).await,
    }
}

async fn immediate_restart(world: &World) -> Result<Effect, NemesisError> {
    let from_us = now_us();
    {
        let mut server = world.server.lock().await;
        let server = server.as_mut().expect("a promotion is a fault of this track");
        tokio::task::block_in_place(|| {
            server.stop_immediate()?;
            server.restart()
        })?;
    }
    world.back("immediate restart", from_us).await?;
    Ok(Effect::Took)
}

async fn terminations(world: &World, rng: &mut Rng) -> Result<Effect, NemesisError> {
    let mut took = Effect::Missed;
    for _ in 0..rng.u32(1..=5) {
        if terminated(world, "usename = 't_dispatcher'").await? == Effect::Took {
            took = Effect::Took;
        }
        tokio::time::sleep(some_ms(rng, 20, 300)).await;
    }
    Ok(took)
}

async fn terminated(world: &World, which: &str) -> Result<Effect, NemesisError> {
    let sql = format!("select pg_terminate_backend(pid)::text from pg_stat_activity where {which}");
    Ok(Effect::of(!world.texts(&sql).await?.is_empty()))
}

/// The file system is made as small as what it holds, for a while. The log is on it as well: Postgres may fall.
async fn disk_full(world: &World, rng: &mut Rng) -> Result<Effect, NemesisError> {
    let Some(disk) = world.settings.disk.clone() else { return Ok(Effect::Missed) };
    let from_us = now_us();
    let mut full = false;
    for _ in 0..50 {
        let held = rustix::fs::statvfs(&disk).map_err(|error| NemesisError::io("look at the disk")(error.into()))?;
        // What is written between the look and the change makes it too small to be taken.
        full = resize(&disk, &((held.f_blocks - held.f_bfree) * held.f_frsize).to_string())?;
        if full {
            break;
        }
    }
    if !full {
        return Ok(Effect::Missed);
    }
    tokio::time::sleep(some_ms(rng, 300, 2_000)).await;
    if !resize(&disk, "90%")? {
        return Err(NemesisError::Wrong("the disk could not be made larger again".to_owned()));
    }
    if !world.works_within(Duration::from_secs(10)).await {
        let mut server = world.server.lock().await;
        let server = server.as_mut().expect("a promotion is a fault of this track");
        tokio::task::block_in_place(|| server.restart())?;
    }
    world.back("disk full", from_us).await?;
    Ok(Effect::Took)
}

/// Whether the file system now has that size.
fn resize(disk: &Path, size: &str) -> Result<bool, NemesisError> {
    let done = Command::new("mount").arg("-o").arg(format!("remount,size={size}")).arg(disk).output();
    Ok(done.map_err(NemesisError::io("resize the disk"))?.status.success())
}

async fn no_connections(world: &World, rng: &mut Rng) -> Result<Effect, NemesisError> {
    let from_us = now_us();
    let mut taken = Vec::new();
    while taken.len() < SESSIONS_MAX {
        match world.session("t_monitor").await {
            Ok(session) => taken.push(session),
            Err(_) => break,
        }
    }
    // Those that have a session keep it: new ones are wanted by whoever lost his.
    let _ = terminated(world, "usename in ('t_dispatcher', 't_ingest')").await;
    while taken.len() < SESSIONS_MAX {
        match world.session("t_monitor").await {
            Ok(session) => taken.push(session),
            Err(_) => break,
        }
    }
    tokio::time::sleep(some_ms(rng, 300, 2_000)).await;
    let count = taken.len();
    drop(taken);
    world.journal.outage("no connections", from_us);
    Ok(Effect::of(count > 0))
}

async fn table_lock(world: &World, rng: &mut Rng) -> Result<Effect, NemesisError> {
    let tables = ["payment_outbox_pending", "payment_outbox_attempts", "payment_rails"];
    let table = tables[rng.usize(..tables.len())];
    let from_us = now_us();
    let mut session = world.session("postgres").await?;
    execute(&mut session, "begin").await?;
    let lock = format!("set local lock_timeout = '2s'; lock table outbox.{table} in access exclusive mode");
    if execute(&mut session, &lock).await.is_err() {
        return Ok(Effect::Missed);
    }
    tokio::time::sleep(some_ms(rng, 200, 2_500)).await;
    execute(&mut session, "rollback").await?;
    world.journal.outage("a lock", from_us);
    Ok(Effect::Took)
}

/// The last month, which is empty, is dropped, and the product makes and attaches it again.
async fn partition_attached(world: &World) -> Result<Effect, NemesisError> {
    let names = world
        .texts(
            "select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
             where n.nspname = 'outbox' and c.relispartition and c.relkind = 'r' and c.relname ~ '_y[0-9]{4}m[0-9]{2}$' \
             and right(c.relname, 8) = (select max(right(l.relname, 8)) from pg_class l where l.relispartition \
             and l.relname ~ '_y[0-9]{4}m[0-9]{2}$') order by 1",
        )
        .await?;
    let mut dropped = 0;
    for name in names {
        dropped += u32::from(patiently(world, "postgres", &format!("drop table outbox.{name}")).await?);
    }
    let made = patiently(world, "t_migrator", "select outbox.ensure_outbox_partitions()").await?;
    Ok(Effect::of(made && dropped > 0))
}

/// A change that waits for locks, a few times and never for long, as a careful DBA does it.
async fn patiently(world: &World, login: &str, sql: &str) -> Result<bool, NemesisError> {
    for _ in 0..20 {
        let mut session = world.session(login).await?;
        execute(&mut session, "set lock_timeout = '300ms'").await?;
        if execute(&mut session, sql).await.is_ok() {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(false)
}

async fn migration(world: &World, rng: &mut Rng) -> Result<Effect, NemesisError> {
    let tables = ["payment_outbox_pending", "payment_outbox_attempts", "payment_outbox_instructions"];
    let table = tables[rng.usize(..tables.len())];
    let add = format!("alter table outbox.{table} add column nemesis_column text not null default 'later'");
    let added = patiently(world, "t_migrator", &add).await?;
    if added {
        tokio::time::sleep(some_ms(rng, 100, 1_000)).await;
        let drop = format!("alter table outbox.{table} drop column nemesis_column");
        while !patiently(world, "t_migrator", &drop).await? {}
    }
    Ok(Effect::of(added))
}

async fn clock(world: &World, offset_s: i64, rng: &mut Rng) -> Result<Effect, NemesisError> {
    let from_us = now_us();
    world.journal.clock(offset_s);
    world.clock.move_to(offset_s)?;
    tokio::time::sleep(some_ms(rng, 500, 3_000)).await;
    world.clock.move_to(0)?;
    world.journal.clock(0);
    let later_us = offset_s.max(0) * 1_000_000;
    world.journal.outage_until("the clock", from_us, now_us() + later_us);
    Ok(Effect::Took)
}

/// A session that listens and never reads keeps the queue from being emptied. It becomes full, and no commit with a
/// notification succeeds until that session ends.
async fn notifications_fill(world: &World, rng: &mut Rng) -> Result<Effect, NemesisError> {
    let from_us = now_us();
    let mut deaf = world.session("postgres").await?;
    // Together they would be one transaction, and it is its commit that listens.
    for statement in ["listen nemesis", "begin", "select 1"] {
        execute(&mut deaf, statement).await?;
    }
    let mut loud = world.session("postgres").await?;
    let fill = "select pg_notify('nemesis', n || repeat('x', 7000)) from generate_series(1, 30) as n";
    let mut is_full = false;
    for _ in 0..20 {
        if let Err(refused) = execute(&mut loud, fill).await {
            is_full = refused.to_string().contains("too many notifications in the NOTIFY queue");
            break;
        }
    }
    tokio::time::sleep(some_ms(rng, 200, 1_500)).await;
    drop(deaf);
    world.journal.outage("notifications", from_us);
    Ok(Effect::of(is_full))
}

async fn frozen(world: &World, rng: &mut Rng) -> Result<Effect, NemesisError> {
    let from_us = now_us();
    {
        let server = world.server.lock().await;
        let server = server.as_ref().expect("a promotion is a fault of this track");
        server.sigstop()?;
        tokio::time::sleep(some_ms(rng, 200, 4_000)).await;
        server.sigcont()?;
    }
    world.back("frozen", from_us).await?;
    Ok(Effect::Took)
}

/// Whoever leases a certain payment is killed, until nobody may lease it any more.
async fn poison(world: &Arc<World>, rng: &mut Rng) -> Result<Effect, NemesisError> {
    let Some((from, _)) = world.pace.payments(1).await else { return Ok(Effect::Missed) };
    let ids = record(world, &mut None, &Batch::new(from, std::iter::once("resend"))).await?;
    let id = &ids[0];
    let leased_by = format!(
        "select coalesce(split_part(claimed_by, '/', 1), '') from outbox.payment_outbox_pending \
         where outbox_id = '{id}' and disposition <> 'HELD'"
    );
    let mut kills = 0;
    let mut session: Option<PgConnection> = None;
    // The database may be busy or away for a moment: this ends when the payment does.
    while !world.pace.is_given_up() {
        match one(world, &mut session, &leased_by).await {
            Ok(None) => break,
            Ok(Some(name)) if name.is_empty() => tokio::time::sleep(Duration::from_millis(3)).await,
            Ok(Some(name)) => {
                let number: usize = name.trim_start_matches('d').parse().unwrap_or(1);
                let mut daemon = world.daemons[number - 1].lock().await;
                daemon.kill(&world.journal, some_ms(rng, 0, 100)).await?;
                kills += 1;
            }
            Err(_) => {
                session = None;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    Ok(Effect::of(kills > 0))
}

async fn one(world: &World, session: &mut Option<PgConnection>, sql: &str) -> Result<Option<String>, NemesisError> {
    if session.is_none() {
        *session = Some(world.session("postgres").await?);
    }
    let session = session.as_mut().expect("made above");
    let asked = sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_optional(session);
    match tokio::time::timeout(Duration::from_secs(5), asked).await {
        Ok(answered) => answered.map_err(NemesisError::sql("look for a lease")),
        Err(_) => Err(NemesisError::Wrong("no answer within 5 s".to_owned())),
    }
}

async fn pinned_snapshot(world: &World, rng: &mut Rng) -> Result<Effect, NemesisError> {
    let mut session = world.session("postgres").await?;
    execute(&mut session, "begin isolation level repeatable read; select count(*) from outbox.payment_rails").await?;
    tokio::time::sleep(some_ms(rng, 2_000, world.settings.longest_pin_ms())).await;
    // The server may have been restarted meanwhile.
    let _ = execute(&mut session, "rollback").await;
    Ok(Effect::Took)
}
