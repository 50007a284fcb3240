//! Digests of history name their columns: one that a migration adds while the checker runs changes nothing, and one that the
//! schema gains for good is in the digests.

use sqlx::Row as _;

use crate::rig::{RESEND, Rig};

const QUERIES: &str = include_str!("../../src/queries.rs");

#[tokio::test]
async fn every_column_of_history_is_in_its_digest() {
    let mut rig = Rig::new().await;
    for (table, alias) in
        [("payment_outbox_identities", 'd'), ("payment_outbox_instructions", 'i'), ("payment_outbox_attempts", 'a')]
    {
        let sql = format!(
            "select attname::text from pg_attribute where attrelid = 'outbox.{table}'::regclass and attnum > 0 \
             and not attisdropped"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut rig.sql).await.unwrap();
        let digest = QUERIES.split(&format!("hashtextextended(row({alias}.")).nth(1).unwrap().split("::text").next();
        let digest = format!("{alias}.{}", digest.unwrap());
        let named: Vec<&str> = digest.split([',', ')', ' ', '\n', '\\']).filter(|word| !word.is_empty()).collect();
        for row in rows {
            let column = format!("{alias}.{}", row.get::<String, _>(0));
            assert!(named.contains(&column.as_str()), "{table}: {column} is not in {named:?}");
        }
    }
}

#[tokio::test]
async fn a_column_that_a_migration_adds_is_no_change_of_history() {
    let mut rig = Rig::new().await;
    rig.dispatch(RESEND).await;
    rig.pass().await;
    for table in ["payment_outbox_identities", "payment_outbox_instructions", "payment_outbox_attempts"] {
        rig.run(&format!("alter table outbox.{table} add column later text not null default 'later'")).await;
    }
    rig.pass().await;
    assert_eq!(rig.said.checks(), Vec::<String>::new());
}
