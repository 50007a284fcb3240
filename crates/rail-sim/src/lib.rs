//! A simulated payment rail: it takes payments over HTTP(S), writes every effect to its own ledger
//! before it answers, and misbehaves on a seed or on a script. It is the oracle of the project's
//! tests and shares no code with the dispatcher: what it says happened is what it wrote.
//!
//! It does not know what a payment means, and never looks into a body.

mod answer;
mod append;
mod callers;
mod config;
mod control;
mod error;
mod exchange;
mod fault;
mod header;
mod inquiry;
mod keys;
mod ledger;
mod park;
mod rail;
mod record;
mod serve;
mod sim;
mod stats;
mod tls;
mod wire;

pub use callers::Callers;
pub use config::{Durability, KeyMode, SimConfig, TlsFiles};
pub use error::SimError;
pub use fault::{Fault, FaultName, Profile, Script};
pub use ledger::{Effect, Ledger};
pub use park::Point;
pub use record::{Answer, Delivery, Received, unknown_answers};
pub use sim::Sim;
pub use stats::Stats;
