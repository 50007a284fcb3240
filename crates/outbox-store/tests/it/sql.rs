//! Raw SQL for the tests: statements of their own making, against one connection. Errors are panics,
//! except where a refusal is what the test wants to see.

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Decode, Executor as _, Postgres, Row as _, Type};

/// Runs one or more statements.
pub(crate) async fn run(connection: &mut PgConnection, text: &str) {
    let done = connection.execute(sqlx::raw_sql(AssertSqlSafe(text.to_owned()))).await;
    assert!(done.is_ok(), "{text}: {done:?}");
}

/// The rows of one statement.
pub(crate) async fn fetch(connection: &mut PgConnection, text: &str) -> Vec<PgRow> {
    let rows = sqlx::query(AssertSqlSafe(text.to_owned())).fetch_all(connection).await;
    rows.unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The only value of the only row.
pub(crate) async fn scalar<T>(connection: &mut PgConnection, text: &str) -> T
where
    T: for<'r> Decode<'r, Postgres> + Type<Postgres>,
{
    let rows = fetch(connection, text).await;
    assert_eq!(rows.len(), 1, "{text}: {} rows", rows.len());
    rows[0].get(0)
}

/// The first column of every row.
pub(crate) async fn column<T>(connection: &mut PgConnection, text: &str) -> Vec<T>
where
    T: for<'r> Decode<'r, Postgres> + Type<Postgres>,
{
    fetch(connection, text).await.iter().map(|row| row.get(0)).collect()
}

/// What the server said when it refused a statement: SQLSTATE, message, and the column it named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) column: Option<String>,
}

/// The refusal in `error`, which must come from the server.
pub(crate) fn refusal_of(error: &sqlx::Error) -> Refusal {
    let Some(database) = error.as_database_error() else { panic!("not an error of the server: {error:?}") };
    let details = database.downcast_ref::<sqlx::postgres::PgDatabaseError>();
    Refusal {
        code: details.code().to_owned(),
        message: details.message().to_owned(),
        column: details.column().map(str::to_owned),
    }
}

/// Runs a statement that the server must refuse.
pub(crate) async fn refused(connection: &mut PgConnection, text: &str) -> Refusal {
    match connection.execute(sqlx::raw_sql(AssertSqlSafe(text.to_owned()))).await {
        Ok(_) => panic!("was not refused: {text}"),
        Err(error) => refusal_of(&error),
    }
}
