//! Month partitions: making them, listing them, and detaching a month, which is several statements of which one cannot
//! run in a transaction. What comes next is asked of the database each time, so that an interrupted run is gone on with.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use time::{Date, OffsetDateTime};

use crate::calls::{ENSURE_PARTITIONS, column};
use crate::connect::ConnectSettings;
use crate::error::StoreError;
use crate::migrate::exclusive_session;
use crate::session::Session;

pub(crate) const READ_PARTITIONS: &str = "select * from outbox.read_outbox_partitions()";
pub(crate) const NEXT_PARTITION_STEP: &str = "select * from outbox.next_partition_step($1, $2, $3)";
pub(crate) const SEAL_MONTH: &str = "select outbox.seal_outbox_month($1, $2, $3) as refusals";
pub(crate) const HASH_CHUNK: &str = "select chain, row_count, last_key::text as last_key from outbox.hash_table_chunk($1::text::regclass, $2, $3::text::jsonb)";
pub(crate) const RECORD_RECEIPTS: &str = "select outbox.record_partition_receipts($1, $2, $3, $4, $5) as refusals";

/// One partition, or what a receipt says of one that was detached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRow {
    /// What its table holds, such as `PAYMENTS`; what holds the same is detached together.
    pub holds: String,
    /// The first day of its month.
    pub month: Date,
    /// Its own name.
    pub table_name: String,
    /// `ATTACHED`, `SEALED`, `COUNTED`, `DETACHING`, `DETACHED` or `GONE`.
    pub state: String,
    /// What the receipt says.
    pub receipt: Option<Receipt>,
}

/// What a receipt says of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// How many rows.
    pub row_count: i64,
    /// Of how many payments, where the table is about payments.
    pub payment_count: Option<i64>,
    /// The hash over the rows.
    pub rows_sha256: Vec<u8>,
    /// The login that recorded it.
    pub recorded_by: String,
    /// When.
    pub recorded_at: OffsetDateTime,
}

/// The month to detach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonthToDetach {
    /// As in [`PartitionRow::holds`].
    pub holds: String,
    /// Its first day.
    pub month: Date,
    /// How long ago the last thing in it has to have happened, in milliseconds.
    pub min_age_ms: i64,
}

/// What is to be done next with a month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionStep {
    /// Something in it is open: why.
    Refused(Vec<String>),
    /// Close it for further rows.
    Seal,
    /// A full audit has to see what is sealed. Another login's work.
    Audit,
    /// Hash these tables and record their receipts.
    Count(Vec<String>),
    /// Run the statement, outside of a transaction.
    Detach {
        /// The table.
        table_name: String,
        /// The statement.
        statement: String,
    },
    /// These tables are detached.
    Done(Vec<String>),
}

/// A hash over all rows of a table, in the order of its primary key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableHash {
    /// How many rows.
    pub row_count: i64,
    /// The hash.
    pub rows_sha256: Vec<u8>,
}

/// Makes the month partitions that are missing, and returns how many. Waits for another migrator up to `lock_wait`.
///
/// # Errors
/// [`StoreError::Migration`] if the session does not act as `outbox_owner` or another migrator does not end.
pub async fn ensure_partitions(settings: &ConnectSettings, lock_wait: Duration) -> Result<i32, StoreError> {
    const CALL: &str = "ensure_outbox_partitions";
    let mut connection = exclusive_session(settings, lock_wait).await?;
    let made = one(CALL, &mut connection, sqlx::query(ENSURE_PARTITIONS)).await?;
    let _ = connection.close().await;
    column(CALL, &made, "made")
}

/// All months, oldest first.
///
/// # Errors
/// [`StoreError`].
pub async fn read_partitions(session: &mut Session) -> Result<Vec<PartitionRow>, StoreError> {
    const CALL: &str = "read_outbox_partitions";
    let rows = session.fetch(CALL, sqlx::query(READ_PARTITIONS)).await?;
    rows.iter().map(|row| partition(CALL, row)).collect()
}

fn partition(call: &'static str, row: &PgRow) -> Result<PartitionRow, StoreError> {
    let receipt = match column::<Option<i64>>(call, row, "row_count")? {
        None => None,
        Some(row_count) => Some(Receipt {
            row_count,
            payment_count: column(call, row, "payment_count")?,
            rows_sha256: column(call, row, "rows_sha256")?,
            recorded_by: column(call, row, "recorded_by")?,
            recorded_at: column(call, row, "recorded_at")?,
        }),
    };
    Ok(PartitionRow {
        holds: column(call, row, "holds")?,
        month: column(call, row, "month")?,
        table_name: column(call, row, "table_name")?,
        state: column(call, row, "state")?,
        receipt,
    })
}

/// Hashes a table of any schema, a thousand rows at a time, each in a statement of its own.
///
/// # Errors
/// [`StoreError`], where the table is not there, has no primary key, or may not be read.
pub async fn hash_table(settings: &ConnectSettings, table: &str) -> Result<TableHash, StoreError> {
    let mut connection = settings.connect().await?;
    let hashed = hash_in(&mut connection, table).await;
    let _ = connection.close().await;
    hashed
}

async fn hash_in(connection: &mut PgConnection, table: &str) -> Result<TableHash, StoreError> {
    const CALL: &str = "hash_table_chunk";
    let (mut chain, mut after) = (None::<Vec<u8>>, None::<String>);
    let mut row_count = 0;
    loop {
        let query = sqlx::query(HASH_CHUNK).bind(table).bind(chain).bind(after);
        let row = one(CALL, connection, query).await?;
        let hashed: Vec<u8> = column(CALL, &row, "chain")?;
        let rows: i64 = column(CALL, &row, "row_count")?;
        if rows == 0 {
            return Ok(TableHash { row_count, rows_sha256: hashed });
        }
        row_count += rows;
        chain = Some(hashed);
        after = column(CALL, &row, "last_key")?;
    }
}

/// A session that detaches one month; no other one migrates or detaches meanwhile.
#[derive(Debug)]
pub struct Detaching {
    connection: PgConnection,
    month: MonthToDetach,
}

impl Detaching {
    /// Connects, and waits for other migrators up to `lock_wait`. `settings.lock_timeout` bounds each wait for open
    /// transactions.
    ///
    /// # Errors
    /// As [`ensure_partitions`].
    pub async fn begin(
        settings: &ConnectSettings,
        lock_wait: Duration,
        month: MonthToDetach,
    ) -> Result<Self, StoreError> {
        Ok(Self { connection: exclusive_session(settings, lock_wait).await?, month })
    }

    /// What is to be done next.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn next(&mut self) -> Result<PartitionStep, StoreError> {
        const CALL: &str = "next_partition_step";
        let MonthToDetach { holds, month, min_age_ms } = &self.month;
        let query = sqlx::query(NEXT_PARTITION_STEP).bind(holds).bind(month).bind(min_age_ms);
        let row = one(CALL, &mut self.connection, query).await?;
        let details: Vec<String> = column(CALL, &row, "details")?;
        let step: String = column(CALL, &row, "step")?;
        match step.as_str() {
            "REFUSED" => Ok(PartitionStep::Refused(details)),
            "SEAL" => Ok(PartitionStep::Seal),
            "AUDIT" => Ok(PartitionStep::Audit),
            "COUNT" => Ok(PartitionStep::Count(details)),
            "DONE" => Ok(PartitionStep::Done(details)),
            "DETACH" => {
                Ok(PartitionStep::Detach { table_name: details.concat(), statement: column(CALL, &row, "statement")? })
            }
            _ => Err(StoreError::Invariant { call: CALL, what: format!("the step {step} is not known") }),
        }
    }

    /// Takes a step, and returns why not: empty if it is done. An audit, a refusal and an end are not for us to take.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::is_lock_timeout`] where an open transaction is in the way, and the step is to be
    /// taken again later.
    pub async fn take(&mut self, step: &PartitionStep) -> Result<Vec<String>, StoreError> {
        match step {
            PartitionStep::Refused(_) | PartitionStep::Audit | PartitionStep::Done(_) => Ok(Vec::new()),
            PartitionStep::Seal => {
                const CALL: &str = "seal_outbox_month";
                let MonthToDetach { holds, month, min_age_ms } = &self.month;
                let query = sqlx::query(SEAL_MONTH).bind(holds).bind(month).bind(min_age_ms);
                column(CALL, &one(CALL, &mut self.connection, query).await?, "refusals")
            }
            PartitionStep::Count(tables) => self.count(tables).await,
            PartitionStep::Detach { statement, .. } => {
                // The database wrote it, with its own names in it.
                let statement = sqlx::raw_sql(AssertSqlSafe(statement.clone()));
                let done = statement.execute(&mut self.connection).await;
                done.map_err(|source| StoreError::of("detach partition", source))?;
                Ok(Vec::new())
            }
        }
    }

    async fn count(&mut self, tables: &[String]) -> Result<Vec<String>, StoreError> {
        const CALL: &str = "record_partition_receipts";
        let (mut counts, mut hashes) = (Vec::new(), Vec::new());
        for table in tables {
            let hashed = hash_in(&mut self.connection, &format!("outbox.{table}")).await?;
            counts.push(hashed.row_count);
            hashes.push(hashed.rows_sha256);
        }
        let MonthToDetach { holds, month, min_age_ms } = &self.month;
        let query = sqlx::query(RECORD_RECEIPTS).bind(holds).bind(month).bind(min_age_ms).bind(counts).bind(hashes);
        column(CALL, &one(CALL, &mut self.connection, query).await?, "refusals")
    }

    /// Lets others migrate.
    pub async fn end(self) {
        // The lock goes with its connection.
        let _ = self.connection.close().await;
    }
}

async fn one(
    call: &'static str,
    connection: &mut PgConnection,
    query: sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments>,
) -> Result<PgRow, StoreError> {
    query.fetch_one(connection).await.map_err(|source| StoreError::of(call, source))
}
