//! The floors of a drain, each in tables of its own with two sessions that do nothing but claim and complete in batches.
//!
//! **Bare**: the least that a leased life cycle can be. One table, payload in the row, one partial index; claimed with `skip
//! locked`, completed by lease token. No ledger, no identity, no contract, no fence across tables, no daemon.
//!
//! **Archiving**: the life cycle of a message queue in a table that keeps what it is done with. A claim makes the messages
//! invisible for a while, whoever still has them; a completion moves them to an archive by their numbers, unfenced.

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

/// Which floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Floor {
    Bare,
    Archiving,
}

impl Floor {
    fn schema(self) -> &'static str {
        match self {
            Self::Bare => {
                "create extension pg_walinspect; \
                 create table leased (id uuid primary key, payload bytea not null, state smallint not null default 0, \
                     due_at timestamptz not null, attempts integer not null default 0, lease_token uuid, \
                     lease_expires_at timestamptz, done_at timestamptz); \
                 create index leased_due on leased (due_at, id) where state = 0"
            }
            Self::Archiving => {
                "create extension pg_walinspect; \
                 create table queue (id bigint generated always as identity primary key, reads integer not null default 0, \
                     queued_at timestamptz not null default now(), visible_at timestamptz not null, payload bytea not null); \
                 create index queue_visible on queue (visible_at); \
                 create table archive (id bigint primary key, reads integer not null, queued_at timestamptz not null, \
                     archived_at timestamptz not null default now(), visible_at timestamptz not null, payload bytea not null); \
                 create index archive_archived on archive (archived_at)"
            }
        }
    }

    fn fill(self, count: u64) -> String {
        let (columns, values) = match self {
            Self::Bare => ("leased (id, due_at, payload)", "gen_random_uuid(), now()"),
            Self::Archiving => ("queue (visible_at, payload)", "now()"),
        };
        format!(
            "insert into {columns} select {values}, decode(repeat('78', {PAYLOAD_BYTES}), 'hex') from generate_series(1, {count})"
        )
    }

    fn left(self) -> &'static str {
        match self {
            Self::Bare => "select count(*) from leased where state <> 2",
            Self::Archiving => "select count(*) from queue",
        }
    }
}

const CLAIM_BARE: &str = "update leased set state = 1, attempts = attempts + 1, lease_token = gen_random_uuid(), \
    lease_expires_at = clock_timestamp() + interval '1 minute' \
    where id in (select id from leased where state = 0 and due_at <= now() order by due_at, id limit $1 for update skip locked) \
    returning id, payload, lease_token";

const COMPLETE_BARE: &str = "update leased set state = 2, done_at = clock_timestamp(), lease_token = null, lease_expires_at = null \
    from unnest($1::uuid[], $2::uuid[]) as c (id, token) where leased.id = c.id and leased.lease_token = c.token and leased.state = 1";

const CLAIM_ARCHIVING: &str = "with next as materialized (select id from queue where visible_at <= clock_timestamp() order by id \
        limit $1 for update skip locked) \
    update queue set visible_at = clock_timestamp() + interval '1 minute', reads = reads + 1 from next where queue.id = next.id \
    returning queue.id, queue.payload";

const COMPLETE_ARCHIVING: &str = "with gone as (delete from queue where id = any($1) returning id, reads, queued_at, visible_at, payload) \
    insert into archive (id, reads, queued_at, visible_at, payload) select * from gone";

/// Drains `count` rows.
///
/// # Errors
/// When the server refuses, or a row is left.
pub(crate) async fn drain(world: &World, floor: Floor, count: u64) -> Result<Cost, BenchError> {
    let db = TestDb::create_empty_on(world.server.address()).await?;
    run(&db, floor.schema()).await?;
    run(&db, &floor.fill(count)).await?;
    world.settle(&db).await?;
    let mut sessions = Vec::new();
    for _ in 0..WORKERS {
        sessions.push(db.connect_as("postgres").await?);
    }
    let meter = Meter::begin(&world.server, &db).await?;
    let began = Instant::now();
    let workers: Vec<_> = sessions.into_iter().map(|session| tokio::spawn(work(session, floor))).collect();
    for worker in workers {
        worker.await.map_err(|panic| BenchError::Wrong(panic.to_string()))??;
    }
    let seconds = began.elapsed().as_secs_f64();
    let cost = meter.end(count, seconds).await?;
    let left: i64 = value(&db, floor.left()).await?;
    if left == 0 { Ok(cost) } else { Err(BenchError::Wrong(format!("{left} rows are left"))) }
}

async fn work(mut session: PgConnection, floor: Floor) -> Result<(), BenchError> {
    while match floor {
        Floor::Bare => bare(&mut session).await?,
        Floor::Archiving => archiving(&mut session).await?,
    } {}
    session.close().await.map_err(sql("the end of a session"))
}

/// One claim and its completion; whether there was anything.
async fn bare(session: &mut PgConnection) -> Result<bool, BenchError> {
    let rows = sqlx::query(CLAIM_BARE).bind(BATCH).fetch_all(&mut *session).await.map_err(sql("claim"))?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    let tokens: Vec<Uuid> = rows.iter().map(|row| row.get(2)).collect();
    sqlx::query(COMPLETE_BARE).bind(ids).bind(tokens).execute(session).await.map_err(sql("complete"))?;
    Ok(!rows.is_empty())
}

/// The same.
async fn archiving(session: &mut PgConnection) -> Result<bool, BenchError> {
    let rows = sqlx::query(CLAIM_ARCHIVING).bind(BATCH).fetch_all(&mut *session).await.map_err(sql("claim"))?;
    let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    sqlx::query(COMPLETE_ARCHIVING).bind(ids).execute(session).await.map_err(sql("archive"))?;
    Ok(!rows.is_empty())
}
