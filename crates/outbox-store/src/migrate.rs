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

/// One file of `migrations/`, named `VERSION_DESCRIPTION.sql` with `_` for a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigrationFile {
    /// Its number.
    pub version: i64,
    /// What it does.
    pub description: &'static str,
    /// Its text.
    pub sql: &'static str,
}

/// The files of `migrations/`, in order; a test compares the list with the folder.
pub const MIGRATIONS: [MigrationFile; 3] = [
    MigrationFile { version: 1, description: "tables", sql: include_str!("../../../migrations/0001_tables.sql") },
    MigrationFile { version: 2, description: "functions", sql: include_str!("../../../migrations/0002_functions.sql") },
    MigrationFile { version: 3, description: "history", sql: include_str!("../../../migrations/0003_history.sql") },
];

/// The role that owns every object; `scripts/db/bootstrap.sql` makes the migrator's sessions act as it.
const OWNER: &str = "outbox_owner";

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
fn migrator(files: &[MigrationFile]) -> Migrator {
    let read = |file: &MigrationFile| {
        let no_tx = file.sql.starts_with("-- no-transaction");
        let sql = sqlx::SqlStr::from_static(file.sql);
        Migration::new(file.version, Cow::Borrowed(file.description), MigrationType::Simple, sql, no_tx)
    };
    let mut migrator = Migrator::with_migrations(files.iter().map(read).collect());
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
/// [`StoreError::Migration`] if the session does not act as `outbox_owner`, if the ledger does not fit
/// the files (an edited, unknown or out-of-order migration, or one that failed before), if one fails, or
/// if the lock is not to be had.
pub async fn migrate(settings: &ConnectSettings, lock_wait: Duration) -> Result<MigrationReport, StoreError> {
    migrate_files(settings, &MIGRATIONS, lock_wait).await
}

/// [`migrate`] with other files: how tests apply a migration that is not released, or that fails.
///
/// # Errors
/// As [`migrate`].
#[doc(hidden)]
pub async fn migrate_files(
    settings: &ConnectSettings,
    files: &[MigrationFile],
    lock_wait: Duration,
) -> Result<MigrationReport, StoreError> {
    let migrator = migrator(files);
    let guard = exclusive_session(settings, lock_wait).await?;
    let mut connection = settings.connect().await?;
    let already = check(&mut connection, &migrator).await?;
    let result = migrator.run_direct(None, &mut connection, false).await;
    result.map_err(|error| StoreError::Migration(describe(&error, &migrator)))?;
    let row = sqlx::query(ENSURE_PARTITIONS).fetch_one(&mut connection).await;
    let row = row.map_err(|source| StoreError::of("ensure_outbox_partitions", source))?;
    let partitions_made = row.try_get(0).map_err(|source| StoreError::of("ensure_outbox_partitions", source))?;
    let applied = migrator.iter().map(|m| m.version).filter(|version| !already.contains(version)).collect();
    // The lock goes with its connection.
    let _ = guard.close().await;
    let _ = connection.close().await;
    Ok(MigrationReport { applied, already, partitions_made })
}

/// A session of the owner that nobody else migrates beside, as long as it is open.
///
/// # Errors
/// [`StoreError::Migration`] as [`migrate`].
pub(crate) async fn exclusive_session(
    settings: &ConnectSettings,
    lock_wait: Duration,
) -> Result<PgConnection, StoreError> {
    let mut guard = settings.connect().await?;
    refuse_other_roles(&mut guard).await?;
    take_lock(&mut guard, lock_wait).await?;
    Ok(guard)
}

/// Says which migrations are missing, and changes nothing.
///
/// # Errors
/// [`StoreError::Migration`] if the ledger does not fit the files.
pub async fn check_migrations(settings: &ConnectSettings) -> Result<Vec<i64>, StoreError> {
    let migrator = migrator(&MIGRATIONS);
    let mut connection = settings.connect().await?;
    let already = check(&mut connection, &migrator).await?;
    let _ = connection.close().await;
    Ok(migrator.iter().map(|m| m.version).filter(|version| !already.contains(version)).collect())
}

/// What a migration makes belongs to the session's role: run by a superuser, every `security definer`
/// function would be a superuser's.
async fn refuse_other_roles(guard: &mut PgConnection) -> Result<(), StoreError> {
    let row = sqlx::query("select current_user::text").fetch_one(guard).await;
    let row = row.map_err(|source| StoreError::of("migration role", source))?;
    let role: String = row.try_get(0).map_err(|source| StoreError::of("migration role", source))?;
    if role == OWNER {
        return Ok(());
    }
    Err(StoreError::Migration(format!(
        "this session acts as {role}, not as {OWNER}: connect as outbox_migrator, or as another login that scripts/db/bootstrap.sql describes"
    )))
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
async fn check(connection: &mut PgConnection, migrator: &Migrator) -> Result<Vec<i64>, StoreError> {
    let row =
        sqlx::query("select pg_catalog.to_regclass($1) is not null").bind(MIGRATION_TABLE).fetch_one(&mut *connection);
    let row = row.await.map_err(|source| StoreError::of("migration ledger", source))?;
    if !row.try_get::<bool, _>(0).map_err(|source| StoreError::of("migration ledger", source))? {
        return Ok(Vec::new());
    }
    let failed = |error: MigrateError| StoreError::Migration(describe(&error, migrator));
    if let Some(version) = connection.dirty_version(MIGRATION_TABLE).await.map_err(failed)? {
        return Err(StoreError::Migration(describe(&MigrateError::Dirty(version), migrator)));
    }
    let applied = connection.list_applied_migrations(MIGRATION_TABLE).await.map_err(failed)?;
    let newest = applied.iter().map(|m| m.version).max().unwrap_or(0);
    for migration in migrator.iter() {
        match applied.iter().find(|m| m.version == migration.version) {
            Some(known) if known.checksum != migration.checksum => {
                return Err(StoreError::Migration(describe(
                    &MigrateError::VersionMismatch(migration.version),
                    migrator,
                )));
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
    if let Some(unknown) = applied.iter().find(|m| !migrator.version_exists(m.version)) {
        return Err(StoreError::Migration(describe(&MigrateError::VersionMissing(unknown.version), migrator)));
    }
    Ok(applied.into_iter().map(|m| m.version).collect())
}

fn describe(error: &MigrateError, migrator: &Migrator) -> String {
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
        MigrateError::ExecuteMigration(source, version)
            if migrator.iter().any(|migration| migration.version == *version && migration.no_tx) =>
        {
            format!("{version:04} failed, and part of it may stay, since it runs outside a transaction: {source}")
        }
        MigrateError::ExecuteMigration(source, version) => format!("{version:04} failed and was rolled back: {source}"),
        other => other.to_string(),
    }
}
