//! Judges a running outbox from outside: the tables of the database against what the rails wrote down. It shares no code
//! with what it judges, calls none of the outbox's functions, and writes nothing but its findings.

mod checker;
pub mod checks;
mod copy;
mod error;
pub mod faults;
mod findings;
mod other_history;
pub mod payment;
mod queries;
mod rail_files;
mod reading;
mod report;
mod session;
mod tail;
pub mod words;
mod world;

pub use checker::{Checker, Settings};
pub use error::CheckError;
pub use findings::Finding;
pub use rail_files::{RailSpec, parse_rail};
pub use report::{Report, Summary};
