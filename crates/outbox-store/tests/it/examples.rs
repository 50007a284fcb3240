//! The examples that the documentation shows are run here as they stand, as the login they are meant for.

use std::process::{Command, Output};

use outbox_testkit::workspace_root;

use crate::sql::{column, run, scalar};
use crate::world::World;

#[allow(dead_code, reason = "its main is for cargo run")]
#[path = "../../examples/enqueue_in_transaction.rs"]
mod enqueue_in_transaction;

/// The caller's own books, which belong to the business application.
async fn with_books() -> World {
    let mut world = World::new().await;
    run(
        &mut world.dba,
        "create schema books; create table books.paid_invoices (invoice text primary key, cents bigint not null);
         grant usage on schema books to t_ingest; grant select, insert on books.paid_invoices to t_ingest",
    )
    .await;
    world
}

async fn payloads(world: &mut World) -> Vec<String> {
    column(&mut world.dba, "select convert_from(payload, 'UTF8') from outbox.payment_outbox_instructions").await
}

const PAYLOAD: &str = r#"{"invoice":"2026-0117","amount":"1250.00","currency":"EUR"}"#;

#[tokio::test]
async fn rust_example_records_books_and_payment_together() {
    let mut world = with_books().await;
    let (first, again) = enqueue_in_transaction::run(&world.db.url("t_ingest")).await.unwrap();
    assert!(first.created && !again.created);
    assert_eq!(first.outbox_id, again.outbox_id);
    assert_eq!(payloads(&mut world).await, [PAYLOAD]);
    assert_eq!(scalar::<i64>(&mut world.dba, "select sum(cents)::bigint from books.paid_invoices").await, 125_000);
}

fn psql(world: &World, cents: u32) -> Output {
    Command::new("psql")
        .args([
            "-XAt",
            "-d",
            &world.db.url("t_ingest"),
            "-v",
            "invoice=2026-0117",
            "-v",
            &format!("cents={cents}"),
            "-f",
        ])
        .arg(workspace_root().join("docs/examples/enqueue.sql"))
        .output()
        .expect("psql is needed for this test")
}

#[tokio::test]
async fn psql_example_records_books_and_payment_together() {
    let mut world = with_books().await;
    for ending in ["|t", "|f"] {
        let output = psql(&world, 125_000);
        let said = String::from_utf8_lossy(&output.stdout);
        let fault = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.lines().any(|line| line.ends_with(ending)), "{said} {fault}");
    }
    assert_eq!(payloads(&mut world).await, [PAYLOAD]);

    // Another amount for the same invoice: refused by name, and nothing of the transaction stays.
    run(&mut world.dba, "delete from books.paid_invoices").await;
    let output = psql(&world, 130_000);
    let fault = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && fault.contains("already recorded"), "{fault}");
    assert_eq!(scalar::<i64>(&mut world.dba, "select count(*) from books.paid_invoices").await, 0);
    assert_eq!(payloads(&mut world).await.len(), 1);
}
