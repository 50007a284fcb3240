//! Fresh databases: migrated, separate, with a login for each role.

use outbox_testkit::{LOGINS, PgServer, PgVersion, TestDb};
use sqlx::Connection as _;

#[tokio::test]
async fn two_test_databases_are_migrated_and_separate() {
    let (first, second) = tokio::join!(TestDb::create(), TestDb::create());
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_ne!(first.name(), second.name());
    let mut dba = first.connect_as("postgres").await.unwrap();
    sqlx::raw_sql("create table public.only_in_first ()").execute(&mut dba).await.unwrap();
    let mut dba = second.connect_as("postgres").await.unwrap();
    let (here, migrated): (bool, i64) = sqlx::query_as(
        "select to_regclass('public.only_in_first') is not null, (select count(*) from outbox.schema_migrations)",
    )
    .fetch_one(&mut dba)
    .await
    .unwrap();
    assert!(!here);
    assert!(migrated > 0);
}

#[tokio::test]
async fn every_login_connects_and_none_is_superuser() {
    let database = TestDb::create().await.unwrap();
    for (login, role) in LOGINS {
        let mut session = database.connect_as(login).await.unwrap();
        let (is_member, is_superuser): (bool, bool) = sqlx::query_as(
            "select pg_has_role(session_user, $1, 'member'), rolsuper from pg_roles where rolname = session_user",
        )
        .bind(role)
        .fetch_one(&mut session)
        .await
        .unwrap();
        assert!(is_member && !is_superuser, "{login}");
        session.close().await.unwrap();
    }
}

#[tokio::test]
async fn dropped_database_is_gone_even_with_a_session_in_it() {
    let server = PgServer::start(PgVersion::from_environment().unwrap()).unwrap();
    let database = TestDb::create_on(server.address()).await.unwrap();
    let name = database.name().to_owned();
    let _left_open = database.connect_as("t_ingest").await.unwrap();
    drop(database);
    let mut admin = server.address().connect("postgres", "postgres").await.unwrap();
    let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(&name)
        .fetch_one(&mut admin)
        .await
        .unwrap();
    assert!(!exists);
}
