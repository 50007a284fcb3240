//! The checker against the real schema: histories are forged by the superuser, one thing wrong in each, and the finding
//! has to come. Nothing of the daemon runs here.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up should panic")]

mod columns;
mod forged_histories;
mod incremental;
mod process;
mod rig;
