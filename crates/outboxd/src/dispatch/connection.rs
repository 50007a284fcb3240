//! A database session that is looked at before it is used: each new connection passes the preflight,
//! since a failover or a changed grant shows only there.

use std::sync::Arc;

use outbox_store::{ConnectSettings, Session, StoreError};

use super::preflight::{self, Refusal};

/// A session and what its connection must be.
#[derive(Debug)]
pub(crate) struct Connection {
    session: Session,
    demands: preflight::Demands,
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

impl Connection {
    /// A connection that opens at its first use.
    pub(crate) fn new(settings: Arc<ConnectSettings>, demands: preflight::Demands) -> Self {
        Self { session: Session::new(settings), demands }
    }

    /// The session, connected and looked at.
    ///
    /// # Errors
    /// [`ConnectionError`].
    pub(crate) async fn session(&mut self) -> Result<&mut Session, ConnectionError> {
        if !self.session.is_connected() {
            let found = outbox_store::preflight(&mut self.session).await?;
            if let Some(refusal) = preflight::judge(&found, self.demands) {
                self.session.disconnect();
                return Err(ConnectionError::Refused(refusal));
            }
        }
        Ok(&mut self.session)
    }

    /// Says goodbye to the server.
    pub(crate) async fn close(self) {
        self.session.close().await;
    }
}
