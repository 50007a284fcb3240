//! What recording a payment costs a producer, beside a plain insert of the same bytes into one table.

use std::time::Instant;

use outbox_testkit::TestDb;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::daemon::RAIL;
use crate::error::{BenchError, sql};
use crate::meter::{Cost, IDLE, Meter};
use crate::world::{BATCH, PAYLOAD_BYTES, World, enqueue_named, in_order, run};

/// Clients beside each other, each with single-row transactions.
pub(crate) const CLIENTS: u64 = 8;

/// The table of the plain insert: all that a producer says of a payment, in one table that promises nothing but to have it.
const PLAIN: &str = "create extension if not exists pg_walinspect; create table plain \
    (id bigint generated always as identity primary key, participant_id text not null, instruction_id text not null, \
     idempotency_key text not null, rail text not null, payload bytea not null, content_type text not null, \
     created_at timestamptz not null default now())";

const INSERT: &str = "insert into plain (participant_id, instruction_id, idempotency_key, rail, payload, content_type) \
    values ('bench', $1, $1, $2, $3, 'application/json')";
const INSERT_BATCH: &str = "insert into plain (participant_id, instruction_id, idempotency_key, rail, payload, content_type) \
    select * from unnest($1::text[], $2::text[], $2::text[], $3::text[], $4::bytea[], $5::text[])";
const ENQUEUE: &str =
    "select created from outbox.enqueue_payment_outbox('bench', $1, $1, $2, $3, 'application/json', p_hint => $4)";

/// What records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Into one table.
    Plain,
    /// Through the function, and wakes lanes that sleep.
    Hinting,
    /// Through the function, and wakes none.
    Silent,
    /// Through the function, with instructions in no order, as random ids are.
    Scattered,
}

impl How {
    /// The instruction of a payment.
    fn name(self, number: u64) -> String {
        match self {
            // An odd factor takes no two numbers to one.
            Self::Scattered => format!("{:016x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            Self::Plain | Self::Hinting | Self::Silent => in_order(number),
        }
    }
}

/// Single rows of so many clients, `each` one after the other in a transaction of its own.
///
/// # Errors
/// When the server refuses.
pub(crate) async fn singles(world: &World, db: &TestDb, how: How, from: u64, each: u64) -> Result<Cost, BenchError> {
    let mut sessions = Vec::new();
    for _ in 0..CLIENTS {
        sessions.push(session(db, how).await?);
    }
    let meter = Meter::begin(&world.server, db).await?;
    let began = Instant::now();
    let clients = sessions.into_iter().zip(0..CLIENTS).map(|(mut session, client)| {
        tokio::spawn(async move {
            for number in 0..each {
                single(&mut session, how, from + client * each + number).await?;
            }
            session.close().await.map_err(sql("the end of a session"))
        })
    });
    let clients: Vec<_> = clients.collect();
    for client in clients {
        client.await.map_err(|panic| BenchError::Wrong(panic.to_string()))??;
    }
    let seconds = began.elapsed().as_secs_f64();
    meter.end(CLIENTS * each, seconds).await
}

async fn session(db: &TestDb, how: How) -> Result<PgConnection, BenchError> {
    Ok(db.connect_as(if how == How::Plain { "postgres" } else { "t_ingest" }).await?)
}

async fn single(session: &mut PgConnection, how: How, number: u64) -> Result<(), BenchError> {
    let query = if how == How::Plain { INSERT } else { ENQUEUE };
    let query = sqlx::query(query).bind(how.name(number)).bind(RAIL).bind(vec![b'x'; PAYLOAD_BYTES]);
    let query = if how == How::Plain { query } else { query.bind(how != How::Silent) };
    query.execute(session).await.map(drop).map_err(sql("a single row"))
}

/// Batches of 1,000 of one client.
///
/// # Errors
/// When the server refuses.
pub(crate) async fn batches(world: &World, db: &TestDb, how: How, from: u64, count: u64) -> Result<Cost, BenchError> {
    let mut session = session(db, how).await?;
    let meter = Meter::begin(&world.server, db).await?;
    let began = Instant::now();
    for batch in 0..count / BATCH {
        if how == How::Plain {
            plain_batch(&mut session, from + batch * BATCH).await?;
        } else {
            let first = from + batch * BATCH;
            enqueue_named(&mut session, (first..first + BATCH).map(|number| how.name(number)).collect()).await?;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    session.close().await.map_err(sql("the end of a session"))?;
    meter.end(count, seconds).await
}

async fn plain_batch(session: &mut PgConnection, from: u64) -> Result<(), BenchError> {
    let size = usize::try_from(BATCH).unwrap_or(0);
    let text = |value: &str| vec![value.to_owned(); size];
    let query = sqlx::query(INSERT_BATCH)
        .bind(text("bench"))
        .bind((from..from + BATCH).map(in_order).collect::<Vec<_>>())
        .bind(text(RAIL))
        .bind(vec![vec![b'x'; PAYLOAD_BYTES]; size])
        .bind(text("application/json"));
    query.execute(session).await.map(drop).map_err(sql("a batch"))
}

/// The table of plain inserts.
///
/// # Errors
/// When the server refuses.
pub(crate) async fn make_plain(world: &World) -> Result<TestDb, BenchError> {
    let db = TestDb::create_empty_on(world.server.address()).await?;
    run(&db, PLAIN).await?;
    Ok(db)
}

/// A session that stands for a lane asleep: it holds the rail's wake-up lock and listens.
///
/// # Errors
/// When the server refuses.
pub(crate) async fn asleep(db: &TestDb) -> Result<PgConnection, BenchError> {
    let mut lane = db.connect_as("postgres").await?;
    let sleep = format!(
        "set application_name = '{IDLE}'; listen outbox_{RAIL}; select pg_advisory_lock(outbox.wakeup_lock_key('{RAIL}'))"
    );
    lane.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sleep))).await.map_err(sql("a lane asleep"))?;
    Ok(lane)
}
