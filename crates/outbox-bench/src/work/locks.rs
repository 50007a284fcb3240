//! How many relations each call locks: what a call of many payments shares, and a change of a table waits for.

use outbox_testkit::TestDb;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Postgres, Row as _};
use uuid::Uuid;

use crate::daemon::RAIL;
use crate::error::{BenchError, sql};
use crate::world::{BATCH, World};

const LOCKS: &str = "select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'relation'";

const CLAIM: &str = "select outbox_id, attempt_no, lease_token \
    from outbox.claim_outbox_batch($1, 'bench/locks', 500, 12000, 0) where kind = 'SUBMIT'";

const COMPLETE: &str = "select c.verdict from (select array[cardinality($1)] as n) as size \
    cross join lateral outbox.complete_outbox_batch('bench/locks', $1, $2, $3, array_fill('ACCEPTED'::text, n), \
    array_fill(0::bigint, n), array_fill(now(), n), array_fill(now(), n), array_fill('https://rail.example/'::text, n), \
    array_fill(sha256('a'), n), array_fill(sha256('b'), n), array_fill('R'::text, n), array_fill(null::text, n), \
    array_fill(null::text, n), array_fill(null::text, n)) as c";

/// Of an enqueue of one, a claim of a batch, and its completion, each in a transaction of its own.
///
/// # Errors
/// When the server refuses.
pub(crate) async fn of_each_call(world: &World, db: &TestDb) -> Result<[(&'static str, i64); 3], BenchError> {
    world.enqueue(db, 0, BATCH).await?;
    let mut producer = db.connect_as("t_ingest").await?;
    let enqueue = format!(
        "select outbox.enqueue_payment_outbox('bench', 'locks', 'locks', '{RAIL}', '\\x7b7d'::bytea, 'application/json')"
    );
    let (enqueue, _) = within(&mut producer, sqlx::query(AssertSqlSafe(enqueue))).await?;
    producer.close().await.map_err(sql("the end of a session"))?;
    let mut dispatcher = db.connect_as("t_dispatcher").await?;
    let (claim, rows) = within(&mut dispatcher, sqlx::query(CLAIM).bind(RAIL)).await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    let numbers: Vec<i32> = rows.iter().map(|row| row.get(1)).collect();
    let tokens: Vec<Uuid> = rows.iter().map(|row| row.get(2)).collect();
    let completion = sqlx::query(COMPLETE).bind(ids).bind(numbers).bind(tokens);
    let (complete, _) = within(&mut dispatcher, completion).await?;
    dispatcher.close().await.map_err(sql("the end of a session"))?;
    Ok([("locks_enqueue", enqueue), ("locks_claim", claim), ("locks_complete", complete)])
}

/// How many a call locks besides what asking locks, and what it returned.
async fn within(
    session: &mut PgConnection,
    call: Query<'_, Postgres, PgArguments>,
) -> Result<(i64, Vec<PgRow>), BenchError> {
    session.execute("begin").await.map_err(sql("begin"))?;
    let before: i64 = sqlx::query(LOCKS).fetch_one(&mut *session).await.map_err(sql("the locks"))?.get(0);
    let rows = call.fetch_all(&mut *session).await.map_err(sql("a call whose locks are counted"))?;
    let locks: i64 = sqlx::query(LOCKS).fetch_one(&mut *session).await.map_err(sql("the locks"))?.get(0);
    session.execute("commit").await.map_err(sql("commit"))?;
    Ok((locks - before, rows))
}
