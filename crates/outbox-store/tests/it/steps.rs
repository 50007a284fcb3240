//! Two sessions in named steps: one statement is left running, and a third session looks until the
//! server says that it waits for a lock. Nothing here waits for time to pass.

use std::time::Duration;

use outbox_testkit::{TestDb, wait_until};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnection, PgRow};
use tokio::task::JoinHandle;

use crate::sql::{fetch, run, scalar};

/// Longer than any lock is held in these tests, on a machine that is busy with others.
const LIMIT: Duration = Duration::from_secs(20);

type Ending = (PgConnection, Result<Vec<PgRow>, sqlx::Error>);

/// One session, by name, that may have a statement running.
pub(crate) struct Actor {
    name: &'static str,
    pid: i32,
    idle: Option<PgConnection>,
    running: Option<JoinHandle<Ending>>,
}

impl Actor {
    pub(crate) async fn enter(db: &TestDb, login: &str, name: &'static str) -> Self {
        let mut connection = db.connect_as(login).await.unwrap();
        let pid = scalar(&mut connection, "select pg_backend_pid()").await;
        Self { name, pid, idle: Some(connection), running: None }
    }

    /// The server's process of it.
    pub(crate) const fn pid(&self) -> i32 {
        self.pid
    }

    fn connection(&mut self) -> &mut PgConnection {
        let name = self.name;
        self.idle.as_mut().unwrap_or_else(|| panic!("{name} still has a statement running"))
    }

    /// Runs a statement to its end.
    pub(crate) async fn does(&mut self, text: &str) {
        let done = tokio::time::timeout(LIMIT, run(self.connection(), text)).await;
        assert!(done.is_ok(), "no end of: {text}");
    }

    /// Runs a statement to its end and returns its rows.
    pub(crate) async fn asks(&mut self, text: &str) -> Vec<PgRow> {
        let rows = tokio::time::timeout(LIMIT, fetch(self.connection(), text)).await;
        rows.unwrap_or_else(|_| panic!("no end of: {text}"))
    }

    /// Sends a statement and does not wait for its end.
    pub(crate) fn starts(&mut self, text: &str) {
        let name = self.name;
        let mut connection = self.idle.take().unwrap_or_else(|| panic!("{name} still has a statement running"));
        let text = text.to_owned();
        self.running = Some(tokio::spawn(async move {
            let rows = sqlx::query(AssertSqlSafe(text)).fetch_all(&mut connection).await;
            (connection, rows)
        }));
    }

    /// Looks until the running statement waits for a lock of another session.
    pub(crate) async fn waits(&self, watcher: &mut PgConnection) {
        let blocked = async || is_blocked(self.pid, watcher).await;
        wait_until(&format!("{} waiting for a lock", self.name), LIMIT, blocked).await.unwrap();
    }

    /// Looks until the running statement has ended or waits for a lock of another session.
    pub(crate) async fn settles(&self, watcher: &mut PgConnection) {
        let settled = async || self.has_ended() || is_blocked(self.pid, watcher).await;
        wait_until(&format!("{} ending or waiting for a lock", self.name), LIMIT, settled).await.unwrap();
    }

    fn has_ended(&self) -> bool {
        self.running.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the end of the running statement.
    pub(crate) async fn ends(&mut self) -> Result<Vec<PgRow>, sqlx::Error> {
        let name = self.name;
        let running = self.running.take().unwrap_or_else(|| panic!("{name} has no statement running"));
        let (connection, rows) =
            tokio::time::timeout(LIMIT, running).await.unwrap_or_else(|_| panic!("{name} does not end")).unwrap();
        self.idle = Some(connection);
        rows
    }
}

async fn is_blocked(pid: i32, watcher: &mut PgConnection) -> bool {
    scalar(watcher, &format!("select cardinality(pg_blocking_pids({pid})) > 0")).await
}
