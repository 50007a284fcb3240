//! Payments come and go at a steady pace, and one in a hundred exchanges leaves a doubt: whether anything grows with time.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use outbox_core::OutboxId;
use outbox_testkit::TestDb;
use serde::Serialize;
use sqlx::Connection as _;

use super::{Arrivals, Dispatchers};
use crate::error::{BenchError, io, sql};
use crate::meter::{Cost, Meter};
use crate::noop_rail::NoopRail;
use crate::report::quantile;
use crate::world::{World, enqueue_batch, value};

/// Between two batches, and how many payments each has: 1,000 a second.
const EVERY: Duration = Duration::from_millis(10);
const TOGETHER: u64 = 10;

/// One in so many exchanges ends without an answer.
const DOUBT_EVERY: u64 = 100;

/// What is looked at together.
const WINDOW: Duration = Duration::from_secs(10);

/// One window.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Window {
    /// Payments whose first byte could leave in it.
    pub(crate) payments: usize,
    /// From commit to first byte, in milliseconds.
    pub(crate) p50_ms: f64,
    /// The same.
    pub(crate) p99_ms: f64,
    /// Dead rows of the table of pending payments, by the server's count.
    pub(crate) dead_rows: i64,
    /// Bytes of that table.
    pub(crate) table_bytes: i64,
    /// Bytes of its indexes.
    pub(crate) index_bytes: i64,
    /// Resident memory of this process: the daemon's, and what the measurement needs.
    pub(crate) resident_bytes: u64,
}

/// What each window showed, for so many of them, and what all payments cost, with the producer's part.
///
/// # Errors
/// When the daemon fails.
pub(crate) async fn windows(world: &World, count: u32, settings: &[String]) -> Result<(Vec<Window>, Cost), BenchError> {
    let db = world.outbox().await?;
    let (sender, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    let rail = NoopRail::new(Some(sender)).with_doubt_every(DOUBT_EVERY);
    let dispatchers = Dispatchers::on(&db, 1, settings, rail)?;
    let meter = Meter::begin(&world.server, &db).await?;
    let began = Instant::now();
    let mut producer = db.connect_as("t_ingest").await?;
    let mut ticks = tokio::time::interval(EVERY);
    let mut windows = Vec::new();
    let (mut number, mut committed) = (0, HashMap::new());
    for _ in 0..count {
        let until = Instant::now() + WINDOW;
        while Instant::now() < until {
            ticks.tick().await;
            let ids = enqueue_batch(&mut producer, number, TOGETHER).await?;
            number += TOGETHER;
            let now = Instant::now();
            committed.extend(ids.into_iter().map(|id| (id, now)));
        }
        windows.push(window(&db, &mut arrivals, &mut committed).await?);
    }
    producer.close().await.map_err(sql("the end of a session"))?;
    let ended = dispatchers.settled(number).await?;
    dispatchers.stop().await?;
    let cost = meter.end(number, (ended - began).as_secs_f64()).await?;
    let left: i64 = value(&db, "select count(*) from outbox.payment_outbox_pending").await?;
    if left == 0 { Ok((windows, cost)) } else { Err(BenchError::Wrong(format!("{left} payments are left"))) }
}

async fn window(
    db: &TestDb,
    arrivals: &mut Arrivals,
    committed: &mut HashMap<OutboxId, Instant>,
) -> Result<Window, BenchError> {
    let mut took = Vec::new();
    while let Ok((id, at)) = arrivals.try_recv() {
        // One that is sent again is no longer there.
        if let Some(since) = committed.remove(&id) {
            took.push(at.saturating_duration_since(since).as_secs_f64() * 1_000.0);
        }
    }
    took.sort_by(f64::total_cmp);
    let pending = "'outbox.payment_outbox_pending'::regclass";
    Ok(Window {
        payments: took.len(),
        p50_ms: quantile(&took, 0.5),
        p99_ms: quantile(&took, 0.99),
        dead_rows: value(db, &format!("select n_dead_tup from pg_stat_user_tables where relid = {pending}")).await?,
        table_bytes: value(db, &format!("select pg_table_size({pending})")).await?,
        index_bytes: value(db, &format!("select pg_indexes_size({pending})")).await?,
        resident_bytes: resident()?,
    })
}

/// Resident memory of this process, in bytes.
fn resident() -> Result<u64, BenchError> {
    const MARK: &str = "VmRSS:";
    let status = fs::read_to_string("/proc/self/status").map_err(io("/proc/self/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(MARK)).unwrap_or_default();
    let kib: u64 = line.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
    Ok(kib * 1_024)
}
