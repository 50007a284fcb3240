//! Migrations: the embedded files, the ledger, and the lock that sqlx-cli does not take. Runs as the
//! migrator, never as the daemon.

use std::borrow::Cow;
use std::time::Duration;

use sqlx::migrate::{Migrate as _, MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Connection as _, PgConnection, Row as _};

use crate::calls::ENSURE_PARTITIONS;
use crate::connect::ConnectSettings;
use crate::error::StoreError;

/// The migration ledger. Named in `sqlx.toml` as well, which the macro does not see from a member
/// crate; a test compares the two.
pub const MIGRATION_TABLE: &str = "outbox.schema_migrations";

/// The files of `migrations/`, in order; a test compares the list with the folder.
const FILES: [(i64, &str, &str); 3] = [
    (1, "tables", include_str!("../../../migrations/0001_tables.sql")),
    (2, "functions", include_str!("../../../migrations/0002_functions.sql")),
    (3, "history", include_str!("../../../migrations/0003_history.sql")),
];

/// The advisory lock of migrations: "outb" and 2. Session-level, on a connection of its own.
const LOCK: &str = "select pg_catalog.pg_try_advisory_lock(1869968482, 2)";

/// What a migration did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationReport {
    /// The versions that were applied now.
    pub applied: Vec<i64>,
    /// The versions that had been applied before.
    pub already: Vec<i64>,
    /// Month partitions made now.
    pub partitions_made: i32,
}

/// The migrations as sqlx-cli reads them from the folder, checksums included.
fn migrator() -> Migrator {
    let read = |(version, description, sql): &(i64, &'static str, &'static str)| {
        let no_tx = sql.starts_with("-- no-transaction");
        let sql = sqlx::SqlStr::from_static(sql);
        Migration::new(*version, Cow::Borrowed(*description), MigrationType::Simple, sql, no_tx)
    };
    let mut migrator = Migrator::with_migrations(FILES.iter().map(read).collect());
    migrator.dangerous_set_table_name(MIGRATION_TABLE);
    // sqlx waits for its lock inside a transaction's snapshot, which deadlocks with CREATE INDEX
    // CONCURRENTLY, and keeps it after a failure. The lock here is tried, and dies with its connection.
    migrator.set_locking(false);
    migrator
}

/// Applies what is missing, and makes the month partitions. Two at once: one waits for the other, up
/// to `lock_wait`.
///
/// # Errors
/// [`StoreError::Migration`] if the ledger does not fit the files (an edited, unknown or out-of-order
/// migration, or one that failed before), if one fails, or if the lock is not to be had.
pub async fn migrate(settings: &ConnectSettings, lock_wait: Duration) -> Result<MigrationReport, StoreError> {
    let mut guard = settings.connect().await?;
    take_lock(&mut guard, lock_wait).await?;
    let mut connection = settings.connect().await?;
    let already = check(&mut connection).await?;
    let result = migrator().run_direct(None, &mut connection, false).await;
    result.map_err(|error| StoreError::Migration(describe(&error)))?;
    let row = sqlx::query(ENSURE_PARTITIONS).fetch_one(&mut connection).await;
    let row = row.map_err(|source| StoreError::of("ensure_outbox_partitions", source))?;
    let partitions_made = row.try_get(0).map_err(|source| StoreError::of("ensure_outbox_partitions", source))?;
    let applied = migrator().iter().map(|m| m.version).filter(|version| !already.contains(version)).collect();
    // The lock goes with its connection.
    let _ = guard.close().await;
    let _ = connection.close().await;
    Ok(MigrationReport { applied, already, partitions_made })
}

/// Says which migrations are missing, and changes nothing.
///
/// # Errors
/// [`StoreError::Migration`] if the ledger does not fit the files.
pub async fn check_migrations(settings: &ConnectSettings) -> Result<Vec<i64>, StoreError> {
    let mut connection = settings.connect().await?;
    let already = check(&mut connection).await?;
    let _ = connection.close().await;
    Ok(migrator().iter().map(|m| m.version).filter(|version| !already.contains(version)).collect())
}

async fn take_lock(guard: &mut PgConnection, lock_wait: Duration) -> Result<(), StoreError> {
    let until = tokio::time::Instant::now() + lock_wait;
    loop {
        let row = sqlx::query(LOCK)
            .fetch_one(&mut *guard)
            .await
            .map_err(|source| StoreError::of("migration lock", source))?;
        if row.try_get(0).map_err(|source| StoreError::of("migration lock", source))? {
            return Ok(());
        }
        if tokio::time::Instant::now() >= until {
            return Err(StoreError::Migration("another migration is running; try again when it has ended".to_owned()));
        }
        // Between tries no transaction is open, so nothing waits for us.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The versions in the ledger, if they fit the files: forward-only, in order, unedited.
async fn check(connection: &mut PgConnection) -> Result<Vec<i64>, StoreError> {
    let row =
        sqlx::query("select pg_catalog.to_regclass($1) is not null").bind(MIGRATION_TABLE).fetch_one(&mut *connection);
    let row = row.await.map_err(|source| StoreError::of("migration ledger", source))?;
    if !row.try_get::<bool, _>(0).map_err(|source| StoreError::of("migration ledger", source))? {
        return Ok(Vec::new());
    }
    let failed = |error: MigrateError| StoreError::Migration(describe(&error));
    if let Some(version) = connection.dirty_version(MIGRATION_TABLE).await.map_err(failed)? {
        return Err(StoreError::Migration(describe(&MigrateError::Dirty(version))));
    }
    let applied = connection.list_applied_migrations(MIGRATION_TABLE).await.map_err(failed)?;
    let newest = applied.iter().map(|m| m.version).max().unwrap_or(0);
    for migration in migrator().iter() {
        match applied.iter().find(|m| m.version == migration.version) {
            Some(known) if known.checksum != migration.checksum => {
                return Err(StoreError::Migration(describe(&MigrateError::VersionMismatch(migration.version))));
            }
            None if migration.version < newest => {
                let version = migration.version;
                return Err(StoreError::Migration(format!(
                    "{version:04} is not applied though {newest:04} is: migrations are applied in order, give it a higher number"
                )));
            }
            _ => {}
        }
    }
    if let Some(unknown) = applied.iter().find(|m| !migrator().version_exists(m.version)) {
        return Err(StoreError::Migration(describe(&MigrateError::VersionMissing(unknown.version))));
    }
    Ok(applied.into_iter().map(|m| m.version).collect())
}

fn describe(error: &MigrateError) -> String {
    match error {
        MigrateError::Dirty(version) => {
            format!(
                "{version:04} failed half-way before: look at what it left, mend it, and remove its row from {MIGRATION_TABLE}"
            )
        }
        MigrateError::VersionMismatch(version) => {
            format!("{version:04} was applied with another text: a released migration is never edited, write a new one")
        }
        MigrateError::VersionMissing(version) => {
            format!("{version:04} is applied and unknown to this version of outboxd: migrate with a newer one")
        }
        MigrateError::ExecuteMigration(source, version) => format!("{version:04} failed and was rolled back: {source}"),
        other => other.to_string(),
    }
}
