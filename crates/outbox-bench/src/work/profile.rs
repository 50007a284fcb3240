//! Where the database's time and its log go: the statements inside each call by `pg_stat_statements`, the records of the log by
//! kind. What is asked slows down what it looks at, so no figure of speed is made here.

use outbox_testkit::TestDb;
use serde::Serialize;
use sqlx::{AssertSqlSafe, Row as _};

use super::enqueue::{How, batches, singles};
use super::{Dispatchers, WARM};
use crate::error::{BenchError, sql};
use crate::meter::real;
use crate::world::{World, run, value};

const STATEMENTS: &str = "select left(regexp_replace(query, '\\s+', ' ', 'g'), 160), calls, total_exec_time * 1000, total_plan_time * 1000 \
    from pg_stat_statements where dbid = (select oid from pg_database where datname = current_database()) \
    order by total_exec_time + total_plan_time desc limit 25";

/// One statement, those inside it included.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Statement {
    text: String,
    calls: i64,
    /// Microseconds for each payment.
    run_us: f64,
    /// Microseconds for each payment.
    plan_us: f64,
}

/// One kind of record of the log.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Record {
    kind: String,
    /// For each payment.
    count: f64,
    /// Bytes for each payment, without whole pages.
    bytes: f64,
    /// Bytes for each payment of whole pages.
    whole_page_bytes: f64,
}

/// What some payments took.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Profile {
    payments: u64,
    /// Those that took longest.
    statements: Vec<Statement>,
    /// Those that are longest.
    log: Vec<Record>,
}

/// Of payments that are recorded alone, of as many as a batch has, and of a drain of as many: on a server that counts statements.
///
/// # Errors
/// When the server refuses, or a daemon ends.
pub(crate) async fn of_each_work(
    world: &World,
    alone: u64,
    many: u64,
    settings: &[String],
) -> Result<[(&'static str, Profile); 3], BenchError> {
    let db = world.outbox().await?;
    run(&db, "create extension pg_stat_statements").await?;
    let began = begin(&db).await?;
    let recorded = singles(world, &db, How::Hinting, 0, alone).await?.payments;
    let enqueue = end(&db, &began, recorded).await?;
    let began = begin(&db).await?;
    batches(world, &db, How::Hinting, recorded, many).await?;
    let batch = end(&db, &began, many).await?;
    let db = world.outbox().await?;
    let dispatchers = Dispatchers::start(&db, 1, settings)?;
    dispatchers.wait_for(world, &db, many).await?;
    run(&db, "create extension pg_stat_statements").await?;
    let began = begin(&db).await?;
    world.pause(&db, false).await?;
    dispatchers.settled(WARM + many).await?;
    dispatchers.finish(&db, WARM + many).await?;
    let drain = end(&db, &began, many).await?;
    Ok([("enqueue alone", enqueue), ("enqueue of a batch", batch), ("drain", drain)])
}

/// From here on is counted; where the log was.
async fn begin(db: &TestDb) -> Result<String, BenchError> {
    run(db, "select pg_stat_statements_reset()").await?;
    value(db, "select pg_current_wal_flush_lsn()::text").await
}

async fn end(db: &TestDb, began: &str, payments: u64) -> Result<Profile, BenchError> {
    let ended: String = value(db, "select pg_current_wal_flush_lsn()::text").await?;
    let mut dba = db.connect_as("postgres").await?;
    let each = |total: f64| total / real(payments);
    let rows = sqlx::query(STATEMENTS).fetch_all(&mut dba).await.map_err(sql("the statements"))?;
    let statement = |row: &sqlx::postgres::PgRow| Statement {
        text: row.get(0),
        calls: row.get(1),
        run_us: each(row.get(2)),
        plan_us: each(row.get(3)),
    };
    let statements = rows.iter().map(statement).collect();
    let records = format!(
        "select \"resource_manager/record_type\", count, record_size, fpi_size from pg_get_wal_stats('{began}', '{ended}', true) \
         where count > 0 order by combined_size desc limit 20"
    );
    let rows = sqlx::query(AssertSqlSafe(records)).fetch_all(&mut dba).await.map_err(sql("the records of the log"))?;
    let record = |row: &sqlx::postgres::PgRow| Record {
        kind: row.get(0),
        count: each(real(row.get::<i64, _>(1))),
        bytes: each(real(row.get::<i64, _>(2))),
        whole_page_bytes: each(real(row.get::<i64, _>(3))),
    };
    Ok(Profile { payments, statements, log: rows.iter().map(record).collect() })
}
