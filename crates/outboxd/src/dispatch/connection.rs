//! A database session that is looked at before it is used: each new connection passes the preflight,
//! since a failover or a changed grant shows only there. Results are recorded on any connection that
//! takes them.

use std::sync::Arc;

use outbox_store::{ConnectSettings, Session, StoreError};
use time::OffsetDateTime;

use super::preflight::{self, Refusal};
use super::start::chain;

/// A session and what its connection must be.
#[derive(Debug)]
pub(crate) struct Connection {
    session: Session,
    /// `None`: it is not looked at.
    demands: Option<preflight::Demands>,
}

/// Why a connection cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    /// The call failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The connection is not one to work on.
    #[error("{0}")]
    Refused(Refusal),
}

impl ConnectionError {
    /// Whether the database lacks something that this dispatcher has seen.
    pub(crate) fn is_of_an_older_database(&self) -> bool {
        matches!(self, Self::Store(store) if store.refusal() == Some("OB015"))
    }

    /// What is wrong, for the log and for readiness.
    pub(crate) fn in_full(&self) -> String {
        match self {
            Self::Store(store) => in_full(store),
            Self::Refused(refusal) => refusal.to_string(),
        }
    }
}

/// The error with its causes; without them where the server may repeat a value of a payment.
pub(crate) fn in_full(error: &StoreError) -> String {
    match error {
        StoreError::BadValue { .. } => error.to_string(),
        _ => chain(error),
    }
}

impl Connection {
    /// A connection that opens at its first use.
    pub(crate) fn new(settings: Arc<ConnectSettings>, demands: preflight::Demands) -> Self {
        Self { session: Session::new(settings), demands: Some(demands) }
    }

    /// The same for results of what was sent. Nothing about the database makes it better to forget
    /// them, so the connection is not looked at.
    pub(crate) fn for_results(settings: Arc<ConnectSettings>) -> Self {
        Self { session: Session::new(settings), demands: None }
    }

    /// The session, connected and looked at.
    ///
    /// # Errors
    /// [`ConnectionError`].
    pub(crate) async fn session(&mut self) -> Result<&mut Session, ConnectionError> {
        if !self.session.is_connected() {
            self.look().await?;
        }
        Ok(&mut self.session)
    }

    /// Looks at the connection, new or not: what it was when it was opened may have changed since.
    ///
    /// # Errors
    /// [`ConnectionError`].
    pub(crate) async fn look(&mut self) -> Result<(), ConnectionError> {
        let Some(demands) = self.demands else { return Ok(()) };
        let found = outbox_store::preflight(&mut self.session).await?;
        match preflight::judge(&found, demands) {
            None => Ok(()),
            Some(refusal) => {
                self.session.disconnect();
                Err(ConnectionError::Refused(refusal))
            }
        }
    }

    /// The database's clock.
    ///
    /// # Errors
    /// [`ConnectionError`].
    pub(crate) async fn read_clock(&mut self) -> Result<OffsetDateTime, ConnectionError> {
        Ok(outbox_store::preflight(self.session().await?).await?.db_now)
    }

    /// Opens the connection ahead of its use, for work that must not find the server without a connection
    /// to spare; returns whether it is open. A failure is reported when the connection is needed.
    pub(crate) async fn open_ahead(&mut self) -> bool {
        if !self.session.is_connected() {
            // The session keeps the connection, whatever is said of it.
            let _ = outbox_store::preflight(&mut self.session).await;
        }
        self.session.is_connected()
    }

    /// Drops the connection; the next use opens another, and looks at it.
    pub(crate) fn disconnect(&mut self) {
        self.session.disconnect();
    }

    /// Says goodbye to the server.
    pub(crate) async fn close(self) {
        self.session.close().await;
    }
}
