//! Faults by the thousand against a running outbox: three real daemons, a real Postgres behind proxies that lose and delay,
//! five simulated rails, and people at their commands; dealt out from a seed. It judges nothing: outbox-checker does.

mod checker;
mod daemon;
mod daemon_faults;
mod database_faults;
mod error;
mod fitness;
mod journal;
mod kind;
mod operators;
mod pace;
mod patience;
mod producer;
mod promotion;
mod rail_faults;
mod rails;
mod run;
mod schedule;
mod settings;
mod world;

pub use error::NemesisError;
pub use kind::{Kind, Place};
pub use run::{Outcome, run};
pub use schedule::Schedule;
pub use settings::Settings;
