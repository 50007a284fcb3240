//! The conversation with the database: one connection, made anew when it broke, and one snapshot at a time in which
//! nothing is written.

use std::{str::FromStr as _, time::Duration};

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _,
    postgres::{PgConnectOptions, PgConnection},
};

use crate::{
    copy::{Row, copy},
    error::CheckError,
};

/// How long a new connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// A connection that may be gone.
#[derive(Debug)]
pub(crate) struct Session {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    /// How many connections there were.
    pub(crate) lives: u64,
}

impl Session {
    /// Of the database at `url`; nothing is opened yet.
    pub(crate) fn new(url: &str) -> Result<Self, CheckError> {
        let options = PgConnectOptions::from_str(url).map_err(CheckError::Refused)?;
        // A row's digest is over its text, which must not depend on whoever set up the database.
        let options = options.application_name("outbox-checker").disable_statement_logging().options([
            ("timezone", "UTC"),
            ("datestyle", "ISO"),
            ("bytea_output", "hex"),
            ("extra_float_digits", "1"),
            ("jit", "off"),
            ("max_parallel_workers_per_gather", "0"),
            ("statement_timeout", "0"),
            ("lock_timeout", "0"),
            ("idle_in_transaction_session_timeout", "0"),
        ]);
        Ok(Self { options, connection: None, lives: 0 })
    }

    /// Opens a snapshot on a connection that works, and tells the database's clock from before it.
    pub(crate) async fn begin(&mut self) -> Result<i64, CheckError> {
        if self.connection.is_none() {
            let connecting = tokio::time::timeout(CONNECT_LIMIT, PgConnection::connect_with(&self.options)).await;
            let connection = connecting.map_err(|_| CheckError::Away(sqlx::Error::PoolTimedOut))?;
            self.connection = Some(connection.map_err(CheckError::of_driver)?);
            self.lives += 1;
        }
        let mut clock_us = 0;
        self.read(crate::queries::CLOCK, |row| {
            clock_us = row.time_us()?;
            Ok(())
        })
        .await?;
        self.run("begin isolation level repeatable read, read only").await?;
        Ok(clock_us)
    }

    /// Ends the snapshot.
    pub(crate) async fn end(&mut self) -> Result<(), CheckError> {
        self.run("commit").await
    }

    /// Lets the connection go; the next snapshot makes another.
    pub(crate) fn drop_connection(&mut self) {
        self.connection = None;
    }

    /// Runs a statement without rows.
    pub(crate) async fn run(&mut self, statement: &str) -> Result<(), CheckError> {
        let done = self.connection()?.execute(sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))).await;
        done.map(|_| ()).map_err(CheckError::of_driver)
    }

    /// Gives each row of a query to `each`, and how many there were.
    pub(crate) async fn read(
        &mut self,
        query: &str,
        each: impl FnMut(&mut Row<'_>) -> Result<(), CheckError>,
    ) -> Result<u64, CheckError> {
        copy(self.connection()?, query, each).await
    }

    fn connection(&mut self) -> Result<&mut PgConnection, CheckError> {
        self.connection.as_mut().ok_or(CheckError::Away(sqlx::Error::PoolClosed))
    }
}
