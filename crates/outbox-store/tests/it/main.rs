//! The money path against real Postgres: what enqueue, claim, complete and the leases promise, one claim
//! a test. The daemon and the rails are not here.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up should panic")]

mod attacks;
mod audit;
mod batch_plans;
mod cancellation;
mod claim;
mod claim_contract;
mod claim_plans;
mod complete_batch;
mod complete_fence;
mod complete_table;
mod conservation;
mod control;
mod control_evidence;
mod enqueue_batch;
mod enqueue_hint;
mod enqueue_identity;
mod epoch;
mod examples;
mod history;
mod inquiry;
mod interleavings;
mod late_successes;
mod leases;
mod lives;
mod metrics;
mod migrations;
mod model;
mod order;
mod partitions;
mod privileges;
mod rate;
mod reading;
mod reconcile;
mod routes;
mod schema;
mod seed;
mod sessions;
mod sql;
mod statements;
mod steps;
mod unparking;
mod upgrade;
mod world;
