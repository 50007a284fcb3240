//! What a piece of work cost: time, log, statements, processor time of the server and of this process.

use std::fs;
use std::time::Duration;

use outbox_testkit::{PgServer, TestDb, wait_until};
use serde::Serialize;
use sqlx::{AssertSqlSafe, Row as _};

use crate::error::{BenchError, io, sql};
use crate::world::value;

/// Of `/proc`, in which times are counted: `USER_HZ`, 100 on every Linux.
const TICKS_PER_S: f64 = 100.0;

/// Longer than a session takes to end.
const LIMIT: Duration = Duration::from_secs(30);

/// The name of sessions that do nothing while others are measured.
pub(crate) const IDLE: &str = "idle beside a measurement";

/// What some payments cost.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cost {
    /// How many payments.
    pub(crate) payments: u64,
    /// How long it took.
    pub(crate) seconds: f64,
    /// Bytes of log.
    pub(crate) wal_bytes: i64,
    /// Among them, whole pages written because of a checkpoint.
    pub(crate) wal_full_page_bytes: i64,
    /// Transactions that were committed; of the dispatcher each is one statement.
    pub(crate) transactions: i64,
    /// Processor time of all server processes.
    pub(crate) postgres_cpu_s: f64,
    /// Processor time of this process: daemon, rail and client.
    pub(crate) own_cpu_s: f64,
}

impl Cost {
    /// Payments per second.
    pub(crate) fn rate(&self) -> f64 {
        real(self.payments) / self.seconds
    }

    /// Bytes of log for each payment, without whole pages.
    pub(crate) fn wal_per_payment(&self) -> f64 {
        real(self.wal_bytes - self.wal_full_page_bytes) / real(self.payments)
    }

    /// Statements for each payment.
    pub(crate) fn statements_per_payment(&self) -> f64 {
        real(self.transactions) / real(self.payments)
    }
}

/// A count as a figure.
#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
pub(crate) fn real(count: impl TryInto<i64>) -> f64 {
    count.try_into().unwrap_or(i64::MAX) as f64
}

/// What was read at a beginning.
pub(crate) struct Meter<'a> {
    server: &'a PgServer,
    db: &'a TestDb,
    lsn: String,
    transactions: i64,
    postgres_ticks: u64,
    own_ticks: u64,
}

impl<'a> Meter<'a> {
    /// Begins.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub(crate) async fn begin(server: &'a PgServer, db: &'a TestDb) -> Result<Self, BenchError> {
        let (lsn, transactions) = read(db).await?;
        let (postgres_ticks, own_ticks) = (server_ticks(server)?, ticks_of("self")?);
        Ok(Self { server, db, lsn, transactions, postgres_ticks, own_ticks })
    }

    /// Ends, after `seconds` for so many payments, when the sessions that were measured have ended.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub(crate) async fn end(self, payments: u64, seconds: f64) -> Result<Cost, BenchError> {
        let (postgres, own) = (server_ticks(self.server)? - self.postgres_ticks, ticks_of("self")? - self.own_ticks);
        // A session reports the last of what it did when it ends, and leaves the list of sessions after that.
        let others = format!(
            "select count(*) = 0 from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() \
             and backend_type = 'client backend' and application_name <> '{IDLE}'"
        );
        let mut looks = 0;
        let have_ended = async || {
            looks += 1;
            value(self.db, &others).await.unwrap_or(false)
        };
        wait_until("sessions that have ended", LIMIT, have_ended).await?;
        let (lsn, transactions) = read(self.db).await?;
        let mut dba = self.db.connect_as("postgres").await?;
        let sizes = format!(
            "select sum(record_length)::bigint, sum(fpi_length)::bigint from pg_get_wal_records_info('{}', '{lsn}')",
            self.lsn
        );
        // Where nothing was written, no record can be asked for.
        let sizes = match self.lsn == lsn {
            true => None,
            false => Some(sqlx::query(AssertSqlSafe(sizes)).fetch_one(&mut dba).await.map_err(sql("the log's size"))?),
        };
        let bytes = |place: usize| sizes.as_ref().and_then(|row| row.get::<Option<i64>, _>(place)).unwrap_or(0);
        Ok(Cost {
            payments,
            seconds,
            wal_bytes: bytes(0),
            wal_full_page_bytes: bytes(1),
            // Its own first reading and its looks are among them.
            transactions: transactions - self.transactions - 1 - looks,
            postgres_cpu_s: real(postgres) / TICKS_PER_S,
            own_cpu_s: real(own) / TICKS_PER_S,
        })
    }
}

async fn read(db: &TestDb) -> Result<(String, i64), BenchError> {
    const READ: &str =
        "select pg_current_wal_flush_lsn()::text, xact_commit from pg_stat_database where datname = current_database()";
    let mut dba = db.connect_as("postgres").await?;
    let row = sqlx::query(READ).fetch_one(&mut dba).await.map_err(sql("the server's counters"))?;
    Ok((row.get(0), row.get(1)))
}

/// Of all processes of the server, those that have ended included. Read again if one of them was buried meanwhile: it would count
/// twice, or not at all.
fn server_ticks(server: &PgServer) -> Result<u64, BenchError> {
    let postmaster = server.pid().to_string();
    loop {
        let before = ticks_with_children(&postmaster)?;
        let living = ticks_of_children(&postmaster)?;
        if ticks_with_children(&postmaster)? == before {
            return Ok(before + living);
        }
    }
}

fn ticks_of_children(parent: &str) -> Result<u64, BenchError> {
    let mut ticks = 0;
    for entry in fs::read_dir("/proc").map_err(io("/proc"))?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else { continue };
        let Some(fields) = stat(pid) else { continue };
        if fields.get(1).is_some_and(|of| of == parent) {
            ticks += number(&fields, 11) + number(&fields, 12);
        }
    }
    Ok(ticks)
}

fn ticks_of(pid: &str) -> Result<u64, BenchError> {
    let fields = stat(pid).ok_or_else(|| BenchError::Wrong(format!("/proc/{pid}/stat cannot be read")))?;
    Ok(number(&fields, 11) + number(&fields, 12))
}

fn ticks_with_children(pid: &str) -> Result<u64, BenchError> {
    let fields = stat(pid).ok_or_else(|| BenchError::Wrong(format!("/proc/{pid}/stat cannot be read")))?;
    Ok((11..=14).map(|place| number(&fields, place)).sum())
}

/// The fields of `/proc/PID/stat` from the third on: state, parent and so on (proc(5)).
fn stat(pid: &str) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

fn number(fields: &[String], place: usize) -> u64 {
    fields.get(place).and_then(|field| field.parse().ok()).unwrap_or(0)
}
