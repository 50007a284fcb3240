//! The money path against real Postgres: what enqueue, claim, complete and the leases promise, one claim
//! a test. The daemon and the rails are not here.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up should panic")]

mod attacks;
mod conservation;
mod enqueue_batch;
mod enqueue_hint;
mod enqueue_identity;
mod history;
mod interleavings;
mod partitions;
mod privileges;
mod sql;
mod steps;
mod world;
