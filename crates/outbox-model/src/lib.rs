//! The protocol as a state machine: workers, a database that may fail over, a wire that loses and delays, a rail that
//! executes. A model checker walks through every order in which their steps can follow each other. What becomes of a payment after an
//! attempt is the core's own table ([`outbox_core::after_attempt`]); the rest is written anew here, without SQL.
//!
//! Time has no length: a lease runs out, a timeout passes and a quarantine ends in any order that the protocol's
//! bounds allow; which those are is in `docs/decisions/2026-11-30-protocol-model.md`.

mod db;
mod troubles;
mod world;

pub use db::{Db, Lease, Place, Row, Token};
pub use world::{Action, Rail, Request, Rules, Scenario, Stage, Task, World};
