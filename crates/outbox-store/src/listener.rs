//! The listener's connection: notifications, and the wake-up locks by which enqueue knows that a lane
//! is asleep. What it hears is a hint that saves latency; polling is the truth.

use std::time::Duration;

use outbox_core::RailName;
use sqlx::Row as _;
use sqlx::postgres::{PgListener, PgPoolOptions};

use crate::calls::{RELEASE_WAKEUP_LOCK, TRY_WAKEUP_LOCK};
use crate::connect::ConnectSettings;
use crate::error::StoreError;

/// The notification channel of a rail.
fn channel(rail: &RailName) -> String {
    format!("outbox_{rail}")
}

/// What a probe finds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probed {
    /// The process behind the connection.
    pub backend_pid: i32,
    /// How full the server's queue of notifications is, from 0 to 1. At 1 every commit that would notify fails.
    pub queue_usage: f64,
}

/// A connection that listens for all lanes. After any error, or a `None` of [`next`](Self::next), it
/// has lost its locks and perhaps notifications: drop it, connect another, sweep.
#[derive(Debug)]
pub struct WakeupListener {
    listener: PgListener,
    rails: Vec<RailName>,
    call_timeout: Duration,
}

impl WakeupListener {
    /// Connects and listens for `rails`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn connect(settings: &ConnectSettings, rails: &[RailName]) -> Result<Self, StoreError> {
        const CALL: &str = "listen";
        let options = settings.options()?;
        let limit = Duration::from(settings.connect_timeout);
        // sqlx gives a listener only from a pool. It holds this one connection for good, and is never
        // asked for another: with eager_reconnect off, a lost connection ends the listener.
        let opening = async {
            let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(limit).connect_with(options).await?;
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.eager_reconnect(false);
            listener.ignore_pool_close_event(true);
            let channels: Vec<String> = rails.iter().map(channel).collect();
            listener.listen_all(channels.iter().map(String::as_str)).await?;
            Ok(listener)
        };
        let listener = match tokio::time::timeout(limit, opening).await {
            Ok(opened) => opened.map_err(|source| StoreError::of(CALL, source))?,
            Err(_) => return Err(StoreError::TimedOut { call: CALL, after: settings.connect_timeout }),
        };
        Ok(Self { listener, rails: rails.to_vec(), call_timeout: Duration::from(settings.call_timeout) })
    }

    /// The rail of the next notification; `None`: the connection is lost. Cancelling it loses nothing.
    ///
    /// # Errors
    /// [`StoreError`]: the connection is lost.
    pub async fn next(&mut self) -> Result<Option<RailName>, StoreError> {
        loop {
            let heard = self.listener.try_recv().await.map_err(|source| StoreError::of("listen", source))?;
            let Some(notification) = heard else { return Ok(None) };
            if let Some(rail) = self.rails.iter().find(|rail| channel(rail) == notification.channel()) {
                return Ok(Some(rail.clone()));
            }
        }
    }

    /// Says that the lane of `rail` is asleep; returns whether it was taken. It never waits.
    ///
    /// # Errors
    /// [`StoreError`]: the connection is lost.
    pub async fn try_wakeup_lock(&mut self, rail: &RailName) -> Result<bool, StoreError> {
        self.ask("try_wakeup_lock", TRY_WAKEUP_LOCK, rail).await
    }

    /// Says that the lane of `rail` is awake; returns whether it had been asleep.
    ///
    /// # Errors
    /// [`StoreError`]: the connection is lost.
    pub async fn release_wakeup_lock(&mut self, rail: &RailName) -> Result<bool, StoreError> {
        self.ask("release_wakeup_lock", RELEASE_WAKEUP_LOCK, rail).await
    }

    /// Asks the server for a sign of life: a half-open connection says nothing by itself.
    ///
    /// The question is not idle. A queue of notifications that was full stays full, whoever filled it being gone, until somebody asks how
    /// full it is: that alone cuts off what everybody has read (PostgreSQL 13 to 18; seen).
    ///
    /// # Errors
    /// [`StoreError`]: the connection is lost.
    pub async fn probe(&mut self) -> Result<Probed, StoreError> {
        const CALL: &str = "probe";
        const PROBE: &str = "select pg_catalog.pg_backend_pid(), pg_catalog.pg_notification_queue_usage()";
        let row = within(CALL, self.call_timeout, sqlx::query(PROBE).fetch_one(&mut self.listener)).await?;
        let read = || Ok(Probed { backend_pid: row.try_get(0)?, queue_usage: row.try_get(1)? });
        read().map_err(|source| StoreError::of(CALL, source))
    }

    async fn ask(&mut self, call: &'static str, sql: &'static str, rail: &RailName) -> Result<bool, StoreError> {
        let asking = sqlx::query(sql).bind(rail.as_str()).fetch_one(&mut self.listener);
        let row = within(call, self.call_timeout, asking).await?;
        row.try_get(0).map_err(|source| StoreError::of(call, source))
    }
}

async fn within<T>(
    call: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result.map_err(|source| StoreError::of(call, source)),
        Err(_) => Err(StoreError::TimedOut { call, after: limit.into() }),
    }
}
