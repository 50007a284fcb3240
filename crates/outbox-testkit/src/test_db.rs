//! A database for one test: a copy of the migrated template, dropped at the end. Tests on the same
//! server share nothing but the roles.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::sync::OnceCell;

use crate::template::{Template, execute};
use crate::{PgAddress, TestkitError, shared_server};

/// Makes the names of this process's databases differ; the process id makes them differ from others'.
static SERIAL: AtomicU32 = AtomicU32::new(0);

/// A fresh, migrated database.
#[derive(Debug)]
pub struct TestDb {
    address: PgAddress,
    name: String,
}

impl TestDb {
    /// A database on the server of this test run, see [`shared_server`].
    ///
    /// # Errors
    /// When there is no server, or bootstrap or migrations fail.
    pub async fn create() -> Result<Self, TestkitError> {
        // Starting a server blocks for about a second, once a process.
        let address = tokio::task::spawn_blocking(shared_server).await.map_err(|join| TestkitError::Command {
            what: "start of the shared test server".to_owned(),
            output: join.to_string(),
        })??;
        static READY: OnceCell<()> = OnceCell::const_new();
        let template = Template::of_the_project()?;
        let ready = async || template.ensure(&address).await;
        READY.get_or_try_init(ready).await?;
        Self::copy(address, template.name()).await
    }

    /// A database on a server of the test's own, which may then be stopped and restarted.
    ///
    /// # Errors
    /// When bootstrap or migrations fail.
    pub async fn create_on(address: &PgAddress) -> Result<Self, TestkitError> {
        let template = Template::of_the_project()?;
        template.ensure(address).await?;
        Self::copy(address.clone(), template.name()).await
    }

    /// A database with nothing in it: no bootstrap, no migrations, for tests of exactly those.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create_empty_on(address: &PgAddress) -> Result<Self, TestkitError> {
        Self::copy(address.clone(), "template1").await
    }

    /// The database of that name on a copy of its server.
    #[must_use]
    pub fn at(address: &PgAddress, name: &str) -> Self {
        Self { address: address.clone(), name: name.to_owned() }
    }

    async fn copy(address: PgAddress, template: &str) -> Result<Self, TestkitError> {
        let name = format!("t_{}_{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed));
        let mut admin = address.connect("postgres", "postgres").await?;
        execute(&mut admin, &format!("create database {name} template {template}")).await?;
        Ok(Self { address, name })
    }

    /// Leaves the database where it is, to end with its server; returns its name.
    #[must_use]
    pub fn keep(self) -> String {
        let mut kept = std::mem::ManuallyDrop::new(self);
        std::mem::take(&mut kept.name)
    }

    /// The database's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server it is on.
    #[must_use]
    pub fn address(&self) -> &PgAddress {
        &self.address
    }

    /// Connection options for `login`.
    #[must_use]
    pub fn connect_options(&self, login: &str) -> PgConnectOptions {
        self.address.connect_options(&self.name, login)
    }

    /// A URL for `login`.
    #[must_use]
    pub fn url(&self, login: &str) -> String {
        self.address.url(&self.name, login)
    }

    /// Connects as `login`: one of [`crate::LOGINS`], or `postgres`, the superuser.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn connect_as(&self, login: &str) -> Result<PgConnection, TestkitError> {
        self.address.connect(&self.name, login).await
    }
}

/// Many times what it takes on a busy machine.
const DROP_LIMIT: std::time::Duration = std::time::Duration::from_secs(30);

impl Drop for TestDb {
    fn drop(&mut self) {
        let (address, name) = (self.address.clone(), self.name.clone());
        // A thread of its own: drop may run inside a runtime, which cannot block on another future. A
        // failure is not reported: the server goes away with the test run, and a test may have stopped it.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            // Bounded: a test that fails while its server is frozen must say so, not hang.
            runtime.block_on(async {
                let work = async {
                    let mut admin = address.connect("postgres", "postgres").await.ok()?;
                    execute(&mut admin, &format!("drop database if exists {name} with (force)")).await.ok()
                };
                tokio::time::timeout(DROP_LIMIT, work).await.ok()?
            })
        });
        let _ = dropping.join();
    }
}
