//! The dispatcher itself: `run` is the whole daemon once its configuration is read. Each service is a
//! file; the event loop wires them. What follows an outcome is decided in `outbox_core` and in SQL.

mod backoff;
mod clock_watch;
mod completer;
mod connection;
mod db_clock;
mod event;
mod event_loop;
pub(crate) mod examine;
mod governed;
mod high_water;
pub(crate) mod identities;
mod lane;
mod lane_breaker;
mod lane_parts;
mod leases;
mod listener;
mod lost_leases;
mod off;
mod pace;
mod pauses;
pub(crate) mod policy_watch;
mod preflight;
mod renewer;
mod routes;
mod sampler;
mod sender;
mod start;
pub(crate) mod state_file;
mod upkeep;
mod wakeup_lock;

pub(crate) use governed::govern;
pub use governed::{Maker, at_start};
pub(crate) use start::chain;
pub use start::{Deps, run};
