//! The floor: the least that a leased life cycle in a table can be. One table, payload in the row, one partial index; claimed in
//! batches with `skip locked`, completed in batches by lease token, two sessions. No ledger, no identity, no contract, no fence
//! across tables, no daemon: each session does nothing but claim and complete.

use std::time::Instant;

use outbox_testkit::TestDb;
use sqlx::{Connection as _, PgConnection, Row as _};
use uuid::Uuid;

use crate::error::{BenchError, sql};
use crate::meter::{Cost, Meter};
use crate::world::{PAYLOAD_BYTES, World, run, value};

/// Sessions beside each other.
const WORKERS: usize = 2;

/// Rows in one claim, and in one completion.
const BATCH: i32 = 500;

const SCHEMA: &str = "create extension pg_walinspect; \
    create table leased (id uuid primary key, payload bytea not null, state smallint not null default 0, due_at timestamptz not null, \
        attempts integer not null default 0, lease_token uuid, lease_expires_at timestamptz, done_at timestamptz); \
    create index leased_due on leased (due_at, id) where state = 0";

const CLAIM: &str = "update leased set state = 1, attempts = attempts + 1, lease_token = gen_random_uuid(), \
    lease_expires_at = clock_timestamp() + interval '1 minute' \
    where id in (select id from leased where state = 0 and due_at <= now() order by due_at, id limit $1 for update skip locked) \
    returning id, payload, lease_token";

const COMPLETE: &str = "update leased set state = 2, done_at = clock_timestamp(), lease_token = null, lease_expires_at = null \
    from unnest($1::uuid[], $2::uuid[]) as c (id, token) where leased.id = c.id and leased.lease_token = c.token and leased.state = 1";

/// Drains `count` rows.
///
/// # Errors
/// When the server refuses, or a row is left.
pub(crate) async fn drain(world: &World, count: u64) -> Result<Cost, BenchError> {
    let db = TestDb::create_empty_on(world.server.address()).await?;
    run(&db, SCHEMA).await?;
    let fill = format!(
        "insert into leased (id, payload, due_at) select gen_random_uuid(), decode(repeat('78', {PAYLOAD_BYTES}), 'hex'), now() \
         from generate_series(1, {count})"
    );
    run(&db, &fill).await?;
    world.settle(&db).await?;
    let mut sessions = Vec::new();
    for _ in 0..WORKERS {
        sessions.push(db.connect_as("postgres").await?);
    }
    let meter = Meter::begin(&world.server, &db).await?;
    let began = Instant::now();
    let workers: Vec<_> = sessions.into_iter().map(|session| tokio::spawn(work(session))).collect();
    for worker in workers {
        worker.await.map_err(|panic| BenchError::Wrong(panic.to_string()))??;
    }
    let seconds = began.elapsed().as_secs_f64();
    let cost = meter.end(count, seconds).await?;
    let left: i64 = value(&db, "select count(*) from leased where state <> 2").await?;
    if left == 0 { Ok(cost) } else { Err(BenchError::Wrong(format!("{left} rows are left"))) }
}

async fn work(mut session: PgConnection) -> Result<(), BenchError> {
    loop {
        let rows = sqlx::query(CLAIM).bind(BATCH).fetch_all(&mut session).await.map_err(sql("claim"))?;
        if rows.is_empty() {
            break;
        }
        let ids: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
        let tokens: Vec<Uuid> = rows.iter().map(|row| row.get(2)).collect();
        sqlx::query(COMPLETE).bind(ids).bind(tokens).execute(&mut session).await.map_err(sql("complete"))?;
    }
    session.close().await.map_err(sql("the end of a session"))
}
