//! A durable server of the benchmark's own, databases on it, and payments in them.

use std::path::Path;

use outbox_core::OutboxId;
use outbox_testkit::{PgServer, PgVersion, ServerSettings, TestDb};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};
use uuid::Uuid;

use crate::daemon::RAIL;
use crate::error::BenchError;
use crate::error::sql;

/// The size of every payload, in bytes: what the figures of other systems were measured with.
pub(crate) const PAYLOAD_BYTES: usize = 400;

/// Payments recorded in one statement.
pub(crate) const BATCH: u64 = 1_000;

/// The contract: an outcome in doubt may be sent again for a day.
pub(crate) const CONTRACT: &str = "'resend', p_idempotency_window_ms => 86400000, p_rail_timeout_ms => 10000, \
                        p_processing_bound_ms => 1000, p_lease_duration_ms => 60000, p_amount_required => false";

/// What the server is told beside the settings of every test server: room for the log of a run between two checkpoints, so
/// that what is compared meets none; segments of it that are used again, as those of a server are that has run for a while; and
/// memory like that of a small server of its own.
const SETTINGS: [&str; 6] = [
    "shared_buffers = 1GB",
    "max_wal_size = 16GB",
    "checkpoint_timeout = 1h",
    "min_wal_size = 4GB",
    "autovacuum = on",
    "huge_pages = off",
];

/// The server.
pub(crate) struct World {
    pub(crate) server: PgServer,
}

impl World {
    /// Starts it, with its files in `dir`.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) fn start(version: PgVersion, dir: &Path) -> Result<Self, BenchError> {
        Self::start_with(version, dir, &[])
    }

    /// Starts one that counts what each statement took.
    ///
    /// # Errors
    /// When it does not come up: `pg_stat_statements` is one of the modules that come with Postgres.
    pub(crate) fn start_counting(version: PgVersion, dir: &Path) -> Result<Self, BenchError> {
        const COUNTING: [&str; 3] = [
            "shared_preload_libraries = 'pg_stat_statements'",
            "pg_stat_statements.track = all",
            "pg_stat_statements.track_planning = on",
        ];
        Self::start_with(version, dir, &COUNTING)
    }

    fn start_with(version: PgVersion, dir: &Path, more: &[&str]) -> Result<Self, BenchError> {
        let configuration = SETTINGS.iter().chain(more).map(|setting| (*setting).to_owned()).collect();
        let settings = ServerSettings { configuration, disk: Some(dir.to_path_buf()), ..ServerSettings::default() };
        Ok(Self { server: PgServer::start_with(version, &settings)? })
    }

    /// A migrated database with the contract.
    ///
    /// # Errors
    /// When the server refuses.
    pub(crate) async fn outbox(&self) -> Result<TestDb, BenchError> {
        let db = TestDb::create_on(self.server.address()).await?;
        run(&db, &format!("create extension pg_walinspect; select outbox.set_payment_rail('{RAIL}', {CONTRACT})"))
            .await?;
        Ok(db)
    }

    /// Records `count` payments, numbered from `from` on, as a producer does: in batches.
    ///
    /// # Errors
    /// When the server refuses.
    pub(crate) async fn enqueue(&self, db: &TestDb, from: u64, count: u64) -> Result<(), BenchError> {
        let mut producer = db.connect_as("t_ingest").await?;
        let (mut next, end) = (from, from + count);
        while next < end {
            let batch = BATCH.min(end - next);
            enqueue_batch(&mut producer, next, batch).await?;
            next += batch;
        }
        producer.close().await.map_err(sql("the end of a session"))
    }

    /// Pauses the rail, or ends its pause.
    ///
    /// # Errors
    /// When the server refuses.
    pub(crate) async fn pause(&self, db: &TestDb, paused: bool) -> Result<(), BenchError> {
        run(db, &format!("select outbox.set_payment_rail('{RAIL}', p_paused => {paused})")).await
    }

    /// A checkpoint, so that what follows writes whole pages as seldom as it can, and fresh statistics.
    ///
    /// # Errors
    /// When the server refuses.
    pub(crate) async fn settle(&self, db: &TestDb) -> Result<(), BenchError> {
        run(db, "vacuum analyze").await?;
        run(db, "checkpoint").await
    }
}

/// The instruction of a payment, as most producers number theirs.
pub(crate) fn in_order(number: u64) -> String {
    format!("I{number:012}")
}

/// One batch, numbered from `from` on; the ids of its payments.
///
/// # Errors
/// When the server refuses, or one of them is there already.
pub(crate) async fn enqueue_batch(
    producer: &mut PgConnection,
    from: u64,
    count: u64,
) -> Result<Vec<OutboxId>, BenchError> {
    enqueue_named(producer, (from..from + count).map(in_order).collect()).await
}

/// One batch of these instructions; the ids of its payments.
///
/// # Errors
/// When the server refuses, or one of them is there already.
pub(crate) async fn enqueue_named(
    producer: &mut PgConnection,
    names: Vec<String>,
) -> Result<Vec<OutboxId>, BenchError> {
    const ENQUEUE: &str = "select e.outbox_id from outbox.enqueue_payment_outbox_batch($1, $2, $2, $3, $4, $5, $6, $7, $8, $8, $7, $7, $9) as e \
                           where e.created";
    let size = names.len();
    let text = |value: &str| vec![value.to_owned(); size];
    let created = sqlx::query(ENQUEUE)
        .bind(text("bench"))
        .bind(names)
        .bind(text(RAIL))
        .bind(vec![vec![b'x'; PAYLOAD_BYTES]; size])
        .bind(text("application/json"))
        .bind(vec![None::<i64>; size])
        .bind(vec![None::<String>; size])
        .bind(vec![None::<time::OffsetDateTime>; size])
        .bind(vec![None::<Uuid>; size])
        .fetch_all(producer)
        .await
        .map_err(sql("enqueue"))?;
    if created.len() != size {
        return Err(BenchError::Wrong(format!("{} of {size} payments were recorded anew", created.len())));
    }
    Ok(created.iter().map(|row| OutboxId(row.get::<Uuid, _>(0))).collect())
}

/// Statements of the superuser.
///
/// # Errors
/// When the server refuses.
pub(crate) async fn run(db: &TestDb, statements: &str) -> Result<(), BenchError> {
    let mut dba = db.connect_as("postgres").await?;
    dba.execute(sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))).await.map_err(sql(statements))?;
    dba.close().await.map_err(sql("the end of a session"))
}

/// The only value of a statement of the superuser.
///
/// # Errors
/// When the server refuses.
pub(crate) async fn value<T>(db: &TestDb, statement: &str) -> Result<T, BenchError>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    let mut dba = db.connect_as("postgres").await?;
    let row = sqlx::query(AssertSqlSafe(statement.to_owned())).fetch_one(&mut dba).await.map_err(sql(statement))?;
    row.try_get(0).map_err(sql(statement))
}
