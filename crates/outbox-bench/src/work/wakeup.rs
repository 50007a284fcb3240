//! How long after its commit the first byte of a payment could leave, when the daemon has nothing else to do.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use outbox_core::OutboxId;
use outbox_testkit::TestDb;
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::Dispatchers;
use crate::daemon::RAIL;
use crate::error::{BenchError, sql};
use crate::report::quantile;
use crate::world::{PAYLOAD_BYTES, World, in_order};

/// Between two payments.
const EVERY: Duration = Duration::from_millis(20);

/// A business transaction lasts so long at most after it has recorded its payment, in milliseconds.
const OVERLAP_MAX_MS: u64 = 60;

/// Longer than any payment here waits.
const LIMIT: Duration = Duration::from_secs(60);

const ENQUEUE: &str =
    "select outbox_id from outbox.enqueue_payment_outbox('bench', $1, $1, $2, $3, 'application/json')";

/// What else goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    /// Nothing: each payment is committed at once.
    Nothing,
    /// Each payment's transaction lasts 0 to 60 ms longer, so that some overlap.
    Overlapping,
    /// One transaction has recorded a payment, and stays open all the while.
    OneLong,
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latencies {
    /// Half are below.
    pub(crate) p50: f64,
    /// 95 of 100 are below.
    pub(crate) p95: f64,
    /// 99 of 100 are below.
    pub(crate) p99: f64,
    /// The longest.
    pub(crate) max: f64,
}

/// Of `count` payments.
///
/// # Errors
/// When the daemon fails, or a payment does not leave.
pub(crate) async fn latencies(
    world: &World,
    count: u32,
    beside: Beside,
    settings: &[String],
) -> Result<Latencies, BenchError> {
    let db = world.outbox().await?;
    let (dispatchers, mut arrivals) = Dispatchers::start_watched(&db, settings)?;
    // Until the daemon has seen one payment, its start is measured.
    let mut first = db.connect_as("t_ingest").await?;
    enqueue(&mut first, "first").await?;
    dispatchers.settled(1).await?;
    arrivals.recv().await;
    let mut long = db.connect_as("t_ingest").await?;
    if beside == Beside::OneLong {
        long.execute("begin").await.map_err(sql("begin"))?;
        enqueue(&mut long, "long").await?;
    }
    let committed = produce(&db, count, beside).await?;
    let mut left: HashMap<OutboxId, Instant> = HashMap::new();
    while left.len() < committed.len() {
        let arrival = tokio::time::timeout(LIMIT, arrivals.recv()).await;
        let Ok(Some((id, at))) = arrival else {
            return Err(BenchError::Daemon(format!("{} of {} payments left", left.len(), committed.len())));
        };
        left.insert(id, at);
    }
    if beside == Beside::OneLong {
        long.execute("rollback").await.map_err(sql("rollback"))?;
    }
    dispatchers.stop().await?;
    let mut took: Vec<f64> = Vec::with_capacity(committed.len());
    for (id, at) in committed {
        let sent = left.get(&id).ok_or_else(|| BenchError::Wrong(format!("{id} did not leave")))?;
        // It may leave before the producer has read that it is committed.
        took.push(sent.saturating_duration_since(at).as_secs_f64() * 1_000.0);
    }
    took.sort_by(f64::total_cmp);
    let [p50, p95, p99, max] = [0.5, 0.95, 0.99, 1.0].map(|share| quantile(&took, share));
    Ok(Latencies { p50, p95, p99, max })
}

/// The payments and when their commit was answered.
async fn produce(db: &TestDb, count: u32, beside: Beside) -> Result<Vec<(OutboxId, Instant)>, BenchError> {
    let mut sessions = Vec::new();
    for _ in 0..8 {
        sessions.push(db.connect_as("t_ingest").await?);
    }
    let mut producing: JoinSet<Result<(PgConnection, OutboxId, Instant), BenchError>> = JoinSet::new();
    let mut committed = Vec::new();
    let mut ticks = tokio::time::interval(EVERY);
    for number in 0..count {
        ticks.tick().await;
        let mut session = match sessions.pop() {
            Some(session) => session,
            None => match producing.join_next().await {
                Some(done) => {
                    let (session, id, at) = done.map_err(|panic| BenchError::Wrong(panic.to_string()))??;
                    committed.push((id, at));
                    session
                }
                None => return Err(BenchError::Wrong("no session is left".to_owned())),
            },
        };
        // A number's digits in another order: the same lengths in each run, and no pattern.
        let lasts = Duration::from_millis(u64::from(number) * 37 % (OVERLAP_MAX_MS + 1));
        producing.spawn(async move {
            let name = in_order(number.into());
            session.execute("begin").await.map_err(sql("begin"))?;
            let id = enqueue(&mut session, &name).await?;
            if beside == Beside::Overlapping {
                tokio::time::sleep(lasts).await;
            }
            session.execute("commit").await.map_err(sql("commit"))?;
            Ok((session, id, Instant::now()))
        });
    }
    while let Some(done) = producing.join_next().await {
        let (session, id, at) = done.map_err(|panic| BenchError::Wrong(panic.to_string()))??;
        committed.push((id, at));
        session.close().await.map_err(sql("the end of a session"))?;
    }
    Ok(committed)
}

async fn enqueue(session: &mut PgConnection, name: &str) -> Result<OutboxId, BenchError> {
    let query = sqlx::query(ENQUEUE).bind(name).bind(RAIL).bind(vec![b'x'; PAYLOAD_BYTES]);
    let row = query.fetch_one(session).await.map_err(sql("enqueue"))?;
    Ok(OutboxId(row.get::<Uuid, _>(0)))
}
