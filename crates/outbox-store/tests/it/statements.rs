//! The statements that the crate sends fit the schema: a drift between Rust and SQL fails here, not in
//! production.

use std::collections::BTreeSet;

use outbox_store::STATEMENTS;
use sqlx::{Column as _, Executor as _, SqlStr, Statement as _};

use crate::world::World;

const SOURCES: [&str; 10] = [
    include_str!("../../src/attestation.rs"),
    include_str!("../../src/audit.rs"),
    include_str!("../../src/calls.rs"),
    include_str!("../../src/control.rs"),
    include_str!("../../src/evidence.rs"),
    include_str!("../../src/health.rs"),
    include_str!("../../src/partitions.rs"),
    include_str!("../../src/policy.rs"),
    include_str!("../../src/reconcile.rs"),
    include_str!("../../src/revocation.rs"),
];

#[tokio::test]
async fn every_statement_prepares_on_a_migrated_database() {
    let mut world = World::new().await;
    for (name, text) in STATEMENTS {
        let prepared = (&mut world.dba).prepare(SqlStr::from_static(text)).await;
        let prepared = prepared.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(prepared.columns().iter().all(|column| !column.name().is_empty()), "{name}");
    }
}

#[test]
fn list_of_statements_leaves_none_out() {
    let defined: BTreeSet<&str> = SOURCES
        .iter()
        .flat_map(|source| source.lines())
        .filter_map(|line| line.strip_prefix("pub(crate) const ")?.split_once(": &str ="))
        .map(|(name, _)| name)
        .collect();
    let listed: BTreeSet<&str> = STATEMENTS.iter().map(|(name, _)| *name).collect();
    assert!(!defined.is_empty());
    assert_eq!(defined, listed);
}
