//! What a database says of itself for the evidence of an audit. The catalogue's query is read from the repository
//! into the program: a function in the database could be changed with the schema that it is to prove.

use sqlx::Row as _;

use crate::calls::{column, only};
use crate::error::StoreError;
use crate::session::Session;

pub(crate) const CATALOGUE: &str = include_str!("../../../scripts/db/catalogue.sql");
/// Names in the facts are qualified or not by the path of the session, which a login may have set for itself.
pub(crate) const PATH: &str = "select set_config('search_path', 'pg_catalog, pg_temp', false) as path";
pub(crate) const APPLIED: &str = "select m.version, m.description, encode(m.checksum, 'hex') as checksum, m.success \
     from outbox.schema_migrations m order by m.version";
pub(crate) const SERVER: &str = "select current_setting('server_version_num')::integer as version_num, \
     (select c.system_identifier::text from pg_catalog.pg_control_system() c) as system_identifier, \
     current_setting('fsync') as fsync, current_setting('full_page_writes') as full_page_writes, \
     current_setting('synchronous_commit') as synchronous_commit, pg_catalog.pg_is_in_recovery() as is_standby";

/// The boot query of policies, with the checksum on record; reckoned anew from the document.
pub(crate) const POLICY: &str = "select v.version, v.checksum, encode(sha256(convert_to(d.document, 'UTF8')), 'hex') as reckoned \
     from outbox.policy_versions v join outbox.policy_documents d on d.version = v.version where v.is_active";

/// One row of the migration ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedMigration {
    /// Its number.
    pub version: i64,
    /// What it does.
    pub description: String,
    /// SHA-384 of its text, in hexadecimal.
    pub checksum: String,
    /// Whether it was applied whole.
    pub success: bool,
}

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// As `server_version_num`: 150018 for 15.18.
    pub version_num: i32,
    /// Of the cluster, in decimal.
    pub system_identifier: String,
    /// Settings that decide whether a commit can be forgotten.
    pub durability: [(&'static str, String); 3],
    /// Whether it is a standby.
    pub is_standby: bool,
}

/// The facts of the schema, one a line, alike on every supported version of Postgres.
///
/// # Errors
/// [`StoreError`].
pub async fn read_catalogue(session: &mut Session) -> Result<Vec<String>, StoreError> {
    const CALL: &str = "catalogue";
    session.fetch(CALL, sqlx::query(PATH)).await?;
    let rows = session.fetch(CALL, sqlx::query(CATALOGUE)).await?;
    rows.iter().map(|row| row.try_get(0).map_err(|source| StoreError::of(CALL, source))).collect()
}

/// The migrations that are recorded as applied, in order.
///
/// # Errors
/// [`StoreError`].
pub async fn read_applied_migrations(session: &mut Session) -> Result<Vec<AppliedMigration>, StoreError> {
    const CALL: &str = "schema_migrations";
    let rows = session.fetch(CALL, sqlx::query(APPLIED)).await?;
    let read = |row| {
        Ok(AppliedMigration {
            version: column(CALL, row, "version")?,
            description: column(CALL, row, "description")?,
            checksum: column(CALL, row, "checksum")?,
            success: column(CALL, row, "success")?,
        })
    };
    rows.iter().map(read).collect()
}

/// The active policy: its version, the checksum on record, and that of its document.
///
/// # Errors
/// [`StoreError`].
pub async fn read_policy_checksum(session: &mut Session) -> Result<Option<(i32, String, String)>, StoreError> {
    const CALL: &str = "policy_versions";
    let rows = session.fetch(CALL, sqlx::query(POLICY)).await?;
    let read =
        |row| Ok((column(CALL, row, "version")?, column(CALL, row, "checksum")?, column(CALL, row, "reckoned")?));
    rows.first().map(read).transpose()
}

/// The server's version, identity and durability, as they are in force for this session.
///
/// # Errors
/// [`StoreError`].
pub async fn read_server_facts(session: &mut Session) -> Result<ServerFacts, StoreError> {
    const CALL: &str = "server";
    let rows = session.fetch(CALL, sqlx::query(SERVER)).await?;
    let row = only(CALL, &rows)?;
    Ok(ServerFacts {
        version_num: column(CALL, row, "version_num")?,
        system_identifier: column(CALL, row, "system_identifier")?,
        durability: [
            ("fsync", column(CALL, row, "fsync")?),
            ("full_page_writes", column(CALL, row, "full_page_writes")?),
            ("synchronous_commit", column(CALL, row, "synchronous_commit")?),
        ],
        is_standby: column(CALL, row, "is_standby")?,
    })
}
