//! One connection, owned by one task, that lives as long as its calls succeed. There is no pool and
//! no client-side transaction: each call is one autocommit statement, and a connection whose call was
//! cancelled, timed out or broke off is dropped, never used again.

use std::sync::Arc;
use std::time::Duration;

use outbox_core::Millis;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Connection as _, PgConnection, Postgres};

use crate::connect::ConnectSettings;
use crate::error::StoreError;

/// A connection that opens itself when it is needed.
#[derive(Debug)]
pub struct Session {
    settings: Arc<ConnectSettings>,
    connection: Option<PgConnection>,
}

impl Session {
    /// A session that connects at its first call.
    #[must_use]
    pub const fn new(settings: Arc<ConnectSettings>) -> Self {
        Self { settings, connection: None }
    }

    /// Whether a connection is open.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// What the server was asked to keep: the limits on a statement, on waiting for a lock, and on a
    /// transaction in which nothing happens.
    pub(crate) fn server_limits(&self) -> [Millis; 3] {
        let settings = &self.settings;
        [settings.statement_timeout, settings.lock_timeout, settings.idle_in_transaction_timeout]
    }

    /// Drops the connection; the next call opens another.
    pub fn disconnect(&mut self) {
        self.connection = None;
    }

    /// Says goodbye to the server.
    pub async fn close(mut self) {
        if let Some(connection) = self.connection.take() {
            // The server notices a closed socket as well; this only saves it a line in its log.
            let _ = tokio::time::timeout(Duration::from(self.settings.connect_timeout), connection.close()).await;
        }
    }

    /// Runs one statement and returns its rows.
    ///
    /// # Errors
    /// [`StoreError`]. After [`StoreError::TimedOut`] and [`StoreError::Connection`] it is unknown
    /// whether the statement had an effect.
    pub(crate) async fn fetch(
        &mut self,
        call: &'static str,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, StoreError> {
        // Taken out: if this future is dropped midway, the connection is dropped with it.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.settings.connect().await?,
        };
        let limit = self.settings.call_timeout;
        let result = tokio::time::timeout(Duration::from(limit), query.fetch_all(&mut connection)).await;
        match result {
            Err(_) => Err(StoreError::TimedOut { call, after: limit }),
            Ok(Err(source)) => {
                // A server that answers with an error is in order, unless it says goodbye (57P).
                let intact = source
                    .as_database_error()
                    .is_some_and(|database| !database.code().is_some_and(|code| code.starts_with("57P")));
                if intact {
                    self.connection = Some(connection);
                }
                Err(StoreError::of(call, source))
            }
            Ok(Ok(rows)) => {
                self.connection = Some(connection);
                Ok(rows)
            }
        }
    }
}
