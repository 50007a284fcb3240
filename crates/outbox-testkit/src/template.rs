//! The migrated database that every test database is copied from, built once on a server. Its name
//! carries a fingerprint of the bootstrap and the migrations, so a server that outlives an edit builds a
//! new one. Roles belong to the whole server, so the build runs under an advisory lock. On request a piece of
//! SQL is run on a copy of it, and the tests get that: a mutant, which they have to notice.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use crate::error::{io_context, sql_context};
use crate::logins::create_logins_sql;
use crate::{PgAddress, TestkitError};

/// Any number that nothing else locks; the database `postgres` of a test server is ours alone.
const BUILD_LOCK: i64 = 0x6f62_7874;

/// The ledger's table, the same as in `sqlx.toml`.
const LEDGER_TABLE: &str = "outbox.schema_migrations";

/// Names a file of SQL that a superuser runs on the migrated template: `scripts/mutants.sh` has the tests judge a
/// database that does wrong, without building them again.
const MUTANT_VARIABLE: &str = "OUTBOXD_TEST_MUTANT";

/// The root of the repository this crate was built from.
#[must_use]
pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new(".")).to_path_buf()
}

/// What the template is made of.
pub(crate) struct Template {
    bootstrap_sql: String,
    migrations_dir: PathBuf,
    name: String,
    mutant: Option<Mutant>,
}

/// A template that is a copy of another with one change.
struct Mutant {
    sql: String,
    name: String,
}

impl Template {
    /// The project's own bootstrap and migrations as they are on disk now.
    pub(crate) fn of_the_project() -> Result<Self, TestkitError> {
        let bootstrap = workspace_root().join("scripts/db/bootstrap.sql");
        let bootstrap_sql = fs::read_to_string(&bootstrap).map_err(io_context("read scripts/db/bootstrap.sql"))?;
        let migrations_dir = workspace_root().join("migrations");
        let name = template_name(&bootstrap_sql, &migrations_dir)?;
        let mutant = std::env::var_os(MUTANT_VARIABLE).map(|file| Mutant::of(&name, Path::new(&file))).transpose()?;
        Ok(Self { bootstrap_sql: without_psql_commands(&bootstrap_sql), migrations_dir, name, mutant })
    }

    /// The name of the database that tests copy.
    pub(crate) fn name(&self) -> &str {
        self.mutant.as_ref().map_or(&self.name, |mutant| &mutant.name)
    }

    /// Makes sure that the template exists.
    pub(crate) async fn ensure(&self, address: &PgAddress) -> Result<(), TestkitError> {
        let mut admin = address.connect("postgres", "postgres").await?;
        if !exists(&mut admin, self.name()).await? {
            execute(&mut admin, &format!("select pg_advisory_lock({BUILD_LOCK})")).await?;
            if !exists(&mut admin, &self.name).await? {
                self.build(address, &mut admin).await?;
            }
            if let Some(mutant) = &self.mutant
                && !exists(&mut admin, &mutant.name).await?
            {
                mutant.build(&self.name, address, &mut admin).await?;
            }
        }
        // Closing the session gives the lock back.
        admin.close().await.map_err(sql_context("close the template's session"))?;
        Ok(())
    }

    async fn build(&self, address: &PgAddress, admin: &mut PgConnection) -> Result<(), TestkitError> {
        let name = &self.name;
        // A build that failed half-way left a database that is not marked as a template.
        execute(admin, &format!("drop database if exists {name} with (force)")).await?;
        execute(admin, &format!("create database {name}")).await?;
        let mut dba = address.connect(name, "postgres").await?;
        execute(&mut dba, &self.bootstrap_sql).await?;
        execute(&mut dba, &create_logins_sql()).await?;
        dba.close().await.map_err(sql_context("close the bootstrap session"))?;
        let mut migrator = Migrator::new(self.migrations_dir.as_path()).await?;
        migrator.dangerous_set_table_name(LEDGER_TABLE);
        let mut session = address.connect(name, "t_migrator").await?;
        migrator.run_direct(None, &mut session, false).await?;
        session.close().await.map_err(sql_context("close the migrator's session"))?;
        close_template(admin, name).await
    }
}

impl Mutant {
    fn of(template: &str, file: &Path) -> Result<Self, TestkitError> {
        let sql = fs::read_to_string(file).map_err(io_context("read the mutant"))?;
        let mut hash = Sha256::new();
        for text in [template, sql.as_str()] {
            hash.update(text);
            hash.update([0]);
        }
        Ok(Self { sql, name: format!("outbox_mutant_{}", short_hex(&hash.finalize())) })
    }

    async fn build(&self, template: &str, address: &PgAddress, admin: &mut PgConnection) -> Result<(), TestkitError> {
        let name = &self.name;
        execute(admin, &format!("drop database if exists {name} with (force)")).await?;
        execute(admin, &format!("create database {name} template {template}")).await?;
        let mut dba = address.connect(name, "postgres").await?;
        execute(&mut dba, &self.sql).await?;
        dba.close().await.map_err(sql_context("close the mutant's session"))?;
        close_template(admin, name).await
    }
}

async fn exists(admin: &mut PgConnection, name: &str) -> Result<bool, TestkitError> {
    sqlx::query_scalar("select exists (select from pg_database where datname = $1 and datistemplate)")
        .bind(name)
        .fetch_one(admin)
        .await
        .map_err(sql_context("look for the template database"))
}

/// Nobody connects to it from now on, so that it can be copied at any time.
async fn close_template(admin: &mut PgConnection, name: &str) -> Result<(), TestkitError> {
    execute(admin, &format!("alter database {name} with is_template true allow_connections false")).await
}

/// Runs one or more statements that return nothing of interest.
pub(crate) async fn execute(connection: &mut PgConnection, sql: &str) -> Result<(), TestkitError> {
    let first_line = sql.trim_start().lines().next().unwrap_or_default().to_owned();
    let result = connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await;
    result.map(|_| ()).map_err(sql_context(format!("run the script that begins {first_line:?}")))
}

/// A DBA runs the bootstrap with psql, whose own commands the server does not know.
fn without_psql_commands(sql: &str) -> String {
    sql.lines().filter(|line| !line.starts_with('\\')).flat_map(|line| [line, "\n"]).collect()
}

fn template_name(bootstrap_sql: &str, migrations_dir: &Path) -> Result<String, TestkitError> {
    let entries = fs::read_dir(migrations_dir).map_err(io_context("list migrations"))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    let mut hash = Sha256::new();
    for text in [bootstrap_sql, &create_logins_sql()] {
        hash.update(text);
        hash.update([0]);
    }
    for file in &files {
        hash.update(fs::read(file).map_err(io_context("read a migration"))?);
        hash.update([0]);
    }
    Ok(format!("outbox_template_{}", short_hex(&hash.finalize())))
}

fn short_hex(digest: &[u8]) -> String {
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
