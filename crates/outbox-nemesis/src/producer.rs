//! A business system: it records payments in batches until the database says that they are recorded, whatever happens on
//! the way. A batch whose answer was lost is recorded again, under the same names.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::error::NemesisError;
use crate::rails::RAILS;
use crate::world::World;

/// Payments of one batch at most.
const BATCH_MAX: u64 = 60;

/// A database that does not take a batch for so long is lost.
const LIMIT: Duration = Duration::from_secs(180);

/// Records payments until all are.
///
/// # Errors
/// When the database refuses for good.
pub(crate) async fn run(world: Arc<World>, seed: u64) -> Result<(), NemesisError> {
    let mut rng = Rng::with_seed(seed);
    let mut session = None;
    while let Some((from, count)) = world.pace.payments(rng.u64(1..=BATCH_MAX)).await {
        let batch =
            Batch::new(from, std::iter::repeat_with(|| some_rail(&mut rng)).take(usize::try_from(count).unwrap_or(0)));
        let _recording = world.recording.read().await;
        record(&world, &mut session, &batch).await?;
    }
    Ok(())
}

fn some_rail(rng: &mut Rng) -> &'static str {
    let mut mark = rng.u64(..100);
    for rail in RAILS {
        if mark < rail.share {
            return rail.name;
        }
        mark -= rail.share;
    }
    unreachable!("the shares make a hundred")
}

/// Payments of one call.
pub(crate) struct Batch {
    rails: Vec<&'static str>,
    names: Vec<String>,
    payloads: Vec<Vec<u8>>,
    amounts: Vec<i64>,
}

impl Batch {
    /// Payments `from` and on, over these rails.
    pub(crate) fn new(from: u64, rails: impl Iterator<Item = &'static str>) -> Self {
        let rails: Vec<&'static str> = rails.collect();
        let numbers = from..from + rails.len() as u64;
        let names: Vec<String> = numbers.clone().map(|n| format!("n-{n}")).collect();
        let amounts: Vec<i64> = numbers.map(|n| 100 + i64::try_from(n * 7_919 % 1_000_000).unwrap_or(0)).collect();
        let payloads = names.iter().zip(&amounts);
        let payloads = payloads.map(|(name, amount)| format!("{{\"id\":\"{name}\",\"amount\":{amount}}}").into_bytes());
        Self { rails, payloads: payloads.collect(), names, amounts }
    }
}

impl Batch {
    /// Writes down what the database has confirmed, by rail.
    fn note(&self, world: &World, ids: &[String]) {
        for rail in RAILS {
            let pairs = self.rails.iter().zip(ids).filter(|(of, _)| **of == rail.name);
            let ids: Vec<String> = pairs.map(|(_, id)| id.clone()).collect();
            if !ids.is_empty() {
                world.journal.enqueued(rail.name, &ids);
            }
        }
    }
}

/// Records a batch, as often as it takes; returns the payments' ids.
pub(crate) async fn record(
    world: &World,
    session: &mut Option<PgConnection>,
    batch: &Batch,
) -> Result<Vec<String>, NemesisError> {
    let started = tokio::time::Instant::now();
    loop {
        let tried = async {
            if session.is_none() {
                *session = Some(world.session("t_ingest").await?);
            }
            call(session.as_mut().expect("made above"), batch).await
        };
        let error = match tokio::time::timeout(Duration::from_secs(10), tried).await {
            Ok(Ok(ids)) => {
                batch.note(world, &ids);
                return Ok(ids);
            }
            Ok(Err(error)) => error,
            Err(_) => NemesisError::Wrong("a batch was not recorded within 10 s".to_owned()),
        };
        // What became of the call is unknown, and so is the session's state.
        *session = None;
        if started.elapsed() > LIMIT || world.pace.is_given_up() {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn call(session: &mut PgConnection, batch: &Batch) -> Result<Vec<String>, NemesisError> {
    let count = batch.names.len();
    let nothing: Vec<Option<String>> = vec![None; count];
    let rows = sqlx::query(
        "select b.outbox_id::text from outbox.enqueue_payment_outbox_batch($1, $2, $2, $3, $4, $5, $6, $7, \
         $8::text[]::timestamptz[], $8::text[]::timestamptz[], $8, $8, $8::text[]::uuid[]) as b order by b.ordinal",
    )
    .bind(vec!["NEMESIS"; count])
    .bind(&batch.names)
    .bind(&batch.rails)
    .bind(&batch.payloads)
    .bind(vec!["application/json"; count])
    .bind(&batch.amounts)
    .bind(vec!["EUR"; count])
    .bind(&nothing)
    .fetch_all(session)
    .await
    .map_err(NemesisError::sql("record payments"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
